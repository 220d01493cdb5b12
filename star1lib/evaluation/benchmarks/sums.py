"""Two-digit sums, differences and one-step stories: what stage 0 teaches a toy reasoning model, on other numbers.

A task that the model does well, so that lost ability shows. Stage 0 keeps the number pairs of these questions out of
its rows.
"""

from __future__ import annotations

from pathlib import Path

from star1lib.evaluation.benchmarks.common import Benchmark
from star1lib.evaluation.benchmarks.mathematics import FORCED, NUMBER
from star1lib.records import Question
from star1lib.training import stage0

SIZE = 200
_SEED = -1  # no profile's


def load(mirror: Path | None = None) -> list[Question]:
    """The whole set, each question once; the same on every machine."""
    rows = stage0.arithmetic(SIZE, _SEED, least=11)
    return [Question.make(row.prompt, "Sums", answer=stage0.numbers(row.completion)[-1]) for row in rows]


SUMS = Benchmark("Sums", "reasoning", (NUMBER,), source=load, forced=FORCED)
