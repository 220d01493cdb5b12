"""Hostile programs: each is contained, none passes, and the next run works."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from pathlib import Path

import pytest

from star1lib.evaluation.sandbox import confine, confine_child
from star1lib.evaluation.sandbox.confine import Limits, run

ABLE, WHY = confine.available()
needs_confinement = pytest.mark.skipif(not ABLE, reason=f"no confinement here: {WHY}")
SHORT = Limits(wall_s=1.5, cpu_s=1, memory_mb=256, processes=8, file_mb=1, temp_mb=4)
CHECK = "def check(candidate):\n    assert candidate(20) == 21\n    assert candidate('x') == 'xy'\n"
GOOD = "def f(x):\n    return x + ('y' if isinstance(x, str) else 1)\n"
FORGED = '["passed", ""]'


def dedent(text):
    return textwrap.dedent(text).lstrip()


def named(marker):
    """Processes that carry `marker` as their name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += [path.parent.name] if path.read_text().strip() == marker else []
        except OSError:
            continue
    return found


HOSTILE = {
    "endless loop at load": "while True:\n    pass\n",
    "endless loop in the answer": "def f(x):\n    while True:\n        pass\n",
    "sleep": "import time\ntime.sleep(60)\n",
    "fork bomb": """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
    """,
    "memory hog": "held = []\nwhile True:\n    held.append(bytearray(1 << 24))\n",
    "memory hog in the answer": "def f(x):\n    return [0] * (1 << 30)\n",
    "huge answer": "def f(x):\n    return 'x' * (40 << 20)\n",
    "deep answer": """
        def f(x):
            import os
            os.write(4, b'["returned", ' + b'["list", [' * 50000 + b']]' * 50000 + b']\\n')
            return 0
    """,
    "prints the pass": f"def f(x):\n    print('{FORGED}', flush=True)\n    return 0\n",
    "writes the pass everywhere": f"""
        import os
        for fd in range(64):
            try:
                os.write(fd, b'{FORGED}\\n' * 3)
            except OSError:
                pass
        def f(x):
            return 0
    """,
    "exits with 0": "import os\nos._exit(0)\n",
    "exits with 0 in the answer": "def f(x):\n    raise SystemExit(0)\n",
    "closes its pipes": "import os\nos.closerange(0, 64)\ndef f(x):\n    return 0\n",
    "equal to everything": """
        class Anything(int):
            def __eq__(self, other):
                return True
            __hash__ = int.__hash__
        def f(x):
            return Anything(0)
    """,
    "object equal to everything": """
        class Anything:
            def __eq__(self, other):
                return True
        def f(x):
            return Anything()
    """,
    "raises AssertionError's child": "def f(x):\n    raise type('Passed', (AssertionError,), {})('passed')\n",
    "patches the interpreter": """
        import builtins, json, sys
        builtins.AssertionError = Exception
        sys.modules['confine_roles'] = None
        json.dumps = lambda *_, **__: '["passed", ""]'
        def f(x):
            return 0
    """,
    "kills what it can": """
        import os, signal
        os.kill(1, signal.SIGKILL)
        os.kill(-1, signal.SIGKILL)
        def f(x):
            return 0
    """,
    "no such function": "def g(x):\n    return x\n",
    "broken text": "def f(x:\n",
    "stack overflow": "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(x):\n    return f(x)\n",
}


@needs_confinement
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.attack("hostile programs")
def test_hostile_program_never_passes(name):
    verdict = run(dedent(HOSTILE[name]), CHECK, "f", SHORT)
    assert not verdict.passed and verdict.reason


@needs_confinement
@pytest.mark.attack("hostile programs")
def test_the_run_goes_on():
    verdicts = [run(dedent(text), CHECK, "f", SHORT).passed for text in (GOOD, HOSTILE["fork bomb"], GOOD)]
    assert verdicts == [True, False, True]


