"""The engine against a real model: SmolLM2 behind transformers' own OpenAI-compatible server, and in process."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.evaluation.run import evaluate
from star1lib.models.api import engine
from star1lib.models.api.backends import Request
from star1lib.models.roles import Price, Role
from star1lib.training.variants import base_variant

pytestmark = pytest.mark.real
QUESTIONS = ["What is the capital of France?", "Say hello.", "Name a colour."]
NEEDED = ("uvicorn", "fastapi", "starlette", "rich")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    from star1lib.models.checkpoints import smollm2_checkpoint

    try:
        return smollm2_checkpoint()
    except UserError as err:
        pytest.skip(f"SmolLM2 is not here: {err}")


@pytest.fixture(scope="module")
def address(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on a free loopback port, started and stopped here."""
    if MISSING:
        pytest.skip(f"transformers[serving] is not installed: no {', '.join(MISSING)}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    start = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; sys.exit(main())"
    command = [sys.executable, "-c", start, "serve", str(checkpoint), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "float32"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(log.parent)}
    with log.open("w") as handle:
        process = subprocess.Popen(command, stdout=handle, stderr=handle, stdin=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 180
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def requests() -> list[Request]:
    return [Request(f"q{n}", [{"role": "user", "content": text}]) for n, text in enumerate(QUESTIONS)]


def test_a_real_server_and_the_same_model_in_process_agree(address: str, checkpoint: Path, tmp_path: Path) -> None:
    shared = {"name": "teacher", "model": str(checkpoint), "temperature": 0.0, "max_tokens": 12}
    served = Role.model_validate(
        shared | {"backend": "openai", "base_url": address, "concurrency": 2, "price": Price(input=1, output=1)}
    )
    local = Role.model_validate(shared | {"backend": "transformers", "batch_size": 1})
    over_http = engine.run(served, requests(), tmp_path / "served.jsonl", progress=False)
    in_process = engine.run(local, requests(), tmp_path / "local.jsonl", progress=False)
    assert [reply.text for reply in over_http] == [reply.text for reply in in_process]
    assert "Paris" in over_http[0].text
    assert [reply.outcome for reply in over_http] == [reply.outcome for reply in in_process]
    assert [r.output_tokens for r in over_http if r.outcome == "ok"] == [
        r.output_tokens for r in in_process if r.outcome == "ok"
    ]
    assert all(reply.input_tokens > 5 and reply.cost_usd > 0 for reply in over_http)
    assert {reply.outcome for reply in over_http} <= {"ok", "cut_off"}


def test_a_model_that_the_server_does_not_have_is_an_error_row(address: str, tmp_path: Path) -> None:
    role = Role(name="teacher", backend="openai", model="no/such-model", base_url=address, retries=0)
    reply = engine.run(role, requests()[:1], tmp_path / "j.jsonl", progress=False)[0]
    assert reply.outcome == "error" and (reply.error or "").startswith("HTTP")


def test_local_batch_is_padded_cut_off_sampled_and_bounded(checkpoint: Path, tmp_path: Path) -> None:
    role = Role(name="teacher", backend="transformers", model=str(checkpoint), max_tokens=4, batch_size=4)
    too_long = Request("long", [{"role": "user", "content": "word " * 9000}])
    replies = engine.run(role, [*requests(), too_long], tmp_path / "j.jsonl", progress=False)
    assert [reply.outcome for reply in replies] == ["cut_off"] * 3 + ["error"]
    assert "window" in (replies[3].error or "")
    assert {reply.output_tokens for reply in replies[:3]} == {4}
    sampled = role.model_copy(update={"temperature": 1.0, "seed": 1})
    texts = [
        [reply.text for reply in engine.run(sampled, requests(), tmp_path / f"s{n}.jsonl", progress=False)]
        for n in range(2)
    ]
    assert texts[0] == texts[1]


def test_an_evaluation_over_the_real_server_equals_the_local_one(
    address: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real tokens over HTTP through Inspect, graded like those of our own provider."""
    monkeypatch.setenv("LOCALTEST_BASE_URL", address)
    monkeypatch.setenv("LOCALTEST_API_KEY", "any")
    found = {
        name: evaluate(
            [base_variant(model).model_copy(update={"name": name})],
            ["Probe"],
            {"generation": {"answer_tokens": 24}, "limits": {"Probe": 4}},
            folder=tmp_path / name,
            seed=0,
        )
        for name, model in (("served", f"openai-api/localtest/{checkpoint}"), ("local", str(checkpoint)))
    }
    shown = {name: [(i.item_id, i.value, i.label, i.prompt_tokens) for i in items] for name, items in found.items()}
    assert shown["served"] == shown["local"]
    assert any(item.label for item in found["local"])
