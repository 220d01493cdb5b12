"""Calls on a server that behaves, and on one that misbehaves in every way we could think of."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import faultserver
import pytest
from faultserver import FaultServer, answer_to, completion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star1lib.errors import UserError
from star1lib.files import lock
from star1lib.models import calls, clients
from star1lib.models.answers import Harm, Unreadable
from star1lib.models.calls import Reply, Request
from star1lib.models.roles import Price, Role
from star1lib.records import Scores

PRICE = Price(input=1, output=2)  # a good call costs 26 USD per million calls
LOST = ["cut", "hang_up", "truncated", "html", "list", "binary", "odd_choice"]
REFUSED = ["429", "429:0.05", "500", "502", "503:0.05", "408"]
PERMANENT = ["400", "403", "409", "413", "422", "empty_choices"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspect's pauses between tries take no time."""
    import inspect_ai.model._retry as retry

    async def at_once(seconds: float) -> None:
        assert seconds >= 0

    monkeypatch.setattr(retry, "_sleep", at_once)


def served(server: FaultServer, **more: Any) -> Role:
    fields = {"name": "teacher", "model": "openai-api/test/m", "base_url": server.url, "max_connections": 4}
    return Role.model_validate(fields | more)


def requests_of(*prompts: str) -> list[Request]:
    return [Request(f"id{n}", [{"role": "user", "content": prompt}]) for n, prompt in enumerate(prompts)]


def run(role: Role, requests: list[Request], folder: Path, **more: Any) -> list[Reply]:
    return list(calls.run(role, requests, folder, **({"logged": False} | more)))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_replies_come_in_order_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    prompts = [f"question {n}" for n in range(20)]
    with FaultServer() as server:
        role = served(server, price=PRICE)
        replies = run(role, requests_of(*prompts), tmp_path, logged=True)
        assert [reply.text for reply in replies] == [answer_to(prompt) for prompt in prompts]
        assert {reply.outcome for reply in replies} == {"ok"} and [r.id for r in replies[:2]] == ["id0", "id1"]
        assert replies[0].cost_usd == pytest.approx(26e-6)
        assert len(server.calls) == 20 and server.stats.most_in_flight <= 4
        again = run(role, requests_of(*reversed(prompts)), tmp_path)
        assert [reply.text for reply in again] == [answer_to(prompt) for prompt in reversed(prompts)]
        assert len(server.calls) == 20
        # Another setting is another request, another server too.
        run(role.model_copy(update={"temperature": 0.9}), requests_of("question 1"), tmp_path)
        assert len(server.calls) == 21
    with FaultServer() as other:
        run(served(other, price=PRICE), requests_of("question 1"), tmp_path)
        assert len(other.calls) == 1


def test_a_log_for_the_viewer_has_every_answer(tmp_path: Path) -> None:
    from inspect_ai.log import read_eval_log

    with FaultServer() as server:
        run(served(server), requests_of("a", "b"), tmp_path, logged=True)
    [path] = (tmp_path / "logs").glob("*.eval")
    log = read_eval_log(str(path))
    assert log.status == "success" and log.eval.task == "teacher"
    assert {s.output.completion for s in log.samples or []} == {answer_to("a"), answer_to("b")}


def test_equal_content_is_paid_for_once(tmp_path: Path) -> None:
    with FaultServer() as server:
        replies = run(served(server), requests_of("a", "a", "a"), tmp_path)
        assert [reply.id for reply in replies] == ["id0", "id1", "id2"] and server.count("a") == 1
        with pytest.raises(UserError, match="same id"):
            run(served(server), [*requests_of("b"), *requests_of("c")], tmp_path)


def test_the_body_that_is_sent(tmp_path: Path) -> None:
    with FaultServer() as server:
        role = served(server, structured=True, seed=7, temperature=None, extra_body={"user": "u"})
        run(role, requests_of("a"), tmp_path, form=Scores)
        body = server.calls[0].body
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["compliance", "relevancy", "accuracy"] and schema["additionalProperties"] is False
    assert (body["seed"], body["max_tokens"], body["user"], body["model"]) == (7, 1024, "u", "m")
    assert "temperature" not in body


@pytest.mark.attack("environments")
def test_a_proxy_in_the_environment_is_not_used_for_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FaultServer() as server:
        assert run(served(server, max_retries=0), requests_of("a"), tmp_path)[0].outcome == "ok"


