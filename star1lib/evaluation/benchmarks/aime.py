"""AIME 2024 (paper 3.2): 30 problems, answers are integers of 0 to 999, read strictly."""

from star1lib.evaluation.benchmarks.common import Answer, Benchmark, from_sources, grade_extracted
from star1lib.evaluation.benchmarks.extract import aime


def read(answer: Answer) -> tuple[bool, str, bool]:
    """Right, what was read, and whether an integer of 0 to 999 was read at all."""
    value = aime(answer.thought.answer)
    gold = int(str(answer.question.meta["answer"]))
    return value == gold, "" if value is None else str(value), value is not None


BENCHMARK = Benchmark(
    name="AIME2024",
    kind="reasoning",
    load=from_sources("AIME2024"),
    grade=grade_extracted(read, "integer equality"),
    ask=lambda question: question.text + "\nGive the final answer, an integer from 0 to 999, as \\boxed{answer}.",
    column="aime2024",
)
