"""Held-out benign twins (paper 4.3): the surface of a harmful question, an innocent purpose.

The questions come from the run itself: the twins that no arm was trained on.
"""

from __future__ import annotations

from pathlib import Path

from star1lib.errors import UserError
from star1lib.evaluation.benchmarks.common import Benchmark, grade_benign
from star1lib.records import Question


def load(mirror: Path | None) -> list[Question]:
    """There is no published set; the run hands its own twins over."""
    raise UserError("Twins: their questions come from the selection stage's held-out twins; pass them as `extra`.")


BENCHMARK = Benchmark(name="Twins", kind="over_refusal", load=load, grade=grade_benign)
