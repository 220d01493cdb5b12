"""MATH-500 (paper 3.2): 500 problems; the final expression counts as right when math-verify calls it equal."""

from star1lib.evaluation.benchmarks.common import Answer, Benchmark, from_sources, grade_extracted
from star1lib.evaluation.benchmarks.equality import same_math
from star1lib.evaluation.benchmarks.extract import math_text


def read(answer: Answer) -> tuple[bool, str, bool]:
    """Right, what was read, and whether a final expression was read at all."""
    said = math_text(answer.thought.answer)
    if said is None:
        return False, "", False
    return same_math(str(answer.question.meta["answer"]), said), said[:60], True


BENCHMARK = Benchmark(
    name="MATH500",
    kind="reasoning",
    load=from_sources("MATH500"),
    grade=grade_extracted(read, "math-verify"),
    ask=lambda question: question.text + "\nGive the final answer as \\boxed{answer}.",
    column="math500",
)
