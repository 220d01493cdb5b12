"""Run code that a model wrote, and its tests, where neither can hurt the machine (HumanEval, paper 3.2).

Each run starts two confined processes (`confine_child.py`): the program under test, and the checker that
holds the tests. They exchange plain data over pipes, so a program cannot forge a pass by printing, by
exiting early, or by returning an object that claims to equal everything.

Each process has namespaces of its own (processes, network, mounts, IPC, host name); a read-only file
system with only Python's standard library, the system's shared libraries and an empty /tmp in memory;
another user id when started as root, no capabilities and no way to gain any; no sockets but local ones; no
environment, input or output; limits on CPU and wall time, memory, processes, open files and file sizes.
When it ends or its time is up, the kernel kills the whole process namespace, detached children included.

Not covered: a flaw in the kernel (few system calls are filtered); timing or other side channels; load within the
limits (memory is limited per process, so a program may hold `processes` times `memory_mb`); reading the public
files of the system's library folders. It is not a virtual machine: run code from an adversary in one.

Linux on x86-64 or ARM64 only, as root or where the kernel lets users make namespaces; elsewhere
:func:`available` says why not and :func:`run` refuses.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from star1lib.errors import UserError, shorten

Status = Literal["passed", "failed", "crashed", "timeout"]
_SETUP_S = 60.0
_CHILD = Path(__file__).with_name("confine_child.py")
# User ids that Linux distributions leave unassigned, one per run so that process limits are not shared.
_uids = itertools.cycle(range(60_706, 61_106))


class ConfinementError(UserError):
    """Code could not be confined here; the message says why."""


@dataclass(frozen=True)
class Limits:
    """Limits of one run; CPU, memory, processes and files count for program and checker each."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_mb: int = 512
    processes: int = 8
    file_mb: int = 8
    temp_mb: int = 16


@dataclass(frozen=True)
class Verdict:
    """How a run ended: `passed` only when every check ran and held."""

    status: Status
    reason: str
    wall_s: float

    @property
    def passed(self) -> bool:
        """True for a pass."""
        return self.status == "passed"


@lru_cache(maxsize=1)
def available() -> tuple[bool, str]:
    """Whether code can be confined here, tried once on a program that does nothing; the mode, or the reason why not."""
    if not sys.platform.startswith("linux"):
        return False, f"confinement needs Linux namespaces, this is {sys.platform}"
    try:
        verdict = _run("def f():\n    pass\n", "def check(f):\n    f()\n", "f", Limits(wall_s=_SETUP_S))
    except (ConfinementError, OSError) as err:
        return False, str(err)
    if not verdict.passed:
        return False, f"a program that does nothing {verdict.status}: {verdict.reason}"
    return True, "root" if os.geteuid() == 0 else "user"


def run(program: str, check: str, entry_point: str, limits: Limits = Limits()) -> Verdict:
    """Load `program` confined and question its function `entry_point` with `check`.

    `check` is trusted Python text that defines `check(candidate)` and raises on a wrong answer; it
    may define what the tests need besides. Calls carry plain data (numbers, text, bytes, lists,
    tuples, sets, dicts, None); an exception of the program arrives as the built-in of that name.
    Raises :class:`ConfinementError` where the code cannot be confined: it is then never run.
    """
    possible, reason = available()
    if not possible:
        raise ConfinementError(
            f"code from a model is not run here, because it cannot be confined ({reason}); "
            "run this benchmark on Linux as root or with user namespaces allowed."
        )
    return _run(program, check, entry_point, limits)


def _run(program: str, check: str, entry_point: str, limits: Limits) -> Verdict:
    common = {"limits": asdict(limits), "entry_point": entry_point, "uid": next(_uids)}
    with contextlib.ExitStack() as sides:
        calls, answers = os.pipe(), os.pipe()
        try:
            checker = sides.enter_context(_confined("checker", check, (answers[0], calls[1]), common))
            tested = sides.enter_context(_confined("program", program, (calls[0], answers[1]), common))
        finally:
            for fd in (*calls, *answers):
                os.close(fd)
        until = time.monotonic() + _SETUP_S
        for name, side in (("checker", checker), ("program", tested)):
            said = _said(side, until)
            if not said or "ready" not in said:
                error = (said or {}).get("error", "it did not start")
                raise ConfinementError(f"the {name} could not be confined: {error}")
        started = time.monotonic()
        said = _said(checker, started + limits.wall_s)
        taken = time.monotonic() - started
        if said is None:
            return Verdict("timeout", f"no verdict within {limits.wall_s:g} s", taken)
        if "status" not in said:
            return Verdict("crashed", f"the checker ended without a verdict ({_ending(said)})", taken)
        reason = said["reason"]
        if said["status"] == "crashed" and (how := _ending(_said(tested, time.monotonic() + 2.0))):
            reason = f"{reason} ({how})"
        return Verdict(said["status"], shorten(reason, 200), taken)


@contextlib.contextmanager
def _confined(role: str, text: str, fds: tuple[int, int], common: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """One confined process that reads from and writes to `fds`; with everything in its namespace gone at the end."""
    # The venv's launcher needs its site module, which -S leaves out: start the interpreter behind it.
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    with subprocess.Popen(
        [interpreter, "-I", "-S", "-B", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        pass_fds=fds,
        env={**needed, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError), open(process.stdin.fileno(), "wb", closefd=False) as stdin:
                stdin.write(json.dumps({**common, "role": role, "text": text, "fds": fds}).encode() + b"\n")
            yield process
        finally:
            # The launcher waits for this, kills the namespace, and ends only after the last process in there.
            process.stdin.close()
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _said(side: subprocess.Popen[bytes], until: float) -> dict[str, Any] | None:
    """The next line of a confined process; {} when it has ended, None when `until` passes first."""
    # Unbuffered, and a line is written at once: one that can be read is there as a whole.
    assert side.stdout is not None
    ready, _, _ = select.select([side.stdout], [], [], max(0.0, until - time.monotonic()))
    return json.loads(side.stdout.readline() or b"{}") if ready else None


def _ending(said: dict[str, Any] | None) -> str:
    """How a process ended, when it said so; "" otherwise."""
    if not said or "exit" not in said:
        return ""
    code = os.waitstatus_to_exitcode(said["exit"])
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name + (", CPU time limit" if -code == signal.SIGXCPU else "")
