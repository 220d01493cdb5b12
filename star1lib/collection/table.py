"""One dataset as a row of the sources table: its place, what is read of it, its count, its licence (paper 2.1, 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from star1lib.collection import readers
from star1lib.records import Record

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
