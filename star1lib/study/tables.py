"""Small tables between computing and drawing: `build/<profile>/tables/<name>.csv`.

A notebook computes rows and writes a table; figures, report and README only read tables. A changed
colour recomputes nothing. Text is quoted and nothing else is, so that every cell comes back as it was
written: `"NA"` and `"007"` are text, `7` is a number. An empty text is a missing value. Before text that a spreadsheet
would run as a formula stands an apostrophe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\n]*))(,|\n|\Z)')


def folder(out: str | Path) -> Path:
    """Where the tables of a build live."""
    return Path(out) / "tables"


def write(out: str | Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `rows` as the table `name` of the build `out`, atomically; columns in order of appearance."""
    path = folder(out) / f"{name}.csv"
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines: list[list[Any]] = [columns, *([row.get(column) for column in columns] for row in rows)]
    text = "".join(",".join(map(_cell, line)) + "\n" for line in lines)
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    return path


def _cell(value: Any) -> str:
    if value is None or value != value or value == "":
        return ""
    if isinstance(value, float):
        # Tiny p-values and learning rates keep their digits; six places are enough for everything else.
        return str(float(f"{value:.6g}") if abs(value) < 1 else round(float(value), 6))
    if not isinstance(value, str) and (isinstance(value, Number) or str(value) in ("True", "False")):
        return str(value)
    text = str(value)
    return '"' + ("'" if _FORMULA.match(text) else "") + text.replace('"', '""') + '"'


def read(out: str | Path, name: str) -> pd.DataFrame:
    """Read the table `name` of the build `out`; a missing one is a :class:`UserError`."""
    import pandas as pd

    path = folder(out) / f"{name}.csv"
    if not path.exists():
        raise UserError(f"{path}: the table is missing; run `make reproduce` so that its notebook writes it.")
    try:
        header, *rows = list(_lines(path.read_bytes().decode("utf-8"))) or [[]]
        return pd.DataFrame({column: list(cells) for column, *cells in zip(header, *rows, strict=True)})
    except ValueError as err:
        raise UserError(f"{path}: damaged ({err}); delete it and run `make reproduce`.") from err


def _lines(text: str) -> list[list[Any]]:
    lines: list[list[Any]] = [[]]
    place = 0
    while place < len(text):
        if not (cell := _CELL.match(text, place)):
            raise ValueError(f"character {place} is in no cell")
        lines[-1].append(_value(cell[2]) if cell[1] is None else _text(cell[1]))
        if cell[3] == "\n":
            lines.append([])
        place = cell.end()
    return [line for line in lines if line not in ([], [""])]


def _text(quoted: str) -> str:
    text = quoted.replace('""', '"')
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"": math.nan, "True": True, "False": False}.get(text, text)


def exists(out: str | Path, name: str) -> bool:
    """True when the build `out` has the table `name`."""
    return (folder(out) / f"{name}.csv").exists()


def some(out: str | Path, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Those of the tables `names` that the build `out` has and that are not empty."""
    found = {name: read(out, name) for name in dict.fromkeys(names) if exists(out, name)}
    return {name: frame for name, frame in found.items() if not frame.empty}


def markdown(frame: pd.DataFrame) -> list[str]:
    """The lines of a Markdown table; what a cell holds stays text."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False, name=None)]
    return ["| " + " | ".join(inert(str(cell)).replace("|", "\\|") for cell in row) + " |" for row in rows]


def inert(text: str) -> str:
    """`text` on one line for Markdown, where it makes no tag, no link and no picture."""
    return text.replace("\n", " ").replace("<", "&lt;").replace("](", "]&#40;")


def percent(value: float, low: float, high: float, n: int) -> str:
    """A rate for a table or caption, never bare: `83% [71, 91], n=60`."""
    return f"{100 * value:.0f}% [{100 * low:.0f}, {100 * high:.0f}], n={n}"
