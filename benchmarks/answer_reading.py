r"""How many answers each reader reads rightly: star1lib's own, math-verify's extraction, Inspect's scorers.

Run:  STAR1_DATA=... python benchmarks/answer_reading.py   (about twenty minutes on two cores)

Answers are built from what is right, in styles that models write: the 500 golds of MATH-500 in ten styles, each also
with the gold of another problem, which must not be called right; the letters of four and of ten options in the choice
styles, and texts that name no option; whole numbers in ten styles; the 164 solutions of HumanEval in ten wrappings,
run confined against their tests, and every fourth with a function that returns nothing in its place. Writes
results/answer_reading.json and .md. The styles were
written beside star1lib's reader, which was mended where it failed on them: its column is a regression test and nothing
held out; the other columns are those libraries as they come.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from star1lib.collection import download, readers, sources
from star1lib.evaluation.benchmarks import equality, extract
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.sandbox.code import checks, read_code, stub
from star1lib.files import read_json, write_json, write_text

RESULTS = Path(__file__).with_name("results")
LETTERS = "ABCDEFGHIJ"
WORK = "First I try $x = 17$, which gives $\\frac{17}{3}$; that fails.\n\n"
MATH = {
    "box": r"So the result is $\boxed{%s}$.",
    "box, full stop inside": r"We get \boxed{%s.}",
    "box in a display": "Hence\n\\[\n\\boxed{%s}\n\\]\nwhich is what was asked for.",
    "final answer is: formula": "The final answer is: $%s$",
    "answer is, because": "The answer to the problem is $%s$, because 12 other cases fail.",
    "next line, display": "The answer is:\n\n$$%s$$",
    "next lines, brackets": "The answer is\n\\[\n%s\n\\]",
    "bold, full stop": "The answer is **%s**.",
    "bold label": "**Answer:** $%s$",
    "heading": "### Final Answer\n\n\\(%s\\)",
}
LETTER = {
    "is (X).": "The answer is (%s).",
    "is X.": "The answer is %s.",
    "is X because": "The answer is %s because the others break the second law.",
    "should be X": "The correct answer should be %s.",
    "is therefore (X)": "The answer is therefore (%s).",
    "Answer: X": "Answer: %s",
    "ANSWER: X": "I add both up.\n\nANSWER: %s",
    "bold label": "**Answer: %s**\n\nIt is the only one that holds in general.",
    "bold letter": "The answer is **%s**.",
    "box": "\\boxed{%s}",
    "box, font": "The answer is $\\boxed{\\textbf{(%s)}}$.",
    "box, letter and text": "\\boxed{\\text{%s: 42 joules}}",
    "number in a box": "The energy is $\\boxed{42}$.\nThe answer is (%s).",
    "math delimiters": "The answer is \\(%s\\).",
    "quotes": "The answer is “%s”.",
    "square brackets": "The answer is [%s].",
    "heading": "### Final Answer\n%s",
    "options discussed after": "The answer is (%s).\n\nWhy not the others: option {other} ignores friction.",
    "options listed after": "**Answer: %s**\n\n- Option {other}: too small",
    "corrected": "The answer is {other}. Wait, no. The answer is %s.",
    "negation before": "It is not {other}, the answer is %s.",
    "with text": "The correct answer is: (%s) 42 joules",
    "correct option": "The correct option is %s: 42 joules.",
    "chosen": "I would choose option %s because it fits.",
    "is the answer": "So (%s) is the correct answer.",
    "last line": "Let me check both of them.\n%s",
    "opens the text": "%s) 42 joules\n\nThe others are too small.",
    "tag": "<answer>%s</answer>",
}
NONE = (
    "The answer is not {X}.", "The answer isn't ({X}).", "The answer is {X} or {other}.", "ANSWER: None of the above",
    "Answer: I don't know.", "A number of people think so. I do not.", "The answer is a matter of taste.",
    "Is the answer {X}?", "If the answer is {X}, energy is lost.", "Option {X} is too small.",
)  # fmt: skip
INTEGER = {
    "box": "So \\boxed{%s}.",
    "box, equation": "\\boxed{x + 7 = %s}",
    "is N.": "The answer is %s.",
    "an equation after is": "The answer is 5 + 7 = %s.",
    "to the puzzle": "The answer to this puzzle is %s. To see it, take 6 and add 1.",
    "check after": "The answer is %s.\n\nCheck: 12 - 5 = 7.",
    "bold label": "**Answer:** %s apples",
    "last equation": "7 apples and 5 more: 7 + 5 = %s apples.",
    "list broken off": "Ada has %s apples.\n2. Check the sum.\n3. Now,",
    "hash marks": "3 + 4 = 7\n#### %s",
}
WRAPPINGS = {
    "fence": "Here it is:\n\n```python\n{whole}\n```\nIt runs in linear time.",
    "fence, no label": "```\n{whole}\n```",
    "fence, label py3, usage after": "```py3\n{whole}\n```\nUse:\n```python\nprint({name})\n```",
    "fence never closed": "```python\n{whole}",
    "code on the fence line, late close": "```python\n{whole}```\nDone.",
    "imports in a block of their own": "```python\n{head}\n```\nand then\n```python\n{rest}\n```",
    "no fence, sentences around": "The function is:\n\n{whole}\n\nIt doesn't need more.",
    "body in a fence": "```python\n{body}\n```",
    "body alone": "{body}",
    "body, stray closing fence": "{body}\n```\n\nThe built-in would do it too.",
}


def right(reader: Callable[[Any], bool], cases: list[Any], workers: type[Executor] = ThreadPoolExecutor) -> float:
    """The share of `cases` for which the reader says yes."""
    with workers(os.cpu_count()) as pool:  # type: ignore[call-arg]
        found = tqdm(pool.map(reader, cases), total=len(cases), leave=False, disable=None)
        return share(list(found))


def share(hits: Sequence[bool]) -> float:
    """How many of them are true."""
    return round(sum(map(bool, hits)) / len(hits), 4)


# ---------------------------------------------------------------- readers that are not ours
@cache
def loop() -> Any:
    """The event loop of Inspect's scorers, which are coroutines."""
    return asyncio.new_event_loop()


