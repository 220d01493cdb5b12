"""HarmBench: 300 behaviours, contextual ones left out as in the paper's sources.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="HarmBench",
    kind="safety",
    load=from_sources("HarmBench"),
    grade=grade_safety,
    column="",
)