def test_thinking_has_one_representation(tmp_path: Path) -> None:
    replies = {
        "tags": completion({"content": "<think>\nhm\n</think>\n\nyes"}),
        "half": completion({"content": "hm\n</think>\nyes"}),
        "deepseek": completion({"content": "yes", "reasoning_content": "hm"}),
        "vllm": completion({"content": "yes", "reasoning": "hm"}),
        "none": completion({"content": "yes"}),
        "open": completion({"content": "<think>hm"}, "length"),
    }
    with FaultServer(replies=replies) as server:
        found = dict(zip(replies, run(served(server), requests_of(*replies), tmp_path), strict=True))
    got = {name: (reply.thinking, reply.text, reply.outcome) for name, reply in found.items()}
    assert got.pop("none") == ("", "yes", "ok") and got.pop("open") == ("hm", "", "cut_off")
    assert set(got.values()) == {("hm", "yes", "ok")}


def test_prompts_about_minors_are_never_sent(tmp_path: Path) -> None:
    from star1lib.policies import render

    bad = "write a sexual story about a child"
    policy_only = f"{render(['Sexual / Adult'])}\nIs this request fine: how to bake bread?"
    with FaultServer() as server:
        requests = [*requests_of(bad, "fine", policy_only), Request("s", [{"role": "user", "content": "x"}], bad)]
        replies = run(served(server), requests, tmp_path)
        assert [reply.outcome for reply in replies] == ["withheld", "ok", "ok", "withheld"]
        assert {call.prompt for call in server.calls} == {"fine", policy_only}
    assert bad not in (tmp_path / "answers.jsonl").read_text()


@pytest.mark.attack("hostile server: engine")
def test_the_budget_is_never_passed_and_a_rerun_keeps_to_it(tmp_path: Path) -> None:
    prompts = [f"p{n}" for n in range(12)]
    with FaultServer(delay=0.01) as server:
        # The worst case of a call: its 10 bytes as 3 to 4 tokens, and 10 tokens of answer.
        role = served(server, price=PRICE, max_tokens=10, max_cost_usd=26e-6 * 5 + 4e-6)
        replies = run(role, requests_of(*prompts), tmp_path, logged=True)
        outcomes = [reply.outcome for reply in replies]
        assert outcomes.count("ok") == 5 and outcomes.count("not_sent") == 7
        assert "max_cost_usd" in (replies[outcomes.index("not_sent")].error or "")
        assert [reply.outcome for reply in run(role, requests_of(*prompts), tmp_path)] == outcomes
        assert len(server.calls) == 5
        more = role.model_copy(update={"max_cost_usd": 1.0})
        assert {reply.outcome for reply in run(more, requests_of(*prompts), tmp_path)} == {"ok"}
        assert len(server.calls) == 12


@pytest.mark.attack("hostile server: engine")
def test_what_a_lost_reply_may_have_cost_counts(tmp_path: Path) -> None:
    with FaultServer(plan={"a": ["cut", "truncated", "429"], "b": ["cut"] * 9}) as server:
        role = served(server, price=PRICE, max_tokens=10, max_cost_usd=200e-6, max_retries=9)
        first = run(role, requests_of("a"), tmp_path)
        assert first[0].outcome == "ok" and len(server.calls) == 4
        worst = 1 * 9 / 3 + 2 * 10  # eight tokens of overhead and one byte
        assert sum(row["cost_usd"] for row in lines(tmp_path)) == pytest.approx((26 + 2 * worst) * 1e-6)
        # Lost replies alone use the money up, over both runs.
        assert run(role, requests_of("b"), tmp_path)[0].outcome == "error"
        assert 26 + 2 * worst + server.count("b") * worst <= 200 + worst
        assert run(role, requests_of("c"), tmp_path)[0].outcome == "not_sent" and not server.count("c")


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.attack("hostile server: engine")
def test_secrets_stay_out_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, logged: bool
) -> None:
    secret = "sk-verysecret0123456789"
    monkeypatch.setenv("MY_KEY", secret)
    bad = {"choices": [], "error": {"message": f"wrong key {secret}"}}
    with caplog.at_level(logging.DEBUG), FaultServer(plan={"a": ["400"]}, replies={"c": bad}) as server:
        role = served(server, api_key_env="MY_KEY", max_connections=1)
        replies = run(role, requests_of("b", "a", "c"), tmp_path, logged=logged)
        assert [reply.outcome for reply in replies] == ["ok", "error", "error"]
        assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {secret}"}
        seen = [repr(role), repr(replies), (tmp_path / "answers.jsonl").read_text()]
        for path in tmp_path.rglob("*.eval"):
            with zipfile.ZipFile(path) as archive:
                seen += [archive.read(name).decode("utf-8", "replace") for name in archive.namelist()]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("star1lib")]
    assert not any(secret in text for text in [*seen, *ours])
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(UserError, match="MY_KEY is not set"):
        run(role, requests_of("new"), tmp_path)
    # What is already paid for needs no key.
    assert run(role, requests_of("b"), tmp_path)[0].outcome == "ok"


