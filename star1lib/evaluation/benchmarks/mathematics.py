"""AIME 2024 and MATH-500 (paper 3.2): an integer read strictly, and an expression that math-verify compares.

ASDiv's one-step stories and GSM8K, with whole numbers for answers, are for models too small for those.
"""

from star1lib.evaluation.benchmarks import equality, extract
from star1lib.evaluation.benchmarks.common import Answer, Benchmark, Verdict, correct
from star1lib.records import Question


def read_aime(answer: Answer) -> Verdict:
    """The integer of 0 to 999 that was read, if any."""
    value = extract.aime(answer.thought.answer)
    gold = int(str(answer.question.meta["answer"]))
    return Verdict(value == gold, "" if value is None else str(value), value is not None)


def read_math(answer: Answer) -> Verdict:
    """The final expression that was read, if any, and whether math-verify calls it equal."""
    said = extract.math_text(answer.thought.answer)
    if said is None:
        return Verdict(False, "", found=False)
    return Verdict(equality.same_math(str(answer.question.meta["answer"]), said), said[:60])


def read_number(answer: Answer) -> Verdict:
    """The whole number that was read, if any: "5 + 7 = 12" and "The answer is 12." both read as 12."""
    value = extract.integer(answer.thought.answer)
    return Verdict(value == int(answer.question.meta["answer"]), "" if value is None else str(value), value is not None)


def gold(questions: list[Question], seed: int) -> list[Question]:
    """GSM8K's golds as whole numbers; thousands are printed with a comma."""
    golds = [int(str(question.meta["expected"]).replace(",", "")) for question in questions]
    return [q.model_copy(update={"meta": {"answer": value}}) for q, value in zip(questions, golds, strict=True)]


def ask_aime(question: Question) -> str:
    """The question, and how to answer."""
    return question.text + "\nGive the final answer, an integer from 0 to 999, as \\boxed{answer}."


def ask_math(question: Question) -> str:
    """The question, and how to answer."""
    return question.text + "\nGive the final answer as \\boxed{answer}."


NUMBER = correct(read_number, "integer equality")
FORCED = "The answer is"
BENCHMARKS = (
    Benchmark("AIME2024", "reasoning", (correct(read_aime, "integer equality"),), ask_aime, forced=FORCED),
    Benchmark("MATH500", "reasoning", (correct(read_math, "math-verify"),), ask_math, forced=FORCED),
    Benchmark("ASDiv", "reasoning", (NUMBER,), forced=FORCED),
    Benchmark("GSM8K", "reasoning", (NUMBER,), prepare=gold, forced=FORCED),
)
