"""Run code that a model wrote, and its tests, where neither can hurt the machine (HumanEval, paper 3.2).

Each run starts two confined processes: the program under test, and the checker that holds the
tests. They exchange plain data over pipes (see `confine_roles.py`), so a program cannot forge a
pass by printing, by exiting early, or by returning an object that claims to equal everything.

Each process has namespaces of its own (processes, network, mounts, IPC, host name), a read-only
file system with only Python's standard library, the system's shared libraries and an empty /tmp in
memory; another user id when started as root, no capabilities and no way to gain any; no sockets
but local ones; an empty environment; no standard input or output; limits on CPU time, wall time,
memory, processes, open files, file size and size of /tmp. When it ends or its time is up, the
kernel kills the whole process namespace, detached children included.

What this does not protect against: a flaw in the kernel (system calls other than those for sockets and
System V shared memory are not filtered); timing or other side channels; load within the limits (memory
is limited per process, so a program may hold `processes` times `memory_mb`); reading the public files of
the system's library folders. It is not a virtual machine: run code from an adversary in one.

Linux on x86-64 or ARM64 only, as root or where the kernel lets users make namespaces. Elsewhere
:func:`available` says why not and :func:`run` refuses. Packages outside the standard library cannot
be imported by the program.
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
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from star1lib.errors import UserError, shorten

Status = Literal["passed", "failed", "crashed", "timeout"]
_SETUP_S = 60.0
_CHILD = Path(__file__).with_name("confine_child.py")
_REQUEST, _REPLY, _REPORT, _STATUS = "3", "4", "5", "6"
# Ids that Linux distributions leave unassigned, one per run so that process limits are not shared.
_ids = itertools.count()
_FIRST_ID, _ID_COUNT = 60_706, 400

_PROBE = """
import ctypes, os, socket
def probe():
    facts = []
    try:
        socket.socket()
    except OSError:
        facts.append("no sockets")
    try:
        open("/probe", "w")
    except OSError:
        facts.append("read only")
    if ctypes.CDLL(None).unshare(0x10000000) != 0:
        facts.append("no privileges")
    if set(os.listdir("/")) <= {"lib", "lib64", "usr", "etc", "dev", "tmp", *PREFIX} and not os.listdir("/tmp"):
        facts.append("bare")
    return facts
"""
_PROBE_CHECK = """
def check(candidate):
    missing = {"no sockets", "read only", "no privileges", "bare"} - set(candidate())
    assert not missing, f"without: {sorted(missing)}"
