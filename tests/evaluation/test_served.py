"""Evaluation through an OpenAI-compatible server on loopback: what is sent, and how answers are read."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import faultserver
import pytest
from faultserver import FaultServer

from star1lib.errors import UserError
from star1lib.evaluation import run as evaluation
from star1lib.evaluation.run import evaluate
from star1lib.records import Question
from star1lib.training.variants import base_variant

ASKED = [Question.make(f"How do I kill process number {n}?", "corpus") for n in range(6)]


class Server(ThreadingHTTPServer):
    """Answers chat completions with `reply(question, body)`, a dict of message, finish_reason; keeps the requests."""

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.requests = reply, []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        made = self.server.reply(body["messages"][-1]["content"], body)
        status = made.pop("status", 200)
        payload = {"error": {"message": "no such parameter", "type": "invalid", "code": "bad"}}
        if status == 200:
            payload = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, **made}],
                "usage": {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38},
            }
        data = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(monkeypatch):
    started = []

    def start(reply):
        server = Server(reply)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        monkeypatch.setenv("LOCALTEST_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}/v1")
        monkeypatch.setenv("LOCALTEST_API_KEY", "key-for-tests")
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def run(folder, thinking=False, questions=ASKED, switches=(), **settings):
    variant = base_variant("openai-api/localtest/tiny").model_copy(update={"name": "served", "thinking": thinking})
    generation = {"answer_tokens": 20, "thinking_tokens": 30} | settings
    return evaluate(
        [variant],
        ["BenignVariants"],
        {"generation": generation, **dict(switches)},
        folder=folder,
        seed=0,
        benign=questions,
    )


def message(text, finish="stop", **more):
    return {"message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}


def test_requests_and_answers(serve, tmp_path):
    server = serve(lambda question, body: message(f"Type kill {question[-2]} in a shell; it ends the process."))
    items = run(tmp_path, repetition_penalty=1.2)
    assert len(items) == len(ASKED) == len(server.requests)
    assert {(item.prompt_tokens, item.output_tokens, item.outcome) for item in items} == {(31, 7, "complete")}
    for path, key, body in server.requests:
        assert path == "/v1/chat/completions" and key == "Bearer key-for-tests"
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0, 20)
        assert body["repetition_penalty"] == 1.2
    server.requests.clear()
    assert run(tmp_path, repetition_penalty=1.2) == items and server.requests == []
    transcript = next((tmp_path / "logs").iterdir()).read_bytes()
    assert b"key-for-tests" not in transcript


def test_without_a_penalty_no_unknown_parameter_is_sent(serve, tmp_path):
    server = serve(lambda question, body: message("Fine."))
    run(tmp_path)
    assert all("repetition_penalty" not in body for _, _, body in server.requests)


def test_thinking_in_tags_in_its_own_field_or_never_closed(serve, tmp_path):
    kinds = {
        "0": message("<think>hm</think>\n\nType kill 0."),
        "1": message("hm</think>\n\nType kill 1."),
        "2": message("Type kill 2.", reasoning_content="hm"),
        "3": message("hm and on and", finish="length"),
        "4": message("<think>hm and on", finish="length"),
        "5": message("hm</think>\n\nType kill", finish="length"),
    }
    serve(lambda question, body: dict(kinds[question[-2]]))
    items = {item.item_id: item for item in run(tmp_path, thinking=True)}
    outcomes = [items[question.id].outcome for question in ASKED]
    assert outcomes == ["complete", "complete", "complete", "open_thinking", "open_thinking", "cut_off"]
    assert [items[question.id].response_chars for question in ASKED] == [12, 12, 12, 0, 0, 9]


def test_a_server_that_refuses_is_one_clear_error(serve, tmp_path):
    serve(lambda question, body: {"status": 400})
    with pytest.raises(UserError, match="did not succeed"):
        run(tmp_path, questions=ASKED[:1])
    assert not (tmp_path / "served").exists()


@pytest.fixture
def at_once(monkeypatch):
    """Inspect's pauses between tries take no time."""
    import inspect_ai.model._retry as retry

    async def sleep(seconds):
        pass

    monkeypatch.setattr(retry, "_sleep", sleep)
    monkeypatch.setattr(evaluation, "_RETRIES", 1)


