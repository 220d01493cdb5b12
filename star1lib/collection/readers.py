"""File formats of the source datasets, each read strictly into (text, meta) pairs.

A row without its field, an empty question and a damaged file are one sentence that names file, row and field.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from star1lib.errors import UserError

Pair = tuple[str, dict[str, Any]]
Row = Mapping[str, Any]


def text_of(path: Path) -> str:
    """The file as UTF-8 text, unpacked when its name ends in .gz or .xz."""
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)
    try:
        return unpack(path.read_bytes()).decode("utf-8-sig")
    except FileNotFoundError as err:
        raise UserError(f"{path.name}: the file is missing; restore it or unset STAR1_DATA.") from err
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as err:
        raise UserError(f"{path.name}: cannot be read as text ({err}); fetch the file again.") from err


def json_of(path: Path) -> Any:
    """The file as one JSON value."""
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as err:
        raise UserError(f"{path.name}: not valid JSON ({err}); it is truncated or damaged, fetch it again.") from err


def rows_of(path: Path) -> Iterator[tuple[int, Row]]:
    """Numbered rows of a CSV, TSV, JSONL or JSON-list file; a parquet file needs pyarrow."""
    if path.suffix in (".csv", ".tsv"):
        csv.field_size_limit(1 << 30)
        try:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            yield from enumerate(csv.DictReader(io.StringIO(text_of(path)), delimiter=delimiter), start=2)
        except csv.Error as err:
            raise UserError(f"{path.name}: not valid CSV ({err}); fetch the file again.") from err
    elif ".jsonl" in path.suffixes:
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if line.strip():
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as err:
                    raise UserError(
                        f"{path.name}, line {number}: not valid JSON; the file is truncated, fetch it again."
                    ) from err
                yield number, value
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            batches = pyarrow.parquet.ParquetFile(path).iter_batches(1024)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
        except (OSError, pyarrow.ArrowException) as err:
            raise UserError(f"{path.name}: not a whole parquet file; it is damaged, fetch it again.") from err
    else:
        yield from enumerate(_expect(json_of(path), list, path.name, "a list of rows"), start=1)


def _expect(value: Any, kind: type, where: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise UserError(f"{where}: {what} was expected; the upstream format changed, correct the sources table.")
    return value


def field(row: Any, name: str, where: str) -> Any:
    """One field of a row; a missing one names what there is."""
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: an object with the field '{name}' was expected.")
    if name not in row or row[name] is None:
        there = ", ".join(sorted(map(str, row)))
        raise UserError(f"{where}: no field '{name}' (there are: {there}); the column was renamed upstream, "
                        "correct the sources table.")  # fmt: skip
    return row[name]


def question(row: Any, name: str, where: str) -> str:
    """The question in a row; an empty one is an error, never a silent gap."""
    text = str(field(row, name, where)).strip()
    if not text:
        raise UserError(f"{where}: field '{name}' is empty; correct the row or fetch the file again.")
    return text


def column(name: str, *meta: str, keep: Callable[[Row], bool] = lambda row: True) -> Callable[[Path], list[Pair]]:
    """A reader of the column `name`, with the columns `meta` beside it, of the rows that `keep` accepts."""

    def read(path: Path) -> list[Pair]:
        out = []
        for number, row in rows_of(path):
            where = f"{path.name}, row {number}"
            text = question(row, name, where)
            extra = {key: field(row, key, where) for key in meta}
            if keep(row):
                out.append((text, extra))
        return out

    return read


def lines(path: Path) -> list[Pair]:
    """A question a line; blank lines are not questions."""
    return [(line.strip(), {}) for line in text_of(path).splitlines() if line.strip()]


def first_cells(path: Path) -> list[Pair]:
    """The first cell of every line of a CSV file without a header."""
    rows = csv.reader(io.StringIO(text_of(path)))
    return [(question({"cell": row[0]}, "cell", f"{path.name}, line {n}"), {}) for n, row in enumerate(rows, 1) if row]


def strings(path: Path) -> list[Pair]:
    """A JSON list of questions."""
    value = _expect(json_of(path), list, path.name, "a list of questions")
    return [(question({"item": item}, "item", f"{path.name}, item {n}"), {}) for n, item in enumerate(value, start=1)]


def under(key: str) -> Callable[[Path], list[Pair]]:
    """A JSON object with a list of questions under `key`."""

    def read(path: Path) -> list[Pair]:
        items = _expect(field(json_of(path), key, path.name), list, path.name, f"a list under '{key}'")
        return [(question({key: i}, key, f"{path.name}, item {n}"), {}) for n, i in enumerate(items, start=1)]

    return read


def topics(path: Path) -> list[Pair]:
    """HarmfulQA: topic -> subtopic -> list of questions."""
    out = []
    for topic, parts in _expect(json_of(path), dict, path.name, "an object of topics").items():
        for subtopic, items in _expect(parts, dict, f"{path.name}, {topic}", "an object of subtopics").items():
            where = f"{path.name}, {topic}/{subtopic}"
            for item in _expect(items, list, where, "a list of questions"):
                out.append((question({"item": item}, "item", where), {"topic": topic, "subtopic": subtopic}))
    return out


def unwrapped(name: str) -> Callable[[Path], list[Pair]]:
    """ALERT: the prompt inside its instruction template."""
    read = column(name, "category")

    def strip(path: Path) -> list[Pair]:
        out = []
        for text, meta in read(path):
            body = text.removeprefix("### Instruction:").strip().removesuffix("### Response:").strip()
            out.append((body or text, meta))
        return out

    return strip


def gpqa(path: Path) -> list[Pair]:
    """GPQA: the question with its right and three wrong answers."""
    out: list[Pair] = []
    for number, row in rows_of(path):
        where = f"{path.name}, row {number}"
        wrong = [str(field(row, f"Incorrect Answer {n}", where)).strip() for n in (1, 2, 3)]
        right = str(field(row, "Correct Answer", where)).strip()
        out.append((question(row, "Question", where), {"correct": right, "incorrect": wrong}))
    return out
