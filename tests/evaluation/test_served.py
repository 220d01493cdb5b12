"""Evaluation through an OpenAI-compatible server on loopback: what is sent, and how answers are read."""

from __future__ import annotations

import subprocess
import sys

import faultserver
import pytest
from faultserver import FaultServer, completion

from star1lib.errors import UserError
from star1lib.evaluation import run as evaluation
from star1lib.evaluation.run import evaluate
from star1lib.records import Question
from star1lib.training.variants import base_variant

ASKED = [Question.make(f"How do I kill process number {n}?", "corpus") for n in range(6)]


@pytest.fixture
def server(monkeypatch):
    """A server that Inspect knows as the service `localtest`; its pauses between tries take no time."""
    import inspect_ai.model._retry as retry

    async def sleep(seconds):
        pass

    monkeypatch.setattr(retry, "_sleep", sleep)
    monkeypatch.setattr(evaluation, "_RETRIES", 1)
    with FaultServer() as started:
        monkeypatch.setenv("LOCALTEST_BASE_URL", started.url)
        monkeypatch.setenv("LOCALTEST_API_KEY", "key-for-tests")
        yield started


def run(folder, thinking=False, questions=ASKED, switches=(), **settings):
    variant = base_variant("openai-api/localtest/tiny").model_copy(update={"name": "served", "thinking": thinking})
    generation = {"answer_tokens": 20, "thinking_tokens": 30} | settings
    how = {"generation": generation, **dict(switches)}
    return evaluate([variant], ["BenignVariants"], how, folder=folder, seed=0, benign=questions)


def test_requests_and_answers(server, tmp_path):
    items = run(tmp_path, repetition_penalty=1.2)
    assert len(items) == len(ASKED) == len(server.calls)
    assert {(item.prompt_tokens, item.output_tokens, item.outcome) for item in items} == {(12, 7, "complete")}
    for call in server.calls:
        assert call.path == "/v1/chat/completions" and call.headers["authorization"] == "Bearer key-for-tests"
        assert (call.body["model"], call.body["temperature"], call.body["max_tokens"]) == ("tiny", 0, 20)
        assert call.body["repetition_penalty"] == 1.2
    assert run(tmp_path, repetition_penalty=1.2) == items and len(server.calls) == len(ASKED)
    transcript = next((tmp_path / "logs").iterdir()).read_bytes()
    assert b"key-for-tests" not in transcript


def test_without_a_penalty_no_unknown_parameter_is_sent(server, tmp_path):
    run(tmp_path)
    assert server.calls and not any("repetition_penalty" in call.body for call in server.calls)


def test_thinking_in_tags_in_its_own_field_or_never_closed(server, tmp_path):
    said = [
        ({"content": "<think>hm</think>\n\nType kill 0."}, "stop"),
        ({"content": "hm</think>\n\nType kill 1."}, "stop"),
        ({"content": "Type kill 2.", "reasoning_content": "hm"}, "stop"),
        ({"content": "hm and on and"}, "length"),
        ({"content": "<think>hm and on"}, "length"),
        ({"content": "hm</think>\n\nType kill"}, "length"),
    ]
    server.replies = {question.text: completion(*reply) for question, reply in zip(ASKED, said, strict=True)}
    items = {item.item_id: item for item in run(tmp_path, thinking=True)}
    outcomes = [items[question.id].outcome for question in ASKED]
    assert outcomes == ["complete", "complete", "complete", "open_thinking", "open_thinking", "cut_off"]
    assert [items[question.id].response_chars for question in ASKED] == [12, 12, 12, 0, 0, 9]


def refused(server, folder, fault):
    """The sentence that an evaluation ends in when every call meets `fault`."""
    server.plan = {ASKED[0].text: [fault] * 99}
    with pytest.raises(UserError, match="did not succeed") as caught:
        run(folder, questions=ASKED[:1])
    assert not (folder / "served").exists() and not list((folder / "logs").glob("*.eval"))
    return str(caught.value)


@pytest.mark.attack("hostile server: evaluation")
@pytest.mark.parametrize("fault", ["400", "500", "429", "html", "hang_up", "cut", "truncated", "slow:60", "401", "307"])
def test_no_server_holds_an_evaluation_for_ever(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(evaluation, "_PATIENCE_S", 1)
    refused(server, tmp_path, fault)
    assert server.received <= 9


@pytest.mark.attack("hostile server: evaluation")
def test_a_key_that_a_server_repeats_is_kept_nowhere(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(faultserver, "_error", lambda *a: b'{"error": {"message": "wrong key key-for-tests"}}')
    assert "key-for-tests" not in refused(server, tmp_path, "401") + caplog.text
    assert not any(b"key-for-tests" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.attack("hostile server: evaluation")
def test_an_evaluation_follows_no_redirect(server, tmp_path, monkeypatch):
    with FaultServer() as elsewhere:
        to = {"Location": f"{elsewhere.url}/chat/completions"}
        monkeypatch.setattr(FaultServer, "_whole", lambda *a: faultserver._http(307, b"", to))
        refused(server, tmp_path, "away")
        assert not elsewhere.calls


def test_a_missing_key_and_switches_of_local_checkpoints_are_refused(server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="local checkpoints"):
        run(tmp_path, switches={"prefill": "Of course"})
    monkeypatch.delenv("LOCALTEST_API_KEY")
    with pytest.raises(UserError, match="LOCALTEST_API_KEY"):
        run(tmp_path)
    assert server.calls == []


@pytest.mark.parametrize("task", ["star1lib/probe", "{repository}/star1lib/evaluation/benchmarks/tasks.py@probe"])
def test_inspects_own_command_line_runs_a_benchmark(task, server, repository, tmp_path):
    from inspect_ai.log import list_eval_logs, read_eval_log

    task = task.format(repository=repository)
    options = ["--model", "openai-api/localtest/tiny", "--limit", "3", "--log-dir", str(tmp_path), "--display", "none"]
    subprocess.run([sys.executable, "-m", "inspect_ai", "eval", task, *options], check=True, cwd=tmp_path)
    [info] = list_eval_logs(str(tmp_path))
    log = read_eval_log(info)
    assert log.status == "success" and len(log.samples) == 3
    assert {sample.scores["correct"].metadata["outcome"] for sample in log.samples} == {"no_answer"}
    assert {(call.body["temperature"], call.body["max_tokens"]) for call in server.calls} == {(0, 4096)}
