"""The project's own small training corpus: questions with reasoned answers, benign variants, pool rows.

Every row was hand-written for this repository, in the format of paper 2.2 and 2.3: a thinking trace
that quotes a rule of :mod:`star1lib.policies` word for word, and an answer. Flawed second traces give
the scorer something to reject, benign variants stand for the over-refusal data of paper 4.2, and pool
rows plant the duplicates, overlaps and off-topic questions that decontamination must find. A user's own policies
bring their own rows (:mod:`star1lib.policies`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from pydantic import Field

from star1lib.files import read_records
from star1lib.policies import DEFAULT, POLICIES, SOURCE
from star1lib.records import NonEmpty, Question, Record, question_id

LABEL, LICENCE = (
    ("hand-written for this repository", "Apache-2.0 (this repository)")
    if SOURCE == DEFAULT
    else ("hand-written beside the user's own policies", "the user's own")
)
SLUGS: dict[str, str] = {policy.slug: policy.category for policy in POLICIES if policy.slug}
"""File name of a category's rows -> the category."""


class Flawed(Record):
    """A second trace and answer of a harmful row, with the one flaw that the scorer should notice."""

    flaw: Literal["wrong_policy", "no_policy", "contradiction"]
    thinking: NonEmpty
    answer: NonEmpty


class CorpusRow(Record):
    """One hand-written row; pool rows carry a question and a reason (`why`), no trace or answer.

    `source` names the file; it stands in no row and is filled in when the row is loaded.
    """

    kind: Literal["harmful", "benign", "pool"]
    question: NonEmpty
    category: list[NonEmpty] = Field(min_length=1)
    action: Literal["refuse", "safe_complete", "redirect", "educate", "help"]
    rules: list[str]
    thinking: str
    answer: str
    flawed: Flawed | None = None
    variant_of: str | None = None
    why: Literal["exact_duplicate", "near_duplicate", "overlaps_test", "no_category"] | None = None
    source: str = ""

    @property
    def id(self) -> str:
        """The id of the row's question; an exact duplicate shares it with its original."""
        return question_id(self.question)


@dataclass(frozen=True)
class Corpus:
    """All rows in file order, the files in the order of the categories."""

    rows: tuple[CorpusRow, ...]

    @property
    def harmful(self) -> list[CorpusRow]:
        """Questions that name a harm, with trace and answer."""
        return [row for row in self.rows if row.kind == "harmful"]

    @property
    def benign(self) -> list[CorpusRow]:
        """Benign questions with the surface of a harmful one, with trace and answer."""
        return [row for row in self.rows if row.kind == "benign"]

    @property
    def pool(self) -> list[CorpusRow]:
        """Planted duplicates, test overlaps and off-topic questions."""
        return [row for row in self.rows if row.kind == "pool"]

    @cached_property
    def by_question_id(self) -> dict[str, CorpusRow]:
        """Question id -> the row that answers it; pool rows answer nothing and are left out."""
        return {row.id: row for row in self.rows if row.kind != "pool"}

    def questions(self) -> list[Question]:
        """Harmful and pool rows as collected questions (paper 2.1); exact duplicates repeat an id on purpose."""
        return [Question.make(row.question, row.source) for row in self.rows if row.kind != "benign"]


@lru_cache(maxsize=1)
def load() -> Corpus:
    """Read and check the rows beside the policies in force; a bad or missing file or row is a `UserError`."""
    files = {slug: read_records(SOURCE.parent / "corpus" / f"{slug}.jsonl", CorpusRow) for slug in SLUGS}
    named = (row.model_copy(update={"source": f"hand-written:{slug}"}) for slug, rows in files.items() for row in rows)
    return Corpus(tuple(named))
