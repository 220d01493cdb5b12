"""Multiple choice: GPQA-Diamond and MMLU-Pro (paper 3.2), options lettered, GPQA's shuffled by seed."""

from __future__ import annotations

import random

from star1lib.evaluation.benchmarks.common import Answer, Benchmark, Verdict, correct
from star1lib.evaluation.benchmarks.extract import letter
from star1lib.records import Question

LETTERS = "ABCDEFGHIJ"


def ask(question: Question) -> str:
    """The question, its lettered options, and how to answer."""
    options = [f"({LETTERS[n]}) {text}" for n, text in enumerate(question.meta["options"])]
    return "\n".join([question.text, *options, "Think it over, then end with: The answer is (letter)."])


def shuffled(questions: list[Question], seed: int) -> list[Question]:
    """GPQA's right answer among its wrong ones, in an order that depends on seed and question alone."""
    prepared = []
    for question in questions:
        options = [str(question.meta["correct"]), *map(str, question.meta["incorrect"])]
        order = list(range(len(options)))
        random.Random(f"{seed}-{question.id}").shuffle(order)
        meta = {"options": [options[n] for n in order], "answer": LETTERS[order.index(0)]}
        prepared.append(question.model_copy(update={"meta": {**question.meta, **meta}}))
    return prepared


def read(answer: Answer) -> Verdict:
    """The letter that was read, if any."""
    said = letter(answer.thought.answer, len(answer.question.meta["options"]))
    return Verdict(said == answer.question.meta["answer"], said or "", said is not None)


_MEASURES = (correct(read, "letter equality"),)
GPQA = Benchmark("GPQA-Diamond", "reasoning", _MEASURES, ask, prepare=shuffled, forced="The answer is")
MMLU_PRO = Benchmark("MMLU-Pro", "reasoning", _MEASURES, ask, forced="The answer is")
