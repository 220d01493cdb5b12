"""The teacher's step (paper 2.2): the hand-written corpus, or a model in the teacher role.

A stand-in is named wherever its work is shown: :data:`STANDIN` says who plays a role offline and whom it
stands in for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.deliberation import prompts
from star1lib.records import Example, Tagged

if TYPE_CHECKING:
    from star1lib.collection.corpus import Corpus
    from star1lib.models.answers import ErrorRow
    from star1lib.models.roles import Role

HAND_WRITTEN = "hand-written corpus"
STANDIN: dict[str, tuple[str, str]] = {
    "classifier": ("MiniLM zero-shot tagger", "GPT-4o"),
    "teacher": (HAND_WRITTEN, "DeepSeek-R1"),
    "scorer": ("transparent rules", "GPT-4o"),
    "benign_rewriter": (f"{HAND_WRITTEN} (benign variants)", "GPT-4o"),
    "benign_scorer": ("transparent rules", "GPT-4o"),
}


def label(role: str) -> str:
    """Who plays `role` offline and whom it stands in for, as captions show it."""
    played_by, model = STANDIN[role]
    return f"{played_by} (stands in for {model})"


def deliberate(tagged: Sequence[Tagged], corpus: Corpus) -> tuple[list[Example], list[str]]:
    """Look up the hand-written trace of each tagged question (2.2); also the ids that the corpus does not answer.

    A question with a flawed second trace gives a second example whose `meta["flaw"]` names the flaw: a
    scorer must find it without reading `meta`.
    """
    examples: list[Example] = []
    for row in tagged:
        if (written := corpus.by_question_id.get(row.id)) is None:
            continue
        meta: dict[str, Any] = {"action": written.action, "rules": list(written.rules)}
        examples.append(_example(row, written.thinking, written.answer, label("teacher"), meta))
        if flawed := written.flawed:
            meta = {**meta, "flaw": flawed.flaw}
            examples.append(_example(row, flawed.thinking, flawed.answer, label("teacher"), meta))
    return examples, [row.id for row in tagged if row.id not in corpus.by_question_id]


def _example(row: Tagged, thinking: str, answer: str, teacher: str, meta: dict[str, Any]) -> Example:
    return Example(**row.model_dump(), thinking=thinking, answer=answer, teacher=teacher, meta=meta)


def deliberate_with_model(tagged: Sequence[Tagged], role: Role, folder: Path) -> tuple[list[Example], list[ErrorRow]]:
    """Ask the teacher role over the tagged policies (2.2); an answer cut off, filtered or empty is an error row."""
    asked = [(row, prompts.deliberate(row.question, row.category, role.release)) for row in tagged]
    return answered(asked, role, folder)


def answered(
    asked: Sequence[tuple[Tagged, prompts.Messages]], role: Role, folder: Path
) -> tuple[list[Example], list[ErrorRow]]:
    """Ask the teacher role the given messages for each question; what did not end well is an error row."""
    from star1lib.models import calls
    from star1lib.models.answers import ErrorRow

    requests = [calls.Request(row.id, messages, row.question) for row, messages in asked]
    examples: list[Example] = []
    errors: list[ErrorRow] = []
    for (row, _), reply in zip(asked, calls.run(role, requests, folder), strict=True):
        if reply.outcome == "ok":
            examples.append(_example(row, reply.thinking, reply.text, role.model, {}))
        else:
            errors.append(ErrorRow(id=row.id, reason=f"{reply.outcome}: {reply.error}", raw=reply.text))
    return examples, errors