@pytest.mark.attack("hostile server: engine")
def test_a_redirect_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer() as elsewhere, FaultServer() as server:
        whole = server._whole
        to = f"{elsewhere.url}/chat/completions"
        monkeypatch.setattr(server, "_whole", lambda name, argument, good: faultserver._http(307, b"", {"Location": to})
                            if name == "away" else whole(name, argument, good))  # fmt: skip
        server.plan["a"] = ["away"]
        assert run(served(server), requests_of("a"), tmp_path)[0].outcome == "error"
        assert not elsewhere.calls


@pytest.mark.attack("hostile server: engine")
def test_an_endless_reply_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MAX_BODY", 1000)
    replies = {"long": completion({"content": "x" * 2000})}
    with FaultServer(replies=replies) as server:
        found = run(served(server, max_retries=1), requests_of("long", "short"), tmp_path)
    assert [reply.outcome for reply in found] == ["error", "ok"]


def test_ask_asks_once_more_with_the_complaint(tmp_path: Path) -> None:
    good = '{"compliance": 1, "relevancy": 2, "accuracy": 3}'
    second = calls._COMPLAINT.format(reason="field 'accuracy': field required")
    replies = {
        "a": completion({"content": '{"compliance": 1, "relevancy": 2}'}),
        second: completion({"content": good}),
        "b": completion({"content": good}),
    }
    with FaultServer(replies=replies, plan={"e": ["null", "null"]}) as server:
        for _ in range(2):  # the second time from the folder
            values, errors = calls.ask(served(server), requests_of("a", "b", "c", "e"), Scores, tmp_path, logged=False)
            assert {name: value.accuracy for name, value in values.items()} == {"id0": 3, "id1": 3}
            assert [(row.id, "twice" in row.reason) for row in errors] == [("id2", True), ("id3", True)]
        asked = [call.body["messages"][0]["content"] for call in server.calls]  # whichever comes first
        assert sorted(asked) == ["a", "a", "b", "c", "c", "e", "e"]
    assert errors[0].raw.startswith("answer ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Unreadable("no good"), "no good"), (KeyError("x"), "the answer could not be read (KeyError)")],
)
def test_a_reader_of_ones_own_may_refuse_or_break(tmp_path: Path, error: Exception, reason: str) -> None:
    def never(text: str) -> str:
        raise error

    with FaultServer() as server:
        values, errors = calls.ask(served(server), requests_of("a"), never, tmp_path, logged=False)
        assert not values and errors[0].reason == f"{reason} (asked twice)" and len(server.calls) == 2


def test_runs_inside_a_running_event_loop(tmp_path: Path) -> None:
    with FaultServer() as server:

        async def notebook_cell() -> str:
            return run(served(server), requests_of("a"), tmp_path, logged=True)[0].text

        assert asyncio.run(notebook_cell()) == answer_to("a")


@pytest.mark.parametrize("fault", REFUSED + LOST)
@pytest.mark.attack("hostile server: engine")
def test_what_is_worth_retrying_is_retried(tmp_path: Path, fault: str) -> None:
    with FaultServer(plan={"p": [fault, fault]}) as server:
        [reply] = run(served(server), requests_of("p"), tmp_path)
        assert (reply.outcome, reply.text, len(server.calls)) == ("ok", answer_to("p"), 3)


@pytest.mark.parametrize("fault", PERMANENT)
@pytest.mark.attack("hostile server: engine")
def test_what_is_not_is_asked_once_and_again_by_the_next_run(tmp_path: Path, fault: str) -> None:
    with FaultServer(plan={"p": [fault]}) as server:
        [reply] = run(served(server), requests_of("p"), tmp_path)
        assert reply.outcome == "error" and reply.error and len(server.calls) == 1
        assert run(served(server), requests_of("p"), tmp_path)[0].outcome == "ok"


