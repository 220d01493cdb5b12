"""Evaluation subsets that nobody published, made from a user's own hub access (paper 3.2).

WildChat: toxic, single-turn, English conversations whose first user turn was flagged; the top 100 per
moderation category by its score, each conversation once. WildJailbreak: 250 adversarial harmful
prompts of the evaluation file, drawn with seed 42. Each subset is written with ids and a manifest of hashes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import sources
from .errors import UserError
from .io import write_jsonl, write_manifest
from .minors import sexualizes_minor
from .records import question_id

log = logging.getLogger(__name__)
PER_CATEGORY = 100
WILDJAILBREAK_SIZE = 250
SEED = 42
Row = Mapping[str, Any]


def wildchat(rows: Iterable[Row], per_category: int = PER_CATEGORY) -> list[dict[str, Any]]:
    """The WildChat subset: rows of text, category, score and conversation, ordered by category and score.

    Raises :class:`UserError` naming a field that a row does not have.
    """
    best: dict[str, list[tuple[float, str, str]]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"WildChat, row {number}"
        english = _get(row, "language", where) == "English"
        if not (_get(row, "toxic", where) and _get(row, "turn", where) == 1 and english):
            continue
        moderation = _first(row, "openai_moderation", where)
        if not _get(moderation, "flagged", where):
            continue
        text = str(_get(_first(row, "conversation", where), "content", where)).strip()
        scores = _get(moderation, "category_scores", where)
        for category, flagged in _get(moderation, "categories", where).items():
            if flagged and text:
                score = float(_get(scores, category, where))
                best.setdefault(category, []).append((score, text, str(_get(row, "conversation_hash", where))))
    chosen: dict[str, dict[str, Any]] = {}
    for category in sorted(best):
        ranked = sorted(best[category], key=lambda entry: (-entry[0], entry[2]))[:per_category]
        for score, text, conversation in ranked:
            row_id = question_id(text)
            chosen.setdefault(
                row_id,
                {"id": row_id, "text": text, "category": category, "score": score, "conversation": conversation},
            )
    return list(chosen.values())


def wildjailbreak(rows: Iterable[Row], size: int = WILDJAILBREAK_SIZE, seed: int = SEED) -> list[dict[str, Any]]:
    """`size` adversarial harmful prompts, a seeded sample in file order.

    Raises :class:`UserError` when there are fewer than `size`.
    """
    harmful = []
    for number, row in enumerate(rows, start=1):
        where = f"WildJailbreak, row {number}"
        if _get(row, "data_type", where) == "adversarial_harmful":
            text = str(_get(row, "adversarial", where)).strip()
            harmful.append({"id": question_id(text), "text": text})
    if len(harmful) < size:
        raise UserError(
            f"WildJailbreak: {len(harmful)} adversarial harmful rows found, {size} needed; pin its evaluation file."
        )
    chosen = sorted(random.Random(seed).sample(range(len(harmful)), size))
    return [harmful[index] for index in chosen]


def _get(row: Row, name: str, where: str) -> Any:
    if name not in row:
        raise UserError(f"{where}: no field '{name}'; the hub set's format changed, pin an older revision.")
    return row[name]


def _first(row: Row, name: str, where: str) -> Row:
    turns = _get(row, name, where)
    if not turns:
        raise UserError(f"{where}: field '{name}' is empty; the hub set's format changed, pin an older revision.")
    first: Row = turns[0]
    return first


def export_subsets(out: Path, load: Callable[[str], Iterable[Row]] | None = None) -> list[Path]:
    """Write both subsets as JSONL with a manifest of hashes; return their paths.

    `load` gives the raw rows of a hub set by its name here; the default reads the file pinned with
    `python -m star1lib.pins`. Nothing is written for a set that cannot be read.
    """
    load = load or _pinned_rows
    made = {
        "WildChat.jsonl": wildchat(load("WildChat")),
        "WildJailbreak-eval.jsonl": wildjailbreak(load("WildJailbreak-eval")),
    }
    expected = sources.source("WildChat").expected
    if len(made["WildChat.jsonl"]) != expected:
        log.warning("WildChat: %d rows, the paper has %s; the revision differs.", len(made["WildChat.jsonl"]), expected)
    paths = []
    for name, rows in made.items():
        write_jsonl(out / name, rows)
        paths.append(out / name)
    withheld = [row["id"] for rows in made.values() for row in rows if sexualizes_minor(row["text"])]
    counts = {name: len(rows) for name, rows in made.items()}
    write_manifest(out, paths, seed=SEED, counts=counts, withheld_ids=withheld)
    return paths


def _pinned_rows(name: str) -> Iterable[Row]:
    from . import fetch
    from .readers import rows_of

    path = fetch.hub_file(sources.source(name))
    return (row for _, row in rows_of(path))
