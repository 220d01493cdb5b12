"""Files between stages: atomic, checked, with one sentence for whatever is wrong with them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.records import Question, Scores


def test_round_trip_and_ids(tmp_path: Path) -> None:
    questions = [Question.make("What now?", "a"), Question.make("  what   NOW? ", "b"), Question.make("é\u2028x", "c")]
    io.write_jsonl(tmp_path / "q.jsonl", questions)
    assert io.read_records(tmp_path / "q.jsonl", Question) == questions
    assert questions[0].id == questions[1].id != questions[2].id


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"id": "1", "source": "s"}', "field 'text'"),
        ('{"id": "1", "text": "  ", "source": "s"}', "field 'text'"),
        ('{"id": "1", "text": "x", "source": "s", "more": 1}', "field 'more'"),
        ('{"id": "1", "text": "x", "sou', "truncated or damaged"),
        ("[1]", "a JSON object was expected"),
    ],
)
def test_bad_rows_are_named_by_file_line_and_field(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=rf"q\.jsonl, line 1.*{sentence}"):
        io.read_records(path, Question)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        io.read_jsonl(tmp_path / "no.jsonl")
    (tmp_path / "bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        io.read_jsonl(tmp_path / "bin")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("{}\n")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match="cannot be read"):
        io.read_jsonl(path)


def test_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def rows() -> object:
        yield {"a": 1}
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(UserError, match="the disk is full"):
        io.write_jsonl(path, rows())  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    io.write_json(path, 1)
    with pytest.raises(KeyboardInterrupt), io.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert io.read_json(path) == 1


def test_manifest_catches_changes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match="did not finish"):
        io.verify_manifest(tmp_path)
    io.write_jsonl(path, [{"a": 1}])
    io.write_manifest(tmp_path, [path])
    io.verify_manifest(tmp_path)
    path.write_text("changed")
    with pytest.raises(UserError, match="missing or changed"):
        io.verify_manifest(tmp_path)


def test_scores_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="field 'relevancy'"):
        io.parse_record({"compliance": 10, "relevancy": 11, "accuracy": 3}, Scores, "row 1")


def test_odd_characters_and_depths_in_jsonl(tmp_path):
    io.write_jsonl(tmp_path / "a.jsonl", [{"text": "half \ud83d"}])
    assert io.read_jsonl(tmp_path / "a.jsonl") == [{"text": "half \ud83d"}]
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert io.read_jsonl(tmp_path / "b.jsonl") == [{"a": 1}]
    (tmp_path / "c.jsonl").write_text("[" * 100_000)
    for read in (io.read_jsonl, io.read_json):
        with pytest.raises(UserError, match="not valid JSON"):
            read(tmp_path / "c.jsonl")
