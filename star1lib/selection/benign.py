"""Benign variants against over-refusal (paper 4.3): a harmless rewrite, an answer, three scores, only 5/5/5 kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star1lib.deliberation import prompts, teachers
from star1lib.models.answers import BenignScores, ErrorRow, Rewrite
from star1lib.policies import RULES
from star1lib.records import Example, question_id
from star1lib.safeguards import sexualizes_minor
from star1lib.selection import reading

if TYPE_CHECKING:
    from star1lib.collection.corpus import Corpus
    from star1lib.models.roles import Role

_FEW_WORDS = 8


def score(question: str, thinking: str, answer: str) -> BenignScores:
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
    """Rewrite, answer and score a benign variant of each example's question with the models of `roles` (4.3).

    Uses `benign_rewriter`, `teacher` and `benign_scorer`; their answers are kept in `folder`. Returns the variants
    scored 5/5/5 with their scores in `meta`, and an error row for each question that got no scored variant.
    """
    from star1lib.models import calls

    originals = list({example.id: example for example in examples}.values())
    rewrites, errors = calls.ask(
        roles["benign_rewriter"],
        [calls.Request(e.id, prompts.rewrite_benign(e.question), e.question) for e in originals],
        Rewrite,
        folder / "benign_rewriter",
    )
    pairs, repeated = _new_questions(originals, {name: value.question for name, value in rewrites.items()})
    answered, unanswered = _answer(pairs, roles["teacher"], folder / "benign_teacher")
    scores, unscored = calls.ask(
        roles["benign_scorer"],
        [
            calls.Request(made.id, prompts.score_benign(made.question, made.thinking, made.answer), made.question)
            for made in answered
        ],
        BenignScores,
        folder / "benign_scorer",
    )
    kept = [
        made.model_copy(update={"meta": {**made.meta, "benign_scores": scores[made.id].model_dump()}})
        for made in answered
        if made.id in scores and scores[made.id].all_five()
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


def _answer(pairs: Sequence[tuple[Example, str]], teacher: Role, folder: Path) -> tuple[list[Example], list[ErrorRow]]:
    from star1lib.models import calls

    asked = [(text, prompts.answer_benign(text, teacher.release)) for _, text in pairs]
    requests = [calls.Request(question_id(text), messages, text) for text, messages in asked]
    made: list[Example] = []
    errors: list[ErrorRow] = []
    for (origin, text), reply in zip(pairs, calls.run(teacher, requests, folder), strict=True):
        if reply.outcome != "ok":
            errors.append(ErrorRow(id=reply.id, reason=f"{reply.outcome}: {reply.error}", raw=reply.text))
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
                meta={"variant_of": origin.id},
            )
        )
    return made, errors


def hand_written(corpus: Corpus) -> list[Example]:
    """The hand-written benign variants that the rules score 5/5/5 (4.3), as examples."""
    made = [
        Example(
            id=row.id,
            question=row.question,
            source=f"hand-written:{slug}",
            category=row.category,
            thinking=row.thinking,
            answer=row.answer,
            teacher=teachers.label("teacher"),
            meta={"action": row.action, "variant_of": question_id(row.variant_of) if row.variant_of else None},
        )
        for row, slug in zip(corpus.rows, corpus.slugs, strict=True)
        if row.kind == "benign"
    ]
    return [one for one in made if score(one.question, one.thinking, one.answer).all_five()]
