"""Every dataset of the study as a row of one table: where it comes from, what is read, how many to expect (paper 2.1).

The table is `assets/sources.yaml`. Sets are looked for in the mirror folder, then in an installed data package, then at
a pinned revision of a repository, then on the hub at a pin that the user has recorded (`python -m star1lib pin`). Files
have a pinned sha256. Counts that the paper's filters should give are checked against what was read.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from star1lib.collection import readers
from star1lib.errors import UserError
from star1lib.files import asset, sha256_file
from star1lib.records import Question, Record, question_id

Form = Literal["lines", "first_cells", "strings", "instructions", "topics", "unwrapped", "gpqa", "stories"]


class Source(Record):
    """One dataset; the fields are explained where they are filled in, in `assets/sources.yaml`."""

    name: str
    kind: Literal["train", "decontaminate", "evaluate", "released"]
    expected: int | None = None
    licence: str
    column: str = ""
    meta: tuple[str, ...] = ()
    keep: dict[str, list[Any]] = Field(default_factory=dict)
    form: Form | None = None
    mirror: str = ""
    mirror_rows: int | None = None
    sha256: str = ""
    blob: str = ""
    package: tuple[str, str] | None = None
    files: tuple[str, ...] = ()
    url: str = ""
    origin: str = ""
    hub: str = ""
    gated: bool = False
    export: str = ""
    note: str = ""

    def read(self, path: Path) -> list[readers.Pair]:
        """The questions of a file with the fields beside them; a bad row is a :class:`UserError`."""
        if self.form is None:
            return readers.column(path, self.column, self.meta, self.keep)
        pairs: list[readers.Pair] = getattr(readers, self.form)(path)
        return pairs

    @property
    def revision(self) -> str:
        """Where and at which revision the pinned file stands upstream."""
        if self.package:
            return "==".join(self.package)
        return self.origin or (f"hub {self.hub}, pinned by the user" if self.hub else "")

    def how_to_get(self) -> str:
        """What a user has to do for a set that is not at hand."""
        if self.export:
            return f"no subset is published; run `make export-subsets` with your own access to {self.hub}."
        if self.hub:
            terms = "accept its terms, export HF_TOKEN, then " if self.gated else ""
            return (
                f"not at hand; its hub revision could not be checked here, so {terms}record it once with "
                f"`python -m star1lib pin {self.name} FILE...` ({self.hub}), "
                "or set STAR1_DATA to a mirror with it."
            )
        return f"not at hand; set STAR1_DATA to a mirror folder that holds {self.mirror}."


SOURCES: dict[str, Source] = {row["name"]: Source.model_validate(row) for row in asset("sources.yaml")}


def source(name: str) -> Source:
    """The table's row for `name`; raises :class:`UserError` with the nearest known name."""
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise UserError(f"source '{name}': not in the table; {hint}known: {', '.join(SOURCES)}.")
    return SOURCES[name]


def load(name: str, mirror: Path | None = None) -> list[Question]:
    """The questions of one set, in file order, gold fields in `meta`.

    Raises :class:`UserError` when the set is unknown, not at hand, damaged, or does not have its count.
    """
    from star1lib.collection import download

    row = source(name)
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
