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


def test_a_terminal_is_asked(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\ny\n"))
    with pytest.raises(UserError, match="kept"):
        clean.clean("mini", root=tmp_path)
    assert build.exists()
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


@pytest.mark.parametrize("name", ["../notebooks", "../../other", "mini/models", "mini --yes", "", "."])
@pytest.mark.attack("bad parameters")
def test_nothing_outside_a_profiles_build_is_removed(build: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(UserError, match="and no path"):
        clean.clean(name, assume_yes=True, root=tmp_path)
    assert build.exists() and (tmp_path / "notebooks").exists()


@pytest.mark.attack("bad parameters")
def test_a_link_to_elsewhere_is_left_alone(build: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "build" / "linked").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="a link to a folder elsewhere"):
        clean.clean("linked", assume_yes=True, root=tmp_path)
    assert (tmp_path / "precious").exists()


def test_paid_answers_are_asked_about(tmp_path: Path) -> None:
    folder = tmp_path / "build" / "paid" / "calls" / "teacher"
    folder.mkdir(parents=True)
    (folder / "answers.jsonl").write_text("{}")
    assert clean.precious(tmp_path / "build" / "paid") == [folder / "answers.jsonl"]
