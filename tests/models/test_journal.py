"""The journal: keyed by content, repaired after a kill, locked, honest about a full disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from star1lib.errors import UserError
from star1lib.models.api.journal import Journal, key_prefix, request_key

MESSAGES = [{"role": "user", "content": "hello"}]


def record(key: str, outcome: str = "ok", cost: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"key": key, "role": "teacher", "outcome": outcome, "text": "t\u2028\ud800", "cost_usd": cost, **more}


def test_key_depends_on_role_model_messages_settings_and_sample() -> None:
    base = key_prefix("teacher", "m", "", {"temperature": 0.6, "max_tokens": 10})
    same = key_prefix("teacher", "m", "", {"max_tokens": 10, "temperature": 0.6})
    key = request_key(base, MESSAGES, None, 0)
    assert key == request_key(same, MESSAGES, None, 0)
    others = [
        request_key(key_prefix("scorer", "m", "", {"temperature": 0.6, "max_tokens": 10}), MESSAGES, None, 0),
        request_key(key_prefix("teacher", "n", "", {"temperature": 0.6, "max_tokens": 10}), MESSAGES, None, 0),
        request_key(key_prefix("teacher", "m", "w", {"temperature": 0.6, "max_tokens": 10}), MESSAGES, None, 0),
        request_key(key_prefix("teacher", "m", "", {"temperature": 0.7, "max_tokens": 10}), MESSAGES, None, 0),
        request_key(base, [{"role": "user", "content": "hello "}], None, 0),
        request_key(base, MESSAGES, {"type": "object"}, 0),
        request_key(base, MESSAGES, None, 1),
    ]
    assert len({key, *others}) == 8


def test_answers_come_back_and_errors_are_superseded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "j.jsonl"
    with Journal(path) as book:
        book.append(record("a"))
        book.append(record("b", "error", 0.1))
        book.append(record("c", "cut_off"))
        assert "a" in book and "b" not in book and "c" in book
        assert [row["key"] for row in book.errors()] == ["b"]
    with Journal(path) as book:
        first = book.get("a")
        assert first is not None and first["text"] == "t\u2028\ud800"
        assert len(book) == 2
        assert book.spent("teacher") == pytest.approx(1.1)
        book.append(record("b"))
        assert not list(book.errors())
        assert book.get("nothing") is None


@pytest.mark.parametrize("cut", [1, 7, 20, 40])
def test_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as book:
        book.append(record("a"))
        whole = path.read_bytes()
        book.append(record("b"))
    torn = path.read_bytes()[len(whole) :][:-cut]
    path.write_bytes(whole + torn)
    with Journal(path) as book:
        # Only the newline missing: the line was complete.
        assert ("b" in book) is (cut == 1)
        book.append(record("c"))
    lines = path.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert len(lines) == (3 if cut == 1 else 2)


def test_damaged_middle_lines_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as book:
        book.append(record("a"))
    rubbish = b'\xff\xfe{"key"\n[1]\n{"key": 3, "outcome": "ok"}\n{"key":"x","outcome":"ok","cost_usd":"much"}\n\n'
    path.write_bytes(rubbish + b"[" * 50_000 + b"\n" + path.read_bytes())
    with Journal(path) as book:
        assert book.damaged == 5
        assert "a" in book and "x" not in book


def test_second_run_is_refused_while_the_first_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path), pytest.raises(UserError, match="another run"):
        Journal(path)
    Journal(path).close()


def test_full_disk_is_one_sentence_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    write = os.write
    with Journal(path) as book:
        book.append(record("a"))
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        with pytest.raises(UserError, match="free some space"):
            book.append(record("b"))
        monkeypatch.setattr(os, "write", write)
        book.append(record("c"))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        Journal(tmp_path)