"""


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
    """Whether code can be confined here, tried once by confining a probe; and the mode or the reason why not."""
    if not sys.platform.startswith("linux"):
        return False, f"confinement needs Linux namespaces, this is {sys.platform}"
    mode = "root" if os.geteuid() == 0 else "user"
    prefix = {Path(path).parts[1] for path in (sys.base_prefix, os.__file__)}
    try:
        verdict = _run(mode, f"PREFIX = {prefix!r}\n{_PROBE}", _PROBE_CHECK, "probe", Limits())
    except (ConfinementError, OSError) as err:
        return False, str(err)
    return (True, mode) if verdict.passed else (False, f"the probe {verdict.status}: {verdict.reason}")


def run(program: str, check: str, entry_point: str, limits: Limits = Limits()) -> Verdict:
    """Load `program` confined and question its function `entry_point` with `check`.

    `check` is trusted Python text that defines `check(candidate)` and raises on a wrong answer; it
    may define what the tests need besides. Calls carry plain data (numbers, text, bytes, lists,
    tuples, sets, dicts, None); an exception of the program arrives as the built-in of that name.
    Raises :class:`ConfinementError` where the code cannot be confined: it is then never run.
    """
    possible, mode = available()
    if not possible:
        raise ConfinementError(
            f"code from a model is not run here, because it cannot be confined ({mode}); "
            "run this benchmark on Linux as root or with user namespaces allowed."
        )
    return _run(mode, program, check, entry_point, limits)


def _run(mode: str, program: str, check: str, entry_point: str, limits: Limits) -> Verdict:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="star1-confined-")))
        calls, answers, report = _Pipe(stack), _Pipe(stack), _Pipe(stack)
        uid = _FIRST_ID + next(_ids) % _ID_COUNT if mode == "root" else os.getuid()
        common: dict[str, Any] = {
            "mode": mode,
            "limits": asdict(limits),
            "entry_point": entry_point,
            "parent": os.getpid(),
            "uid": uid,
            "gid": uid if mode == "root" else os.getgid(),
        }
        sides = []
        for role, text, fds in (
            ("checker", check, {_REQUEST: calls.write, _REPLY: answers.read, _REPORT: report.write}),
            ("program", program, {_REQUEST: calls.read, _REPLY: answers.write}),
        ):
            place = folder / role
            place.mkdir()
            side = _Side({**common, "role": role, "program": text, "folder": str(place)}, fds)
            stack.callback(side.end)
            sides.append(side)
        for pipe in (calls, answers):
            pipe.close()
        report.close_write()
        until = time.monotonic() + _SETUP_S
        for side in sides:
            side.wait_ready(until)
        started = time.monotonic()
        line = _line(report.read, started + limits.wall_s)
        taken = time.monotonic() - started
        if line is None:
            return Verdict("timeout", f"no verdict within {limits.wall_s:g} s", taken)
        if not line:
            return Verdict("crashed", f"the checker ended without a verdict ({sides[0].exit_reason()})", taken)
        status, reason = json.loads(line)
        if status == "crashed":
            how = sides[1].exit_reason()
            reason = f"{reason} ({how})" if how else reason
        return Verdict(status, shorten(reason, 200), taken)


class _Pipe:
    """Both ends of a pipe, closed at the latest with the stack."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.read, self.write = os.pipe()
        self._open = {self.read, self.write}
        stack.callback(self.close)

    def close_write(self) -> None:
        self._close(self.write)

    def close(self) -> None:
        self._close(self.read)
        self._close(self.write)

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)


class _Side:
    """One confined process, seen from outside."""

    def __init__(self, config: dict[str, Any], fds: dict[str, int]) -> None:
        self.role = config["role"]
        self.status, write = os.pipe()
        fds = {**fds, _STATUS: write}
        settings = json.dumps({**config, "fds": fds}).encode()
        # The venv's launcher needs its site module, which -S leaves out: start the interpreter behind it.
        interpreter = getattr(sys, "_base_executable", None) or sys.executable
        needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        try:
            self.process = subprocess.Popen(
                [interpreter, "-I", "-S", "-B", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=tuple(fds.values()),
                env={**needed, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        except BaseException:
            os.close(self.status)
            raise
        finally:
            os.close(write)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(settings)

    def wait_ready(self, until: float) -> None:
        """Return once confined; raise when that failed."""
        line = _line(self.status, until)
        facts = (
            json.loads(line) if line else {"error": "it ended while starting" if line == b"" else "it did not start"}
        )
        if "error" in facts:
            raise ConfinementError(f"the {self.role} could not be confined: {facts['error']}")

    def exit_reason(self) -> str:
        """How the process ended, when it has; "" otherwise."""
        line = _line(self.status, time.monotonic() + 2.0)
        if not line:
            return ""
        code = os.waitstatus_to_exitcode(json.loads(line)["exit"])
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, CPU time limit" if -code == signal.SIGXCPU else name

    def end(self) -> None:
        """Kill the process and everything in its namespace, and wait until all of it is gone."""
        # The launcher passes the signal on and ends only after the namespace's last process.
        self.process.terminate()
        try:
            self.process.wait(10.0)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.status)


def _line(fd: int, until: float) -> bytes | None:
    """One line from `fd`; b"" at its end, None when `until` passes first."""
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        part = os.read(fd, 1)
        if not part:
            return b""
        data += part
    return data
