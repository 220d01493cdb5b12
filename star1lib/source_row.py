"""One dataset as a row of the sources table: its place, its reader, its count, its licence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .readers import Pair

Kind = Literal["train", "decontaminate", "evaluate", "released"]


@dataclass(frozen=True)
class Source:
    """One dataset. `expected` counts questions after the paper's filter (None: not stated);

    `mirror_rows` is the count of a mirror that is known to be partial. `export` names the file that
    `make export-subsets` writes for a subset that nobody published.
    """

    name: str
    kind: Kind
    expected: int | None
    licence: str
    read: Callable[[Path], list[Pair]]
    mirror: str = ""
    sha256: str = ""
    origin: str = ""
    url: str = ""
    hub: str = ""
    gated: bool = False
    export: str = ""
    package: tuple[str, str] | None = None
    files: tuple[str, ...] = ()
    note: str = ""
    mirror_rows: int | None = None

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
                f"`python -m star1lib.pins {self.name} FILE...` ({self.hub}), or set STAR1_DATA to a mirror with it."
            )
        return f"not at hand; set STAR1_DATA to a mirror folder that holds {self.mirror}."
