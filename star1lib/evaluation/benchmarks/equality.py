"""Equality of mathematical expressions by math-verify, in a process of its own with a time and memory limit.

The expressions come from a model: a tower of powers keeps sympy busy for ever, and math-verify's own
timeouts work by signals, which only a main thread receives. A worker that takes too long is killed, its
pair counts as unequal, and the next pair gets a fresh worker.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import re
import select
import subprocess
import sys
import threading

log = logging.getLogger(__name__)

SECONDS = 30.0
START_SECONDS = 120.0
MEMORY_BYTES = 4 << 30
LONGEST = 2_000


class _Worker:
    """The one process, started when first asked; one that failed is replaced by the next call."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, said: str, seconds: float) -> bool | None:
        """Whether the two are equal; None when the process died or ran out of time."""
        with self.lock:
            if self.process is None:
                command = [sys.executable, "-m", __name__]
                self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                stderr=subprocess.DEVNULL, bufsize=0)  # fmt: skip
                _line(self.process, START_SECONDS)
            assert self.process.stdin is not None
            with contextlib.suppress(OSError):
                self.process.stdin.write(json.dumps([gold, said]).encode() + b"\n")
            line = _line(self.process, seconds)
        if not line:
            self.close()
        return bool(json.loads(line)) if line else None

    def close(self) -> None:
        """Kill the process."""
        with self.lock:
            if self.process is not None:
                with self.process:
                    self.process.kill()
                self.process = None


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line of `process`; nothing when it has ended or the time is up. A line is written at once."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else b""


_worker = _Worker()
atexit.register(_worker.close)


def same_math(gold: str, said: str, seconds: float = SECONDS) -> bool:
    """True when math-verify calls two LaTeX expressions equal, `gold` being the reference.

    Equal text is equal without it. What cannot be read, is longer than 2,000 characters, or takes more than
    `seconds`, is unequal. Math-verify lets a percent sign be left out: 10 and 10% are equal to it. It would also
    let numbers in different bases and lengths in different units be equal; here they are not.
    """
    if gold.strip() == said.strip():
        return True
    if len(said) > LONGEST or _differ(_BASE, gold, said) or _differ(_UNIT, gold, said):
        return False
    verdict = _worker.ask(gold, said, seconds)
    if verdict is None:
        log.warning("math-verify did not finish on an answer of %d characters; it counts as unequal", len(said))
    return bool(verdict)


_BASE = re.compile(r"[\dA-F]_\{?(\d+)\}?$")
_UNIT = re.compile(r"\d[\s}]*\\(?:text|mathrm|mbox)\{\s*([A-Za-z])[^{}]*\}$")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!;: ]\s?)(?=\d{3}(?!\d))")


def _differ(mark: re.Pattern[str], gold: str, said: str) -> bool:
    """Whether both end in the mark, and their marks are not the same; an abbreviated unit shares its first letter."""
    left, right = mark.search(gold.strip()), mark.search(said.strip())
    return bool(left and right and left[1].lower() != right[1].lower())


def _equal(gold: str, said: str) -> bool:
    from math_verify import parse, verify
    from sympy import Expr, Float

    left, right = (parse(f"${_THOUSANDS.sub(',', text)}$", parsing_timeout=None) for text in (gold, said))
    if not (left and right and verify(left, right, timeout_seconds=None, allow_set_relation_comp=True)):
        return False
    exact = [side[0] for side in (left, right) if isinstance(side[0], Expr) and side[0].is_number]
    # Math-verify takes exact numbers for equal when they differ by less than its precision.
    rounded = len(exact) < 2 or "%" in gold + said or any(side.has(Float) for side in exact)
    return rounded or exact[0].equals(exact[1]) is not False


def _serve() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    _equal("1", "\\frac{2}{2}")
    _say("ready")
    for line in sys.stdin:
        try:
            verdict = _equal(*json.loads(line))
        except (Exception, MemoryError):
            verdict = False
        _say(json.dumps(verdict))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
