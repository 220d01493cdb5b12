r"""The reasoning benchmarks as the authors read them: a switch (`reading: upstream`) beside our own reading.

Facts of their release at the commit of :mod:`star1lib.models.upstream`, in our own code and words. Their parsers get
the whole response, thinking included, closed or not, and often take the first match, which may be a guess that the
thinking gives up later. Two things differ: where they have GPT-4o find a MATH answer, it is what follows "Answer:",
else what our reader finds; where they have it call two expressions equal, math-verify does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from star1lib.evaluation.benchmarks import choice, equality, extract, humaneval, mathematics
from star1lib.evaluation.benchmarks.common import Answer, Measure, Verdict, correct, whole
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.sandbox.code import checks
from star1lib.records import Question


class Reading(NamedTuple):
    """How a benchmark is asked for its answer, and how the answer is read."""

    ask: Callable[[Question], str]
    measure: Measure


_BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_GPQA = re.compile(r"answer[ \t]*:[ \t]*\$?([A-D])", re.IGNORECASE)
_MMLU_PRO = [re.compile(pattern, re.IGNORECASE) for pattern in
             (r"answer:\s*([A-J])", r"answer\s+is\s+\(?([A-J])", r"\*\*answer:\*\*\s*([A-J])",
              r"答案[是为:：]\s*([A-J])")]  # fmt: skip


def integer(text: str) -> str | None:
    """AIME: the last box, of it the digits at its end; else the first "answer is" or line that is a number."""
    if boxes := _BOXED.findall(text):
        inside = boxes[-1].strip()
        digits = re.search(r"\d+$", inside)
        return digits.group() if digits else str(inside)
    said = re.search(r"answer\s+(?:is|=)\s+(\d+)", text, re.IGNORECASE) or re.search(r"^(\d+)$", text, re.MULTILINE)
    return said[1] if said else None


def expression(text: str) -> str:
    """MATH: what follows the last full stop (or decimal point), if anything does, and there what follows "Answer:"."""
    last = text.strip().rpartition(".")[2].strip() or text
    _, said, answer = last.rpartition("Answer:")
    return answer.strip(" $*\n") if said else extract.math_text(last) or last


def gpqa_letter(text: str) -> str | None:
    """GPQA: the first "Answer: X" as it is written, so that a small letter is wrong."""
    said = _GPQA.search(text)
    return said[1] if said else None


def mmlu_pro_letter(text: str) -> str | None:
    """MMLU-Pro: the first match of four phrases, one phrase after the other; else a lone capital in the last lines."""
    for phrase in _MMLU_PRO:
        if said := phrase.search(text):
            return said[1].upper()
    for line in reversed(text.strip().split("\n")):
        if alone := re.findall(r"(?<![A-Z])[A-J](?![A-Z])", line):
            return min(alone)
    return None


def _same_number(answer: Answer) -> Verdict:
    said, gold = integer(answer.thought.answer), str(int(str(answer.question.meta["answer"])))
    return Verdict(said is not None and equality.same_math(gold, said), (said or "")[:60], said is not None)


def _same_expression(answer: Answer) -> Verdict:
    said = expression(answer.thought.answer)
    return Verdict(equality.same_math(str(answer.question.meta["answer"]), said), said[:60], bool(said))


def _same_letter(read: Callable[[str], str | None]) -> Callable[[Answer], Verdict]:
    def verdict(answer: Answer) -> Verdict:
        said = read(answer.thought.answer)
        return Verdict(said == answer.question.meta["answer"], said or "", said is not None)

    return verdict


def program(text: str, prompt: str) -> str:
    """HumanEval: the first Python block, or the whole text, without its first signature, behind the prompt."""
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    code = block[1] if block else text
    return prompt + "\n" + code[code.find(":\n    ") + 2 :]


def _passed(answer: Answer) -> Verdict:
    question = answer.question
    code, check = program(answer.thought.answer, question.text), checks(question.text, str(question.meta["test"]))
    verdict = confine.run(code, check, str(question.meta["entry_point"]), humaneval.LIMITS)
    return Verdict(verdict.passed, verdict.status)


def _ending(last_line: str) -> Callable[[Question], str]:
    return lambda question: choice.ask(question).replace("The answer is (letter).", last_line)


def _reading(ask: Callable[[Question], str], read: Callable[[Answer], Verdict], how: str, workers: int = 1) -> Reading:
    return Reading(ask, replace(correct(read, f"{how}, the authors' reading", workers), view=whole))


READINGS = {
    "AIME2024": _reading(mathematics.ask_aime, _same_number, "math-verify"),
    "MATH500": _reading(
        lambda question: question.text + "\nEnd with a line of its own: Answer: followed by the final answer.",
        _same_expression,
        "math-verify",
    ),
    "GPQA-Diamond": _reading(_ending("Answer: letter"), _same_letter(gpqa_letter), "letter equality"),
    "MMLU-Pro": _reading(_ending("ANSWER: letter"), _same_letter(mmlu_pro_letter), "letter equality"),
    "HumanEval": _reading(humaneval.ask, _passed, "confined tests", humaneval.WORKERS),
}
