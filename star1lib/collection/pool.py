"""Collecting the pool and the test questions (paper 2.1): everything named, nothing replaced, all accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star1lib.collection import corpus as written
from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.files import write_stage
from star1lib.records import Question, subset
from star1lib.safeguards import withhold

CORPUS = "hand-written corpus"


@dataclass(frozen=True)
class Collected:
    """The pool in source order, the test questions (`meta.set` names their set), the sources table, ids withheld.

    A row of the table: name, kind, status, count, expected, licence, revision, reason.
    """

    pool: list[Question]
    tests: list[Question]
    rows: list[dict[str, Any]]
    withheld: list[str]


def collect(
    train_sets: Sequence[str],
    *,
    mirror: str | Path | None,
    test_names: Sequence[str],
    corpus: bool,
    limit: int | None = None,
    seed: int = 0,
) -> Collected:
    """Load the named sets. A training set that is not at hand is listed as unavailable; a test set must be there.

    `limit` caps the questions per source by a seeded sample. Raises :class:`UserError` for an unknown
    name, for a test set that is not at hand (training on its questions could then not be prevented),
    and when nothing at all was collected.
    """
    folder = Path(mirror) if mirror else None
    for name in (*train_sets, *test_names):
        sources.source(name)
    rows: list[dict[str, Any]] = []

    def loaded(name: str) -> list[Question]:
        questions = sources.load(name, folder)
        note = sources.partial(name, len(questions))
        rows.append(_row(name, "partial" if note else "loaded", len(questions), note))
        return questions

    pool: list[Question] = []
    for name in train_sets:
        try:
            pool += subset(loaded(name), limit, seed)
        except UserError as err:
            rows.append(_row(name, "unavailable", None, str(err)))
    if corpus:
        questions = written.load().questions()
        rows.append(
            {"name": CORPUS, "kind": "train", "status": "loaded", "count": len(questions), "expected": len(questions),
             "licence": written.LICENCE, "revision": "", "reason": written.LABEL}
        )  # fmt: skip
        pool += subset(questions, limit, seed)
    tests = [one.model_copy(update={"meta": {"set": name}}) for name in test_names for one in loaded(name)]
    if not pool:
        raise UserError(
            "sources: no training question was collected; name a set that is at hand or set `corpus: true`."
        )
    asked = {row["name"] for row in rows}
    rows += [_row(name, "not asked for", None, "") for name in sources.SOURCES if name not in asked]
    usable, withheld = withhold(pool)
    return Collected(usable, tests, rows, withheld)


def _row(name: str, status: str, count: int | None, reason: str) -> dict[str, Any]:
    source = sources.source(name)
    return {"name": name, "kind": source.kind, "status": status, "count": "" if count is None else count,
            "expected": "" if source.expected is None else source.expected, "licence": source.licence,
            "revision": source.revision, "reason": reason or source.note}  # fmt: skip


def write(collected: Collected, folder: str | Path) -> None:
    """Write pool, tests and the table, manifest last; ids withheld stand in the manifest."""
    files = {"pool.jsonl": collected.pool, "tests.jsonl": collected.tests, "sources.json": collected.rows}
    write_stage(Path(folder), files, withheld_ids=collected.withheld, questions=len(collected.pool))
