"""Evaluation subsets that nobody published, made from a user's own hub access (paper 3.2).

WildChat: toxic, single-turn, English conversations whose last moderation entry is flagged; each belongs to the
category with its highest score, and every category gives its 100 highest. WildJailbreak: the first 250 adversarial
harmful prompts of the evaluation file after the shuffle that `datasets` makes with seed 42. So the authors drew them.
Prompts about minors are left out and counted, which the authors did not do; of equal prompts the first stays.
Each subset is written with ids and a manifest of hashes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star1lib.collection import download, readers, sources
from star1lib.collection.readers import Row, field
from star1lib.errors import UserError
from star1lib.files import write_jsonl, write_manifest
from star1lib.records import question_id
from star1lib.safeguards import sexualizes_minor

log = logging.getLogger(__name__)
PER_CATEGORY = 100
WILDJAILBREAK_SIZE = 250
SEED = 42
MINORS = "sexual/minors"


@dataclass(frozen=True)
class Subset:
    """Rows to write (id, text and more), ids withheld because they are about minors, and how many were equal."""

    rows: list[dict[str, Any]]
    withheld: list[str]
    duplicates: int


def wildchat(rows: Iterable[Row]) -> Subset:
    """The WildChat subset: rows of text, category, score and conversation, by category and falling score.

    Raises :class:`UserError` naming a field that a row does not have.
    """
    ranked: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"WildChat, row {number}"
        english = field(row, "language", where) == "English"
        if not (field(row, "toxic", where) and field(row, "turn", where) == 1 and english):
            continue
        moderation = _item(row, "openai_moderation", where, -1)
        if not field(moderation, "flagged", where):
            continue
        scores = field(moderation, "category_scores", where)
        if not scores:
            raise UserError(
                f"{where}: field 'category_scores' is empty; the hub set's format changed, pin an older one."
            )
        category = max(scores, key=lambda name: float(scores[name]))
        text = str(field(_item(row, "conversation", where, 0), "content", where)).strip()
        about_minors = category == MINORS or field(moderation, "categories", where).get(MINORS, False)
        ranked.setdefault(category, []).append(
            {
                "id": question_id(text),
                "text": text,
                "category": category,
                "score": float(scores[category]),
                "conversation": str(field(row, "conversation_hash", where)),
                "about_minors": bool(about_minors),
            }
        )
    best = [sorted(ranked[category], key=lambda row: -row["score"])[:PER_CATEGORY] for category in sorted(ranked)]
    return _subset(row for rows in best for row in rows)


def wildjailbreak(rows: Iterable[Row]) -> Subset:
    """The first 250 adversarial harmful prompts of a seeded permutation; :class:`UserError` when there are fewer."""
    import numpy as np

    harmful = []
    for number, row in enumerate(rows, start=1):
        where = f"WildJailbreak, row {number}"
        if field(row, "data_type", where) == "adversarial_harmful":
            text = str(field(row, "adversarial", where)).strip()
            harmful.append({"id": question_id(text), "text": text, "about_minors": False})
    if len(harmful) < WILDJAILBREAK_SIZE:
        raise UserError(
            f"WildJailbreak: {len(harmful)} adversarial harmful rows found, {WILDJAILBREAK_SIZE} needed; "
            "pin its evaluation file."
        )
    drawn = np.random.default_rng(SEED).permutation(len(harmful))[:WILDJAILBREAK_SIZE]
    return _subset(harmful[index] for index in drawn.tolist())


def _subset(rows: Iterable[dict[str, Any]]) -> Subset:
    kept: dict[str, dict[str, Any]] = {}
    withheld: dict[str, None] = {}
    count = 0
    for row in rows:
        count += 1
        if row["about_minors"] or sexualizes_minor(row["text"]):
            withheld[row["id"]] = None
        else:
            kept.setdefault(row["id"], {name: value for name, value in row.items() if name != "about_minors"})
    return Subset(list(kept.values()), list(withheld), count - len(kept) - len(withheld))


def _item(row: Row, name: str, where: str, place: int) -> Row:
    items = field(row, name, where)
    if not items:
        raise UserError(f"{where}: field '{name}' is empty; the hub set's format changed, pin an older revision.")
    item: Row = items[place]
    return item


def export_subsets(out: Path) -> list[Path]:
    """Write both subsets as JSONL with a manifest of hashes; return their paths.

    They are made of the files pinned with `python -m star1lib pin`; nothing is written where one cannot be read.
    """
    made = {
        "WildChat.jsonl": wildchat(_pinned_rows("WildChat")),
        "WildJailbreak-eval.jsonl": wildjailbreak(_pinned_rows("WildJailbreak-eval")),
    }
    expected = sources.source("WildChat").expected
    chat = made["WildChat.jsonl"]
    drawn = len(chat.rows) + len(chat.withheld) + chat.duplicates
    if drawn != expected:
        log.warning("WildChat: %d rows drawn, the paper has %s; the revision differs.", drawn, expected)
    for name, subset in made.items():
        write_jsonl(out / name, subset.rows)
    paths = [out / name for name in made]
    write_manifest(
        out,
        paths,
        seed=SEED,
        counts={name: len(subset.rows) for name, subset in made.items()},
        duplicates={name: subset.duplicates for name, subset in made.items()},
        withheld_ids=[row_id for subset in made.values() for row_id in subset.withheld],
    )
    return paths


def _pinned_rows(name: str) -> Iterable[Row]:
    return (row for path in download.hub_files(sources.source(name)) for _, row in readers.rows_of(path))
