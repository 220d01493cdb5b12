"""Read a function out of a model's answer and make a program and its checks of it (HumanEval, paper 3.2).

How an answer is read, in this order (the thinking is cut off before, by the caller):

1. the last fenced block that defines the function, whatever its label, with the imports and functions that it
   needs from other blocks. A block ends at the first fence with which it parses, so that a fence inside a
   docstring does not end it; one that was never closed reaches to the end.
2. text outside fences that defines the function, up to the last line that parses;
3. text that continues the prompt, as base models do: a block marked as Python or unmarked, else what stands
   before the first fence. Lines up to the first that is not indented, the first line's indentation restored.

The prompt goes before the code, so its imports and helpers are there. What parses in none of these ways is no
code: `how` is "none", a failed extraction and not a wrong answer. A method of a class is not the function, and
neither is a function of another name; a body of `pass` is code, and wrong.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from typing import Literal, NamedTuple

How = Literal["fenced", "definition", "continuation", "none"]

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\n`]*?)[ \t]*$", re.MULTILINE)
_LATE_FENCE = re.compile(r"(?<=[^\s`])(`{3,})[ \t]*$", re.MULTILINE)
_LABEL = re.compile(r"[{.]*([\w+#-]*)[^\s]*\s*(.*)")
_CODE_LINE = re.compile(r"^(?:from\s+\w|import\s+\w|def\s|class\s|@|async\s+def\s)", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import [^\n]*\n?", re.MULTILINE)
_SPACES = str.maketrans({**dict.fromkeys("\u00a0\u2007\u202f\u3000", " "), **dict.fromkeys("\u200b\u2060\ufeff", None)})
_MOST_CUTS = 50
_MOST_FENCES = 16
_WORDS = (ast.Name, ast.Constant, ast.Tuple)
_IDLE = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)


class Code(NamedTuple):
    """A whole program and how it was found; the program is empty when `how` is "none"."""

    program: str
    how: How


class _Block(NamedTuple):
    label: str
    body: str


def read_code(answer: str, prompt: str, entry_point: str) -> Code:
    """The program that `answer` stands for, given the `prompt` it continues or rewrites."""
    answer = _LATE_FENCE.sub(r"\n\1", answer.replace("\r\n", "\n"))
    found = _read(answer, prompt, entry_point)
    # Spaces that Python does not take for spaces are changed only where the answer is no code with them.
    return found if found.how != "none" else _read(answer.translate(_SPACES), prompt, entry_point)


def checks(prompt: str, test: str) -> str:
    """The text of the checks: the prompt's imports and helpers, then the data set's `check` function."""
    return f"{stub(prompt)}\n\n{test}\n"


def stub(prompt: str) -> str:
    """The prompt as a module of its own: its last function does nothing."""
    return f"{prompt.rstrip()}\n    pass\n"


def _read(answer: str, prompt: str, name: str) -> Code:
    blocks = _blocks(answer)
    defining = [block for block in blocks if _defines(block.body, name)]
    for whole in (True, False):
        for block in reversed(defining):
            code = block.body if _error_line(block.body) is None else "" if whole else _parsing_part(block.body)
            if _defines(code, name):
                others = [other.body for other in blocks if other is not block]
                return Code(_joined(prompt, _helpers(others, code, name) + code), "fenced")
    first = _FENCE.search(answer)
    outside = answer[: first.start()] if first else answer
    if _defines(outside, name):
        for start in list(_CODE_LINE.finditer(outside))[:_MOST_FENCES]:
            if _defines(code := _parsing_part(outside[start.start() :]), name):
                return Code(_joined(prompt, code), "definition")
    for block in reversed(blocks):
        if block.label == "" or "py" in block.label:
            if (found := _continued(block.body, prompt, "fenced")).how != "none":
                return found
            break
    return _continued(outside, prompt, "continuation")


def _blocks(answer: str) -> list[_Block]:
    marks = list(_FENCE.finditer(answer))
    blocks = []
    place = 0
    while place < len(marks):
        mark = marks[place]
        label, rest = _LABEL.match(mark[2]).groups()  # type: ignore[union-attr]
        ahead = range(place + 1, min(len(marks), place + _MOST_FENCES))
        ends = [n for n in ahead if marks[n][1].startswith(mark[1]) and not marks[n][2]]
        bodies = [answer[mark.end() + 1 : marks[n].start()] for n in ends] or [answer[mark.end() + 1 :]]
        bodies = [textwrap.dedent(f"{rest}\n{body}" if rest and _CODE_LINE.match(rest) else body) for body in bodies]
        chosen = next((n for n, body in enumerate(bodies) if _error_line(body) is None), 0)
        blocks.append(_Block(label.lower(), bodies[chosen]))
        place = ends[chosen] + 1 if ends else len(marks)
    return blocks


def _helpers(others: list[str], code: str, name: str) -> str:
    """The imports, functions and classes of other blocks that `code` uses and does not bring."""
    here = ast.parse(code)
    wanted = _used(here) - {name}.union(*map(_bound, here.body))
    picked: list[str] = []
    for body in reversed(others):
        for node in reversed(ast.parse(body).body if _error_line(body) is None else []):
            if _bound(node) & wanted:
                wanted = (wanted | _used(node)) - _bound(node) - {name}
                picked.insert(0, ast.unparse(node) + "\n")
    return "".join(picked)


def _used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {node.name} if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else set()


def _continued(text: str, prompt: str, how: How) -> Code:
    lines = text.strip("\n").rstrip().split("\n")
    body = [lines[0]]
    for line in lines[1:]:
        if line.strip() and not line[0].isspace():
            break
        body.append(line)
    plain = "\n".join(body)
    whole, lost = textwrap.indent(textwrap.dedent(text.strip("\n")), "    "), "    " + plain.lstrip()
    attempts = [plain, lost, whole] if plain[:1].isspace() else [lost, whole]
    # A block holds nothing but code; text that runs on ends where it is no longer indented.
    for attempt in [whole, *attempts] if how == "fenced" else attempts:
        program = f"{prompt.rstrip()}\n{attempt}\n"
        if _error_line(program) is None and _does_something(attempt):
            return Code(program, how)
    return Code("", "none")


def _does_something(body: str) -> bool:
    """Whether an indented body is more than definitions, or words that happen to parse as names."""
    try:
        statements = ast.parse(f"def f():\n{body}\n").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    inner = statements[0].body if isinstance(statements[0], ast.FunctionDef) else []
    words = (part for part in inner if isinstance(part, ast.Expr) and isinstance(part.value, _WORDS))
    return any(not isinstance(part, _IDLE) for part in set(inner) - set(words))


def _joined(prompt: str, code: str) -> str:
    # A future import must come first in a module.
    future = "".join(_FUTURE.findall(code))
    return f"{future}{stub(prompt)}\n\n{_FUTURE.sub('', code)}\n"


def _defines(text: str, name: str) -> bool:
    own = re.escape(name)
    return re.search(rf"^(?:(?:async\s+)?def\s+{own}\s*\(|{own}\s*=\s*lambda\b)", text, re.MULTILINE) is not None


def _parsing_part(code: str) -> str:
    """`code` up to the last line with which it parses."""
    lines = code.split("\n")
    for _ in range(_MOST_CUTS):
        error = _error_line("\n".join(lines))
        if error is None:
            return "\n".join(lines)
        lines = lines[: min(error, len(lines)) - 1]
        if not lines:
            break
    return ""


def _error_line(code: str) -> int | None:
    """The line where `code` stops parsing, at least 1; None when it parses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Compiling finds what parsing lets through, such as a return outside a function; nothing is run.
            compile(code, "<answer>", "exec", dont_inherit=True)
    except SyntaxError as err:
        return max(1, err.lineno or 1)
    except (ValueError, RecursionError, MemoryError):
        return 1
    return None
