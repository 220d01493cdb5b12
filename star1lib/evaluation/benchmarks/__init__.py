"""Benchmarks by name (paper 3.2, 4.3): a row of :mod:`.prompts`, or a short module."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from star1lib.errors import UserError
from star1lib.evaluation.benchmarks import choice, humaneval, mathematics, probe, prompts, sums
from star1lib.evaluation.benchmarks.common import Benchmark
from star1lib.evaluation.sandbox.confine import ConfinementError
from star1lib.records import Question

_ALL = (
    *prompts.BENCHMARKS,
    *mathematics.BENCHMARKS,
    choice.GPQA,
    humaneval.HUMANEVAL,
    choice.MMLU_PRO,
    probe.PROBE,
    sums.SUMS,
)
REGISTRY: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def benchmark(name: str) -> Benchmark:
    """The benchmark called `name`; raises :class:`UserError` with the known names."""
    if name not in REGISTRY:
        raise UserError(f"benchmark '{name}': not known; the benchmarks are {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def questions(names: Iterable[str], mirror: str | None = None) -> list[Question]:
    """Every question of the benchmarks `names`: what no training row may come near.

    `BenignVariants` are left out: their questions come from the run, and training holds them apart itself.
    """
    found: list[Question] = []
    for name in dict.fromkeys(names):
        # What cannot be asked here need not be kept apart.
        with suppress(ConfinementError):
            found += benchmark(name).load(Path(mirror) if mirror else None) if name != prompts.VARIANTS else []
    return found
