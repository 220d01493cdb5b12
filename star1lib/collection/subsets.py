"""Evaluation subsets that nobody published, made from a user's own hub access (paper 3.2).

WildChat: toxic, single-turn, English conversations whose last moderation entry is flagged; each belongs to the
category with its highest score, and every category gives its 100 highest. WildJailbreak: the first 250 adversarial
harmful prompts of the evaluation file after the shuffle that `datasets` makes with seed 42. So the authors drew them.
Prompts about minors are left out and counted, which the authors did not do; of equal prompts the first stays.
Each subset is written with ids and a manifest of hashes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.files import write_jsonl, write_manifest
from star1lib.records import question_id
from star1lib.safeguards import sexualizes_minor

log = logging.getLogger(__name__)
PER_CATEGORY = 100
WILDJAILBREAK_SIZE = 250
SEED = 42
MINORS = "sexual/minors"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Subset:
    """Rows to write (id, text and more), ids withheld because they are about minors, and how many were equal."""

    rows: list[dict[str, Any]]
    withheld: list[str]
    duplicates: int


def wildchat(rows: Iterable[Row], per_category: int = PER_CATEGORY) -> Subset:
    """The WildChat subset: rows of text, category, score and conversation, by category and falling score.

    Raises :class:`UserError` naming a field that a row does not have.
    """
    ranked: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"WildChat, row {number}"
        english = _get(row, "language", where) == "English"
        if not (_get(row, "toxic", where) and _get(row, "turn", where) == 1 and english):
            continue
        moderation = _item(row, "openai_moderation", where, -1)
        if not _get(moderation, "flagged", where):
            continue
        scores = _get(moderation, "category_scores", where)
        if not scores:
            raise UserError(
                f"{where}: field 'category_scores' is empty; the hub set's format changed, pin an older one."
            )
        category = max(scores, key=lambda name: float(scores[name]))
        text = str(_get(_item(row, "conversation", where, 0), "content", where)).strip()
        about_minors = category == MINORS or _get(moderation, "categories", where).get(MINORS, False)
        ranked.setdefault(category, []).append(
            {
                "id": question_id(text),
                "text": text,
                "category": category,
                "score": float(scores[category]),
                "conversation": str(_get(row, "conversation_hash", where)),
                "about_minors": bool(about_minors),
            }
        )
    best = [sorted(ranked[category], key=lambda row: -row["score"])[:per_category] for category in sorted(ranked)]
    return _subset(row for rows in best for row in rows)


def wildjailbreak(rows: Iterable[Row], size: int = WILDJAILBREAK_SIZE, seed: int = SEED) -> Subset:
    """`size` adversarial harmful prompts in the order of a seeded permutation.

    Raises :class:`UserError` when there are fewer than `size`.
    """
    import numpy as np

    harmful = []
    for number, row in enumerate(rows, start=1):
        where = f"WildJailbreak, row {number}"
        if _get(row, "data_type", where) == "adversarial_harmful":
            text = str(_get(row, "adversarial", where)).strip()
            harmful.append({"id": question_id(text), "text": text, "about_minors": False})
    if len(harmful) < size:
        raise UserError(
            f"WildJailbreak: {len(harmful)} adversarial harmful rows found, {size} needed; pin its evaluation file."
        )
    return _subset(harmful[index] for index in np.random.default_rng(seed).permutation(len(harmful))[:size].tolist())


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


def _get(row: Row, name: str, where: str) -> Any:
    if name not in row:
        raise UserError(f"{where}: no field '{name}'; the hub set's format changed, pin an older revision.")
    return row[name]


def _item(row: Row, name: str, where: str, place: int) -> Row:
    items = _get(row, name, where)
    if not items:
        raise UserError(f"{where}: field '{name}' is empty; the hub set's format changed, pin an older revision.")
    item: Row = items[place]
    return item


def export_subsets(out: Path, load: Callable[[str], Iterable[Row]] | None = None) -> list[Path]:
    """Write both subsets as JSONL with a manifest of hashes; return their paths.

    `load` gives the raw rows of a hub set by its name here; the default reads the files pinned with
    `python -m star1lib pin`. Nothing is written for a set that cannot be read.
    """
    load = load or _pinned_rows
    made = {
        "WildChat.jsonl": wildchat(load("WildChat")),
        "WildJailbreak-eval.jsonl": wildjailbreak(load("WildJailbreak-eval")),
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
    from star1lib.collection import download
    from star1lib.collection.readers import rows_of

    return (row for path in download.hub_files(sources.source(name)) for _, row in rows_of(path))
