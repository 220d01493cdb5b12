"""WildJailbreak (paper 3.2): 250 adversarial harmful prompts, seed 42, from a user's own export.

Each answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import Benchmark, from_sources, grade_safety

BENCHMARK = Benchmark(
    name="WildJailbreak-eval",
    kind="safety",
    load=from_sources("WildJailbreak-eval"),
    grade=grade_safety,
    column="wildjailbreak",
)
