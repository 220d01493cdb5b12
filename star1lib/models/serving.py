"""A vLLM server of a checkpoint on loopback for as long as a `with` block lasts.

vLLM lives in an environment of its own, so it is named by that environment's Python. The server speaks
OpenAI's interface; Inspect reaches it as `openai-api/vllm/NAME` with `Server.base_url` and `Server.api_key`.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from star1lib.errors import UserError, shorten
from star1lib.files import read_json

HOST = "127.0.0.1"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Server:
    """Where a running server is, the name it serves the checkpoint under, and its key (never shown)."""

    base_url: str
    name: str
    api_key: str = field(repr=False)

    @property
    def model(self) -> str:
        """The model's name for Inspect."""
        return f"openai-api/vllm/{self.name}"


@contextmanager
def serve(
    checkpoint: Path,
    *,
    python: Path,
    port: int | None = None,
    name: str = "",
    key_variable: str = "VLLM_API_KEY",
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    dtype: str = "float32",
    max_model_len: int = 1024,
    max_num_seqs: int = 32,
    timeout: float = 600.0,
) -> Iterator[Server]:
    """Serve `checkpoint` until the block ends, called `name` or as its folder; the key is `key_variable`'s or random.

    The weights are split over `tensor_parallel` GPUs, in `data_parallel` copies. A server that dies, then or in the
    block, or is not ready after `timeout` seconds is a :class:`UserError` with the log's last error.
    """
    if not python.exists():
        raise UserError(f"{python}: no such Python; run `make serve` once to set up vLLM, or name another.")
    key = os.environ.get(key_variable) or secrets.token_urlsafe(24)
    port = port or _port(name or checkpoint.name)
    server = Server(f"http://{HOST}:{port}/v1", name or checkpoint.name, key)
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    command += ["--served-model-name", server.name, "--host", HOST, "--port", str(port), "--dtype", dtype]
    command += ["--max-model-len", str(_window(checkpoint, max_model_len)), "--max-num-seqs", str(max_num_seqs)]
    parallel = {"--tensor-parallel-size": tensor_parallel, "--data-parallel-size": data_parallel}
    command += [part for flag, number in parallel.items() if number > 1 for part in (flag, str(number))]
    command += [] if _has_gpu() else ["--enforce-eager"]
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before the fork, not after it

    def end_with_parent() -> None:
        if libc is not None:
            libc.prctl(_DEATH_SIGNAL, signal.SIGTERM)

    with tempfile.TemporaryDirectory(prefix="star1-vllm-") as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as out:
            child = subprocess.Popen(
                command,
                env=_environment(key),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        try:
            _wait(child, server, log, timeout)
            try:
                yield server
            except Exception as err:
                if child.poll() is None:
                    raise
                reason = _reason(log, server.api_key)
                raise UserError(f"vLLM: the server of {server.name} died in mid-run with code {child.returncode}: "
                                f"{reason}; what was answered is kept, run again.") from err  # fmt: skip
        finally:
            _stop(child)


def _window(checkpoint: Path, most: int) -> int:
    """At most `most` tokens of prompt and response, and no more than the model was made for: vLLM would not start."""
    config = checkpoint / "config.json"
    return min(most, read_json(config).get("max_position_embeddings") or most) if config.exists() else most


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


def _environment(key: str) -> dict[str, str]:
    """The key goes by environment: other users can read a command line."""
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    cpu["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
    return {**({} if _has_gpu() else cpu), **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_API_KEY": key}


def _port(name: str) -> int:
    """The same port for a name every time: Inspect finds what it generated before a kill by the server's address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, 20_000 + zlib.crc32(name.encode()) % 20_000))
        except OSError:  # taken by another program
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(child: subprocess.Popen[bytes], server: Server, log: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if child.poll() is not None:
            raise UserError(f"vLLM: the server ended with code {child.returncode}: {_reason(log, server.api_key)}")
        if _ready(server):
            return
        time.sleep(0.1)
    raise UserError(f"vLLM: the server was not ready after {timeout:g} s: {_reason(log, server.api_key)}")


def _ready(server: Server) -> bool:
    """Healthy, and it lists our model: another server on the same port does not count."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    try:
        # Plain HTTP: making ready for TLS would take more of the processor than the server's own start.
        with httpx.Client(trust_env=False, verify=False, timeout=5, headers=headers) as client:
            if client.get(server.base_url.removesuffix("/v1") + "/health").status_code != 200:
                return False
            listed = client.get(f"{server.base_url}/models").json()["data"]
            return server.name in [model["id"] for model in listed]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _reason(log: Path, key: str) -> str:
    """The last line of the log that names an error, else its last line."""
    text = log.read_text(encoding="utf-8", errors="replace").replace(key, "***")
    lines = [line.strip() for line in text.split("\n") if line.strip()] or ["its log is empty"]
    return shorten(next((line for line in reversed(lines) if "Error: " in line), lines[-1]), 200)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the server and the engine processes it started: they share its process group."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, how)
            child.wait(timeout=10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    child.wait()
