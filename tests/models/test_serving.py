"""The server's life by a stand-in that takes vLLM's place: it starts, dies, hangs, and never outlives the block."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import httpx
import pytest

from star1lib.errors import UserError
from star1lib.models import serving

GOOD = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers.get("Authorization") == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if known or self.path == "/health" else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": given["--served-model-name"]}] if known else []}).encode())
HTTPServer((given["--host"], int(given["--port"])), Handler).serve_forever()
"""
DIES = """
import os
print('ValueError: no weights for', os.environ['VLLM_API_KEY'])
print('resources cleaned up')
raise SystemExit(3)
"""
HANGS = "import time\nprint('loading', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def fake(tmp_path):
    def make(text):
        file = tmp_path / "python"
        file.write_text(f"#!{sys.executable}\n{text}")
        file.chmod(0o755)
        return file

    return make


def test_a_server_is_ready_in_the_block_and_gone_after_it(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "hidden-key")
    with serving.serve(tmp_path / "ckpt", python=fake(GOOD), timeout=30) as server:
        assert server.model == "openai-api/vllm/ckpt"
        assert "hidden-key" not in repr(server)
        assert httpx.get(f"{server.base_url}/models", trust_env=False).status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.base_url}/models", trust_env=False)


def test_a_server_is_given_no_longer_window_than_the_model_has(fake, tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    says = fake(
        "import sys\nprint('Error: window', sys.argv[sys.argv.index('--max-model-len') + 1])\nraise SystemExit(3)"
    )
    for most, given in ((1024, 512), (256, 256)):
        refused(f"Error: window {given}$", tmp_path, says, max_model_len=most)


def refused(sentence, checkpoint, python, timeout=30, **more):
    with (
        pytest.raises(UserError, match=sentence),
        serving.serve(checkpoint, python=python, timeout=timeout, **more),
    ):
        pass


def test_a_server_that_dies_hangs_or_is_missing_is_one_sentence_without_the_key(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "hidden-key")
    refused(r"code 3: ValueError: no weights for \*\*\*$", tmp_path / "ckpt", fake(DIES))
    refused("not ready after 2 s: loading", tmp_path / "ckpt", fake(HANGS), timeout=2)
    refused("no such Python", tmp_path, tmp_path / "none")


def test_the_server_ends_with_a_killed_parent(fake, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from star1lib.models import serving\n"
        "with serving.serve(Path('ckpt'), python=Path(sys.argv[1]), timeout=30) as server:\n"
        "    print(server.base_url, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(fake(GOOD))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert httpx.get(f"{url}/models", trust_env=False).status_code == 401
        parent.kill()
    time.sleep(1)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models", trust_env=False)
