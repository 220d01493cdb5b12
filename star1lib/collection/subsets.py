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
from star1lib.files import write_stage
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
        english, single = field(row, "language", where) == "English", field(row, "turn", where) == 1
        if not (english and single and field(row, "toxic", where)):
            continue
        moderation = _filled(row, "openai_moderation", where)[-1]
        if not field(moderation, "flagged", where):
            continue
        scores = _filled(moderation, "category_scores", where)
        category = max(scores, key=lambda name: float(scores[name]))
        text = str(field(_filled(row, "conversation", where)[0], "content", where)).strip()
        about_minors = category == MINORS or field(moderation, "categories", where).get(MINORS, False)
        ranked.setdefault(category, []).append(
            {"id": question_id(text), "text": text, "category": category, "score": float(scores[category]),
             "conversation": str(field(row, "conversation_hash", where)), "about_minors": bool(about_minors)}
        )  # fmt: skip
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
    drawn = list(rows)
    withheld = dict.fromkeys(row["id"] for row in drawn if row["about_minors"] or sexualizes_minor(row["text"]))
    kept: dict[str, dict[str, Any]] = {}
    for row in drawn:
        if row["id"] not in withheld:
            kept.setdefault(row["id"], {name: value for name, value in row.items() if name != "about_minors"})
    return Subset(list(kept.values()), list(withheld), len(drawn) - len(kept) - len(withheld))


def _filled(row: Row, name: str, where: str) -> Any:
    if not (value := field(row, name, where)):
        raise UserError(f"{where}: field '{name}' is empty; the hub set's format changed, pin an older revision.")
    return value


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
    write_stage(
        out,
        {name: subset.rows for name, subset in made.items()},
        seed=SEED,
        counts={name: len(subset.rows) for name, subset in made.items()},
        duplicates={name: subset.duplicates for name, subset in made.items()},
        withheld_ids=[row_id for subset in made.values() for row_id in subset.withheld],
    )
    return [out / name for name in made]


def _pinned_rows(name: str) -> Iterable[Row]:
    return (row for path in download.hub_files(sources.source(name)) for _, row in readers.rows_of(path))
