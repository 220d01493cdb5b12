"""`make clean` asks before trained models or paid-for responses go."""

from __future__ import annotations

import io as streams
from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.study import clean


class Terminal(streams.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def build(tmp_path: Path) -> Path:
    (tmp_path / "build" / "mini" / "models" / "star1-abc").mkdir(parents=True)
    return tmp_path / "build" / "mini"


def test_asks_and_keeps_on_no(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(UserError, match="kept"):
        clean.clean("mini", root=tmp_path)
    assert build.exists()


def test_removes_on_yes(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    clean.clean("mini", root=tmp_path)
    assert not build.exists()


def test_without_a_terminal_it_keeps_and_says_how(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", streams.StringIO(""))
    with pytest.raises(UserError, match="YES=1"):
        clean.clean("mini", root=tmp_path)
    clean.clean("mini", assume_yes=True, root=tmp_path)
    assert not build.exists()
    clean.clean("mini", root=tmp_path)


def test_nothing_precious_needs_no_question(tmp_path: Path) -> None:
    (tmp_path / "build" / "mini" / "tables").mkdir(parents=True)
    clean.clean("mini", root=tmp_path)
    assert not (tmp_path / "build" / "mini").exists()
