"""File formats of the source datasets, each read strictly into (text, meta) pairs.

A row without its field, an empty question and a damaged file are one sentence that names file, row and field.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, lzma.LZMAError) as err:
        raise UserError(f"{path.name}: cannot be read as text ({err}); fetch the file again.") from err


def _json(text: str, where: str) -> Any:
    """A JSON value; NaN in it is a missing value, half of a surrogate pair a replacement character."""
    try:
        value = json.loads(text, parse_constant=lambda name: None)
        if "\\ud" in text.lower():
            whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            value = json.loads(whole)
    except (ValueError, RecursionError) as err:  # damaged, a number of thousands of digits, thousands of brackets
        reason = "nested too deeply" if isinstance(err, RecursionError) else err
        raise UserError(f"{where}: not valid JSON ({reason}); it is truncated or damaged, fetch it again.") from err
    return value


def _csv(path: Path) -> Iterator[list[str]]:
    """The filled lines of a CSV or TSV file, cells of any length."""
    csv.field_size_limit(1 << 30)
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        yield from filter(None, csv.reader(io.StringIO(text_of(path)), delimiter=delimiter, strict=True))
    except csv.Error as err:
        raise UserError(f"{path.name}: not valid CSV ({err}); fetch the file again.") from err


def _cells(path: Path) -> Iterator[Row]:
    """The rows of a CSV or TSV file with a header; a row of another length has shifted columns and is an error."""
    lines = _csv(path)
    header = next(lines, [])
    if len(set(header)) < len(header):
        raise UserError(f"{path.name}: two columns have the same name; correct the header.")
    for number, row in enumerate(lines, start=2):
        if len(row) != len(header):
            raise UserError(
                f"{path.name}, row {number}: {len(row)} cells under {len(header)} columns; quote the text that holds "
                "the delimiter, or fetch the file again."
            )
        yield dict(zip(header, row, strict=True))


def rows_of(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a CSV, TSV, JSONL, JSON-list or parquet file, each after its place in words."""
    return ((f"{path.name}, row {number}", row) for number, row in _numbered(path))


def _numbered(path: Path) -> Iterator[tuple[int, Row]]:
    if path.suffix in (".csv", ".tsv"):
        yield from enumerate(_cells(path), start=2)
    elif ".jsonl" in path.suffixes:
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if line.strip():
                yield number, _json(line, f"{path.name}, line {number}")
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            batches = pyarrow.parquet.ParquetFile(path).iter_batches(1024)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
        except (OSError, pyarrow.ArrowException) as err:
            raise UserError(f"{path.name}: not a whole parquet file; it is damaged, fetch it again.") from err
    else:
        yield from enumerate(_expect(_json(text_of(path), path.name), list, path.name, "a list of rows"), start=1)


def _expect(value: Any, kind: type, where: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise UserError(f"{where}: {what} was expected; the upstream format changed, correct the sources table.")
    return value


def field(row: Any, name: str, where: str) -> Any:
    """One field of a row; a missing one names what there is."""
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: an object with the field '{name}' was expected.")
    if name not in row:
        there = ", ".join(sorted(map(str, row)))
        raise UserError(f"{where}: no field '{name}' (there are: {there}); the column was renamed upstream, "
                        "correct the sources table.")  # fmt: skip
    if row[name] is None:
        raise UserError(f"{where}: field '{name}' has no value; correct the row or fetch the file again.")
    return row[name]


def question(row: Any, name: str, where: str) -> str:
    """The question in a row; an empty one, or one that is no text, is an error, never a silent gap."""
    text = field(row, name, where)
    if not isinstance(text, str) or not text.strip():
        fault = "is empty" if isinstance(text, str) else "is no text"
        raise UserError(f"{where}: field '{name}' {fault}; correct the row or fetch the file again.")
    return text.strip()


def column(
    path: Path, name: str, meta: Sequence[str] = (), keep: Mapping[str, Sequence[Any]] | None = None
) -> list[Pair]:
    """The column `name` with the columns `meta` beside it, of the rows whose fields have the values in `keep`."""
    out = []
    for where, row in rows_of(path):
        text = question(row, name, where)
        extra = {key: field(row, key, where) for key in meta}
        if all(field(row, key, where) in values for key, values in (keep or {}).items()):
            out.append((text, extra))
    return out


def _each(items: Any, where: str, what: str, key: str = "item") -> list[Pair]:
    """A list of questions in a JSON value."""
    listed = enumerate(_expect(items, list, where, what), start=1)
    return [(question({key: item}, key, f"{where}, item {n}"), {}) for n, item in listed]


def lines(path: Path) -> list[Pair]:
    """A question a line; blank lines are not questions, and only a line feed ends a line."""
    return [(line.strip(), {}) for line in text_of(path).split("\n") if line.strip()]


def first_cells(path: Path) -> list[Pair]:
    """The first cell of every line of a CSV file without a header."""
    return [(question({"cell": row[0]}, "cell", f"{path.name}, row {n}"), {}) for n, row in enumerate(_csv(path), 1)]


def strings(path: Path) -> list[Pair]:
    """A JSON list of questions."""
    return _each(_json(text_of(path), path.name), path.name, "a list of questions")


def instructions(path: Path) -> list[Pair]:
    """A JSON object with a list of questions under `instructions`."""
    key = "instructions"
    return _each(field(_json(text_of(path), path.name), key, path.name), path.name, f"a list under '{key}'", key)


def topics(path: Path) -> list[Pair]:
    """HarmfulQA: topic -> subtopic -> list of questions."""
    out = []
    for topic, parts in _expect(_json(text_of(path), path.name), dict, path.name, "an object of topics").items():
        for subtopic, items in _expect(parts, dict, f"{path.name}, {topic}", "an object of subtopics").items():
            where = f"{path.name}, {topic}/{subtopic}"
            found = _each(items, where, "a list of questions")
            out += [(text, {"topic": topic, "subtopic": subtopic}) for text, _ in found]
    return out


def unwrapped(path: Path) -> list[Pair]:
    """ALERT: the prompt inside its instruction template."""
    out = []
    for text, meta in column(path, "query", ["category"]):
        body = text.removeprefix("### Instruction:").strip().removesuffix("### Response:").strip()
        out.append((body or text, meta))
    return out


def gpqa(path: Path) -> list[Pair]:
    """GPQA: the question with its right and three wrong answers."""
    out: list[Pair] = []
    for where, row in rows_of(path):
        wrong = [str(field(row, f"Incorrect Answer {n}", where)).strip() for n in (1, 2, 3)]
        right = str(field(row, "Correct Answer", where)).strip()
        out.append((question(row, "Question", where), {"correct": right, "incorrect": wrong}))
    return out


def stories(path: Path) -> list[Pair]:
    """ASDiv: passage and question as one text, of the stories that a whole number answers ("9 apples")."""
    out: dict[str, Pair] = {}
    for where, row in rows_of(path):
        found = re.match(r"\d+(?=\s|$)", str(field(row, "answer", where)))
        if found:
            text = f"{field(row, 'passage', where)} {question(row, 'question', where)}".strip()
            out.setdefault(text, (text, {"answer": int(found.group())}))
    return list(out.values())
