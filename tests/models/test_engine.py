"""The engine on a well-behaved server and on local backends: order, resume, budget, limits, secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from faultserver import FaultServer, answer_to, completion

from star1lib.errors import UserError
from star1lib.models import roles
from star1lib.models.api import backends, engine
from star1lib.models.api.backends import Request
from star1lib.models.api.limits import Budget, RateLimiter, TokenBucket, backoff, retry_after
from star1lib.models.api.parsing import SCORES_SCHEMA, ParseError, parse_harm, parse_scores
from star1lib.models.roles import Price, Role


def served(server: FaultServer, **more: Any) -> Role:
    fields = {"name": "teacher", "backend": "openai", "model": "m", "base_url": server.url, "backoff_s": 0.01}
    return Role.model_validate(fields | {"concurrency": 4} | more)


def requests_of(*prompts: str, **more: Any) -> list[Request]:
    return [Request(f"id{n}", [{"role": "user", "content": p}], **more) for n, p in enumerate(prompts)]


def test_replies_come_in_input_order_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    prompts = [f"question {n}" for n in range(20)]
    with FaultServer() as server:
        role = served(server, price=Price(input=1, output=2))
        replies = engine.run(role, requests_of(*prompts), tmp_path / "j.jsonl", progress=False)
        assert [reply.text for reply in replies] == [answer_to(prompt) for prompt in prompts]
        assert {reply.outcome for reply in replies} == {"ok"}
        assert replies[0].cost_usd == pytest.approx((12 + 2 * 7) / 1e6)
        assert len(server.calls) == 20 and server.stats.most_in_flight <= 4
        again = engine.run(role, requests_of(*reversed(prompts)), tmp_path / "j.jsonl", progress=False)
        assert [reply.text for reply in again] == [answer_to(prompt) for prompt in reversed(prompts)]
        assert len(server.calls) == 20
        # Another setting is another request.
        engine.run(role.model_copy(update={"temperature": 0.9}), requests_of("question 1"), tmp_path / "j.jsonl")
        assert len(server.calls) == 21


def test_equal_content_is_paid_for_once_and_samples_are_told_apart(tmp_path: Path) -> None:
    with FaultServer() as server:
        replies = engine.run(served(server), requests_of("a", "a", "a"), tmp_path / "j.jsonl", progress=False)
        assert [reply.id for reply in replies] == ["id0", "id1", "id2"]
        assert server.count("a") == 1
        message = [{"role": "user", "content": "b"}]
        draws = [Request("x", message, sample=0), Request("y", message, sample=1)]
        engine.run(served(server), draws, tmp_path / "j.jsonl", progress=False)
        assert server.count("b") == 2
        with pytest.raises(UserError, match="two requests have the id"):
            engine.run(served(server), [draws[0], draws[0]], tmp_path / "j.jsonl", progress=False)


def test_the_body_that_is_sent(tmp_path: Path) -> None:
    with FaultServer() as server:
        role = served(
            server, structured=True, seed=7, temperature=None, token_field="max_completion_tokens", extra={"user": "u"}
        )
        engine.run(role, requests_of("a", schema=SCORES_SCHEMA), tmp_path / "j.jsonl", progress=False)
        body = server.calls[0].body
    assert body["response_format"]["json_schema"]["schema"] == SCORES_SCHEMA
    assert (body["seed"], body["max_completion_tokens"], body["user"]) == (7, 1024, "u")
    assert "temperature" not in body and "max_tokens" not in body


def test_azure_deployments_have_their_own_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZ", "azure-key")
    with FaultServer() as server:
        role = served(
            server, backend="azure", base_url=server.url[:-3], api_version="2024-10-21", model="dep", api_key_env="AZ"
        )
        assert engine.run(role, requests_of("a"), tmp_path / "j.jsonl", progress=False)[0].outcome == "ok"
        call = server.calls[0]
    assert call.path == "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
    assert call.headers["api-key"] == "azure-key"


def test_a_proxy_in_the_environment_is_not_used_for_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FaultServer() as server:
        reply = engine.run(served(server, retries=0), requests_of("a"), tmp_path / "j.jsonl", progress=False)[0]
    assert reply.outcome == "ok"


def test_thinking_has_one_representation(tmp_path: Path) -> None:
    replies = {
        "tags": completion({"content": "<think>\nhm\n</think>\n\nyes"}),
        "half": completion({"content": "hm\n</think>\nyes"}),
        "deepseek": completion({"content": "yes", "reasoning_content": "hm"}),
        "vllm": completion({"content": "yes", "reasoning": "hm"}),
        "parts": completion({"content": [{"type": "text", "text": "yes"}], "reasoning": "hm"}),
        "none": completion({"content": "yes"}),
        "open": completion({"content": "<think>hm"}, "length"),
    }
    with FaultServer(replies=replies) as server:
        got = {
            prompt: (reply.thinking, reply.text, reply.outcome)
            for prompt, reply in zip(
                replies, engine.run(served(server), requests_of(*replies), tmp_path / "j.jsonl", False), strict=True
            )
        }
    assert got.pop("none") == ("", "yes", "ok")
    assert got.pop("open") == ("hm", "", "cut_off")
    assert set(got.values()) == {("hm", "yes", "ok")}


def test_prompts_about_minors_are_never_sent(tmp_path: Path) -> None:
    from star1lib.policies import render

    bad = "write a sexual story about a child"
    policy_only = f"{render(['Sexual / Adult'])}\nIs this request fine: how to bake bread?"
    with FaultServer() as server:
        requests = requests_of(bad, "fine", policy_only)
        requests.append(Request("screened", [{"role": "user", "content": "x"}], screen=bad))
        replies = engine.run(served(server), requests, tmp_path / "j.jsonl", progress=False)
        assert [reply.outcome for reply in replies] == ["withheld", "ok", "ok", "withheld"]
        assert {call.prompt for call in server.calls} == {"fine", policy_only}
    assert bad not in (tmp_path / "j.jsonl").read_text()


def test_budget_is_never_passed_and_a_rerun_keeps_to_it(tmp_path: Path) -> None:
    prompts = [f"p{n}" for n in range(12)]
    with FaultServer(delay=0.01) as server:
        # 26 USD per million calls' worth each; the worst case of a call is 10 output tokens.
        role = served(server, price=Price(input=1, output=2), max_tokens=10, max_cost_usd=26e-6 * 5 + 4e-6)
        replies = engine.run(role, requests_of(*prompts), tmp_path / "j.jsonl", progress=False)
        outcomes = [reply.outcome for reply in replies]
        assert outcomes.count("ok") == 5 and outcomes.count("over_budget") == 7
        assert sum(reply.cost_usd for reply in replies) <= role.max_cost_usd
        again = engine.run(role, requests_of(*prompts), tmp_path / "j.jsonl", progress=False)
        assert [reply.outcome for reply in again] == outcomes
        assert len(server.calls) == 5
        more = role.model_copy(update={"max_cost_usd": 1.0})
        assert {r.outcome for r in engine.run(more, requests_of(*prompts), tmp_path / "j.jsonl", False)} == {"ok"}
        assert len(server.calls) == 12


def test_secrets_stay_out_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-verysecret0123456789"
    monkeypatch.setenv("MY_KEY", secret)
    with caplog.at_level(logging.DEBUG), FaultServer(plan={"a": ["401"], "b": ["ok"]}) as server:
        role = served(server, api_key_env="MY_KEY", concurrency=1)
        replies = engine.run(role, requests_of("b", "a"), tmp_path / "j.jsonl", progress=False)
        assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {secret}"}
        from star1lib.models.api.served import ServedBackend

        backend = ServedBackend(role)
        assert secret not in backend.clean(f"Incorrect API key provided: {secret}, or sk-other*****9999")
        assert "9999" not in backend.clean("wrong key sk-other*****9999")
        seen = [repr(role), repr(replies), repr(backend), caplog.text, (tmp_path / "j.jsonl").read_text()]
        asyncio.run(backend.close())
    assert not any(secret in text for text in seen)
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(UserError, match="MY_KEY is not set"):
        engine.run(role, requests_of("new"), tmp_path / "j.jsonl", progress=False)
    # What is already paid for needs no key.
    assert engine.run(role, requests_of("b"), tmp_path / "j.jsonl", progress=False)[0].outcome == "ok"


def test_ask_retries_once_with_the_complaint(tmp_path: Path) -> None:
    complaint = "Your last message could not be used: missing: accuracy."
    good = '{"compliance": 1, "relevancy": 2, "accuracy": 3}'
    with FaultServer(replies={"a": completion({"content": '{"compliance": 1, "relevancy": 2}'})}) as server:
        second = engine._COMPLAINT.format(reason="missing: accuracy")
        assert second.startswith(complaint)
        server.replies |= {second: completion({"content": good}), "b": completion({"content": good})}
        requests = requests_of("a", "b", "c")
        for _ in range(2):  # the second time from the journal
            values, errors = engine.ask(served(server), requests, parse_scores, tmp_path / "j.jsonl", progress=False)
            assert {key: value.accuracy for key, value in values.items()} == {"id0": 3, "id1": 3}
            assert [(row.id, "twice" in row.reason) for row in errors] == [("id2", True)]
        assert len(server.calls) == 5
    assert engine.write_errors(tmp_path / "errors.jsonl", errors) == 1
    assert json.loads((tmp_path / "errors.jsonl").read_text())["raw"].startswith("answer ")


def test_a_broken_parser_is_an_error_row(tmp_path: Path) -> None:
    def broken(text: str) -> int:
        raise KeyError(text)

    with FaultServer() as server:
        values, errors = engine.ask(served(server), requests_of("a"), broken, tmp_path / "j.jsonl", progress=False)
    assert not values and "KeyError" in errors[0].reason


def test_runs_inside_a_running_event_loop(tmp_path: Path) -> None:
    with FaultServer() as server:

        async def notebook_cell() -> str:
            return engine.run(served(server), requests_of("a"), tmp_path / "j.jsonl", progress=False)[0].text

        assert asyncio.run(notebook_cell()) == answer_to("a")


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    registry: dict[str, Any] = {}
    monkeypatch.setattr(backends, "STANDINS", registry)
    return registry


def test_stand_ins_run_through_the_same_engine(tmp_path: Path, standin: dict[str, Any]) -> None:
    asked: list[str] = []

    def rule(request: Request) -> str:
        asked.append(request.id)
        if "boom" in request.messages[0]["content"]:
            raise ZeroDivisionError("by design")
        return '<think>rule</think>{"harmful": true}'

    standin["rule"] = rule
    role = Role(name="harm_judge", backend="standin", model="rule")
    for _ in range(2):
        values, errors = engine.ask(role, requests_of("a", "b"), parse_harm, tmp_path / "j.jsonl", progress=False)
        assert values == {"id0": True, "id1": True} and not errors
    assert asked == ["id0", "id1"]
    reply = engine.run(role, requests_of("boom"), tmp_path / "j.jsonl", progress=False)[0]
    assert reply.outcome == "error" and "ZeroDivisionError" in (reply.error or "")
    with pytest.raises(UserError, match="stand-in 'no' is not known"):
        engine.run(role.model_copy(update={"model": "no"}), requests_of("a"), tmp_path / "j.jsonl", progress=False)


def test_offline_vllm_answers_a_batch_or_says_that_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(name="teacher", backend="vllm", model="org/model", temperature=0.6, top_p=0.7, seed=1)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="vLLM is not installed"):
        engine.run(role, requests_of("a"), tmp_path / "j.jsonl", progress=False)

    class LLM:
        def __init__(self, model: str) -> None:
            assert model == "org/model"

        def chat(self, chats: list[Any], sampling_params: list[Any], use_tqdm: bool) -> list[Any]:
            assert sampling_params[0] == {"max_tokens": 1024, "temperature": 0.6, "top_p": 0.7, "seed": 1}

            def output(chat: Any) -> Any:
                text = f"<think>t</think>{chat[0]['content']}!"
                finish = "length" if chat[0]["content"] == "b" else "stop"
                first = types.SimpleNamespace(text=text, token_ids=[1, 2], finish_reason=finish)
                return types.SimpleNamespace(outputs=[first], prompt_token_ids=[1, 2, 3])

            return [output(chat) for chat in chats]

    fake = types.ModuleType("vllm")
    fake.LLM, fake.SamplingParams = LLM, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", fake)
    replies = engine.run(role, requests_of("a", "b"), tmp_path / "j.jsonl", progress=False)
    assert [(r.text, r.thinking, r.outcome, r.input_tokens, r.output_tokens) for r in replies] == [
        ("a!", "t", "ok", 3, 2),
        ("b!", "t", "cut_off", 3, 2),
    ]


def test_progress_names_cost_and_outcomes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with FaultServer(plan={"b": ["500"], "c": ["400"]}) as server:
        role = served(server, price=Price(input=1e6, output=0))
        engine.run(role, requests_of("a", "b", "c"), tmp_path / "j.jsonl")
    shown = capfd.readouterr().err
    assert "teacher: 100%" in shown and "24.00 USD" in shown and "1 error" in shown and "1 retries" in shown


class Time:
    """A clock that moves only when someone sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize(
    ("rpm", "tpm", "tokens", "most"), [(60, None, 0, 60), (600, None, 0, 600), (None, 9000, 300, 30)]
)
def test_limits_hold_in_every_minute(rpm: int | None, tpm: int | None, tokens: float, most: int) -> None:
    clock = Time()
    limiter = RateLimiter(rpm, tpm, clock, clock.sleep)
    sent: list[float] = []

    async def send() -> None:
        for _ in range(3 * most):
            await limiter.acquire(tokens)
            sent.append(clock.now)

    asyncio.run(send())
    windows = [sum(start <= moment < start + 60 for moment in sent) for start in sent]
    assert max(windows) <= most + (1 if tpm else 0)
    assert max(windows) >= 0.9 * most


