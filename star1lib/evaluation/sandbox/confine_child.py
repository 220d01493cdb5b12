"""The confined side of :mod:`star1lib.evaluation.sandbox.confine`; run as a script, imports nothing of the package.

Three processes: the launcher enters new namespaces, the init (process 1 in there) builds a bare file
system, and the worker gives up every privilege and plays its role: the untrusted program, or the checker
that questions it. When the worker ends or the launcher is told to stop, the kernel kills whatever else is
left in the namespace. Calls and answers cross two pipes as plain data: whatever the program prints, exits
with or writes to its pipe is at most an answer, and an answer is compared by the tests, which it never sees.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import decimal
import fcntl
import fractions
import json
import os
import resource
import signal
import struct
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
SET_PDEATHSIG, SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVS = 1, 4, 22, 38
SHOWN = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/random",
         "/dev/urandom")  # fmt: skip
# A folder that is always there and holds nothing that is needed: the new root is mounted over it.
ROOT = "/proc"
# By processor: its audit number, pivot_root, socket, and the calls that are refused. Those are shmget, msgget, semget
# and memfd_create, whose memory no limit of a process counts, and io_uring_setup, whose rings open sockets unseen.
CALLS = {
    "x86_64": (0xC000003E, 155, 41, (29, 68, 64, 319, 425)),
    "aarch64": (0xC00000B7, 41, 198, (194, 186, 190, 279, 425)),
}
LONGEST_LINE = 16 << 20
STDOUT, INPUT, OUTPUT, REPORT = 1, 3, 4, 5
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> None:
    """Call a libc function that returns 0; raise OSError naming it otherwise."""
    wide = (ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments)
    if getattr(libc, name)(*wide) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    call("mount", source.encode(), target.encode(), kind and kind.encode(), flags, options.encode())


def enter() -> None:
    """New process, network, mount, IPC and host-name namespaces; as a plain user inside a new user namespace."""
    uid, gid, user = os.getuid(), os.getgid(), NEWUSER if os.geteuid() else 0
    call("unshare", NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | user)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path("/proc/self", name).write_text(text, encoding="ascii")


def build_root(uid: int, temp_mb: int) -> None:
    """Replace the file system by a read-only one: the standard library, system libraries, four devices, empty /tmp."""
    mount("none", "/", None, PRIVATE | REC)
    mount("none", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    inside = Path(ROOT, "inside")
    (inside / "tmp").mkdir(mode=0o755, parents=True)
    for source in sorted({*map(Path, SHOWN), Path(sys.base_prefix, "lib"), Path(sys.base_prefix, "lib64")}):
        target = inside / source.relative_to("/")
        if not source.exists() or target.exists():
            continue
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.mkdir(mode=0o755) if source.is_dir() else target.touch()
        mount(str(source), str(target), None, BIND | REC)
        # A user namespace may add flags to a mount but not clear those it came with.
        kept = os.statvfs(target).f_flag & (NOSUID | NODEV | NOEXEC | 1024 | 2048)
        mount("none", str(target), None, BIND | REMOUNT | RDONLY | NOSUID | kept)
    mount("none", f"{inside}/tmp", "tmpfs", NOSUID | NODEV | NOEXEC, f"size={temp_mb}m,mode=700,uid={uid}")
    mount("none", ROOT, None, REMOUNT | RDONLY | NOSUID | NODEV, "size=1m,mode=755")
    os.chdir(ROOT)
    # pivot_root has no libc wrapper everywhere; the old root then lies on top of the new one and is taken off.
    call("syscall", CALLS[os.uname().machine][1], b".", b".")
    call("umount2", b".", 2)
    # Inside a chroot the kernel refuses new user namespaces, so no privilege can be regained.
    os.chroot("/inside")
    os.chdir("/tmp")


def forbid_calls() -> None:
    """Refuse the calls of `CALLS`, and sockets that are not local: some kinds ignore network namespaces."""
    arch, _, socket, refused = CALLS[os.uname().machine]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, deny, kill = 0x7FFF0000, 0x00050000 | 13, 0x80000000
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, arch),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, len(refused) + 4, 0, 0x40000000),  # the second system-call table of x86-64
        *((equal, len(refused) + 3 - place, 0, number) for place, number in enumerate(refused)),
        (equal, 0, 2, socket),
        (load, 0, 0, 16),
        (equal, 0, 1, 1),
        (give, 0, 0, allow),
        (give, 0, 0, deny),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    call("prctl", SET_SECCOMP, 2, struct.pack("HP", len(program), ctypes.addressof(code)), 0, 0)


def give_up(uid: int, limits: dict[str, int]) -> None:
    """Resource limits, another user where possible, no capabilities, no way to gain any."""
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    for kind, most in (
        (resource.RLIMIT_AS, limits["memory_mb"] << 20),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["file_mb"] << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    os.setsid()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    call("prctl", SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    forbid_calls()


def rearrange(fds: list[int]) -> None:
    """Move descriptors to 3 and up, point 0 to 2 at nothing, close all others."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in fds]
    nothing = os.open("/dev/null", os.O_RDWR)
    for wanted, fd in enumerate([nothing] * 3 + high):
        os.dup2(fd, wanted)
    os.closerange(3 + len(fds), max(nothing, *fds, *high) + 1)


def tell(fd: int, **facts: Any) -> None:
    """One line for the unconfined side."""
    os.write(fd, json.dumps(facts).encode() + b"\n")


