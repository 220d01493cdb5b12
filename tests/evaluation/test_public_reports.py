"""Code in answers of the kinds that public bug reports are about, and the shared file of reports where there is one."""

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

from star1lib.collection import readers
from star1lib.evaluation.benchmarks import equality, extract
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.sandbox.code import checks, read_code

# ---- code
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


def cpu(count):
    """Seconds to read an answer of `count` fences."""
    begun = time.process_time()
    read_code("```\nx = (\n" * count, PROMPT, "area")
    return time.process_time() - begun


@pytest.mark.attack("long answers")
def test_many_fences_take_time_in_proportion():
    assert cpu(800) < 25 * cpu(100) + 0.05


# ---- the shared file
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
    curried = ModuleType("readers")  # a reader took its columns before its file
    curried.__dict__.update(vars(readers))
    curried.column = lambda name, *meta: lambda file: readers.column(file, name, meta)
    alias("readers", curried)
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
