"""Bad profiles end in one clear sentence before anything runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.study import profiles as profile


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    for folder in ("notebooks", "params"):
        shutil.copytree(repository / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return tmp_path


def write(root: Path, text: str) -> profile.Profile:
    (root / "params" / "mine.yaml").write_text(text, encoding="utf-8")
    return profile.load("mine", root)


def test_misspelt_profile_names_the_nearest(repository: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'mini'"):
        profile.load("minii", repository)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("about: x\nnotebooks: {05_sft: {epohcs: 3}}", r"notebooks.05_sft.epohcs: the notebook has no such parameter"),
        ("about: x\nnotebooks: {05_stf: {seed: 3}}", r"05_stf: no such notebook; did you mean '05_sft'"),
        ("about: x\ncommon: {seeed: 3}", r"common.seeed: no notebook has it; did you mean 'seed'"),
        ("about: x\ncommon: {seed: many}", r"common.seed: int expected, str found"),
        ("about: x\nnotebooks: {06_safety: {evaluation: 3}}", r"evaluation: dict expected, int found"),
        ("about: x\ncommon: {evaluation: {limit: {}}}", r"common.evaluation: field 'limit'"),
    ],
)
def test_unknown_settings_are_refused(root: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        profile.check(write(root, text), root)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("about: [", "not valid YAML"),
        ("- a list", "a mapping"),
        ("common: {}", "field 'about'"),
        ("about: x\nextra: 1", "field 'extra'"),
    ],
)
def test_malformed_profiles(root: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        write(root, text)


def test_own_section_wins_over_common(root: Path) -> None:
    mine = write(root, "about: x\ncommon: {seed: 1}\nnotebooks: {05_sft: {seed: 2}}")
    assert profile.parameters(mine, "05_sft", root=root)["seed"] == 2
    assert profile.parameters(mine, "04_selection", root=root)["seed"] == 1
    assert profile.parameters(mine, "06_safety", mirror="here", root=root)["mirror"] == "here"
    assert "mirror" not in profile.parameters(mine, "09_thinking", root=root)


def test_notebook_without_parameters_cell(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text('{"cells": []}')
    with pytest.raises(UserError, match="no cell is tagged 'parameters'"):
        profile.declared_parameters(path)
    with pytest.raises(UserError, match="missing"):
        profile.declared_parameters(tmp_path / "y.ipynb")


def test_command_line_says_it_in_one_sentence(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "star1lib", "check", "--profile", "mimi"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
