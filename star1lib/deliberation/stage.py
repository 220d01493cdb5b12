"""Deliberative reasoning as a stage (paper 2.2): questions in, tagged questions with traces and answers out.

Who answers is the profile's choice. "corpus": the hand-written rows stand in for the teacher and a
zero-shot tagger for the classifier. "published": the released STAR-1 rows, as GPT-4o tagged and
DeepSeek-R1 answered them. "roles": models in the classifier and teacher roles, through the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star1lib.collection import corpus
from star1lib.collection import released as published
from star1lib.deliberation import taggers, teachers
from star1lib.errors import UserError
from star1lib.files import read_records, write_stage
from star1lib.models import embed
from star1lib.models.roles import Role
from star1lib.models.roles import load as load_roles
from star1lib.records import Example, Question, Tagged, subset
from star1lib.safeguards import withhold

_ENOUGH_TO_FIT = 100  # tagged questions; with fewer, a half has no rows of some categories


@dataclass(frozen=True)
class Deliberation:
    """What the stage made: tags, examples, who played which role, and what has no answer."""

    origin: str
    tagged: list[Tagged]
    examples: list[Example]
    gold: dict[str, list[str]]
    unanswered: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)


def deliberate(
    folder: str | Path,
    *,
    origin: str,
    roles: Mapping[str, Any] | None = None,
    out: str | Path,
    mirror: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Deliberation:
    """Tag and answer the questions that the decontamination stage kept in `folder`; `roles` are the profile's.

    Raises :class:`UserError` for an unknown `origin`.
    """
    kept, withheld = withhold(read_records(Path(folder) / "kept.jsonl", Question))
    if origin == "corpus":
        return _from_corpus(kept, withheld)
    if origin == "published":
        return _from_published(mirror, limit, seed)
    if origin == "roles":
        return _from_roles(kept, withheld, roles or {}, Path(out) / "journals")
    raise UserError(f"origin '{origin}': known are corpus, published, roles; correct it in the profile.")


def _from_corpus(kept: Sequence[Question], withheld: list[str]) -> Deliberation:
    written = corpus.load()
    tagged = taggers.tag(kept, taggers.ZeroShotTagger(embed.encode))
    examples, unanswered = teachers.deliberate(tagged, written)
    gold = {row.id: list(row.category) for row in written.rows}
    return Deliberation("corpus", tagged, examples, gold, unanswered, withheld)


def _from_published(mirror: str | None, limit: int | None, seed: int) -> Deliberation:
    rows, withheld = withhold(published.load("STAR-1", Path(mirror) if mirror else None))
    examples = subset(rows, limit, seed)
    questions = [Question.make(example.question, example.source) for example in examples]
    tagged = taggers.tag(questions, taggers.ZeroShotTagger(embed.encode))
    gold = {question.id: list(e.category) for question, e in zip(questions, examples, strict=True)}
    return Deliberation("published", tagged, examples, gold, [], withheld)


def _from_roles(kept: Sequence[Question], withheld: list[str], given: Mapping[str, Any], folder: Path) -> Deliberation:
    roles = players(given, ("classifier", "teacher"))
    tagged, tag_errors = taggers.tag_with_model(kept, roles["classifier"], folder / "classifier.journal")
    examples, errors = teachers.deliberate_with_model(tagged, roles["teacher"], folder / "teacher.journal")
    answered = {example.id for example in examples}
    return Deliberation(
        "roles",
        tagged,
        examples,
        {},
        [row.id for row in tagged if row.id not in answered],
        withheld,
        [error.model_dump() for error in (*tag_errors, *errors)],
    )


def players(roles: Mapping[str, Any], needed: Sequence[str]) -> dict[str, Role]:
    """The roles handed in, checked; raises :class:`UserError` when one of `needed` is not there."""
    found = load_roles(roles)
    for name in needed:
        if name not in found:
            raise UserError(f"roles.{name} is missing; name who plays it in the profile, or choose another origin.")
    return found


def write(result: Deliberation, folder: str | Path) -> None:
    """Write tags, examples, errors and unanswered ids, manifest last."""
    files: dict[str, Sequence[Any]] = {
        "tagged": result.tagged,
        "examples": result.examples,
        "errors": result.errors,
        "unanswered": [{"id": name} for name in result.unanswered],
        "withheld": [{"id": name} for name in result.withheld],
    }
    counts = {name: len(records) for name, records in files.items()}
    named = {f"{name}.jsonl": records for name, records in files.items()}
    write_stage(Path(folder), named, origin=result.origin, counts=counts)


def roles_table(result: Deliberation) -> list[dict[str, Any]]:
    """Who plays which role here, and whom it stands in for."""
    if result.origin == "roles":
        teacher = result.examples[0].teacher if result.examples else ""
        return [{"role": "teacher", "played_by": teacher, "stands_in_for": ""}]
    rows = [
        {"role": role, "played_by": played_by, "stands_in_for": stands_in_for}
        for role, (played_by, stands_in_for) in teachers.STANDIN.items()
    ]
    if result.origin == "published":
        released = {"teacher": "DeepSeek-R1 (released rows)", "scorer": "GPT-4o (released scores)"}
        rows = [
            {**row, "played_by": released[row["role"]], "stands_in_for": ""} if row["role"] in released else row
            for row in rows
        ]
    return rows


def categories_table(result: Deliberation) -> list[dict[str, Any]]:
    """Questions per category, as tagged here and as tagged in the gold, where there is gold."""
    tagged = Counter(name for row in result.tagged for name in row.category)
    known = [result.gold[row.id] for row in result.tagged if row.id in result.gold]
    gold = Counter(name for names in known for name in names)
    names = sorted({*tagged, *gold}, key=lambda name: -tagged[name])
    return [{"category": name, "questions": tagged[name], "gold": gold[name] if known else ""} for name in names]


def tagger_table(result: Deliberation) -> list[dict[str, Any]]:
    """Agreement of offline taggers with the gold tags, the tagger in front; empty without gold.

    The zero-shot tagger per category over all questions; then, where there are enough to learn from one
    half, the micro and macro F1 of zero-shot and fitted tagger on the other half.
    """
    rows = [row for row in result.tagged if row.id in result.gold]
    gold = [result.gold[row.id] for row in rows]
    guess = [list(row.category) for row in rows]
    if not rows:
        return []
    table = [{"tagger": "zero-shot", **row} for row in taggers.tagger_table(gold, guess)]
    if len(rows) < _ENOUGH_TO_FIT:
        return table
    learn, report = taggers.halves([row.id for row in rows])
    fitted = taggers.FittedTagger(embed.encode)
    fitted.fit([rows[place].question for place in learn], [gold[place] for place in learn])
    said = {
        "zero-shot, held-out half": [guess[place] for place in report],
        "fitted, held-out half": fitted.predict([rows[place].question for place in report]),
    }
    held_out = [gold[place] for place in report]
    for name, answers in said.items():
        totals = [row for row in taggers.tagger_table(held_out, answers) if row["category"] in ("micro", "macro")]
        table += [{"tagger": name, **row} for row in totals]
    return table


def summary(result: Deliberation) -> dict[str, int]:
    """Counts to read at the end of the notebook."""
    return {
        "questions tagged": len(result.tagged),
        "traces with answers": len(result.examples),
        "of them with a known flaw": sum(bool(example.meta.get("flaw")) for example in result.examples),
        "without an answer": len(result.unanswered),
        "answers that could not be read": len(result.errors),
        "withheld (sexualize minors)": len(result.withheld),
    }