def main() -> None:
    """Settings from standard input, then one process after the other, each with less than the one before."""
    config = json.loads(sys.stdin.buffer.readline())
    fds, limits = config["fds"], config["limits"]
    uid = os.getuid() or config["uid"]
    step = "enter namespaces of its own"
    try:
        enter()
        if child := os.fork():
            os.closerange(3, max(fds) + 1)
            # Closed by the unconfined side at the end of the run, or by the kernel when that side was killed.
            os.read(0, 1)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)  # returns only once the kernel has emptied the namespace
            return
        call("prctl", SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        step = "build a file system of its own"
        build_root(uid, limits["temp_mb"])
        call("prctl", SET_DUMPABLE, 0, 0, 0, 0)
        if worker := os.fork():
            os.closerange(3, max(fds) + 1)
            tell(STDOUT, exit=os.waitpid(worker, 0)[1])
            return
        step = "give up privileges"
        give_up(uid, limits)
    except Exception as err:
        tell(STDOUT, error=f"cannot {step} ({err})")
        return
    tell(STDOUT, ready=True)
    if config["role"] == "checker":
        rearrange([*fds, STDOUT])
        play_checker(config["text"], config["entry_point"])
    else:
        rearrange(fds)
        play_program(config["text"], config["entry_point"])


def parts(values: Iterable[Any]) -> list[Any]:
    """Each value as JSON."""
    return list(map(encode, values))


# Plain types, to JSON and from it by methods of their own, so that a subclass has no say; the first that fits is used.
PLAIN: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    type(None): (lambda _: None, lambda _: None),
    bool: (bool, bool),
    str: (str.__str__, str),
    int: (lambda value: int.__format__(value, "x"), lambda text: int(text, 16)),
    float: (float.hex, float.fromhex),
    complex: (complex.__repr__, complex),
    bytes: (bytes.hex, bytes.fromhex),
    fractions.Fraction: (fractions.Fraction.__str__, fractions.Fraction),
    decimal.Decimal: (decimal.Decimal.__str__, decimal.Decimal),
    list: (parts, lambda found: list(map(decode, found))),
    tuple: (parts, lambda found: tuple(map(decode, found))),
    set: (parts, lambda found: set(map(decode, found))),
    frozenset: (parts, lambda found: frozenset(map(decode, found))),
    dict: (lambda value: parts(dict.items(value)), lambda found: dict(map(decode, found))),
    object: (lambda _: None, lambda _: object()),
}
BACK = {kind.__name__: back for kind, (_, back) in PLAIN.items()}


def encode(value: Any) -> Any:
    """Plain data as JSON that decodes to equal data."""
    kind = next(kind for kind in PLAIN if isinstance(value, kind))
    return [kind.__name__, PLAIN[kind][0](value)]


def decode(value: Any) -> Any:
    """The inverse of :func:`encode`; an object that is not plain data comes back equal to nothing."""
    return BACK[value[0]](value[1])


def load(name: str, text: str) -> Any:
    """`text` as a module of that name, from memory: there is no file that could be changed or read back."""
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    return module


def play_program(text: str, entry_point: str) -> None:
    """Load the untrusted code, then answer calls of its entry point, one line each."""
    requests, replies = os.fdopen(INPUT, "rb"), os.fdopen(OUTPUT, "wb")

    def answer(task: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        try:
            said = ["returned", encode(task(*arguments, **named))]
        except BaseException as err:
            said = ["raised", type(err).__name__, str(err)[:200]]
        replies.write(json.dumps(said).encode() + b"\n")
        replies.flush()

    answer(lambda: getattr(load("program", text), entry_point))
    for line in requests:
        arguments, named = decode(json.loads(line))
        answer(getattr(sys.modules["program"], entry_point), *arguments, **named)


class Gone(BaseException):
    """The program can answer no more calls; not an Exception, so that a test cannot swallow it."""


def play_checker(text: str, entry_point: str) -> None:
    """Run the tests; the function under test is a stand-in that asks the program's process."""
    replies, requests = os.fdopen(INPUT, "rb"), os.fdopen(OUTPUT, "wb")
    lost: list[str] = []

    def reply() -> Any:
        line = replies.readline(LONGEST_LINE)
        try:
            kind, value, *message = json.loads(line)
            if kind == "returned":
                return decode(value)
            raised = getattr(builtins, str(value), None)
        except BaseException as err:
            lost.append(f"its answer cannot be read ({type(err).__name__})" if line else "it ended before it answered")
            raise Gone from None
        # A StopIteration would end a check that goes through its answers with `map`.
        if isinstance(raised, type) and issubclass(raised, Exception) and raised is not StopIteration:
            raise raised(*map(str, message))
        raise RuntimeError(*map(str, message))

    def candidate(*arguments: Any, **named: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):
            requests.write(json.dumps(encode((arguments, named))).encode() + b"\n")
            requests.flush()
        return reply()

    status, reason = "passed", ""
    try:
        try:
            reply()
        except Exception as err:
            lost.append(f"it could not be loaded: {type(err).__name__}, {err}")
            raise Gone from None
        module = load("checks", text)
        setattr(module, entry_point, candidate)
        module.check(candidate)
    except AssertionError as err:
        status, reason = "failed", f"a check failed {err}".strip()
    except BaseException as err:
        status, reason = "failed", f"{type(err).__name__}: {err}"
    if lost:
        status, reason = "crashed", f"the program: {lost[0]}"
    tell(REPORT, status=status, reason=reason[:300])


if __name__ == "__main__":
    main()
