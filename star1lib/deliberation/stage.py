"""Deliberative reasoning as a stage (paper 2.2): questions in, tagged questions with traces and answers out.

Who tags and who answers is the profile's choice, one switch a role: `offline` is the zero-shot tagger and the
hand-written rows, `released` the published STAR-1 rows as DeepSeek-R1 answered them, and anything else a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star1lib.collection import corpus, released
from star1lib.deliberation import taggers, teachers
from star1lib.files import read_records, write_stage
from star1lib.models import embed, roles
from star1lib.models.answers import ErrorRow
from star1lib.models.roles import Player, Role
from star1lib.records import Example, Question, Tagged, subset
from star1lib.safeguards import withhold

_ENOUGH_TO_FIT = 100  # tagged questions; with fewer, a half has no rows of some categories
# Who made the released rows.
_RELEASED = {"teacher": "DeepSeek-R1 (released rows)", "scorer": "GPT-4o (released scores)"}


@dataclass(frozen=True)
class Deliberation:
    """What the stage made: tags, examples, who played which role, and what has no answer."""

    players: dict[str, Player]
    tagged: list[Tagged]
    examples: list[Example]
    gold: dict[str, list[str]]
    unanswered: list[str]
    withheld: list[str]
    errors: list[ErrorRow]


def deliberate(
    folder: str | Path,
    *,
    players: Mapping[str, Any] | None = None,
    out: str | Path,
    mirror: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Deliberation:
    """Tag and answer the questions that the decontamination stage kept in `folder`.

    `players` says who plays the roles `classifier` and `teacher` (:func:`star1lib.models.roles.load`). A released
    teacher answers its own questions, a seeded sample of at most `limit` of them.
    """
    known = roles.load(players or {})
    teacher, calls = known["teacher"], Path(out) / "calls"
    gold: dict[str, list[str]] = {}
    missing: list[str] = []
    if teacher == roles.RELEASED:
        rows, withheld = withhold(released.load("STAR-1", Path(mirror) if mirror else None))
        examples = subset(rows, limit, seed)
        questions = [Question.make(example.question, example.source) for example in examples]
        gold = {example.id: example.category for example in examples}
    else:
        questions, withheld = withhold(read_records(Path(folder) / "kept.jsonl", Question))
    tagged, errors = _tag(questions, known["classifier"], calls)
    if isinstance(teacher, Role):
        examples, failed = teachers.deliberate_with_model(tagged, teacher, calls / "teacher")
        errors = [*errors, *failed]
        answered = {example.id for example in examples}
        missing = [row.id for row in tagged if row.id not in answered]
    elif teacher != roles.RELEASED:
        examples, missing = teachers.deliberate(tagged, corpus.load())
        gold = {row.id: row.category for row in corpus.load().rows}
    return Deliberation(known, tagged, examples, gold, missing, withheld, errors)


def _tag(questions: Sequence[Question], classifier: Player, calls: Path) -> tuple[list[Tagged], list[ErrorRow]]:
    if isinstance(classifier, Role):
        return taggers.tag_with_model(questions, classifier, calls / "classifier")
    return taggers.tag(questions), []


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
    teacher = result.players["teacher"]
    write_stage(Path(folder), named, teacher=getattr(teacher, "model", teacher), counts=counts)


def roles_table(result: Deliberation) -> list[dict[str, Any]]:
    """Who plays which role here, and whom it stands in for."""
    rows = []
    for role, (played_by, stands_in_for) in teachers.STANDIN.items():
        player = result.players[role]
        if isinstance(player, Role):
            played_by, stands_in_for = player.model, ""
        elif player == roles.RELEASED:
            played_by, stands_in_for = _RELEASED[role], ""
        rows.append({"role": role, "played_by": played_by, "stands_in_for": stands_in_for})
    return rows


def categories_table(result: Deliberation) -> list[dict[str, Any]]:
    """Questions per category, as tagged here and as tagged in the gold, where there is gold."""
    tagged = Counter(name for row in result.tagged for name in row.category)
    known = [result.gold[row.id] for row in result.tagged if row.id in result.gold]
    gold = Counter(name for names in known for name in names)
    names = sorted({*tagged, *gold}, key=lambda name: (-tagged[name], name))
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
    fitted = taggers.fitted([rows[place].question for place in learn], [gold[place] for place in learn], embed.encode)
    said = {
        "zero-shot, held-out half": [guess[place] for place in report],
        "fitted, held-out half": fitted([rows[place].question for place in report]),
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
