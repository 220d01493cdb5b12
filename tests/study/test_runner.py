"""The make graph: touch one thing, and exactly what depends on it is stale."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from copies import copied, pretend, would_run

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.study import profiles as profile
from star1lib.study import runner
from star1lib.study import stages as study

STAGES = [stage.name for stage in study.STAGES]


@pytest.fixture
def built(tmp_path: Path, repository: Path) -> Path:
    """A copy of the repository in which every notebook looks executed."""
    would_run(copied(repository, tmp_path), "smoke")
    pretend(tmp_path, "smoke")
    return tmp_path


def stale(root: Path) -> list[str]:
    """The stages that make would run, in order."""
    return [step.removeprefix("smoke ") for step in would_run(root, "smoke")]


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
    ("file", "reader"),
    [
        ("star1lib/records.py", "01_sources"),
        ("star1lib/collection/decontamination.py", "01_sources"),
        ("star1lib/selection/balance.py", "04_selection"),
        ("star1lib/training/rows.py", "05_first"),
        ("star1lib/evaluation/judges/offline.py", "05_first"),
        ("star1lib/study/runner.py", "11_figures"),
        ("star1lib/assets/corpus/*", "01_sources"),
        ("star1lib/assets/judge/*", "05_first"),
        ("star1lib/assets/paper/*", "11_figures"),
        ("notebooks/09_thinking.ipynb", "09_thinking"),
    ],
)
def test_one_file_reruns_its_readers_and_no_more(built: Path, file: str, reader: str) -> None:
    """Modules at the root belong to all stages, others to their package, data to the package that owns it."""
    next(path for path in built.glob(file) if path.is_file()).touch()
    assert stale(built) == dependants({reader})


def test_one_parameter(built: Path) -> None:
    path = built / "params" / "smoke.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("audit_rows: 12", "audit_rows: 13"), encoding="utf-8")
    assert stale(built) == dependants({"04_selection"})


def test_a_comment_in_the_profile_reruns_nothing(built: Path) -> None:
    path = built / "params" / "smoke.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a comment\n", encoding="utf-8")
    assert stale(built) == []


@pytest.mark.attack("damaged files")
def test_a_damaged_result_reruns_its_stage(built: Path) -> None:
    (built / "build" / "smoke" / "04_selection" / "manifest.json").unlink()
    assert stale(built) == dependants({"04_selection"})


def test_a_notebook_imports_what_its_stage_or_a_needed_stage_may(repository: Path) -> None:
    """The static rule holds: a change of any imported package makes the notebook, or one that it needs, stale."""
    reach: dict[str, set[str]] = {}
    for stage in study.STAGES:
        reach[stage.name] = set(stage.packages).union(*(reach[name] for name in stage.needs))
        text = (repository / stage.notebook).read_text(encoding="utf-8")
        imported = set(re.findall(r"from star1lib\.(\w+)", text)) - {"study"}
        packages = {name for name in imported if (repository / "star1lib" / name).is_dir()}
        assert packages <= reach[stage.name], stage.name


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2", b"[]", b'{"05_sft": "soon"}', b'{"a": {"b": 3}}', b'{"a": {"b": {}}}', b"\xff"]
)
@pytest.mark.attack("damaged files")
def test_damaged_bookkeeping_is_made_again(built: Path, content: bytes) -> None:
    """Times and lists of what was made are begun anew and make nothing stale, parameters are written again."""
    for name in (runner.TIMINGS, runner.MADE):
        (built / "build" / "smoke" / name).write_bytes(content)
    target = built / runner.params_file("smoke", "05_sft")
    good = target.read_bytes()
    target.write_bytes(content)
    assert runner.forget_damaged(study.steps("smoke"), built) == []
    runner.write_graph(profile.load("smoke", built), mirror=None, root=built)
    assert target.read_bytes() == good
    assert runner._bookkeeping(built / "build" / "smoke" / runner.TIMINGS, dict[str, float]) == {}


@pytest.mark.attack("two at once")
def test_a_second_run_is_told_who_works_there(built: Path) -> None:
    with io.lock(built / "build" / "smoke", "05_sft"), pytest.raises(UserError, match=r"\(05_sft\) is working here"):
        runner.write_graph(profile.load("smoke", built), mirror=None, root=built)


def remember(root: Path, stage: str) -> Path:
    """One table of `stage`, entered as its run enters it; returns the table's path."""
    from star1lib.study import tables

    path = tables.write(root / "build" / "smoke", "selection", [{"category": "Other", "pool": 3}])
    build = root / "build" / "smoke"
    io.write_json(build / runner.MADE, {stage: io.listing(build, [path, root / runner.executed("smoke", stage)])})
    return path


@pytest.mark.attack("damaged files")
@pytest.mark.parametrize("damage", ["emptied", "cut", "gone", "notebook", "none"])
def test_a_damaged_table_or_notebook_reruns_its_stage(built: Path, damage: str) -> None:
    path = remember(built, "04_selection")
    if damage == "emptied":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "gone":
        path.unlink()
    elif damage == "notebook":
        (built / runner.executed("smoke", "04_selection")).write_text("{}")
    assert runner.forget_damaged(study.steps("smoke"), built) == ([] if damage == "none" else ["04_selection"])


def test_a_run_enters_the_tables_that_it_wrote(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from star1lib.study import tables

    def execute(source: str, target: str, **_: object) -> None:
        Path(target).write_text("{}")
        tables.write(built / "build" / "smoke", "roles", [{"role": "teacher"}])

    monkeypatch.setattr("papermill.execute_notebook", execute)
    tables.write(built / "build" / "smoke", "sources", [])
    runner.run_stage(profile.load("smoke", built), "03_deliberation", root=built)
    made = io.read_json(built / "build" / "smoke" / runner.MADE)["03_deliberation"]
    assert set(made) == {"tables/roles.csv", "notebooks/03_deliberation.ipynb"}


@pytest.mark.attack("kills")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a process of its parent's death")
def test_a_run_ends_when_its_parent_is_killed() -> None:
    child = "import time; from star1lib.study import runner; runner._end_with_parent(); print('up', flush=True); "
    child += "time.sleep(3600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.kill()
    assert process.stdout.read() == ""  # ends only when the child, who holds the other end, has ended


@pytest.mark.attack("injection and what is shown")
def test_what_a_notebook_writes_gives_a_terminal_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    runner._Terminal().write("\x1b]0;title\x07 5%\r 6%\n\u202egnp.exe")
    assert capsys.readouterr().err == "\\x1b]0;title\\x07 5%\r 6%\n\\u202egnp.exe"
