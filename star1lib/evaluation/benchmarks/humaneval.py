"""HumanEval (paper 3.2): 164 functions, pass@1; each answer's code is run confined against the tests.

The code is read from the answer after the thinking, as :mod:`star1lib.evaluation.sandbox.code` says; an answer
without code is wrong and counted as `no_answer` beside the score. The benchmark is left out, before anything is
generated, where code cannot be confined; :mod:`star1lib.evaluation.sandbox.confine` says what confinement does not
cover.
"""

from __future__ import annotations

import os
from pathlib import Path

from star1lib.evaluation.benchmarks.common import Answer, Benchmark, Verdict, correct
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.sandbox.code import checks, read_code
from star1lib.records import Question

NAME = "HumanEval"
LIMITS = confine.Limits()
_ASK = (
    "Complete this Python function. Reply with the whole function, imports included, in one Python code block."
    "\n\n```python\n{prompt}\n```"
)


def ask(question: Question) -> str:
    """What the model is asked."""
    return _ASK.format(prompt=question.text)


def load(mirror: Path | None = None) -> list[Question]:
    """The 164 problems; raises :class:`confine.ConfinementError` where their answers could not be run."""
    from star1lib.collection import sources

    possible, reason = confine.available()
    if not possible:
        raise confine.ConfinementError(
            f"{NAME} is left out: code from a model cannot be confined here ({reason}); "
            "it runs on Linux as root or with user namespaces allowed."
        )
    return sources.load(NAME, mirror)


def read(answer: Answer) -> Verdict:
    """Whether the code passed, and how its run ended and why."""
    question = answer.question
    entry_point = str(question.meta["entry_point"])
    code = read_code(answer.thought.answer, question.text, entry_point)
    if code.how == "none":
        return Verdict(False, "no_code", found=False)
    verdict = confine.run(code.program, checks(question.text, str(question.meta["test"])), entry_point, LIMITS)
    return Verdict(verdict.passed, f"{verdict.status}: {verdict.reason}" if verdict.reason else verdict.status)


# One confined run per processor at a time: more would lengthen each one's wall time.
WORKERS = os.cpu_count() or 1
_PASSED = correct(read, "confined tests", workers=WORKERS)
HUMANEVAL = Benchmark(NAME, "reasoning", (_PASSED,), ask=ask, source=load)
