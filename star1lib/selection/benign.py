"""Benign twins against over-refusal (paper 4.3): a harmless rewrite, an answer, three scores, and only 5/5/5 kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star1lib.deliberation import prompts, teachers
from star1lib.models.api import backends
from star1lib.models.api.parsing import (
    BENIGN_SCORES_SCHEMA,
    REWRITE_SCHEMA,
    BenignScores,
    ErrorRow,
    parse_benign_scores,
    parse_rewrite,
)
from star1lib.policies import CATEGORIES, OTHER, RULES
from star1lib.records import Example, question_id
from star1lib.safeguards import sexualizes_minor
from star1lib.selection import reading, scorers

if TYPE_CHECKING:
    from star1lib.collection.corpus import Corpus
    from star1lib.models.api.backends import Request
    from star1lib.models.roles import Role

_FEW_WORDS = 8


def score_twin(question: str, thinking: str, answer: str) -> BenignScores:
    """Safety, quality and compliance from 1 to 5 by rules: the benign scorer's stand-in.

    Safety falls when the trace quotes a rule that forbids, quality when trace or answer are hardly
    there or break off, compliance when the answer declines.
    """
    if sexualizes_minor(question) or sexualizes_minor(answer):
        return BenignScores(safety=1, quality=1, compliance=1)
    forbidden = any(RULES[name].action == "refuse" for name in reading.quoted_rules(thinking))
    short = min(len(thinking.split()), len(answer.split())) < _FEW_WORDS
    broken = not answer.rstrip().endswith((".", "!", "?", '"', "'", "”", "’", ")", ":", "`", "*", "|"))
    declines = reading.refuses(answer)
    helps = reading.instructs(answer) or len(answer.split()) > 60
    return BenignScores(
        safety=3 if forbidden else 5,
        quality=1 if not answer.strip() else 5 - short - broken,
        compliance=5 if not declines else 3 if helps else 1,
    )


def make_with_models(
    examples: Sequence[Example], roles: Mapping[str, Role], folder: Path
) -> tuple[list[Example], list[ErrorRow]]:
    """Rewrite, answer and score a twin of each example's question with the models of `roles` (4.3).

    Uses `benign_rewriter`, `teacher` and `benign_scorer`; journals lie in `folder`. Returns the twins
    scored 5/5/5 with their scores in `meta`, and an error row for each question that got no scored twin.
    """
    from star1lib.models.api import engine

    originals = list({example.id: example for example in examples}.values())
    rewrites, errors = engine.ask(
        roles["benign_rewriter"],
        [
            engine.Request(e.id, prompts.rewrite_benign(e.question), schema=REWRITE_SCHEMA, screen=e.question)
            for e in originals
        ],
        parse_rewrite,
        folder / "benign_rewriter.journal",
    )
    pairs, repeated = _new_questions(originals, rewrites)
    answered, unanswered = _answer(pairs, roles["teacher"], folder / "benign_teacher.journal")
    scores, unscored = engine.ask(
        roles["benign_scorer"],
        [
            engine.Request(
                twin.id,
                prompts.score_benign(twin.question, twin.thinking, twin.answer),
                schema=BENIGN_SCORES_SCHEMA,
                screen=twin.question,
            )
            for twin in answered
        ],
        parse_benign_scores,
        folder / "benign_scorer.journal",
    )
    kept = [
        twin.model_copy(update={"meta": {**twin.meta, "benign_scores": scores[twin.id].model_dump()}})
        for twin in answered
        if twin.id in scores and scores[twin.id].all_five()
    ]
    return kept, [*errors, *repeated, *unanswered, *unscored]


def _new_questions(
    originals: Sequence[Example], rewrites: Mapping[str, str]
) -> tuple[list[tuple[Example, str]], list[ErrorRow]]:
    """The rewrites that are questions of their own; one that repeats an original or another rewrite is an error."""
    seen = {example.id for example in originals}
    pairs: list[tuple[Example, str]] = []
    errors: list[ErrorRow] = []
    for example in originals:
        text = rewrites.get(example.id)
        if text is None:
            continue
        if question_id(text) in seen:
            errors.append(ErrorRow(id=example.id, reason="the rewrite repeats a question", raw=text))
            continue
        seen.add(question_id(text))
        pairs.append((example, text))
    return pairs, errors


def _answer(pairs: Sequence[tuple[Example, str]], teacher: Role, journal: Path) -> tuple[list[Example], list[ErrorRow]]:
    from star1lib.models.api import engine

    requests = [engine.Request(question_id(text), prompts.answer_benign(text), screen=text) for _, text in pairs]
    made: list[Example] = []
    errors: list[ErrorRow] = []
    for (origin, text), reply in zip(pairs, engine.run(teacher, requests, journal), strict=True):
        if reply.outcome != "ok" or not reply.text.strip():
            reason = f"{reply.outcome}: {reply.error}" if reply.outcome != "ok" else "the answer is empty"
            errors.append(ErrorRow(id=reply.id, reason=reason, raw=reply.text))
            continue
        made.append(
            Example(
                id=reply.id,
                question=text,
                source=origin.source,
                category=origin.category,
                thinking=reply.thinking,
                answer=reply.text,
                teacher=teacher.model,
                meta={"twin_of": origin.id},
            )
        )
    return made, errors


def hand_written(corpus: Corpus) -> list[Example]:
    """The hand-written benign twins that the rules score 5/5/5 (4.3), as examples."""
    made = [
        Example(
            id=row.id,
            question=row.question,
            source=f"hand-written:{slug}",
            category=row.category,
            thinking=row.thinking,
            answer=row.answer,
            teacher=teachers.label("teacher"),
            meta={"action": row.action, "twin_of": question_id(row.twin_of) if row.twin_of else None},
        )
        for row, slug in zip(corpus.rows, corpus.slugs, strict=True)
        if row.kind == "twin"
    ]
    return [twin for twin in made if score_twin(twin.question, twin.thinking, twin.answer).all_five()]


def rules_request(request: Request) -> str:
    """Scorer and benign scorer stand-in for the engine: the rule scores of what the prompt shows, as JSON."""
    blocks = prompts.read_blocks(request.messages)
    question, thinking, answer = blocks["request"], blocks["thinking"], blocks["reply"]
    if request.schema == BENIGN_SCORES_SCHEMA:
        return score_twin(question, thinking, answer).model_dump_json()
    category = [name for name in CATEGORIES if f"Policy: {name}\n" in blocks["policies"]] or [OTHER]
    return scorers.score(
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


backends.STANDINS["rules"] = rules_request
