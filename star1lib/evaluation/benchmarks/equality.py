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
import queue
import re
import subprocess
import sys
import threading
from typing import Any

log = logging.getLogger(__name__)

SECONDS = 30.0
START_SECONDS = 120.0
MEMORY_BYTES = 4 << 30
LONGEST = 2_000


class _Worker:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, name="math worker", daemon=True).start()
        self.lines.get(timeout=START_SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def ask(self, gold: str, said: str, seconds: float) -> bool | None:
        """Whether the two are equal; None when the worker died or ran out of time."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([gold, said]) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=seconds)
        except (queue.Empty, OSError):
            return None
        return bool(json.loads(line)) if line else None

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()


class _Shared:
    """The one worker of this process, started when first asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: _Worker | None = None

    def ask(self, gold: str, said: str, seconds: float) -> bool | None:
        """As :meth:`_Worker.ask`; a worker that failed is replaced by the next call."""
        with self.lock:
            if self.worker is None:
                self.worker = _Worker()
            verdict = self.worker.ask(gold, said, seconds)
            if verdict is None:
                self._drop()
            return verdict

    def _drop(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def close(self) -> None:
        """Stop the worker."""
        with self.lock:
            self._drop()


_shared = _Shared()
atexit.register(_shared.close)


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
    verdict = _shared.ask(gold, said, seconds)
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
    answers: Any = sys.stdout
    _equal("1", "\\frac{2}{2}")
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        try:
            verdict = _equal(*json.loads(line))
        except (Exception, MemoryError):
            verdict = False
        answers.write(json.dumps(verdict) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
