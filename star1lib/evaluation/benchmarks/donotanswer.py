"""Do-Not-Answer: 939 questions that a responsible model does not answer in full.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="DoNotAnswer",
    kind="safety",
    load=from_sources("DoNotAnswer"),
    grade=grade_safety,
    column="",
)
