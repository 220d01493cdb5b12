"""The confined side of :mod:`star1lib.evaluation.sandbox.confine`; run as a script, imports nothing of the package.

Three processes: the launcher enters new namespaces, the init (process 1 in there) builds a bare
file system and waits for the third, which gives up every privilege and then plays one of the two
roles of `confine_roles.py`. When the third ends or the launcher is killed, the init ends, and the
kernel kills whatever else is left in the namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
SET_PDEATHSIG, SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVS = 1, 4, 22, 38
SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
STATUS = 6

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


def call(name: str, *arguments: Any) -> None:
    """Call a libc function that returns 0; raise OSError naming it otherwise."""
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    call("mount", source.encode(), target.encode(), kind and kind.encode(), flags, options.encode())


def write(path: str, text: str) -> None:
    """Overwrite one small file."""
    Path(path).write_text(text, encoding="utf-8")


def enter(mode: str) -> None:
    """New process, network, mount, IPC and host-name namespaces; as a plain user inside a new user namespace."""
    uid, gid = os.getuid(), os.getgid()
    flags = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    call("unshare", flags | (NEWUSER if mode == "user" else 0))
    if mode == "user":
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{uid} {uid} 1")
        write("/proc/self/gid_map", f"{gid} {gid} 1")


def bind(source: Path, inside: Path, writable: bool = False) -> None:
    """Show `source` read-only at the same path under `inside`; links are copied as links."""
    target = inside / source.relative_to("/")
    if not source.exists() or target.is_symlink() or target.exists():
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if source.is_symlink() and str(source) in SYSTEM_LIBRARIES:
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir(mode=0o755)
    else:
        target.touch()
    mount(str(source), str(target), None, BIND | REC)
    if not writable:
        # A user namespace may add flags to a mount but not clear those it came with.
        kept = os.statvfs(target).f_flag & (NOSUID | NODEV | NOEXEC | 1024 | 2048)
        mount("none", str(target), None, BIND | REMOUNT | RDONLY | NOSUID | kept)


def build_root(config: dict[str, Any]) -> None:
    """Replace the file system by a read-only one: the standard library, system libraries, four devices, empty /tmp."""
    base, uid, gid = config["folder"], config["uid"], config["gid"]
    mount("none", "/", None, PRIVATE | REC)
    mount("none", base, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    inside = Path(base, "inside")
    (inside / "tmp").mkdir(mode=0o755, parents=True)
    stdlib = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")} | {Path(sys.base_prefix, "lib")}
    sources = {*map(Path, SYSTEM_LIBRARIES), *stdlib}
    for source in sorted(sources, key=lambda path: len(path.parts)):
        if not any(other in source.parents for other in sources):
            bind(source, inside)
    for device in DEVICES:
        bind(Path(device), inside, writable=True)
    size = config["limits"]["temp_mb"]
    mount("none", f"{inside}/tmp", "tmpfs", NOSUID | NODEV | NOEXEC, f"size={size}m,mode=700,uid={uid},gid={gid}")
    mount("none", base, None, REMOUNT | RDONLY | NOSUID | NODEV, "size=1m,mode=755")
    os.chdir(base)
    # pivot_root has no libc wrapper everywhere; its number depends on the processor.
    number = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"processor {os.uname().machine} is not supported")
    if _libc.syscall(number, b".", b".") != 0:
        raise OSError(ctypes.get_errno(), f"pivot_root: {os.strerror(ctypes.get_errno())}")
    call("umount2", b".", DETACH)
    # Inside a chroot the kernel refuses new user namespaces, so no privilege can be regained.
    os.chroot("/inside")
    os.chdir("/tmp")


def forbid_calls() -> None:
    """Let socket(2) make local sockets only, and no System V shared memory be made.

    Virtual-machine sockets, for one, ignore network namespaces; shared segments count in no memory limit of a process.
    """
    numbers = {"x86_64": (0xC000003E, 41, 29), "aarch64": (0xC00000B7, 198, 194)}
    arch, socket, shmget = numbers[os.uname().machine]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, deny, kill = 0x7FFF0000, 0x00050000 | 13, 0x80000000
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, arch),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, 6, 0, 0x40000000),  # the second system-call table of x86-64
        (equal, 5, 0, 425),  # io_uring_setup: its rings could open sockets unseen
        (equal, 4, 0, shmget),
        (equal, 0, 2, socket),
        (load, 0, 0, 16),
        (equal, 0, 1, 1),
        (give, 0, 0, allow),
        (give, 0, 0, deny),
    ]
    code = b"".join(
        op.to_bytes(2, sys.byteorder) + bytes([yes, no]) + value.to_bytes(4, sys.byteorder)
        for op, yes, no, value in program
    )
    buffer = ctypes.create_string_buffer(code, len(code))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    prepared = Filter(len(program), ctypes.addressof(buffer))
    call("prctl", SET_SECCOMP, 2, ctypes.addressof(prepared), 0, 0)


def give_up(config: dict[str, Any]) -> None:
    """Resource limits, another user where possible, no capabilities, no way to gain any."""
    limits = config["limits"]
    megabyte = 1 << 20
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + 1),
        (resource.RLIMIT_AS, limits["memory_mb"] * megabyte, limits["memory_mb"] * megabyte),
        (resource.RLIMIT_NPROC, limits["processes"], limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["file_mb"] * megabyte, limits["file_mb"] * megabyte),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
    os.setsid()
    if config["mode"] == "root":
        os.setgroups([])
        os.setresgid(config["gid"], config["gid"], config["gid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    call("prctl", SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
    forbid_calls()


def rearrange(fds: dict[int, int]) -> None:
    """Move descriptors to the numbers wanted, point 0 to 2 at nothing, close all others."""
    high = {wanted: fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for wanted, fd in fds.items()}
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for wanted, fd in high.items():
        os.dup2(fd, wanted)
    for fd in set(range(3, 7)) - set(fds):
        with contextlib.suppress(OSError):
            os.close(fd)
    os.closerange(7, max(256, *high.values(), *fds.values()) + 1)


def tell(fd: int, **facts: Any) -> None:
    """One status line for the unconfined side."""
    os.write(fd, json.dumps(facts).encode() + b"\n")


def die_with_parent() -> None:
    """Be killed when the process that started this one ends."""
    call("prctl", SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def work(config: dict[str, Any], play: Callable[[dict[str, Any]], None]) -> None:
    """The third process: give everything up, say so, play the role."""
    rearrange({int(wanted): fd for wanted, fd in config["fds"].items()})
    try:
        give_up(config)
    except Exception as err:
        tell(STATUS, error=f"cannot give up privileges ({err})")
        return
    tell(STATUS, ready=True)
    os.close(STATUS)
    play(config)


def init(config: dict[str, Any], alive: int, play: Callable[[dict[str, Any]], None]) -> None:
    """Process 1: build the file system, start the third process, report how it ended."""
    die_with_parent()
    os.set_blocking(alive, False)
    with contextlib.suppress(BlockingIOError):
        os.read(alive, 1)
        return  # the launcher was gone before it could take this process with it
    status = config["fds"][str(STATUS)]
    try:
        build_root(config)
        call("prctl", SET_DUMPABLE, 0, 0, 0, 0)
    except Exception as err:
        tell(status, error=f"cannot build a file system of its own ({err})")
        return
    worker = os.fork()
    if worker == 0:
        try:
            work(config, play)
        finally:
            os._exit(0)
    for wanted, fd in config["fds"].items():
        if int(wanted) != STATUS:
            os.close(fd)
    tell(status, exit=os.waitpid(worker, 0)[1])


def roles() -> Any:
    """`confine_roles.py` of the same folder; by path, since its siblings must not shadow the standard library."""
    path = Path(__file__).with_name("confine_roles.py")
    spec = importlib.util.spec_from_file_location("confine_roles", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Read the settings from standard input, enter the namespaces, start the init and wait for it."""
    config = json.load(sys.stdin)
    die_with_parent()
    if os.getppid() != config["parent"]:
        return
    play = getattr(roles(), "play_" + config["role"])
    try:
        enter(config["mode"])
    except Exception as err:
        tell(config["fds"][str(STATUS)], error=f"cannot enter namespaces of its own ({err})")
        return
    alive, held = os.pipe()
    # Held back until there is something to pass the signal on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(held)
        try:
            init(config, alive, play)
        finally:
            os._exit(0)
    for fd in (alive, *config["fds"].values()):
        os.close(fd)
    handle = os.pidfd_open(child)
    signal.signal(signal.SIGTERM, lambda *_: signal.pidfd_send_signal(handle, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # Returns only once the kernel has emptied the namespace.
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
