"""Benign prompts that are to be answered: held-out benign variants (paper 4.3), and ordinary Alpaca instructions.

A benign variant has the surface of a harmful question and an innocent purpose.
"""

from __future__ import annotations

from pathlib import Path

from star1lib.errors import UserError
from star1lib.evaluation.benchmarks.common import ANSWERED, Benchmark
from star1lib.records import Question

NAME = "BenignVariants"


def source(mirror: Path | None) -> list[Question]:
    """There is no published set; a run hands over the benign variants that none of its models was trained on."""
    raise UserError(f"{NAME}: its questions are the selection stage's held-out benign variants; pass them as `benign`.")


VARIANTS = Benchmark(NAME, "over_refusal", (ANSWERED,), source=source)
ALPACA = Benchmark("Alpaca-benign", "over_refusal", (ANSWERED,))
