"""AdvBench: harmful instructions, asked as they stand.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="AdvBench",
    kind="safety",
    load=from_sources("AdvBench"),
    grade=grade_safety,
    column="",
)
