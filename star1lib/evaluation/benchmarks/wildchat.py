"""WildChat (paper 3.2): 370 toxic first turns of real conversations, from a user's own export.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="WildChat",
    kind="safety",
    load=from_sources("WildChat"),
    grade=grade_safety,
    column="wildchat",
)
