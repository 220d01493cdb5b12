"""Answers of the kinds that public bug reports are about: cases of our own, and the shared file where it is at hand."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from star1lib.evaluation.benchmarks import equality, extract
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.sandbox.code import checks, read_code

# ---------------------------------------------------------------- letters
LETTERS = [
    # boxes
    (r"The speed is $\boxed{9}$, so the answer is (D).", 4, "D"),
    (r"\boxed{\text{B. nine metres}}", 4, "B"),
    (r"$\boxed{\mathbf{(D)}}$", 4, "D"),
    (r"\boxed{c}", 4, "C"),
    (r"\boxed{A, C}", 4, None),
    (r"The answer is \boxed{A} because heat is lost.", 4, "A"),
    # "the answer is", with what may stand between
    ("So the answer would be D, since it is larger.", 4, "D"),
    ("The right answer, then, is B.", 4, "B"),
    ("The answer to question 3 is most likely option C.", 4, "C"),
    ("Therefore, the correct answer is:\n\n**C) Paris**", 4, "C"),
    ("Final Answer\n\nB\n\nReason: A is too small", 4, "B"),
    ("Answer -> B", 4, "B"),
    ("<answer>B</answer>", 4, "B"),
    ("The answer is（C）。", 4, "C"),
    ("The answer is “B”, or `B` in short.", 4, "B"),
    # options that are named after it, and corrections
    ("Answer: A\n\n- Option B: too slow\n- Option C: too fast", 4, "A"),
    ("The answer is B. Option C is wrong because the answer is not C.", 4, "B"),
    ("The answer is A. Hmm, the answer is not A. The answer is D.", 4, "D"),
    ("The answer is not B but D.", 4, "D"),
    ("The answer is B, and A is wrong.", 4, "B"),
    ("I would pick (b).", 4, "B"),
    ("This corresponds to option C.", 4, "C"),
    ("So (D) is the correct one.", 4, "D"),
    # the article, the pronoun, a letter that is a word's
    ("The answer is A 5 J weight.", 4, "A"),
    ("The answer is I because it fits.", 10, "I"),
    ("Answer: A cell wall has cellulose", 4, None),
    ("The answer is vitamin C.", 4, None),
    ("The answer is C++", 4, None),
    # no claim
    ("The answer is both A and C.", 4, None),
    ("Answer: A/C", 4, None),
    ("I don't think the answer is C.", 4, None),
    ("If the answer is C, the mass is lost.", 4, None),
    ("Is the answer C? No.", 4, None),
    ("I would not choose B.", 4, None),
    ("Answer B is wrong. Answer C is wrong.", 4, None),
    ("B is not correct.", 4, None),
    ("The answer is E.", 4, None),
]


@pytest.mark.parametrize(("text", "options", "wanted"), LETTERS)
def test_letters(text, options, wanted):
    assert extract.letter(text, options) == wanted


# ---------------------------------------------------------------- whole numbers
INTEGERS = [
    ("The answer is 8 + 9 = 17 coins.", 17),
    ("The answer is 17 = 8 + 9.", 17),
    ("The answer is 8 + 9", None),
    ("The answer to the riddle of 3 doors is 17. Then 4 + 5 =", 17),
    ("So 17. Next 4 + 5 =", 17),
    ("8 + 9 = 17 coins.\n2. Check it.\n3. Then", 17),
    ("**2.** The total is 17.\n**3.** The end", 17),
    (r"\boxed{12{,}345}", 12345),
    (r"\boxed{12\,345}", 12345),
    (r"\boxed 17 comes from 8 + 9", 17),
    (r"\boxed{x}. The answer is 17.", 17),
    (r"\boxed{8 + 9}", None),
    ("The answer is –17.", -17),
    ("Pages 3–17", 17),
    ("3 + 4 = 7\n#### 17\nThat is 10 more.", 17),
    ("#### Step 2\nThe sum is 17", 17),
    ("The answer is:\n$$17$$\nCheck 5 = 5", 17),
    ("The answer is 17. I hope the answer is clear.", 17),
    ("The answer isn't 5. The answer is 17.", 17),
    ("The answer is 12345678901234567890123.", 12345678901234567890123),
    ("9" * 9_000, None),
    (r"The answer is 11,\! 111,\! 100.", 11111100),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), INTEGERS)
def test_integers(text, wanted):
    assert extract.integer(text) == wanted


# ---------------------------------------------------------------- expressions and their equality
EXPRESSIONS = [
    ("The final answer is: $\\frac{2}{7}$. I hope it is correct.", r"\frac{2}{7}"),
    ("The answer is:\n\n$$\\frac{2}{7}$$\n", r"\frac{2}{7}"),
    ("The answer is\n\\[\n\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}\n\\]", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("The answer is **\\frac{2}{7}**.", r"\frac{2}{7}"),
    (r"We get \boxed{\sqrt{7}.}", r"\sqrt{7}"),
    (r"$x = \boxed{2}$ or $x = \boxed{7}$", "2, 7"),
    (r"\boxed{2}, \boxed{7}, and \boxed{9}", "2, 7, 9"),
    (r"First \boxed{6}. No: \boxed{7}", "7"),
    ("\\boxed{7}\n\n\\boxed{7}", "7"),
    (r"\boxed{\boxed{7}}", "7"),
    (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
    ("The answer is $2$ or $7$.", "2, 7"),
    ("The answer is $7$ because $2+5=7$.", "7"),
    ("The answer is given by $\\sqrt 7$", r"\sqrt 7"),
    ("The answer is .5, since 1 is too much.", ".5"),
    (r"The answer is **11,\! 111,\! 100**.", r"11,\! 111,\! 100"),
    ("So\n$$x = 7$$", "x = 7"),
    ("x = 7\nThat is all.", None),
]
EQUAL = [
    (r"\frac{1}{50!}", r"\frac{1}{51!}", False),
    ("2^{100}", "1267650600228229401496703205376", True),
    ("2^{100}", "1267650600228229401496703205377", False),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", True),
    ("32_5", "32_{7}", False),
    ("32_5", "32_{5}", True),
    (r"(2,\infty)", "x>2", True),
    (r"(2,\infty)", r"x \ge 2", False),
    (r"20,\!160", "20160", True),
    ("20160", r"20\,160", True),
    (r"3\text{ kg}", r"3\text{ m}", False),
    (r"3\text{ kg}", "3", True),
    (r"864 \mbox{ inches}^2", "864", True),
    (r"\text{(C)}", "C", True),
    ("50", r"50\%", True),
]


@pytest.mark.parametrize(("text", "wanted"), EXPRESSIONS)
def test_expressions(text, wanted):
    assert extract.math_text(text) == wanted


@pytest.mark.parametrize(("gold", "said", "wanted"), EQUAL)
def test_equality(gold, said, wanted):
    assert equality.same_math(gold, said) is wanted


# ---------------------------------------------------------------- code
PROMPT = 'import math\n\n\ndef area(side: int) -> int:\n    """Area of a square of this side."""\n'
TEST = "def check(candidate):\n    assert candidate(3) == 9\n"
AREA = "def area(s):\n    return s * s"
CODE = {
    "closing fence alone": "    return side * side\n```\n\nThat is all.",
    "a body of two lines in a block": "```python\n    square = side * side\n    return square\n```",
    "closing fence at the end of a line": f"```python\n{AREA}```\nThat is all.",
    "definition before a stray fence": f"{AREA}\n```\nThat is all.",
    "code on the fence line": "```python def area(s):\n    return s * s\n```",
    "one line": "```py3 def area(s): return s * s```",
    "braces around the label": f"```{{.python}}\n{AREA}\n```",
    "unknown label": f"```solution\n{AREA}\n```",
    "fence in a docstring": '```python\ndef area(s):\n    """Square.\n\n```\narea(2)\n```\n    """\n'
    "    return s * s\n```",
    "helper in an earlier block": "```python\ndef times(a, b):\n    return a * b\n```\n```python\ndef area(s):\n"
    "    return times(s, s)\n```",
    "helper in a later block, example between": f"```python\n{AREA.replace('s * s', 'sq(s)')}\n```\n"
    "```\nprint(area(2))\n```\n```python\nfrom operator import mul\n\n\ndef sq(s):\n    return mul(s, s)\n```",
    "a bound name": "```python\narea = lambda s: s * s\n```",
    "a sentence that looks like code": f"import to note: a square has equal sides.\n\n{AREA}",
    "no-break spaces": "```python\ndef area(s):\n\u00a0\u00a0\u00a0\u00a0return\u00a0s * s\n```",
    "the last whole definition": f"```python\n{AREA}\n```\nShorter:\n```python\ndef area(s):\n    return (s *",
    "windows line ends": f"```python\n{AREA}\n```\n".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", CODE)
def test_code(name):
    found = read_code(CODE[name], PROMPT, "area")
    assert found.how != "none"
    if confine.available()[0]:
        assert confine.run(found.program, checks(PROMPT, TEST), "area").passed, found.program
    else:
        compile(found.program, "answer", "exec")


def test_an_example_of_use_is_no_helper():
    answer = f"```python\nanswer = area(open('x'))\n```\n```python\n{AREA}\n```"
    assert "open" not in read_code(answer, PROMPT, "area").program


# ---------------------------------------------------------------- time
PIECES = [r"\boxed{", r"\boxed{1} or ", "answer is ", "answer to ", "the answer is $1$ and ", "A ", "so it is A, ",
          "1,", "1 + ", "=", "$", r"\(", r"\frac{", "{", " ", "\n", "- ", "1"]  # fmt: skip


def cpu(work, text):
    def once():
        begun = time.process_time()
        work(text)
        return time.process_time() - begun

    return min(once() for _ in range(2))


@pytest.mark.parametrize("reader", [lambda t: extract.letter(t, 10), extract.integer, extract.math_text, extract.boxed])
@pytest.mark.attack("long answers")
def test_time_grows_with_the_length(reader):
    for piece in PIECES:
        short, long = (piece * (length // len(piece)) for length in (4_000, 32_000))
        # Eight times the length: 8 when linear, 64 when quadratic.
        assert cpu(reader, long) < 25 * cpu(reader, short) + 0.05, piece


@pytest.mark.attack("long answers")
def test_many_fences_take_time_in_proportion():
    short, long = ("```\nx = (\n" * count for count in (100, 800))
    assert cpu(lambda t: read_code(t, PROMPT, "area"), long) < 25 * cpu(lambda t: read_code(t, PROMPT, "area"), short)


# ---------------------------------------------------------------- the shared file
# Where its imports have moved to.
MOVED = {
    "chat": "models.chat", "io": "files", "tables": "study.tables", "readers": "collection.readers",
    "confine": "evaluation.sandbox.confine", "tasks": "evaluation.benchmarks",
    "tasks.extract": "evaluation.benchmarks.extract", "tasks.equality": "evaluation.benchmarks.equality",
    "tasks.humaneval": "evaluation.benchmarks.humaneval", "tasks.common": "evaluation.benchmarks.common",
}  # fmt: skip
# All of them are right today; the kinds of judges, statistics and training are tested where they belong.
SURE = {"MCQ": 27, "integer": 18, "MATH": 11, "equality": 29, "code": 19, "thinking": 5,
        "lines": 1, "CSV": 5, "JSON": 2, "JSONL": 1, "table": 6}  # fmt: skip


def shared_file() -> Path | None:
    named = os.environ.get("STAR1_DATA")
    path = Path(named).parent / "cases" / "public_reports.py" if named else None
    return path if path and path.exists() else None


def shared_cases(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The shared file as a module whose imports find the modules where they are today."""
    import star1lib

    def alias(old, module):
        monkeypatch.setitem(sys.modules, f"star1lib.{old}", module)
        if "." not in old:
            monkeypatch.setattr(star1lib, old, module, raising=False)

    for old, new in MOVED.items():
        with contextlib.suppress(ModuleNotFoundError):
            alias(old, importlib.import_module(f"star1lib.{new}"))
    math500 = ModuleType("math500")
    math500.read = lambda answer: [
        (said := extract.math_text(answer.thought.answer)) is not None
        and equality.same_math(answer.question.meta["answer"], said)
    ]
    alias("tasks.math500", math500)
    monkeypatch.setattr(sys.modules["star1lib.tasks"], "math500", math500, raising=False)
    spec = importlib.util.spec_from_file_location("public_reports", path)
    module = importlib.util.module_from_spec(spec)
    before = logging.root.manager.disable
    spec.loader.exec_module(module)
    logging.disable(before)
    return module


@pytest.mark.skipif(shared_file() is None, reason="the shared cases are not at hand: set STAR1_DATA")
def test_shared_cases(monkeypatch, capsys):
    module = shared_cases(shared_file(), monkeypatch)
    passed: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    failed = []
    for case in module.CASES:
        kind = case["kind"].split(":")[0].removesuffix(" (guard)")
        if kind not in SURE or not case["sure"]:
            continue
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                case["run"]()
            passed[kind] += 1
        except ImportError:  # the module went elsewhere, and its tests with it
            absent[kind] += 1
        except BaseException as err:
            failed.append(f"{case['kind']}: {case['given']!r:.80}: {type(err).__name__} {err}")
    with capsys.disabled():
        print("\nshared cases:", ", ".join(f"{kind} {passed[kind]} of {SURE[kind]}" for kind in SURE))
    if not confine.available()[0]:
        failed = [line for line in failed if not line.startswith("code")]
        passed["code"] = SURE["code"]
    assert not failed
    assert {kind: passed[kind] + absent[kind] for kind in SURE} == SURE
