"""The make graph: touch one thing, and exactly what depends on it is stale."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from star1lib import files as io
from star1lib.study import graph
from star1lib.study import profiles as profile
from star1lib.study import stages as study

STAGES = [stage.name for stage in study.STAGES]


@pytest.fixture
def built(tmp_path: Path, repository: Path) -> Path:
    """A copy of the repository in which every notebook looks executed."""
    for folder in ("notebooks", "params", "star1lib"):
        shutil.copytree(repository / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in tmp_path.rglob("*"):
        os.utime(path, (1_000, 1_000))
    graph.write(profile.load("smoke", tmp_path), mirror=None, root=tmp_path)
    for name in STAGES:
        folder = tmp_path / "build" / "smoke" / name
        io.write_manifest(folder, [])
        executed = tmp_path / graph.executed("smoke", name)
        executed.parent.mkdir(parents=True, exist_ok=True)
        executed.touch()
    now = 2_000
    for name in STAGES:
        os.utime(tmp_path / graph.params_file("smoke", name), (1_000, 1_000))
        os.utime(tmp_path / graph.executed("smoke", name), (now, now))
        now += 10
    return tmp_path


def stale(root: Path) -> list[str]:
    """The stages that make would run, in order."""
    graph.write(profile.load("smoke", root), mirror=None, root=root)
    done = subprocess.run(
        ["make", "-n", "-f", "build/smoke/graph.mk", "PYTHON=python", "all"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split()[-1] for line in done.stdout.splitlines() if " run --profile smoke " in line]


def dependants(names: set[str]) -> list[str]:
    """`names` and every stage that needs one of them."""
    found = set(names)
    for stage in study.STAGES:
        if set(stage.needs) & found:
            found.add(stage.name)
    return [name for name in STAGES if name in found]


def test_nothing_to_do_when_nothing_changed(built: Path) -> None:
    assert stale(built) == []


@pytest.mark.parametrize(
    ("module", "readers"),
    [
        ("training/rows", {"05_sft", "06_safety", "07_reasoning", "08_data_quality", "10_over_refusal"}),
        ("collection/decontamination", {"02_decontamination"}),
        ("study/compare", {"11_figures"}),
    ],
)
def test_one_module_reruns_its_readers_and_no_more(built: Path, module: str, readers: set[str]) -> None:
    (built / "star1lib" / f"{module}.py").touch()
    assert stale(built) == dependants(readers)


def test_the_judge_and_its_weights(built: Path) -> None:
    (built / "star1lib" / "evaluation" / "judges" / "offline.py").touch()
    by_code = stale(built)
    assert {"06_safety", "08_data_quality", "10_over_refusal", "11_figures"} <= set(by_code)
    assert not {"01_sources", "02_decontamination", "03_deliberation", "05_sft"} & set(by_code)
    os.utime(built / "star1lib" / "evaluation" / "judges" / "offline.py", (1_000, 1_000))
    next(path for path in (built / "star1lib" / "assets" / "judge").iterdir() if path.suffix != ".md").touch()
    assert stale(built) == by_code


def test_one_notebook(built: Path) -> None:
    (built / "notebooks" / "09_thinking.ipynb").touch()
    assert stale(built) == ["09_thinking", "11_figures"]


def test_one_parameter(built: Path) -> None:
    path = built / "params" / "smoke.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("audit_rows: 12", "audit_rows: 13"), encoding="utf-8")
    assert stale(built) == dependants({"04_selection"})


def test_a_comment_in_the_profile_reruns_nothing(built: Path) -> None:
    path = built / "params" / "smoke.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a comment\n", encoding="utf-8")
    assert stale(built) == []


def test_a_damaged_result_reruns_its_stage(built: Path) -> None:
    (built / "build" / "smoke" / "04_selection" / "manifest.json").unlink()
    assert stale(built) == dependants({"04_selection"})


def test_imports_inside_functions_and_through_modules_count(repository: Path) -> None:
    source = "from star1lib.training import variants"
    names = {path.name for path in graph.closure(source, repository)}
    assert {"variants.py", "sft.py", "rows.py", "checkpoints.py", "files.py"} <= names
    assert "run.py" not in names