def scored(scorer: Any, text: str, target: str, options: int = 0, prepare: Any = None) -> bool:
    """Whether an Inspect scorer calls `text` right."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    state = TaskState(model="none/none", sample_id=1, epoch=1, input="", messages=[],
                      choices=list(LETTERS[:options]), output=ModelOutput.from_content("none", text))  # fmt: skip
    if prepare:
        prepare(state)
    return loop().run_until_complete(scorer(state, Target(target))).value == "C"


def whole_text(case: tuple[str, str]) -> bool:
    """math-verify reads the answer out of the whole text and compares it."""
    from math_verify import parse, verify

    return verify(parse(f"${case[0]}$"), parse(case[1]))


def choice(text: str, target: str, options: int) -> bool:
    """Inspect's multiple_choice reading and its choice scorer."""
    from inspect_ai.scorer import choice as make
    from inspect_ai.solver._multiple_choice import parse_answers, set_choices_based_on_generated_response

    def mark(state: Any) -> None:
        set_choices_based_on_generated_response(state, parse_answers(state, multiple_correct=False))

    return scored(make(), text, target, options, mark)


def strings(text: str, options: int) -> str | None:
    """math-verify's extraction of literal strings."""
    from math_verify import StringExtractionConfig, parse

    found = parse(text, [StringExtractionConfig(strings=tuple(LETTERS[:options]))], parsing_timeout=None)
    return str(found[-1]).upper() if found else None


def first_fence(answer: str, prompt: str, name: str) -> str:
    """The plainest reader of code: the first block marked as Python after the prompt's stub, else the whole text."""
    found = re.search(r"```(?:python)?\n(.*?)```", answer, re.DOTALL)
    return f"{stub(prompt)}\n\n{found[1]}" if found else f"{prompt}\n{answer}"


# ---------------------------------------------------------------- the four tables
def mathematics(mirror: Path | None) -> dict[str, Any]:
    """Share called right: golds (higher is better) and golds of other problems (lower is better)."""
    from inspect_ai.scorer import math

    golds = [str(question.meta["answer"]) for question in sources.load("MATH500", mirror)]
    others = [next(o for o in golds[i + 1 :] + golds if o != gold and not equality.same_math(gold, o))
              for i, gold in enumerate(golds)]  # fmt: skip
    scorer = math(timeout=20)

    def inspect(case: tuple[str, str]) -> bool:
        try:
            return scored(scorer, case[1], case[0])
        except ValueError:  # a gold that it cannot read
            return False

    def own(case: tuple[str, str]) -> bool:
        said = extract.math_text(case[1])
        return said is not None and equality.same_math(case[0], said)

    readers: dict[str, Callable[[list[Any]], float]] = {
        "star1lib": partial(right, own),
        "math-verify": partial(right, whole_text, workers=ProcessPoolExecutor),
        "Inspect math": lambda cases: share(list(map(inspect, cases))),  # its loop runs in one thread
    }
    table: dict[str, Any] = {}
    for style, pattern in MATH.items():
        same = [(gold, WORK + pattern % gold) for gold in golds]
        wrong = [(gold, WORK + pattern % other) for gold, other in zip(golds, others, strict=True)]
        table[style] = {name: {"right": read(same), "false": read(wrong)} for name, read in readers.items()}
        print(style, table[style], flush=True)
    return table


def letters() -> dict[str, Any]:
    """Share read rightly of every letter of four and of ten options."""
    from inspect_ai.scorer import answer

    def read(text: str, wanted: str | None, options: int) -> dict[str, bool]:
        marks = {
            "Inspect choice": partial(choice, options=options),
            "Inspect answer": partial(scored, answer("letter")),
        }
        own = {"star1lib": extract.letter(text, options) == wanted}
        if wanted is None:  # no reader may name any option
            inspect = {name: not any(mark(text, x) for x in LETTERS[:options]) for name, mark in marks.items()}
        else:
            inspect = {name: mark(text, wanted) for name, mark in marks.items()}
        return {**own, **inspect, "math-verify": strings(text, options) == wanted}

    table = {}
    texts: dict[str, list[tuple[str, str | None, int]]] = {}
    for options in (4, 10):
        for index, x in enumerate(LETTERS[:options]):
            other = LETTERS[(index + 1) % options]
            for style, pattern in LETTER.items():
                texts.setdefault(style, []).append((pattern.replace("%s", x).replace("{other}", other), x, options))
            for pattern in NONE:
                text = pattern.replace("{X}", x).replace("{other}", other)
                texts.setdefault("names no option", []).append((text, None, options))
    for style, cases in texts.items():
        rows = [read(*case) for case in cases]
        table[style] = {name: {"right": share([row[name] for row in rows])} for name in rows[0]}
    return table


