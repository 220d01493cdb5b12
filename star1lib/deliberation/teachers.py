"""Offline stand-ins for the paid models of the paper, and the teacher's step with either of them.

A stand-in is named wherever its work is shown: :data:`STANDIN` says who plays a role and whom it
stands in for. Each stand-in is also registered for the engine by the module that owns it; there it
reads a real prompt and replies in the form that a model is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star1lib.deliberation import prompts
from star1lib.errors import shorten
from star1lib.models.api import backends
from star1lib.models.api.parsing import REWRITE_SCHEMA, ErrorRow
from star1lib.records import Example, Tagged, normalise, question_id

if TYPE_CHECKING:
    from star1lib.collection.corpus import Corpus, CorpusRow
    from star1lib.models.api.backends import Request
    from star1lib.models.roles import Role

HAND_WRITTEN = "hand-written corpus"
STANDIN: dict[str, tuple[str, str]] = {
    "classifier": ("MiniLM zero-shot tagger", "GPT-4o"),
    "teacher": (HAND_WRITTEN, "DeepSeek-R1"),
    "scorer": ("transparent rules", "GPT-4o"),
    "benign_rewriter": (f"{HAND_WRITTEN} (twins)", "GPT-4o"),
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
    missing: list[str] = []
    for row in tagged:
        written = corpus.by_question_id.get(row.id)
        if written is None:
            missing.append(row.id)
            continue
        meta: dict[str, object] = {"action": written.action, "rules": list(written.rules)}
        examples.append(_example(row, written.thinking, written.answer, label("teacher"), meta))
        if flawed := written.flawed:
            meta = {**meta, "flaw": flawed.flaw}
            examples.append(_example(row, flawed.thinking, flawed.answer, label("teacher"), meta))
    return examples, missing


def _example(row: Tagged, thinking: str, answer: str, teacher: str, meta: dict[str, object]) -> Example:
    return Example(
        id=row.id,
        question=row.question,
        source=row.source,
        category=row.category,
        thinking=thinking,
        answer=answer,
        teacher=teacher,
        meta=meta,
    )


def deliberate_with_model(tagged: Sequence[Tagged], role: Role, journal: Path) -> tuple[list[Example], list[ErrorRow]]:
    """Ask the teacher role over the tagged policies (2.2); an answer cut off, filtered or empty is an error row."""
    from star1lib.models.api import engine

    requests = [
        engine.Request(id=row.id, messages=prompts.deliberate(row.question, row.category), screen=row.question)
        for row in tagged
    ]
    examples: list[Example] = []
    errors: list[ErrorRow] = []
    for row, reply in zip(tagged, engine.run(role, requests, journal), strict=True):
        if reply.outcome == "ok" and reply.text.strip():
            examples.append(_example(row, reply.thinking, reply.text, role.model, {}))
        else:
            reason = f"{reply.outcome}: {reply.error}" if reply.outcome != "ok" else "the answer is empty"
            errors.append(ErrorRow(id=row.id, reason=reason, raw=reply.text))
    return examples, errors


def _written(question: str) -> CorpusRow:
    from star1lib.collection import corpus

    row = corpus.load().by_question_id.get(question_id(question))
    if row is None:
        raise LookupError(f"the {HAND_WRITTEN} does not answer '{shorten(question)}'")
    return row


def corpus_request(request: Request) -> str:
    """Teacher and benign rewriter stand-in: the trace and answer written for a question, or its benign twin as JSON."""
    question = prompts.read_blocks(request.messages)["request"]
    if request.schema != REWRITE_SCHEMA:
        row = _written(question)
        return f"<think>\n{row.thinking}\n</think>\n\n{row.answer}"
    from star1lib.collection import corpus

    for row in corpus.load().twins:
        if row.twin_of and normalise(row.twin_of) == normalise(question):
            return json.dumps({"question": row.question})
    raise LookupError(f"the {HAND_WRITTEN} has no twin of '{shorten(question)}'")


backends.STANDINS["hand-written-corpus"] = corpus_request
