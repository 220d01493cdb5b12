"""JailbreakBench (paper 3.2): 100 behaviours, asked as they stand.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="JBB-Behaviors",
    kind="safety",
    load=from_sources("JBB-Behaviors"),
    grade=grade_safety,
    column="jbb",
)
