"""Benign variants against over-refusal (paper 4.3): a harmless rewrite, an answer, three scores, only 5/5/5 kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from star1lib.deliberation import prompts, teachers
from star1lib.models.answers import BenignScores, ErrorRow, Rewrite
from star1lib.policies import RULES
from star1lib.records import Example, Tagged, question_id
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
    known = {origin.id for origin in originals}
    origins: dict[str, Example] = {}
    asked: list[tuple[Tagged, prompts.Messages]] = []
    for origin in originals:
        if origin.id not in rewrites:
            continue
        text = rewrites[origin.id].question
        name = question_id(text)
        if name in origins or name in known:
            errors.append(ErrorRow(id=origin.id, reason="the rewrite repeats a question", raw=text))
            continue
        origins[name] = origin
        row = Tagged(id=name, question=text, source=origin.source, category=origin.category)
        asked.append((row, prompts.answer_benign(text, roles["teacher"].release)))
    made, unanswered = teachers.answered(asked, roles["teacher"], folder / "benign_teacher")
    scores, unscored = calls.ask(
        roles["benign_scorer"],
        [calls.Request(e.id, prompts.score_benign(e.question, e.thinking, e.answer), e.question) for e in made],
        BenignScores,
        folder / "benign_scorer",
    )
    kept = [
        one.model_copy(
            update={"meta": {"variant_of": origins[one.id].id, "benign_scores": scores[one.id].model_dump()}}
        )
        for one in made
        if one.id in scores and scores[one.id].all_five()
    ]
    return kept, [*errors, *unanswered, *unscored]


def hand_written(corpus: Corpus) -> list[Example]:
    """The hand-written benign variants that the rules score 5/5/5 (4.3), as examples."""
    made = [
        Example(id=row.id, question=row.question, source=row.source, category=row.category, thinking=row.thinking,
                answer=row.answer, teacher=teachers.label("teacher"),
                meta={"action": row.action, "variant_of": question_id(row.variant_of) if row.variant_of else None})
        for row in corpus.benign
    ]  # fmt: skip
    return [one for one in made if score(one.question, one.thinking, one.answer).all_five()]
