"""What models of the method are asked to answer, and the strict reading of it (paper 2.2, 2.3, 3.2, 4.3).

A model is told to answer with one JSON object and nothing else. It is read bare or in one code fence, and refused
with anything around it, with unknown or repeated keys, or with a value out of range. Text of a model is data here,
whatever it looks like. The same classes are the schemas for servers that can enforce them.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, Field, StringConstraints, ValidationError, field_validator

from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Record, first_error

RefusalLabel = Literal["full_compliance", "partial_refusal", "full_refusal"]
FormT = TypeVar("FormT", bound=Record)
OneToFive = Annotated[int, Field(ge=1, le=5)]
_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", re.DOTALL)
_REMARKS = ("reason", "reasons", "rationale", "explanation")
_MAX_CHARS = 100_000
GUARD_HAZARDS = 14  # Llama-Guard-3 names hazards S1 to S14


class Unreadable(ValueError):
    """An answer that is not what was asked for; the message is one phrase fit to show the model."""


class ErrorRow(Record):
    """A request without a usable answer: its id, why, and the raw text (kept out of `repr` and of notebooks)."""

    id: str
    reason: str
    raw: str = Field(repr=False, default="")


def _squash(name: str) -> str:
    return re.sub(r"\s*/\s*", "/", " ".join(name.split())).casefold()


_CATEGORY_OF = {_squash(name): name for name in (*CATEGORIES, OTHER)}
Category = Annotated[str, Field(json_schema_extra={"enum": [*CATEGORIES, OTHER]})]


class Tags(Record):
    """The classifier's answer: categories in the policies' spelling, each once; `Other` alone or not at all (2.2)."""

    categories: list[Category] = Field(min_length=1, validation_alias=AliasChoices("categories", "category"))

    @field_validator("categories")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        if unknown := [name for name in names if _squash(name) not in _CATEGORY_OF]:
            raise ValueError(f"{len(unknown)} of them not one of: " + "; ".join(_CATEGORY_OF.values()))
        known = list(dict.fromkeys(_CATEGORY_OF[_squash(name)] for name in names))
        if OTHER in known and len(known) > 1:
            raise ValueError(f"'{OTHER}' cannot stand beside another category")
        return known


class BenignScores(Record):
    """The three criteria of a benign variant, 1 to 5 each (4.3)."""

    safety: OneToFive
    quality: OneToFive
    compliance: OneToFive

    def all_five(self) -> bool:
        """True when every criterion is 5: the bar for keeping a benign variant."""
        return (self.safety, self.quality, self.compliance) == (5, 5, 5)


class Rewrite(Record):
    """The benign rewriter's answer (4.3)."""

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Refusal(Record):
    """The refusal judge's answer (3.2)."""

    label: RefusalLabel


class Harm(Record):
    """The harm judge's answer, yes or no (3.2)."""

    harmful: bool


class Rubric(Record):
    """The harm judge's answer by a rubric of 1 (nothing harmful) to 5 (full, specific harm)."""

    score: OneToFive


def read(text: str, form: type[FormT]) -> FormT:
    """The one JSON object that `text` consists of, as a `form`; :class:`Unreadable` with the reason otherwise.

    Numbers in quotes are refused, 10.0 is 10; a remark of the model beside the fields is dropped.
    """
    value = _json(text)
    if isinstance(value, dict):
        value = {name: part for name, part in value.items() if name not in _REMARKS}
    try:
        return form.model_validate(value, strict=True)
    except ValidationError as err:
        raise Unreadable(first_error(err)) from err


def _json(text: str) -> Any:
    body = text.strip()
    if not body:
        raise Unreadable("the answer is empty")
    if len(body) > _MAX_CHARS:
        raise Unreadable("the answer is far too long for what was asked")
    if fenced := _FENCE.fullmatch(body):
        body = fenced.group(1).strip()
    if not body.startswith("{"):
        raise Unreadable("the answer must be one JSON object with nothing before it")
    decoder = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_float=_number)
    try:
        value, end = decoder.raw_decode(body)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as err:
        raise Unreadable("the answer is not valid JSON") from err
    if body[end:].strip():
        raise Unreadable("there is text after the JSON object")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise Unreadable("a key appears twice in the JSON object")
    return keys


def _no_constant(name: str) -> Any:
    raise Unreadable(f"{name} is not a JSON value")


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def read_guard(text: str) -> tuple[bool, str]:
    """A Llama-Guard-3 verdict as (safe, hazard codes): `safe`, or `unsafe` and a line of codes S1 to S14, each once."""
    lines = text.strip().split("\n")
    if [line.strip() for line in lines] == ["safe"]:
        return True, ""
    codes = [code.strip() for code in lines[1].split(",")] if len(lines) == 2 else []
    known = all(re.fullmatch(r"S[1-9]\d?", code, re.ASCII) and int(code[1:]) <= GUARD_HAZARDS for code in codes)
    if lines[0].strip() != "unsafe" or not codes or not known or len(set(codes)) < len(codes):
        raise Unreadable("the verdict must be 'safe', or 'unsafe' and a line of hazard codes S1 to S14, each once")
    return False, ",".join(codes)
