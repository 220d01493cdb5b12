"""The smoke profile through papermill in a copy of the repository: runs, stops, resumes, repeats without work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from star1lib import files
from star1lib.__main__ import main
from star1lib.study import runner
from star1lib.study import stages as study

# No bound on time decides a test; this one only ends a hang.
HANG_S = 3600
STAGES = [stage.name for stage in study.STAGES]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Path]:
    """A copy without build and without git, using this environment."""
    root = tmp_path_factory.mktemp("study") / "star1"
    ignore = shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", ".*_cache", ".hypothesis", "tests")
    shutil.copytree(repository, root, ignore=ignore)
    yield root
    shutil.rmtree(root, ignore_errors=True)


def command(root: Path, *goals: str) -> list[str]:
    """Make with this environment; without ENV no rule can set one up, whatever is newer."""
    return ["make", "--no-print-directory", "PROFILE=smoke", "ENV=", f"PYTHON={sys.executable}", *goals]


@pytest.mark.attack("environments")
def test_no_goal_of_a_test_installs_anything(tmp_path: Path, repository: Path) -> None:
    """Whatever is newer than the environment: make's own list of commands holds no installer."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements-data.txt"):
        shutil.copy(repository / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".complete").touch()
    os.utime(tmp_path / ".venv" / ".complete", (1_000, 1_000))
    said = {}
    for words in (command(tmp_path), [word for word in command(tmp_path) if word != "ENV="]):
        for goal in ("reproduce", "report", "clean", "export", "figures", "test"):
            done = subprocess.run([*words, "-n", goal], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
                                  text=True, check=False)  # fmt: skip
            said.setdefault("ENV=" in words, []).append(done.stdout)
    assert not [text for text in said[True] if "pip" in text or "venv" in text.replace(sys.executable, "")]
    assert all("pip install" in text for text in said[False]), "the rule that the tests switch off is another one now"


def environment(root: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("STAR1_DATA", "MAKEFLAGS", "MAKELEVEL")}
    return {**kept, "PYTHONPATH": str(root)}


def make(root: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *goals), cwd=root, env=environment(root), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=HANG_S, check=False)  # fmt: skip


def say(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *words: str) -> tuple[int, str]:
    """A command of star1lib in this process, at `root`: its exit code and what it said."""
    monkeypatch.chdir(root)
    monkeypatch.delenv("STAR1_DATA", raising=False)
    with caplog.at_level("INFO"):
        return main(list(words)), caplog.text


def stamps(root: Path, names: Sequence[str] = STAGES) -> dict[str, int]:
    return {name: (root / runner.executed("smoke", name)).stat().st_mtime_ns for name in names}


