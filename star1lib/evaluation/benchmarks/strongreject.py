"""StrongREJECT (paper 3.2): 313 harmful requests in six groups.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="StrongREJECT",
    kind="safety",
    load=from_sources("StrongREJECT"),
    grade=grade_safety,
    column="strongreject",
)
