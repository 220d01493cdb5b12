"""A warm Python does as a new one would: arguments, folder, environment, streams, exit code, interrupt and death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from star1lib.study import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are warm on Linux")


def start(given: tuple[str, dict[str, str]], folder: Path, text: str, *words: str) -> subprocess.Popen[str]:
    (folder / "asked.py").write_text(dedent(text), encoding="utf-8")
    return subprocess.Popen([given[0], "-m", "asked", *words], cwd=folder, env={**given[1], "MINE": "ö"}, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def test_a_module_finds_its_arguments_folder_environment_and_streams(
    warm_python: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    process = start(warm_python, tmp_path, """
        import os, sys, threading
        print(sys.argv[1:], os.getcwd(), os.environ["MINE"], __name__, sys.stdin.read(), threading.active_count())
        print(*sorted({"torch", "trl", "inspect_ai", "matplotlib", "star1lib"} & {*sys.modules}), file=sys.stderr)
        import tqdm.auto
        print(sum(tqdm.auto.tqdm([1, 2])))
        sys.exit(3)
    """, "a b", "c")  # fmt: skip
    said, complained = process.communicate("typed")
    assert said.split("\n")[0] == f"['a b', 'c'] {tmp_path} ö __main__ typed 1"
    assert said.split("\n")[1] == "3", "and no bar beside it"
    assert complained == "inspect_ai torch trl\n" and process.returncode == 3


def test_an_interrupt_reaches_it_and_a_kill_ends_it(warm_python: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    text = """
        import os, time
        print(os.getpid(), flush=True)
        try:
            time.sleep(3600)
        except KeyboardInterrupt:
            print("interrupted")
    """
    process = start(warm_python, tmp_path, text)
    assert process.stdout is not None and int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == "interrupted\n" and process.returncode == 0
    process = start(warm_python, tmp_path, text)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    process.kill()
    assert process.stdout.read() == ""  # ends only when the fork, who holds the other end, has ended
    while Path(f"/proc/{number}").exists():
        time.sleep(0.01)


def test_beside_a_gpu_it_is_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    with warm.python(os.environ) as (python, given):
        assert python == sys.executable and given == dict(os.environ)
