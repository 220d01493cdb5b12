"""Held-out benign twins (paper 4.3): the surface of a harmful question, an innocent purpose.

The questions come from the run itself: the twins that no arm was trained on.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..records import Question
from .common import Benchmark, grade_benign


def load(mirror: Path | None) -> list[Question]:
    """There is no published set; the run hands its own twins over."""
    raise UserError("Twins: their questions come from the selection stage's held-out twins; pass them as `extra`.")


BENCHMARK = Benchmark(name="Twins", kind="over_refusal", load=load, grade=grade_benign)
