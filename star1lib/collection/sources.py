"""Every dataset of the study as a row of one table: where it comes from, what is read, how many to expect (paper 2.1).

The table is `assets/sources.yaml`. Sets are looked for in the mirror folder, then in an installed data package, then at
a pinned revision of a repository, then on the hub at a pin that the user has recorded (`python -m star1lib pin`). Files
have a pinned sha256. Counts that the paper's filters should give are checked against what was read.
"""

from __future__ import annotations

from pathlib import Path

from star1lib.collection import download
from star1lib.collection.table import Source
from star1lib.errors import UserError, meant
from star1lib.files import asset, read_records, sha256_file
from star1lib.records import Question, question_id

SOURCES: dict[str, Source] = {row["name"]: Source.model_validate(row) for row in asset("sources.yaml")}
STAND_INS = "stand-ins"  # folder of a mirror with generated rows in the place of sets, for rehearsals


def source(name: str) -> Source:
    """The table's row for `name`; raises :class:`UserError` with the nearest known name."""
    if name not in SOURCES:
        raise UserError(f"source '{name}': not in the table; {meant(name, SOURCES)}.")
    return SOURCES[name]


def load(name: str, mirror: Path | None = None) -> list[Question]:
    """The questions of one set, in file order, gold fields in `meta`.

    Raises :class:`UserError` when the set is unknown, not at hand, damaged, or does not have its count.
    """
    row = source(name)
    if mirror and (made := mirror / STAND_INS / f"{name}.jsonl").exists():
        return read_records(made, Question)
    files = download.locate(row, mirror)
    before = list(map(sha256_file, files))
    pairs = [pair for file in files for pair in row.read(file)]
    if list(map(sha256_file, download.locate(row, mirror))) != before:
        raise UserError(f"{name}: its file changed while it was read; run the same command again.")
    allowed = {count for count in (row.expected, row.mirror_rows) if count is not None}
    if allowed and not row.export and len(pairs) not in allowed:
        raise UserError(
            f"{name}: {len(pairs)} questions read, {row.expected} expected; the file is partial or its format changed."
        )
    return [Question(id=question_id(text), text=text, source=name, meta=meta) for text, meta in pairs]


def partial(name: str, count: int) -> str:
    """A note when `count` is less than the whole set; empty when it is whole."""
    row = source(name)
    if row.expected is not None and count < row.expected:
        return f"partial: {count} of {row.expected}; {row.note}"
    return ""