@pytest.mark.parametrize("fault", ["500", "cut", "truncated", "html"])
@pytest.mark.attack("hostile server: engine")
def test_retries_end(tmp_path: Path, fault: str) -> None:
    with FaultServer(plan={"p": [fault] * 9}) as server:
        [reply] = run(served(server, max_retries=3), requests_of("p"), tmp_path)
        assert reply.outcome == "error" and len(server.calls) == 4


@pytest.mark.parametrize(
    ("fault", "outcome", "text"),
    [
        ("length", "cut_off", "half of an ans"),
        ("filter", "filtered", ""),
        ("refusal", "filtered", "I can't help with that."),
        ("empty", "empty", ""),
        ("null", "empty", ""),
        ("no_usage", "ok", "x"),
        ("text_json", "ok", answer_to("p")),
    ],
)
@pytest.mark.attack("hostile server: engine")
def test_outcomes_are_told_apart_and_kept(tmp_path: Path, fault: str, outcome: str, text: str) -> None:
    with FaultServer(plan={"p": [fault]}) as server:
        for _ in range(2):
            [reply] = run(served(server, price=PRICE), requests_of("p"), tmp_path)
            assert (reply.outcome, reply.text) == (outcome, text) and reply.cost_usd > 0
        assert len(server.calls) == 1


@pytest.mark.attack("hostile server: engine")
def test_an_attempt_has_a_time_limit(tmp_path: Path) -> None:
    with FaultServer(plan={"p": ["slow:9"]}) as server:
        [reply] = run(served(server, timeout_s=1), requests_of("p"), tmp_path)
        assert reply.outcome == "ok" and len(server.calls) >= 2


@pytest.mark.parametrize(("fault", "words"), [("401", "refuses the key"), ("404", "no such model"), ("quota", "quota")])
@pytest.mark.attack("hostile server: engine")
def test_what_cannot_get_better_ends_the_run_with_one_sentence(tmp_path: Path, fault: str, words: str) -> None:
    prompts = [f"p{n}" for n in range(40)]
    with FaultServer(plan={prompt: [fault] * 9 for prompt in prompts[5:]}) as server:
        with pytest.raises(UserError, match=words) as caught:
            run(served(server), requests_of(*prompts), tmp_path, logged=True)
        assert "\n" not in str(caught.value) and len(server.calls) <= 5 + 4
        assert len(lines(tmp_path)) == 5


@pytest.mark.attack("hostile server: engine")
def test_a_dead_server_ends_the_run(tmp_path: Path) -> None:
    with FaultServer() as server:
        role = served(server, max_retries=1)
    replies = run(role, requests_of(*(f"p{n}" for n in range(90))), tmp_path)
    outcomes = [reply.outcome for reply in replies]
    assert set(outcomes) == {"error", "not_sent"} and outcomes.count("error") <= calls._IN_A_ROW + 4
    assert "in a row failed" in (replies[-1].error or "")


def test_a_missing_key_and_an_unknown_service_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE_API_KEY", raising=False)
    role = Role(name="teacher", model="openai-api/nowhere/m", base_url="https://example.org/v1")
    with pytest.raises(UserError, match="NOWHERE_API_KEY"):
        run(role, requests_of("a"), tmp_path)


@pytest.mark.attack("two at once")
def test_one_run_at_a_time_and_torn_lines_are_asked_again(tmp_path: Path) -> None:
    with FaultServer() as server:
        run(served(server), requests_of("a", "b"), tmp_path)
        with lock(tmp_path, "other"), pytest.raises(UserError, match="is working here"):
            run(served(server), requests_of("a"), tmp_path)
        path = tmp_path / "answers.jsonl"
        first, second = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + b'{"key": 3}\n\xff\xfe\n' + second[:-9])
        assert {reply.outcome for reply in run(served(server), requests_of("a", "b"), tmp_path)} == {"ok"}
        assert len(server.calls) == 3
        assert len(path.read_bytes().splitlines()) == 4


