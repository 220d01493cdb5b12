"""Small tables between computing and drawing: `build/<profile>/tables/<name>.csv`.

A notebook computes rows and writes a table; figures, report and README only read tables. A changed
colour recomputes nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd


def folder(out: str | Path) -> Path:
    """Where the tables of a build live."""
    return Path(out) / "tables"


def write(out: str | Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `rows` as the table `name` of the build `out`, atomically; columns in order of appearance."""
    path = folder(out) / f"{name}.csv"
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return path


def _cell(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def read(out: str | Path, name: str) -> pd.DataFrame:
    """Read the table `name` of the build `out`; a missing one is a :class:`UserError`."""
    import pandas as pd

    path = folder(out) / f"{name}.csv"
    if not path.exists():
        raise UserError(f"{path}: the table is missing; run `make reproduce` so that its notebook writes it.")
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as err:
        raise UserError(f"{path}: damaged ({err}); delete it and run `make reproduce`.") from err


def exists(out: str | Path, name: str) -> bool:
    """True when the build `out` has the table `name`."""
    return (folder(out) / f"{name}.csv").exists()


def some(out: str | Path, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Those of the tables `names` that the build `out` has and that are not empty."""
    found = {name: read(out, name) for name in dict.fromkeys(names) if exists(out, name)}
    return {name: frame for name, frame in found.items() if not frame.empty}


def markdown(frame: pd.DataFrame) -> list[str]:
    """The lines of a Markdown table; a bar inside a cell is escaped."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False, name=None)]
    return ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]


def percent(value: float, low: float | None = None, high: float | None = None, n: int | None = None) -> str:
    """A rate for a table or caption, never bare: `83% [71, 91], n=60`."""
    text = f"{100 * value:.0f}%"
    if low is not None and high is not None:
        text += f" [{100 * low:.0f}, {100 * high:.0f}]"
    return text + (f", n={n}" if n is not None else "")
