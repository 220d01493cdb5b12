"""Read a function out of a model's answer and make a program and its checks of it (HumanEval, paper 3.2).

How an answer is read (the caller has cut the thinking off), in this order:

1. fenced blocks: the last one that defines the function, else the last one marked as Python or unmarked;
2. no fence, but the text defines the function: from its first line of code to the last line that parses;
3. otherwise the text continues the prompt: lines up to the first that is not indented.

The prompt goes before the code, so its imports and helpers are there. What parses in none of these ways is no
code: `how` is "none", a failed extraction and not a wrong answer; a body of `pass` is code, and wrong.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from typing import Literal, NamedTuple

How = Literal["fenced", "definition", "continuation", "none"]

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = {"", "python", "python3", "py"}
_CODE_LINE = re.compile(r"^(?:from\s+\w|import\s+\w|def\s|class\s|@|async\s+def\s)", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import [^\n]*\n?", re.MULTILINE)
_MOST_CUTS = 50
_WORDS = (ast.Name, ast.Constant, ast.Tuple)
_IDLE = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)


class Code(NamedTuple):
    """A whole program and how it was found; the program is empty when `how` is "none"."""

    program: str
    how: How


def read_code(answer: str, prompt: str, entry_point: str) -> Code:
    """The program that `answer` stands for, given the `prompt` it continues or rewrites."""
    blocks = [(label.lower(), body) for _, label, body in _FENCE.findall(answer)]
    if blocks:
        return _from_blocks(blocks, prompt, entry_point)
    if _defines(answer, entry_point):
        start = _CODE_LINE.search(answer)
        code = _parsing_part(answer[start.start() if start else 0 :])
        if _defines(code, entry_point):
            return Code(_joined(prompt, code), "definition")
    return _continued(answer, prompt, "continuation")


def checks(prompt: str, test: str) -> str:
    """The text of the checks: the prompt's imports and helpers, then the data set's `check` function."""
    return f"{stub(prompt)}\n\n{test}\n"


def stub(prompt: str) -> str:
    """The prompt as a module of its own: its last function does nothing."""
    return f"{prompt.rstrip()}\n    pass\n"


def _from_blocks(blocks: list[tuple[str, str]], prompt: str, entry_point: str) -> Code:
    bodies = [textwrap.dedent(body) for label, body in blocks if label in _PYTHON]
    defining = [body for body in bodies if _defines(body, entry_point)]
    if defining:
        code = defining[-1] if _error_line(defining[-1]) is None else _parsing_part(defining[-1])
        return Code(_joined(prompt, code), "fenced") if _defines(code, entry_point) else Code("", "none")
    raw = [body for label, body in blocks if label in _PYTHON]
    return _continued(raw[-1], prompt, "fenced") if raw else Code("", "none")


def _continued(text: str, prompt: str, how: How) -> Code:
    lines = text.strip("\n").rstrip().split("\n")
    body = [lines[0]]
    for line in lines[1:]:
        if line.strip() and not line[0].isspace():
            break
        body.append(line)
    plain = "\n".join(body)
    attempts = ["    " + plain.lstrip(), textwrap.indent(textwrap.dedent(text.strip("\n")), "    ")]
    for attempt in [plain, *attempts] if plain[:1].isspace() else attempts:
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
    return re.search(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", text, re.MULTILINE) is not None


def _parsing_part(code: str) -> str:
    """`code` up to the last line with which it parses."""
    lines = code.split("\n")
    for _ in range(_MOST_CUTS):
        error = _error_line("\n".join(lines))
        if error is None:
            return "\n".join(lines)
        lines = lines[: min(error, len(lines)) - 1]
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
