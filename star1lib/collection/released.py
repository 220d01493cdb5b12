"""Released datasets of the paper as examples: STAR-1, STAR-41K, STAR-benign-915, and SafeChain beside them.

The released files write lists and scores sometimes as JSON and sometimes as the text of a Python
literal. Text is read as a literal only, never run, and checked field by field.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path
from typing import Any

from star1lib.collection import sources
from star1lib.errors import UserError, shorten
from star1lib.models import answers
from star1lib.models.answers import BenignScores
from star1lib.models.chat import split_thinking
from star1lib.models.upstream import ReleasedScores
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Example, Question, Scores

log = logging.getLogger(__name__)

SETS = ("STAR-1", "STAR-41K", "STAR-benign-915", "SafeChain")


def _squash(name: str) -> str:
    return re.sub(r"[\s/]", "", name.lower())


_KNOWN = {_squash(name): name for name in (*CATEGORIES, OTHER)} | {
    _squash(name): category
    for name, category in {
        "Harassment/Hate/Discrimination Policy": "Harassment / Hate / Discrimination",
        "Illicit / Criminal Behaviour": "Illicit / Criminal Behavior",
        "Illicit / Criminal": "Illicit / Criminal Behavior",
        "Sexual Content / Adult": "Sexual / Adult",
        "Privacy": "Privacy / Personal Data",
        "Others": OTHER,
    }.items()
}


def category_name(name: str) -> str | None:
    """Our name of a released category, whatever its case, spaces and slashes; None when it is none of them."""
    return _KNOWN.get(_squash(name))


def literal(value: Any) -> Any:
    """`value` itself, or what its text says as a Python literal; raises ValueError when it is no literal."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as err:
        raise ValueError("not a literal") from err


def load(name: str, mirror: Path | None = None) -> list[Example]:
    """Read a released set of :data:`SETS` through :mod:`star1lib.collection.sources`, in its order.

    Raises :class:`UserError` for another name, an unavailable file, or a row that does not fit, by number.
    """
    if name not in SETS:
        raise UserError(f"published set '{name}': known are {', '.join(SETS)}; correct the name.")
    rows = {f"{name}, row {number}": row for number, row in enumerate(sources.load(name, mirror), start=1)}
    if name != "SafeChain":
        return [example_of(row, where) for where, row in rows.items()]
    # Unlike the STAR sets it was not filtered for answers that end, so those that do not are left out.
    ended = {where: row for where, row in rows.items() if split_response(str(row.meta.get("response")))[1]}
    if left_out := len(rows) - len(ended):
        log.warning("%s: %d rows left out, their responses end inside the thinking", name, left_out)
    return [example_of(row, where, "DeepSeek-R1-Distill-Llama-70B") for where, row in ended.items()]


def example_of(question: Question, where: str, teacher: str = "DeepSeek-R1") -> Example:
    """One released row, as `meta` of its question carries it, as an example; `where` names it in errors.

    `meta` needs `response`; `category`, `score` and `source` are read when they are there.
    """
    response = question.meta.get("response")
    if not isinstance(response, str) or not response.strip():
        raise UserError(f"{where}: field 'response' is missing or empty; restore the released file.")
    thinking, answer = split_response(response)
    if not answer:
        raise UserError(f"{where}: field 'response' ends inside its thinking; restore the released file.")
    meta = {"released_id": str(question.meta["id"])} if "id" in question.meta else {}
    score, extra = _scores(question.meta.get("score"), where)
    return Example(
        id=question.id,
        question=question.text,
        source=str(question.meta.get("source") or question.source),
        category=_categories(question.meta.get("category"), where),
        thinking=thinking,
        answer=answer,
        teacher=teacher,
        score=score,
        meta=meta | extra,
    )


def split_response(response: str) -> tuple[str, str]:
    """Thinking and answer of a released response; the answer is empty when the thinking is never closed."""
    thought = split_thinking(response, thinking_opened="</think>" in response and "<think>" not in response)
    return thought.thinking.strip(), "" if thought.state == "open" else thought.answer.strip()


def _categories(value: Any, where: str) -> list[str]:
    if value is None:
        return [OTHER]
    if isinstance(value, str) and category_name(value):
        value = [value]
    try:
        names = literal(value)
    except ValueError as err:
        raise UserError(f"{where}: field 'category' is neither a list nor the text of one; correct the row.") from err
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: field 'category' must be a list of names; correct the row.")
    known = {name: category_name(name) for name in names}
    for name, category in known.items():
        if category is None:
            raise UserError(f"{where}: field 'category': '{shorten(name)}' is none of the categories; correct the row.")
    return list(dict.fromkeys(filter(None, known.values())))


def _scores(value: Any, where: str) -> tuple[Scores | None, dict[str, Any]]:
    """The three 0 to 10 scores; the 1 to 5 scores of a benign row go to `meta` instead."""
    if value is None or value == "":
        return None, {}
    try:
        marks = {str(name): mark for name, mark in literal(value).items()}
    except (ValueError, AttributeError) as err:
        raise UserError(f"{where}: field 'score' must map the three criteria to numbers; correct the row.") from err
    benign = {name.lower(): mark for name, mark in marks.items()}
    try:
        if set(BenignScores.model_fields) <= set(benign):
            return None, {"benign_scores": answers.read(json.dumps(benign), BenignScores).model_dump()}
        return Scores(**answers.read(json.dumps(marks), ReleasedScores).model_dump()), {}
    except (ValueError, TypeError) as err:
        raise UserError(f"{where}: field 'score': {err}; correct the row.") from err
