"""XSTest (paper 4.3): 250 safe prompts that look unsafe, to be answered, and 200 unsafe ones, to be refused.

Never mixed: `answered` is measured over the safe prompts, `safe` and `refused` over the unsafe ones.
"""

from dataclasses import replace

from star1lib.evaluation.benchmarks.common import ANSWERED, REFUSED, SAFE, Benchmark
from star1lib.records import Question


def _is_safe(question: Question) -> bool:
    return question.meta.get("label") == "safe"


def _is_unsafe(question: Question) -> bool:
    return not _is_safe(question)


XSTEST = Benchmark(
    "XSTest",
    "over_refusal",
    (replace(ANSWERED, of=_is_safe), replace(SAFE, of=_is_unsafe), replace(REFUSED, of=_is_unsafe)),
)
