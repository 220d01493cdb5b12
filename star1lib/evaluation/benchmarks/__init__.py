"""Benchmarks by name (paper 3.2, 4.3): a row of :mod:`.safety`, or a short module."""

from __future__ import annotations

from star1lib.errors import UserError
from star1lib.evaluation.benchmarks import benign, choice, humaneval, mathematics, probe, safety, xstest
from star1lib.evaluation.benchmarks.common import Benchmark

REGISTRY: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *safety.BENCHMARKS,
        xstest.XSTEST,
        benign.VARIANTS,
        benign.ALPACA,
        mathematics.AIME,
        mathematics.MATH500,
        choice.GPQA,
        humaneval.HUMANEVAL,
        choice.MMLU_PRO,
        probe.PROBE,
    )
}


def benchmark(name: str) -> Benchmark:
    """The benchmark called `name`; raises :class:`UserError` with the known names."""
    if name not in REGISTRY:
        raise UserError(f"benchmark '{name}': not known; the benchmarks are {', '.join(REGISTRY)}.")
    return REGISTRY[name]
