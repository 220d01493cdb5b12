"""The nouns that travel between stages, and the ids that name them.

An id is a hash of the normalised question, so the same question has the same id in every source,
run and machine. Every stage reads one of these records and writes another.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Score = Annotated[int, Field(ge=0, le=10)]
ItemT = TypeVar("ItemT")


def first_error(err: ValidationError) -> str:
    """The first complaint of a failed validation as half a sentence: which field, and what is wrong with it."""
    first = err.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "value"
    message = first["msg"].removeprefix("Value error, ")
    return f"field '{field}': {message[:1].lower()}{message[1:]}"


def normalise(text: str) -> str:
    """NFKC, lower case, single spaces: the form that ids are computed on."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def question_id(text: str) -> str:
    """16 hex digits naming a question by its normalised content."""
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Record(BaseModel):
    """Base of all records: unknown fields are refused, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(Record):
    """One instruction as collected (paper 2.1)."""

    id: str
    text: NonEmpty
    source: NonEmpty
    meta: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def make(cls, text: str, source: str, **meta: Any) -> Question:
        """Build a question and derive its id from its text."""
        return cls(id=question_id(text), text=text, source=source, meta=meta)


class Removal(Record):
    """Why a question left the pool: the step, what it collided with, and how strongly (paper 2.1)."""

    id: str
    text: str
    source: str
    step: NonEmpty
    partner_id: str | None = None
    partner_text: str | None = None
    score: float | None = None


class Tagged(Record):
    """A question with its safety categories (paper 2.2); `["Other"]` when none fits."""

    id: str
    question: NonEmpty
    source: NonEmpty
    category: list[NonEmpty] = Field(min_length=1)


class Scores(Record):
    """The scorer's three criteria, 0 to 10 each (paper 2.3)."""

    compliance: Score
    relevancy: Score
    accuracy: Score

    @property
    def mean(self) -> float:
        """The mean of the three."""
        return (self.compliance + self.relevancy + self.accuracy) / 3

    def all_ten(self) -> bool:
        """True when every criterion is 10: the paper's bar for high-quality data."""
        return (self.compliance, self.relevancy, self.accuracy) == (10, 10, 10)


class Example(Record):
    """A question with categories, thinking trace, answer and, once scored, its scores."""

    id: str
    question: NonEmpty
    source: NonEmpty
    category: list[NonEmpty] = Field(min_length=1)
    thinking: str
    answer: NonEmpty
    teacher: NonEmpty
    score: Scores | None = None
    meta: dict[str, Any] = Field(default_factory=dict)


Metric = Literal["safe", "refused", "answered", "correct", "thought_safe", "forced", "safe_answer", "correct_ours"]
Outcome = Literal["complete", "cut_off", "thinking_cut", "open_thinking", "no_answer", "empty", "filtered"]


class ItemResult(Record):
    """One judged response (paper 3.2): labels, lengths and a refusal snippet, never the completion.

    `value` is None when the response is neither right nor wrong, safe nor unsafe: its thinking was
    never closed. `others` has the value by each further judge of harm. Tokens are counted by the model's own tokenizer.
    """

    benchmark: NonEmpty
    variant: NonEmpty
    item_id: NonEmpty
    metric: Metric
    value: bool | None
    label: str
    outcome: Outcome
    judge: str
    others: dict[str, bool | None] = Field(default_factory=dict)
    prompt_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    response_chars: int = Field(ge=0)
    snippet: str = ""


def subset(items: Sequence[ItemT], limit: int | None, seed: int) -> list[ItemT]:
    """At most `limit` items, a seeded sample in the original order; None means no bound."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = sorted(random.Random(seed).sample(range(len(items)), limit))
    return [items[index] for index in chosen]