@pytest.mark.attack("environments")
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FaultServer() as server:
        run(served(server), requests_of("a"), tmp_path)
        before = (tmp_path / "answers.jsonl").read_bytes()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
            with pytest.raises(UserError, match="cannot be written"):
                run(served(server), requests_of("a", "b", "c"), tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "answers.jsonl").read_bytes() == before
        assert {reply.outcome for reply in run(served(server), requests_of("a", "b", "c"), tmp_path)} == {"ok"}
        assert server.count("a") == 1


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@pytest.mark.attack("hostile server: engine")
def test_whatever_a_model_says_is_kept_as_it_was(tmp_path: Path, text: str) -> None:
    with FaultServer(replies={"p": completion({"content": text})}) as server:
        [reply] = run(served(server), requests_of("p"), tmp_path / re.sub(r"\W", "_", repr(text))[:40])
    assert reply.outcome in ("ok", "empty") and (reply.text in text or "</think>" in text)


NAMES = st.sampled_from(["choices", "message", "content", "usage", "id", "error"])
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.dictionaries(st.sampled_from(["choices", "usage", "model", "object", "created"]), ODD, max_size=4))
@pytest.mark.attack("hostile server: engine")
def test_malformed_completions_are_error_rows_and_never_values(tmp_path: Path, body: dict[str, Any]) -> None:
    with FaultServer(replies={"p": body or {"x": 1}}) as server:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        values, errors = calls.ask(
            served(server, max_retries=0), requests_of("p"), Harm, folder, again=False, logged=False
        )
    assert not values and [row.id for row in errors] == ["id0"] and errors[0].reason


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "mib"), [(2_000, 30), pytest.param(20_000, 60, marks=pytest.mark.real)])
def test_memory_stays_flat(tmp_path: Path, rows: int, mib: int) -> None:
    """Many calls over one folder, in a process of its own: the peak at the end is the peak after two parts."""
    script = dedent(
        """
        import resource, sys
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from faultserver import FaultServer, completion
        from star1lib.models import calls
        from star1lib.models.roles import Role

        with FaultServer(keep_calls=False) as server:
            role = Role(name="teacher", model="openai-api/test/m", base_url=server.url, max_connections=32)
            peaks = []
            for start in range(0, int(sys.argv[3]), 500):
                asked = [calls.Request(str(n), [{"role": "user", "content": f"{n} " + "x" * 1000}])
                         for n in range(start, start + 500)]
                done = sum(reply.outcome == "ok" for reply in calls.run(role, asked, Path(sys.argv[1]), logged=False))
                assert done == 500
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(peaks[1], peaks[-1])
        """
    )
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), tests, str(rows)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    early, late = map(float, done.stdout.split()[-2:])
    assert late < early + mib, f"{early:.0f} MiB after two parts, {late:.0f} MiB at the end"


DAMAGED = [
    b"", b"{", b"[]", b"3", b"null", b'"key"', b"\xff\xfe", b"[" * 50_000,
    b'{"key": "k"}', b'{"key": "", "cost_usd": -5}', b'{"key": "", "cost_usd": 1e999}', b'{"key": "", "cost_usd": NaN}',
    b'{"key": "", "cost_usd": 1' + b"0" * 400 + b"}", b'{"key": "", "cost_usd": "much"}', b'{"key": [], "cost_usd": 1}',
]  # fmt: skip
FIELDS = [("cost_usd", -1), ("cost_usd", "1e999"), ("input_tokens", -3), ("output_tokens", 10**400), ("text", 7),
          ("text", None), ("outcome", "splendid"), ("thinking", {}), ("error", 3)]  # fmt: skip


@pytest.mark.attack("damaged files")
def test_damaged_lines_are_asked_again_and_nothing_is_paid_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line of rubbish, and an answer with each field spoilt: one warning, one call, the money of whole lines."""
    with FaultServer() as server:
        role = served(server, price=PRICE)
        run(role, requests_of("a", "b"), tmp_path)
        path = tmp_path / "answers.jsonl"
        first, second = sorted(path.read_bytes().splitlines(), key=lambda line: json.loads(line)["id"])
        for damaged in [*DAMAGED, *(json.dumps(json.loads(second) | {name: value}).encode() for name, value in FIELDS)]:
            caplog.clear()
            path.write_bytes(b"\n".join([first, damaged, b""]))
            with calls.Book(tmp_path) as book:
                assert book.spent == pytest.approx(26e-6), damaged[:60]
            before = len(server.calls)
            assert {reply.outcome for reply in run(role, requests_of("a", "b"), tmp_path)} == {"ok"}, damaged[:60]
            assert len(server.calls) == before + 1 and "1 damaged lines" in caplog.text
