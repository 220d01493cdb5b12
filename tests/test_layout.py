"""The repository as a newcomer finds it: what is at the top, clean notebooks, instant import, honest README."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from star1lib.study import profiles as profile
from star1lib.study import publish, tables
from star1lib.study import stages as study

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def test_top_level(repository: Path) -> None:
    for name in ("pyproject.toml", "Makefile", "notebooks", "star1lib", "params", "figures", "tests", "README.md"):
        assert (repository / name).exists(), name


def test_every_stage_has_its_notebook_and_every_notebook_its_stage(repository: Path) -> None:
    numbered = [path.stem for path in NOTEBOOKS if path.stem[0].isdigit()]
    assert numbered == [stage.name for stage in study.STAGES]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs_and_stay_thin(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert cells[0]["cell_type"] == "markdown"
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len(code) <= 8
    assert sum(len(cell["source"]) for cell in code) <= 75, "logic belongs into the library"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_typed_and_commented(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [cell] = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    for line in "".join(cell["source"]).splitlines():
        assert re.match(r"^\w+: .+ = .+  # .+", line), line


def test_profiles_are_documented_and_accepted(repository: Path) -> None:
    for path in (repository / "params").glob("*.yaml"):
        profile.check(profile.load(path.stem, repository), repository)
        assert path.read_text(encoding="utf-8").startswith(f"# {path.stem}")


def test_import_is_instant() -> None:
    """Neither the package nor its command line may load anything heavy."""
    heavy = "torch transformers trl vllm matplotlib pandas numpy scipy sklearn openai inspect_ai datasets papermill"
    code = (
        "import sys, star1lib, star1lib.__main__ as m; m.parser(); "
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pins_install_on_every_python_that_the_readme_names(repository: Path) -> None:
    """As far as the installed packages say: each pin's own Requires-Python admits the first patch of each version."""
    named = re.search(r"Python 3\.(\d+) to 3\.(\d+)", (repository / "README.md").read_text(encoding="utf-8"))
    assert named
    versions = [f"3.{minor}.0" for minor in range(int(named[1]), int(named[2]) + 1)]
    for pin in map(Requirement, (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()):
        wanted = SpecifierSet(metadata.metadata(pin.name).get("Requires-Python") or "") if installed(pin) else ""
        for version in versions if wanted else []:
            if pin.marker is None or pin.marker.evaluate({"python_full_version": version}):
                assert wanted.contains(version), (str(pin), version)


def installed(pin: Requirement) -> bool:
    """Whether the pinned version is the one that is installed here."""
    try:
        return pin.specifier.contains(metadata.version(pin.name))
    except metadata.PackageNotFoundError:
        return False


def test_library_never_prints_and_never_runs_text(repository: Path) -> None:
    for path in sorted((repository / "star1lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ({"print"} if "confine" not in path.stem else set()), path
                # The confined child runs the generated program; nothing else may.
                if path.stem != "confine_child":
                    assert node.func.id not in {"eval", "exec"}, path


def test_readme_tables_follow_their_files(tmp_path: Path) -> None:
    tables.write(
        tmp_path / "figures" / "mini", "main", [{"who": "ours", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}]
    )
    text = "a\n<!-- table main mini -->\nstale\n<!-- end -->\nb"
    fresh = publish.refreshed(text, tmp_path)
    assert "50% [40, 60]" in fresh
    assert "stale" not in fresh
    assert fresh.startswith("a\n") and fresh.endswith("\nb")
    assert publish.refreshed(fresh, tmp_path) == fresh