@pytest.fixture(scope="module")
def finished(copy: Path) -> Path:
    """The whole smoke study, killed once in the middle and then run to its end."""
    process = subprocess.Popen(command(copy, "reproduce"), cwd=copy, env=environment(copy), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + HANG_S
    while not (copy / runner.executed("smoke", "04_selection")).exists():
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = stamps(copy, STAGES[:4])
    assert not (copy / runner.executed("smoke", "06_safety")).exists()
    done = make(copy, "reproduce")
    assert done.returncode == 0, done.stderr[-3000:]
    assert stamps(copy, STAGES[:4]) == before, "finished stages ran again"
    assert "05_sft" in done.stderr
    assert "report:" in done.stderr
    return copy


@pytest.mark.attack("kills")
def test_every_notebook_ran_and_every_stage_closed_its_folder(finished: Path) -> None:
    for name in STAGES:
        assert (finished / runner.executed("smoke", name)).exists()
        files.verify_manifest(finished / "build" / "smoke" / name)
    assert not list((finished / "build" / "smoke").rglob("*.failed.ipynb"))


def test_report_links_everything(finished: Path) -> None:
    page = finished / "build" / "smoke" / "report" / "index.html"
    text = page.read_text(encoding="utf-8")
    for name in STAGES:
        assert f"notebooks/{name}.html" in text
        assert (page.parent / "notebooks" / f"{name}.html").exists()
    for picture in (finished / "build" / "smoke" / "figures").glob("*.svg"):
        assert picture.name in text
    assert "tiny" in text
    assert str(finished) not in text


@pytest.mark.attack("injection and what is shown")
def test_no_completion_of_a_harmful_prompt_is_shown(finished: Path) -> None:
    """Executed notebooks, report, its transcripts and tables hold labels and lengths; the logs hold the completions."""
    completions = _completions(finished)
    assert completions
    build = finished / "build" / "smoke"
    pages = [*build.glob("report/*.html"), *build.glob("report/notebooks/*.html"), *build.glob("tables/*.csv")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    bundled = list((build / "report" / "transcripts").rglob("*.eval"))
    assert bundled
    for path in bundled:
        with zipfile.ZipFile(path) as archive:
            text += "\n".join(archive.read(name).decode() for name in archive.namelist())
    for completion in completions:
        if len(completion) > 25 and "sorry" not in completion.lower() and "can't" not in completion.lower():
            assert completion not in text


def _completions(root: Path) -> list[str]:
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = list_eval_logs(str(root / "build" / "smoke" / "evaluations" / "logs"))
    return [sample.output.completion for info in logs if "sums" not in info.name.lower()
            for sample in read_eval_log(info).samples or []]  # fmt: skip


def test_a_second_run_does_nothing_but_draw_what_is_gone(finished: Path) -> None:
    before = stamps(finished)
    picture = finished / "build" / "smoke" / "figures" / "safety.svg"
    drawn = picture.read_bytes()
    picture.unlink()
    done = make(finished, "reproduce")
    assert done.returncode == 0 and "section" not in done.stderr
    assert picture.read_bytes() == drawn
    assert stamps(finished) == before


@pytest.mark.attack("damaged files")
def test_damaged_files_are_noticed_and_made_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A table emptied, the second half of a model's weights gone to zeros, the file of a stage cut in two."""
    build = finished / "build" / "smoke"
    table, cut = build / "tables" / "quality.csv", build / "09_thinking" / "items.jsonl"
    [weights] = build.glob("models/medium-*/model.safetensors")
    header, half, whole = table.read_bytes().split(b"\n")[0], weights.stat().st_size // 2, cut.read_bytes()
    table.write_bytes(b"")
    weights.write_bytes(weights.read_bytes()[:half] + bytes(weights.stat().st_size - half))
    cut.write_bytes(whole[: len(whole) // 2])
    said = say(finished, monkeypatch, caplog, "graph", "--profile", "smoke")[1]
    done = make(finished, "-f", "build/smoke/graph.mk", "all")  # as `make reproduce` does before its report
    assert done.returncode == 0, done.stderr[-2000:]
    assert table.read_bytes().startswith(header) and any(weights.read_bytes()[half:]) and cut.read_bytes() == whole
    assert "quality.csv: missing or changed" in said and "items.jsonl: missing or changed" in said
    assert "trained again" in done.stderr


@pytest.mark.attack("bad parameters")
def test_a_wrong_setting_stops_before_anything_runs(
    finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = (finished / "params" / "smoke.yaml").read_text(encoding="utf-8")
    (finished / "params" / "broken.yaml").write_text(text.replace("audit_rows", "audit_rowz"), encoding="utf-8")
    code, said = say(finished, monkeypatch, caplog, "graph", "--profile", "broken")
    assert code == 2 and "did you mean 'audit_rows'" in said
    assert not (finished / "build" / "broken" / "notebooks").exists()


def test_a_failing_stage_ends_in_its_sentence(finished: Path) -> None:
    path = finished / "params" / "missing.yaml"
    text = (finished / "params" / "smoke.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("train_sets: []", "train_sets: [GPTFuzz, Nonsense]"), encoding="utf-8")
    done = make(finished, "reproduce", "PROFILE=missing")
    assert done.returncode != 0
    assert "Nonsense" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (finished / "build" / "missing" / "01_sources" / "manifest.json").exists()


def test_the_selection_exports_as_a_dataset(
    finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert say(finished, monkeypatch, caplog, "export", "--profile", "smoke")[0] == 0
    rows = json.loads((finished / "build" / "smoke" / "dataset" / "data.json").read_text(encoding="utf-8"))
    assert len(rows) == len(files.read_jsonl(finished / "build" / "smoke" / "04_selection" / "selected.jsonl"))