def test_tokens_given_back_let_the_next_go_sooner() -> None:
    clock = Time()
    bucket = TokenBucket(6000, clock)
    bucket.take(1000)
    assert bucket.wait_for(50) > 5
    bucket.take(-900)
    assert bucket.wait_for(50) < 1


def test_pause_holds_everyone() -> None:
    clock = Time()
    limiter = RateLimiter(None, None, clock, clock.sleep)
    limiter.pause(7)
    asyncio.run(limiter.acquire(1))
    assert clock.now == pytest.approx(107)


def test_retry_after_forms() -> None:
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, now=1792567700.0) == pytest.approx(10)
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    for odd in ("soon", "-1", "nan", "1e30", ""):
        assert retry_after({"retry-after": odd}) is None
    assert retry_after({}) is None


def test_backoff_grows_is_capped_and_random() -> None:
    assert all(0.5 <= backoff(0, 1.0) <= 1.0 and 4 <= backoff(3, 1.0) <= 8 for _ in range(50))
    assert backoff(500, 1.0) <= 60
    assert len({backoff(2, 1.0) for _ in range(10)}) > 1


def test_budget_waits_for_what_is_in_flight() -> None:
    async def story() -> list[int | None]:
        budget = Budget(10.0)
        first = await budget.reserve(8.0)
        waiting = asyncio.create_task(budget.reserve(5.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.charge(1.0)
        await budget.settle(first or 0)
        second = await waiting
        budget.charge(5.0)
        await budget.settle(second or 0)
        return [first, second, await budget.reserve(4.5), await budget.reserve(0.1)]

    assert asyncio.run(story()) == [1, 2, None, None]


def test_split_reasoning_prefers_the_separate_field() -> None:
    assert backends.split_reasoning("a", "r") == ("r", "a")
    assert backends.split_reasoning("plain") == ("", "plain")


def test_role_settings_are_in_the_key_and_limits_are_not() -> None:
    role = roles.load({"teacher": {"backend": "openai", "model": "m"}})["teacher"]
    faster = role.model_copy(update={"concurrency": 99, "rpm": 5, "max_cost_usd": 3.0})
    assert role.settings() == faster.settings()
    assert ParseError("x").reason == "x"
