"""Offline stand-ins for the paid models of the paper, and the teacher's step with either of them.

A stand-in is named wherever its work is shown: :data:`STANDIN` says who plays a role and whom it
stands in for. :data:`REGISTRY` gives the same stand-ins to the engine, where they read a real prompt
and reply in the form that a model is asked for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star1lib.deliberation import prompts
from star1lib.errors import shorten
from star1lib.models.api.parsing import BENIGN_SCORES_SCHEMA, REWRITE_SCHEMA, ErrorRow
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Example, Tagged, normalise, question_id
from star1lib.selection import scorers as scoring

if TYPE_CHECKING:
    from star1lib.collection.corpus import Corpus, CorpusRow
    from star1lib.deliberation.taggers import ZeroShotTagger
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


def twins(corpus: Corpus) -> list[Example]:
    """The hand-written benign twins that the rules score 5/5/5 (4.3), as examples."""
    from star1lib.selection.benign import score_twin

    made = [
        Example(
            id=row.id,
            question=row.question,
            source=f"hand-written:{slug}",
            category=row.category,
            thinking=row.thinking,
            answer=row.answer,
            teacher=label("teacher"),
            meta={"action": row.action, "twin_of": question_id(row.twin_of) if row.twin_of else None},
        )
        for row, slug in zip(corpus.rows, corpus.slugs, strict=True)
        if row.kind == "twin"
    ]
    return [twin for twin in made if score_twin(twin.question, twin.thinking, twin.answer).all_five()]


@functools.lru_cache(maxsize=1)
def _tagger() -> ZeroShotTagger:
    from star1lib.deliberation.taggers import ZeroShotTagger
    from star1lib.models import embed

    return ZeroShotTagger(embed.encode)


def classify_request(request: Request) -> str:
    """Classifier stand-in: the zero-shot tags of the instruction in the prompt, as JSON."""
    question = prompts.read_blocks(request.messages)["instruction"]
    return json.dumps({"categories": _tagger().predict([question])[0]})


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


def rules_request(request: Request) -> str:
    """Scorer and benign scorer stand-in: the rule scores of what the prompt shows, as JSON."""
    from star1lib.selection.benign import score_twin

    blocks = prompts.read_blocks(request.messages)
    question, thinking, answer = blocks["request"], blocks["thinking"], blocks["reply"]
    if request.schema == BENIGN_SCORES_SCHEMA:
        return score_twin(question, thinking, answer).model_dump_json()
    category = [name for name in CATEGORIES if f"Policy: {name}\n" in blocks["policies"]] or [OTHER]
    return scoring.score(
        Example(
            id=request.id,
            question=question,
            source="prompt",
            category=category,
            thinking=thinking,
            answer=answer,
            teacher="prompt",
        )
    ).model_dump_json()


REGISTRY: dict[str, Callable[[Request], str]] = {
    "minilm-zero-shot": classify_request,
    "hand-written-corpus": corpus_request,
    "rules": rules_request,
}