def integers() -> dict[str, Any]:
    """Share read rightly of whole numbers, by star1lib, by Inspect's numeric match, by math-verify."""
    from inspect_ai.scorer import match

    table = {}
    values = [-12, 0, 3, 24, 73, 100, 999, 1234, 45678, 1234567]
    for style, pattern in INTEGER.items():
        cases = [(value, pattern % form) for value in values for form in {f"{value}", f"{value:,}"}]
        found = {
            "star1lib": [extract.integer(text) == value for value, text in cases],
            "Inspect match": [scored(match(numeric=True), text, str(value)) for value, text in cases],
            "math-verify": [whole_text((str(value), text)) for value, text in cases],
        }
        table[style] = {name: {"right": share(hits)} for name, hits in found.items()}
    return table


def canonical() -> dict[str, str]:
    """The published solution of each problem of HumanEval."""
    [path] = download.locate(sources.source("HumanEval"), None)
    return {row["task_id"]: row["canonical_solution"] for _, row in readers.rows_of(path)}


def code() -> dict[str, Any]:
    """Share of solutions that pass when read out of a wrapping, and of empty functions that pass."""
    problems = sources.load("HumanEval")
    solutions = canonical()

    @cache
    def passes(program: str, test: str, name: str) -> bool:
        return confine.run(program, test, name).passed

    def ran(program: str, question: Any) -> bool:
        tests = checks(question.text, str(question.meta["test"]))
        return passes(program.strip() + "\n", tests, str(question.meta["entry_point"]))

    def own(case: tuple[str, Any]) -> bool:
        found = read_code(case[0], case[1].text, case[1].meta["entry_point"])
        return found.how != "none" and ran(found.program, case[1])

    def plain(case: tuple[str, Any]) -> bool:
        return ran(first_fence(case[0], case[1].text, case[1].meta["entry_point"]), case[1])

    def wrapped(pattern: str, question: Any, body: str) -> str:
        whole = f"{question.text}\n{body.rstrip()}"
        signature = f"def {question.meta['entry_point']}("
        head, _, rest = whole.partition(signature)
        parts = {"whole": whole, "body": body.rstrip(), "name": question.meta["entry_point"],
                 "head": head.strip() or "import math", "rest": signature + rest}  # fmt: skip
        return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], pattern)

    table = {}
    for style, pattern in WRAPPINGS.items():
        whole = [(wrapped(pattern, q, solutions[q.meta["task_id"]]), q) for q in problems]
        empty = [(wrapped(pattern, q, "    return None\n"), q) for q in problems[::4]]
        table[style] = {
            name: {"right": right(reader, whole), "false": right(reader, empty)}
            for name, reader in (("star1lib", own), ("first fence", plain))
        }
        print(style, table[style], flush=True)
    return table


def markdown(tables: dict[str, dict[str, Any]]) -> str:
    """All tables, a row per style, in percent."""
    out = ["# Reading answers", "", *(__doc__ or "").split("\n\n")[2].splitlines(), ""]
    for title, table in tables.items():
        names = list(next(iter(table.values())))
        out += [f"## {title}", "", "| style | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        mean = {
            name: {key: sum(row[name][key] for row in table.values()) / len(table) for key in first}
            for name, first in next(iter(table.values())).items()
        }
        for style, row in {**table, "**mean**": mean}.items():
            cells = [
                f"{100 * cell['right']:.1f}" + (f" (false {100 * cell['false']:.1f})" if "false" in cell else "")
                for cell in row.values()
            ]
            out.append(f"| {style} | " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def main() -> None:
    """Measure everything, or the parts that are named, and write the results."""
    named = os.environ.get("STAR1_DATA")
    mirror = Path(named) if named else None
    parts = {
        "MATH golds in ten styles (% called right; golds of other problems called right)": partial(mathematics, mirror),
        "Letters of options (% read rightly)": letters,
        "Whole numbers (% read rightly)": integers,
        "HumanEval solutions in ten wrappings (% that pass; empty functions that pass)": code,
    }
    path = RESULTS / "answer_reading.json"
    tables = read_json(path) if path.exists() else {}
    for title, part in parts.items():
        if not sys.argv[1:] or any(word in title for word in sys.argv[1:]):
            tables[title] = part()
            tables = {title: tables[title] for title in parts if title in tables}
            write_json(path, tables)
            write_text(path.with_suffix(".md"), markdown(tables))


if __name__ == "__main__":
    main()
