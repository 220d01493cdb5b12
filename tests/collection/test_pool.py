"""Formats that changed upstream: a set is listed as unavailable with one sentence, and nothing breaks."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pandas as pd
import pytest

from star1lib.collection import download, readers, sources
from star1lib.collection.pool import collect
from star1lib.errors import UserError
from star1lib.files import sha256_file


@pytest.mark.parametrize(
    ("name", "row", "missing"),
    [
        ("BeaverTails", '{"prompt": "a"}', "is_safe"),
        ("PKU-SafeRLHF", '{"prompt": "a", "is_response_0_safe": false}', "is_response_1_safe"),
        ("WildJailbreak", '{"adversarial": "a", "data_type": "b"}', "vanilla"),
        ("XSTest-safe", '{"prompt": "a", "type": "t"}', "label"),
    ],
)
@pytest.mark.attack("bad rows")
def test_a_renamed_filter_column_is_one_sentence(tmp_path: Path, name: str, row: str, missing: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(UserError, match=f"no field '{missing}'.*renamed upstream"):
        sources.SOURCES[name].read(path)


def test_such_a_set_is_listed_as_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a"}\n')
    row = sources.SOURCES["BeaverTails"].model_copy(update={"mirror": "x.jsonl", "sha256": sha256_file(path)})
    monkeypatch.setitem(sources.SOURCES, "BeaverTails", row)
    collected = collect(["BeaverTails"], mirror=tmp_path, test_names=[], corpus=True)
    [listed] = [row for row in collected.rows if row["name"] == "BeaverTails"]
    assert listed["status"] == "unavailable"
    assert "no field 'is_safe'" in listed["reason"]


@pytest.mark.parametrize(
    "text", ["3", "{}", '{"instructions": 3}', '["a"]', "null", '{"a": ["b"]}', '{"a": {"b": "c"}}']
)
@pytest.mark.attack("bad rows")
def test_every_json_reader_answers_odd_shapes_with_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    for read in (readers.strings, readers.topics, readers.instructions, lambda path: readers.column(path, "k")):
        try:
            pairs = read(path)
        except UserError as err:
            assert str(err).startswith("x.json")
        else:
            assert pairs in ([], [("a", {})])


def test_tab_separated_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("vanilla\tdata_type\nfirst, with a comma\tvanilla_harmful\nsecond\tvanilla_benign\n")
    read = sources.SOURCES["WildJailbreak"].read(path)
    assert [(text, meta["data_type"]) for text, meta in read] == [
        ("first, with a comma", "vanilla_harmful"),
        ("second", "vanilla_benign"),
    ]


def test_rows_of_a_whole_and_of_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"prompt": [f"q{i}" for i in range(2000)]}).to_parquet(path)
    assert len(readers.column(path, "prompt")) == 2000
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"x\.parquet: not a whole parquet file"):
        readers.column(path, "prompt")


def test_packed_files_and_files_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.xz").write_bytes(lzma.compress(b'{"prompt": "a"}\n'))
    assert readers.column(tmp_path / "x.jsonl.xz", "prompt") == [("a", {})]
    (tmp_path / "category_1.csv").write_text('"first, quoted"\nsecond\n')
    assert [text for text, _ in readers.first_cells(tmp_path / "category_1.csv")] == ["first, quoted", "second"]


@pytest.mark.attack("bad rows")
@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_every_flipped_byte_of_a_packed_file_is_one_sentence_or_no_change(tmp_path: Path, suffix: str) -> None:
    text = b'{"prompt": "a question about bread"}\n' * 9
    packed = {".gz": gzip.compress, ".xz": lzma.compress}[suffix](text)
    path = tmp_path / f"x.jsonl{suffix}"
    for place in range(len(packed)):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :])
        try:
            assert readers.text_of(path) == text.decode(), place
        except UserError as err:
            assert "cannot be read as text" in str(err)


@pytest.mark.attack("damaged files")
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text\none\n")

    def read(file: Path, *_: object) -> list[readers.Pair]:
        file.write_text("text\nother\n")
        return [("one", {})]

    monkeypatch.setattr(readers, "column", read)
    row = sources.Source(name="X", kind="train", licence="MIT", mirror="x.csv", sha256=sha256_file(path))
    monkeypatch.setitem(sources.SOURCES, "X", row)
    with pytest.raises(UserError, match=r"X: x\.csv does not have its pinned sha256"):
        sources.load("X", tmp_path)
    monkeypatch.setitem(sources.SOURCES, "X", row.model_copy(update={"sha256": ""}))
    path.write_text("text\none\n")
    with pytest.raises(UserError, match="X: its file changed while it was read"):
        sources.load("X", tmp_path)


@pytest.mark.attack("damaged files")
@pytest.mark.parametrize(
    "pins",
    ["", "[]", "3", '{"BeaverTails": 3}', '{"BeaverTails": {}}', '{"BeaverTails": {"revision": "f", "files": {}}}',
     '{"BeaverTails": {"revision": "f", "files": {"a": ""}}}', '{"BeaverTails": {"revision": "", "files": {"a": "b"}}}',
     '{"BeaverTails": {"revision": "f", "files": {"a": null}}}', "[" * 50_000],
)  # fmt: skip
def test_an_odd_pin_is_one_sentence_and_never_an_unchecked_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pins: str
) -> None:
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))
    (tmp_path / "pins.json").write_text(pins)
    with pytest.raises(UserError, match=r"pins\.json"):
        download.hub_files(sources.SOURCES["BeaverTails"])
