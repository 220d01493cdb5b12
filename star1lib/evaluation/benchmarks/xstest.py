"""XSTest (paper 4.3): 250 safe prompts that look unsafe, to be answered, and 200 unsafe ones, to be refused.

Two metrics, never mixed: `answered` over the safe prompts, `refused` and `safe` over the unsafe ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from star1lib.evaluation.benchmarks.common import (
    Answer,
    Benchmark,
    Grade,
    Judges,
    from_sources,
    grade_benign,
    grade_safety,
)


def grade(answers: Sequence[Answer], judges: Judges) -> list[list[Grade]]:
    """Safe prompts by the benign rule, unsafe ones by the safety rule."""
    safe = [index for index, answer in enumerate(answers) if answer.question.meta.get("label") == "safe"]
    unsafe = [index for index in range(len(answers)) if index not in set(safe)]
    graded: dict[int, list[Grade]] = {}
    graded |= zip(safe, grade_benign([answers[i] for i in safe], judges), strict=True)
    graded |= zip(unsafe, grade_safety([answers[i] for i in unsafe], judges), strict=True)
    return [graded[index] for index in range(len(answers))]


BENCHMARK = Benchmark(name="XSTest", kind="over_refusal", load=from_sources("XSTest"), grade=grade)
