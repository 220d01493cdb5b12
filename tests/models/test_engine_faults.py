"""The engine against a server that misbehaves in every way we could think of."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import faultserver
import pytest
from faultserver import FaultServer, answer_to, completion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine import requests_of, served

from star1lib.models.api import engine
from star1lib.models.api.backends import CallFailed, Reply, Request
from star1lib.models.api.journal import Journal
from star1lib.models.api.plan import record_of
from star1lib.models.api.served import read_completion
from star1lib.models.roles import Price, Role

TRANSIENT = ["429", "429:0.05", "500", "502", "503:0.05", "408", "409", "cut", "hang_up", "truncated", "html", "list"]
TRANSIENT += ["binary", "empty_choices", "empty", "null", "odd_choice"]
PERMANENT = ["400", "403", "422", "413"]
FATAL = ["401", "404", "quota"]


def one(server: FaultServer, folder: Path, prompt: str = "p", **more: Any) -> Reply:
    return engine.run(served(server, **more), requests_of(prompt), folder / "j.jsonl", progress=False)[0]


@pytest.mark.parametrize("fault", TRANSIENT)
def test_what_is_worth_retrying_is_retried(tmp_path: Path, fault: str) -> None:
    with FaultServer(plan={"p": [fault, fault]}) as server:
        reply = one(server, tmp_path)
        assert (reply.outcome, reply.text, len(server.calls)) == ("ok", answer_to("p"), 3)


@pytest.mark.parametrize("fault", PERMANENT + FATAL)
def test_what_is_not_is_asked_once_and_again_in_the_next_run(tmp_path: Path, fault: str) -> None:
    with FaultServer(plan={"p": [fault]}) as server:
        reply = one(server, tmp_path)
        assert reply.outcome == "error" and (reply.error or "").startswith("HTTP")
        assert len(server.calls) == 1
        with Journal(tmp_path / "j.jsonl") as book:
            assert [row["error"] for row in book.errors()] == [reply.error]
        assert one(server, tmp_path).outcome == "ok"


@pytest.mark.parametrize("fault", ["500", "cut", "truncated", "html"])
def test_retries_end(tmp_path: Path, fault: str) -> None:
    with FaultServer(plan={"p": [fault] * 9}) as server:
        reply = one(server, tmp_path, retries=3)
        assert reply.outcome == "error" and len(server.calls) == 4


@pytest.mark.parametrize(
    ("fault", "outcome", "text"),
    [
        ("length", "cut_off", "half of an ans"),
        ("filter", "filtered", ""),
        ("refusal", "filtered", "I can't help with that."),
        ("no_usage", "ok", "x"),
        ("odd_usage", "ok", "x"),
        ("text_json", "ok", answer_to("p")),
    ],
)
def test_outcomes_are_told_apart_and_kept(tmp_path: Path, fault: str, outcome: str, text: str) -> None:
    with FaultServer(plan={"p": [fault]}) as server:
        for _ in range(2):
            reply = one(server, tmp_path)
            assert (reply.outcome, reply.text) == (outcome, text)
            assert reply.input_tokens >= 0 and reply.output_tokens >= 0
        assert len(server.calls) == 1


def test_slow_body_runs_into_the_time_limit_and_is_asked_again(tmp_path: Path) -> None:
    with FaultServer(plan={"p": ["slow:5"]}) as server:
        reply = one(server, tmp_path, timeout_s=1.0)
        assert reply.outcome == "ok" and len(server.calls) >= 2


def test_slow_but_complete_body_is_fine(tmp_path: Path) -> None:
    with FaultServer(plan={"p": ["slow:0.2"]}) as server:
        assert one(server, tmp_path).outcome == "ok" and len(server.calls) == 1


@pytest.mark.parametrize("header", ["0.4", "date"])
def test_retry_after_is_waited_for_by_everyone(tmp_path: Path, header: str) -> None:
    with FaultServer(plan={"p0": [f"429:{header}"]}) as server:
        prompts = [f"p{n}" for n in range(6)]
        role = served(server, concurrency=1, backoff_s=0.0)
        start = time.monotonic()
        replies = engine.run(role, requests_of(*prompts), tmp_path / "j.jsonl", progress=False)
        assert {reply.outcome for reply in replies} == {"ok"}
        first, second = server.calls[0].at, server.calls[1].at
        # A date has whole seconds: between one and two of them remain.
        assert second - first >= (0.39 if header != "date" else 0.9)
        assert start <= first


def test_a_very_long_retry_after_ends_the_run_cleanly(tmp_path: Path) -> None:
    with FaultServer(plan={"p0": ["429:7200"]}) as server:
        prompts = [f"p{n}" for n in range(4)]
        replies = engine.run(served(server, concurrency=1), requests_of(*prompts), tmp_path / "j.jsonl", progress=False)
        assert {reply.outcome for reply in replies} == {"error"} and len(server.calls) == 1
        assert "7200" in (replies[0].error or "") and "not sent" in (replies[3].error or "")


def test_a_bad_key_stops_the_run_and_not_after_thousands_of_calls(tmp_path: Path) -> None:
    prompts = [f"p{n}" for n in range(40)]
    with FaultServer(plan={prompt: ["401"] for prompt in prompts}) as server:
        replies = engine.run(served(server), requests_of(*prompts), tmp_path / "j.jsonl", progress=False)
        assert {reply.outcome for reply in replies} == {"error"} and len(server.calls) <= 4


def test_a_dead_server_stops_the_run(tmp_path: Path) -> None:
    with FaultServer() as server:
        role = served(server, retries=0)
    replies = engine.run(role, requests_of(*[f"p{n}" for n in range(60)]), tmp_path / "j.jsonl", progress=False)
    assert {reply.outcome for reply in replies} == {"error"}
    assert sum("not sent" in (reply.error or "") for reply in replies) >= 30


def test_filtered_prompt_is_an_outcome_and_no_failure(tmp_path: Path) -> None:
    class Azure(FaultServer):
        def _whole(self, name: str, argument: str, good: bytes) -> bytes:
            body = faultserver._error(400, "the prompt was filtered", "content_filter")
            return faultserver._http(400, body)

    with Azure() as server:
        assert one(server, tmp_path).outcome == "filtered"
        assert one(server, tmp_path).outcome == "filtered"
        assert len(server.calls) == 1


def test_paid_but_empty_answers_are_charged(tmp_path: Path) -> None:
    with FaultServer(plan={"p": ["empty"] * 9}) as server:
        reply = one(server, tmp_path, price=Price(input=1e6, output=0))
        assert reply.outcome == "error" and len(server.calls) == 3
        assert reply.cost_usd == pytest.approx(36)
    with Journal(tmp_path / "j.jsonl") as book:
        assert book.spent("teacher") == pytest.approx(36)


def test_everything_at_once(tmp_path: Path) -> None:
    faults = itertools.cycle([*TRANSIENT, "slow:0.05", "ok", *PERMANENT])
    plan = {f"p{n}": [next(faults) for _ in range(n % 3)] for n in range(90)}
    with FaultServer(plan=plan) as server:
        requests = requests_of(*plan)
        role = served(server, concurrency=16)
        first = engine.run(role, requests, tmp_path / "j.jsonl", progress=False)
        assert [reply.id for reply in first] == [request.id for request in requests]
        assert {reply.outcome for reply in first} == {"ok", "error"}
        for _ in range(2):
            last = engine.run(role, requests, tmp_path / "j.jsonl", progress=False)
        assert [reply.text for reply in last] == [answer_to(prompt) for prompt in plan]


def test_a_prompt_that_cannot_be_encoded_fails_alone(tmp_path: Path) -> None:
    with FaultServer() as server:
        replies = engine.run(served(server), requests_of("bad \ud800", "good"), tmp_path / "j.jsonl", progress=False)
    assert [reply.outcome for reply in replies] == ["error", "ok"]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens"]), inner, max_size=3
        ),
    ),
    max_leaves=5,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies of replies: noise, odd JSON, and good completions with one field replaced or a tail missing."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=40))
    if kind == 1:
        return json.dumps(draw(JSON)).encode()
    body: dict[str, Any] = completion({"content": "<think>a</think>b"})
    if kind == 2:
        choice = body["choices"][0]
        holder = draw(st.sampled_from([body, choice, choice["message"], body["usage"]]))
        holder[draw(st.sampled_from(sorted(holder)))] = draw(JSON)
    text = json.dumps(body).encode()
    return text[: draw(st.integers(0, len(text)))] if kind == 3 else text


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(bodies())
def test_property_any_body_is_an_answer_or_a_named_failure(body: bytes) -> None:
    role = Role(name="teacher", backend="openai", model="m", price=Price(input=1, output=1))
    try:
        answer = read_completion(body)
    except CallFailed as err:
        assert err.message
        return
    record = record_of(role, "key", Request("id", []), answer)
    assert record["outcome"] in ("ok", "cut_off", "filtered")
    assert record["outcome"] != "ok" or record["text"].strip()
    assert json.loads(json.dumps(record)) == record and record["cost_usd"] >= 0