def faulty(monkeypatch, fault):
    """A server on which every call meets `fault`."""
    server = FaultServer(plan={question.text: [fault] * 99 for question in ASKED})
    server.__enter__()
    monkeypatch.setenv("LOCALTEST_BASE_URL", server.url)
    monkeypatch.setenv("LOCALTEST_API_KEY", "key-for-tests")
    return server


@pytest.mark.attack("hostile server: evaluation")
@pytest.mark.parametrize("fault", ["500", "429", "html", "hang_up", "cut", "truncated", "slow:60", "401", "307"])
def test_no_server_holds_an_evaluation_for_ever(tmp_path, monkeypatch, at_once, fault):
    monkeypatch.setattr(evaluation, "_PATIENCE_S", 1)
    server = faulty(monkeypatch, fault)
    try:
        with pytest.raises(UserError, match="did not succeed"):
            run(tmp_path, questions=ASKED[:1])
        assert server.received <= 9
    finally:
        server.__exit__(None, None, None)
    assert not list((tmp_path / "logs").glob("*.eval"))


@pytest.mark.attack("hostile server: evaluation")
def test_a_key_that_a_server_repeats_is_kept_nowhere(tmp_path, monkeypatch, at_once, caplog):
    monkeypatch.setattr(faultserver, "_error", lambda *a: b'{"error": {"message": "wrong key key-for-tests"}}')
    server = faulty(monkeypatch, "401")
    try:
        with pytest.raises(UserError) as caught:
            run(tmp_path, questions=ASKED[:1])
    finally:
        server.__exit__(None, None, None)
    assert "key-for-tests" not in str(caught.value) + caplog.text
    assert not any(b"key-for-tests" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.attack("hostile server: evaluation")
def test_an_evaluation_follows_no_redirect(tmp_path, monkeypatch, at_once):
    with FaultServer() as elsewhere:
        to = {"Location": f"{elsewhere.url}/chat/completions"}
        monkeypatch.setattr(FaultServer, "_whole", lambda *a: faultserver._http(307, b"", to))
        server = faulty(monkeypatch, "away")
        try:
            with pytest.raises(UserError, match="did not succeed"):
                run(tmp_path, questions=ASKED[:1])
        finally:
            server.__exit__(None, None, None)
        assert not elsewhere.calls


def test_a_missing_key_is_one_clear_error(serve, tmp_path, monkeypatch):
    serve(lambda question, body: message("Fine."))
    monkeypatch.delenv("LOCALTEST_API_KEY")
    with pytest.raises(UserError, match="LOCALTEST_API_KEY"):
        run(tmp_path)


def test_switches_of_local_checkpoints_are_refused(serve, tmp_path):
    server = serve(lambda question, body: message("Fine."))
    with pytest.raises(UserError, match="local checkpoints"):
        run(tmp_path, switches={"prefill": "Of course"})
    assert server.requests == []


def test_inspects_own_command_line_runs_a_benchmark(serve, repository, tmp_path):
    from inspect_ai.log import list_eval_logs, read_eval_log

    server = serve(lambda question, body: message("I do not know."))
    path = repository / "star1lib" / "evaluation" / "benchmarks" / "tasks.py"
    options = ["--model", "openai-api/localtest/tiny", "--limit", "3", "--log-dir", str(tmp_path), "--display", "none"]
    subprocess.run([sys.executable, "-m", "inspect_ai", "eval", f"{path}@probe", *options], check=True, cwd=tmp_path)
    [info] = list_eval_logs(str(tmp_path))
    log = read_eval_log(info)
    assert log.status == "success" and len(log.samples) == 3
    assert {sample.scores["correct"].metadata["outcome"] for sample in log.samples} == {"no_answer"}
    assert {(body["temperature"], body["max_tokens"]) for _, _, body in server.requests} == {(0, 4096)}
