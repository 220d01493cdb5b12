"""A warm Python: `python -m module ...` as a fork of one process that has the slow imports behind it.

A rehearsal runs some sixty notebooks, each in two processes of its own, and importing torch, transformers, TRL and
Inspect takes longer than the work of most. Run as a script, this file is the client: it needs no library, so it starts
at once, and hands its arguments, folder, environment and streams to the warm process. A fork does what a new process
would do, and ends when its client does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "STAR1_WARM"  # names the socket on which the warm process listens
_SERVE = "--serve"
# Not matplotlib: a kernel chooses its backend before the import.
MODULES = (
    "acp", "datasets", "fastapi", "inspect_ai.log", "inspect_ai.model", "ipykernel.kernelapp", "openai.resources.chat",
    "pandas", "papermill", "scipy.stats", "sentence_transformers", "sklearn.linear_model",
    "statsmodels.stats.multitest", "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2", "trl.trainer.sft_trainer",
)  # fmt: skip


@contextlib.contextmanager
def python(environment: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """A Python to run modules by, as a path, and the environment to run it in; notebooks started there are warm too.

    Where a fork is not safe, off Linux and beside GPUs, it is the Python that runs this.
    """
    import subprocess
    import tempfile

    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        yield sys.executable, dict(environment)
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        client, kernel = Path(folder, "python"), Path(folder, "kernels", "python3", "kernel.json")
        client.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "$@"\n', encoding="utf-8")
        client.chmod(0o700)
        kernel.parent.mkdir(parents=True)
        words = [str(client), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel.write_text(json.dumps({"argv": words, "display_name": "Python 3 (ipykernel)", "language": "python"}))
        # The second is read by Jupyter, the third by torch's launcher.
        given = {**environment, VARIABLE: str(Path(folder, "line")), "JUPYTER_PATH": folder, "PYTHON_EXEC": str(client)}
        server.bind(given[VARIABLE])
        server.listen(64)
        # Each client has its own path. Bars are a terminal's or a notebook's from tqdm's import on, so there are none.
        clean = {key: value for key, value in environment.items() if key != "PYTHONPATH"} | {"TQDM_DISABLE": "1"}
        command = [sys.executable, "-P", __file__, _SERVE, str(server.fileno())]
        process = subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, pass_fds=[server.fileno()],
                                   start_new_session=True)  # fmt: skip
        server.close()  # the warm process holds it alone: when it dies, no client waits for it
        try:
            yield str(client), given
        finally:
            process.communicate()  # closes its input, which ends it


def _call(words: list[str]) -> int:
    """As the client: have the warm process run `words`; returns the exit code."""
    _die_with_parent()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ[VARIABLE])
        asked = json.dumps([words, str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(line, [len(asked).to_bytes(8, "big")], [0, 1, 2])
        line.sendall(asked)
        signal.signal(signal.SIGINT, lambda *_: line.send(b"i"))
        return int(line.recv(8) or 1)


def _serve(server: socket.socket) -> list[Any] | None:
    """As the warm process: fork for every client until the input closes. In a fork: what its client asks for."""
    import gc
    import importlib

    for module in MODULES:
        with contextlib.suppress(ImportError):  # then it is for whoever needs it to say so
            importlib.import_module(module)
    gc.freeze()  # shared memory stays shared
    forks: dict[int, tuple[int, socket.socket]] = {}  # a descriptor of the process -> its id, the line to its client
    while True:
        heard: list[Any] = [0, server, *forks, *(line for _, line in forks.values())]
        ready = select.select(heard, [], [])[0]
        if 0 in ready:
            return None
        for descriptor, (process, line) in list(forks.items()):
            if descriptor in ready:
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                with contextlib.suppress(OSError):
                    line.sendall(str(code if code >= 0 else 128 - code).encode())
                os.close(descriptor)
                line.close()
                del forks[descriptor]
            elif line in ready:  # it interrupts, or it is gone
                os.kill(process, signal.SIGINT if _read(line, 1) else signal.SIGKILL)
        if server in ready:
            line = server.accept()[0]
            size, streams, *_ = socket.recv_fds(line, 8, 3)
            asked = _read(line, int.from_bytes(size, "big"))
            if process := os.fork() if len(streams) == 3 and asked else -1:
                for stream in streams:
                    os.close(stream)
                if process > 0:
                    forks[os.pidfd_open(process)] = process, line
                continue
            for descriptor, (_, other) in forks.items():
                os.close(descriptor)
                other.close()
            for place, stream in enumerate(streams):
                os.dup2(stream, place)
                os.close(stream)
            server.close()
            line.close()
            found: list[Any] = json.loads(asked)
            return found


def _read(line: socket.socket, size: int) -> bytes:
    try:
        return line.recv(size, socket.MSG_WAITALL)
    except OSError:
        return b""


def _run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """As a fork: become the process that a Python started with `words` would be."""
    import runpy

    _die_with_parent()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.environ.pop("JPY_PARENT_PID", None)  # a kernel's parent is the client, who ends with it
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    with contextlib.suppress(ImportError):
        import sitecustomize  # noqa: F401
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    if sys.argv[1] == _SERVE:
        if (fork := _serve(socket.socket(fileno=int(sys.argv[2])))) is not None:
            _run(*fork)
    elif sys.argv[1] == "-m":
        sys.exit(_call(sys.argv[1:]))
    elif sys.argv[1:3] == ["-u", "-m"]:  # a launcher's way: what is written is not held back
        sys.exit(_call(sys.argv[2:]))
    else:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