@needs_confinement
def test_reasons_name_the_limit():
    loop = run("def f(x):\n    while True:\n        pass\n", CHECK, "f", Limits(wall_s=8, cpu_s=1))
    assert loop.status == "crashed" and "CPU time" in loop.reason
    assert run("import time\ntime.sleep(9)", CHECK, "f", Limits(wall_s=0.3)).status == "timeout"
    assert "MemoryError" in run(HOSTILE["memory hog"], CHECK, "f", SHORT).reason
    assert "AttributeError" in run("g = 1", CHECK, "f", SHORT).reason
    assert run("def f(x):\n    return 0\n", CHECK, "f", SHORT).status == "failed"


PROBES = {
    "files outside are not there": (
        """
        import os
        def f(path):
            return [os.path.exists(path), os.path.exists(os.path.dirname(path)), os.path.exists('/proc/self'),
                    os.path.exists('/etc/passwd'), os.path.exists('/bin/sh'), os.listdir('/tmp')]
        """,
        [False, False, False, False, False, []],
    ),
    "nothing outside can be written": (
        """
        import os, sysconfig
        def f(path):
            wrote = []
            for target in (path, '/x', '/lib/x', sysconfig.get_path('stdlib') + '/x.py', '/dev/x'):
                try:
                    open(target, 'w').close()
                    wrote.append(target)
                except OSError:
                    pass
            return wrote
        """,
        [],
    ),
    "the temporary directory is small": (
        """
        def f(path):
            written = 0
            try:
                for i in range(64):
                    with open(f'/tmp/{i}', 'wb') as handle:
                        written += handle.write(bytes(1 << 19))
            except OSError:
                pass
            return written <= 4 << 20
        """,
        True,
    ),
    "a file has a largest size": (
        """
        import signal
        def f(path):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            try:
                with open('/tmp/big', 'wb') as handle:
                    handle.write(bytes(2 << 20))
                return 'written'
            except OSError:
                return 'too large'
        """,
        "too large",
    ),
    "few processes": (
        """
        import os, time
        def f(path):
            made = 0
            try:
                while made < 50:
                    if os.fork() == 0:
                        time.sleep(30)
                        os._exit(0)
                    made += 1
            except OSError:
                pass
            return made < 8
        """,
        True,
    ),
    "the environment is empty": (
        "import os\ndef f(path):\n    return sorted(os.environ)\n",
        ["LC_ALL", "PYTHONHASHSEED"],
    ),
    "standard streams lead nowhere": (
        "import os, sys\ndef f(path):\n    return [sys.stdin.read(), os.readlink.__name__, os.isatty(1)]\n",
        ["", "readlink", False],
    ),
    "no privilege, no other namespace": (
        """
        import ctypes, os
        def f(path):
            libc = ctypes.CDLL(None)
            tried = [libc.unshare(0x10000000), libc.unshare(0x40000000), libc.chroot(b'/tmp'), libc.setuid(0)]
            tried.append(libc.mount(b'none', b'/tmp', b'tmpfs', 0, b''))
            libc.setuid.restype = ctypes.c_int
            return [result != 0 for result in tried[:3]] + [tried[4] != 0]
        """,
        [True, True, True, True],
    ),
    "no tracing of the first process": (
        """
        import ctypes
        def f(path):
            return ctypes.CDLL(None).ptrace(16, 1, None, None)
        """,
        -1,
    ),
    # System V segments and memory files belong to no process, so no limit of a process counts them: none is made.
    "no memory outside the limit of a process": (
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        def memory_file():
            try:
                return os.memfd_create("held")
            except OSError:
                return -1
        def f(path):
            return [libc.shmget(0, 64 << 20, 0o1600), libc.msgget(0, 0o1600), libc.semget(0, 9, 0o1600), memory_file()]
        """,
        [-1] * 4,
    ),
    "the checks are not in the program's memory": (
        """
        import gc, sys
        def f(path):
            frames, frame = [], sys._getframe()
            while frame:
                frames += [str(value) for value in frame.f_locals.values()]
                frame = frame.f_back
            return any('assert ' + 'got' in text for text in frames)
        """,
        False,
    ),
}


@needs_confinement
@pytest.mark.parametrize("name", PROBES)
@pytest.mark.attack("hostile programs")
def test_what_a_program_finds(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    outside = tmp_path / "outside.txt"
    outside.write_text("kept")
    text, expected = PROBES[name]
    check = f"def check(candidate):\n    got = candidate({str(outside)!r})\n    assert got == {expected!r}, got\n"
    verdict = run(dedent(text), check, "f", SHORT)
    assert verdict.passed, verdict
    assert outside.read_text() == "kept"


@needs_confinement
@pytest.mark.attack("hostile programs")
def test_no_network():
    reached = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        program = dedent(f"""
            import ctypes, socket
            def f(x):
                found = []
                for family, address in ((socket.AF_INET, ('127.0.0.1', {port})), (socket.AF_VSOCK, (2, {port}))):
                    try:
                        with socket.socket(family) as line:
                            line.settimeout(0.3)
                            line.connect(address)
                            found.append(str(address))
                    except OSError:
                        pass
                if ctypes.CDLL(None).syscall(425, 8, None) >= 0:
                    found.append('rings')
                left, right = socket.socketpair()
                left.send(b'local')
                return found + [right.recv(9)]
        """)
        verdict = run(program, "def check(candidate):\n    assert candidate(0) == [b'local']\n", "f", SHORT)
        with contextlib.suppress(TimeoutError):
            reached.append(server.accept())
    assert verdict.passed, verdict
    assert not reached


@needs_confinement
@pytest.mark.attack("hostile programs")
def test_detached_child_is_gone():
    marker = "left" + uuid.uuid4().hex[:8]
    program = dedent(f"""
        import ctypes, os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                ctypes.CDLL(None).prctl(15, b'{marker}', 0, 0, 0)
                time.sleep(60)
            os._exit(0)
        time.sleep(0.1)
        def f(x):
            os._exit(0)
    """)
    verdict = run(program, CHECK, "f", SHORT)
    assert verdict.status == "crashed" and "ended before it answered" in verdict.reason
    assert not named(marker)


@needs_confinement
@pytest.mark.attack("hostile programs")
def test_killed_from_outside_leaves_nothing():
    marker = "left" + uuid.uuid4().hex[:8]
    script = dedent(f"""
        from star1lib.evaluation.sandbox import confine
        text = "import ctypes, time\\nctypes.CDLL(None).prctl(15, b'{marker}', 0, 0, 0)\\ntime.sleep(60)"
        confine.run(text, "", "f", confine.Limits(wall_s=60))
    """)
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        until = time.monotonic() + 30
        while not named(marker) and time.monotonic() < until:
            time.sleep(0.05)
        assert named(marker)
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while named(marker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not named(marker)


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests above ran as a plain user already")
def test_plain_user_is_confined_as_well():
    """The same package, run by a user without any privilege, where an interpreter is readable to all."""
    script = dedent(f"""
        import json, sys
        from star1lib.evaluation.sandbox import confine
        able, mode = confine.available()
        texts = {[GOOD, *(dedent(HOSTILE[name]) for name in ("fork bomb", "exits with 0", "kills what it can"))]!r}
        limits = confine.Limits(wall_s=1.5, cpu_s=1, memory_mb=256)
        print(json.dumps([mode, [confine.run(text, {CHECK!r}, "f", limits).passed for text in texts if able]]))
    """)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        sandbox = Path(confine.__file__).parent
        package = Path(folder, "star1lib", "evaluation", "sandbox")
        package.mkdir(parents=True)
        for parent in (package, *package.parents[:2]):
            (parent / "__init__.py").touch()
        for name in ("confine.py", "confine_child.py"):
            shutil.copyfile(sandbox / name, package / name)
        shutil.copyfile(sandbox.parents[1] / "errors.py", Path(folder, "star1lib", "errors.py"))
        for python in (sys._base_executable, "/usr/bin/python3"):
            try:
                done = subprocess.run(
                    [python, "-c", script],
                    cwd=folder,
                    env={"PYTHONDONTWRITEBYTECODE": "1"},
                    user=60_600,
                    group=60_600,
                    extra_groups=[],
                    capture_output=True,
                    text=True,
                )
            except OSError:
                continue
            if done.returncode == 0:
                break
        else:
            pytest.skip("no interpreter of Python 3.11 that another user may read")
    mode, passed = json.loads(done.stdout)
    if mode != "user":
        pytest.skip(f"refused: {mode}")
    assert passed == [True, False, False, False]


@needs_confinement
def test_runs_side_by_side():
    verdicts = []

    def one(text):
        verdicts.append((text, run(text, CHECK, "f", Limits()).passed))

    threads = [threading.Thread(target=one, args=(text,)) for text in (GOOD, "def f(x):\n    return x\n") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 4 and all(passed == (text == GOOD) for text, passed in verdicts)


@needs_confinement
def test_exceptions_and_state_cross():
    program = dedent("""
        calls = []
        def f(x):
            calls.append(x)
            if x < 0:
                raise ValueError('low')
            return len(calls)
    """)
    check = dedent("""
        def check(candidate):
            assert (candidate(1), candidate(x=2)) == (1, 2)
            try:
                candidate(-1)
            except ValueError as err:
                assert str(err) == 'low'
            else:
                raise AssertionError('no error')
    """)
    assert run(program, check, "f").passed


@needs_confinement
@pytest.mark.attack("hostile programs")
def test_works_beside_many_open_files():
    with contextlib.ExitStack() as stack:
        for _ in range(99):
            stack.enter_context(Path("/dev/null").open())
        program = dedent("""
            import os
            def f(x):
                held = []
                for fd in range(999):
                    try:
                        os.fstat(fd)
                        held.append(fd)
                    except OSError:
                        pass
                return held
        """)
        verdict = run(
            program, "def check(candidate):\n    got = candidate(0)\n    assert got == [0, 1, 2, 3, 4], got", "f"
        )
        assert verdict.passed, verdict


@needs_confinement
def test_no_descriptor_is_left_open():
    run(GOOD, CHECK, "f")
    before = len(list(Path("/proc/self/fd").iterdir()))
    run(GOOD, CHECK, "f")
    run("while True: pass", CHECK, "f", Limits(wall_s=0.2))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_refuses_where_it_cannot_confine(monkeypatch):
    monkeypatch.setattr(confine, "available", lambda: (False, "the kernel denies namespaces"))
    with pytest.raises(confine.ConfinementError, match="kernel denies namespaces"):
        run(GOOD, CHECK, "f")


def test_available_gives_a_reason_elsewhere(monkeypatch):
    monkeypatch.setattr(confine.sys, "platform", "darwin")
    assert confine.available.__wrapped__() == (False, "confinement needs Linux namespaces, this is darwin")


def test_a_failed_setup_is_no_verdict(monkeypatch, tmp_path):
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit(1)")
    monkeypatch.setattr(confine, "_CHILD", broken)
    possible, reason = confine.available.__wrapped__()
    assert not possible and ("could not be confined" in reason or "Linux" in reason)


@pytest.mark.parametrize(
    "value",
    [None, True, -(10**5000), 0.1, float("inf"), 1j, "ü\udc80", b"\x00", [1, (2, {3}), {}], {(1, 2): [None]}, set()],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_crosses_unchanged(value):
    crossed = confine_child.decode(json.loads(json.dumps(confine_child.encode(value))))
    assert crossed == value and type(crossed) is type(value)


@pytest.mark.attack("hostile programs")
def test_other_objects_cross_as_nothing():
    assert confine_child.decode(confine_child.encode(range(3))) != range(3)


@needs_confinement
@pytest.mark.attack("hostile programs")
def test_no_exception_ends_a_check_early() -> None:
    """A check that maps over its answers must not take a StopIteration of the program for the end of its questions."""
    program = "def f(x):\n    raise StopIteration\n"
    check = "def check(candidate):\n    assert all(answer == 1 for answer in map(candidate, [1, 2]))\n"
    assert not run(program, check, "f", SHORT).passed
