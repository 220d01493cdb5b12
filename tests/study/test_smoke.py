"""The smoke profile through papermill in a copy of the repository: runs, stops, resumes, repeats without work."""

from __future__ import annotations

import io
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
from typing import NamedTuple

import pytest

from star1lib import files
from star1lib.__main__ import main
from star1lib.study import runner
from star1lib.study import stages as study

# No bound on time decides a test; this one only ends a hang.
HANG_S = 3600
STAGES = [stage.name for stage in study.STAGES]


class Copy(NamedTuple):
    """A copy of the repository, the Python that make runs there, and its environment."""

    root: Path
    python: str
    environment: dict[str, str]

    def command(self, *goals: str) -> list[str]:
        """Make with this environment; without ENV no rule can set one up, whatever is newer."""
        return ["make", "--no-print-directory", "PROFILE=smoke", "ENV=", f"PYTHON={self.python}", *goals]

    def make(self, *goals: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*goals), cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=HANG_S, check=False)  # fmt: skip

    @property
    def build(self) -> Path:
        return self.root / "build" / "smoke"

    def stamps(self, stages: Sequence[str] = STAGES) -> list[int]:
        return [(self.root / runner.executed("smoke", name)).stat().st_mtime_ns for name in stages]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, warm_python: tuple[str, dict[str, str]]
) -> Iterator[Copy]:
    """The whole smoke study in a copy without build and git, killed once in the middle and then run to its end."""
    root = tmp_path_factory.mktemp("study") / "star1"
    ignore = shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", ".*_cache", ".hypothesis", "tests")
    shutil.copytree(repository, root, ignore=ignore)
    copy = Copy(root, warm_python[0], {**warm_python[1], "PYTHONPATH": str(root)})
    process = subprocess.Popen(copy.command("reproduce"), cwd=root, env=copy.environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + HANG_S
    while not (root / runner.executed("smoke", "04_selection")).exists():
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = copy.stamps(STAGES[:4])
    assert not (root / runner.executed("smoke", "06_safety")).exists()
    done = copy.make("reproduce")
    assert done.returncode == 0, done.stderr[-3000:]
    assert copy.stamps(STAGES[:4]) == before, "finished stages ran again"
    assert "05_sft" in done.stderr and "report:" in done.stderr
    yield copy
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.attack("environments")
def test_no_goal_of_a_test_installs_anything(tmp_path: Path, repository: Path) -> None:
    """Whatever is newer than the environment: make's own list of commands holds no installer."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements-data.txt"):
        shutil.copy(repository / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".complete").touch()
    os.utime(tmp_path / ".venv" / ".complete", (1_000, 1_000))
    said = {}
    copy = Copy(tmp_path, sys.executable, {**os.environ, "PYTHONPATH": str(tmp_path)})
    for words in (copy.command(), [word for word in copy.command() if word != "ENV="]):
        for goal in ("reproduce", "report", "clean", "export", "figures", "test"):
            done = subprocess.run([*words, "-n", goal], cwd=tmp_path, env=copy.environment, capture_output=True,
                                  text=True, check=False)  # fmt: skip
            said.setdefault("ENV=" in words, []).append(done.stdout)
    assert not [text for text in said[True] if "pip" in text or "venv" in text.replace(sys.executable, "")]
    assert all("pip install" in text for text in said[False]), "the rule that the tests switch off is another one now"


@pytest.mark.attack("kills")
def test_every_notebook_ran_and_every_stage_closed_its_folder(finished: Copy) -> None:
    for name in STAGES:
        assert (finished.root / runner.executed("smoke", name)).exists()
        files.verify_manifest(finished.build / name)
    assert not list((finished.build).rglob("*.failed.ipynb"))


def test_report_links_everything(finished: Copy) -> None:
    page = finished.build / "report" / "index.html"
    text = page.read_text(encoding="utf-8")
    for name in STAGES:
        assert f"notebooks/{name}.html" in text
        assert (page.parent / "notebooks" / f"{name}.html").exists()
    for picture in (finished.build / "figures").glob("*.svg"):
        assert picture.name in text
    assert "tiny" in text
    assert str(finished.root) not in text


@pytest.mark.attack("injection and what is shown")
def test_no_completion_of_a_harmful_prompt_is_shown(finished: Copy) -> None:
    """Executed notebooks, report, its transcripts and tables hold labels and lengths; the logs hold the completions."""
    completions = _completions(finished.build)
    assert completions
    pages = [
        *(finished.build / "report").glob("*.html"),
        *(finished.build / "report" / "notebooks").glob("*.html"),
        *(finished.build / "tables").glob("*.csv"),
    ]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    bundled = list((finished.build / "report" / "transcripts").rglob("*.eval"))
    assert bundled
    for path in bundled:
        with zipfile.ZipFile(path) as archive:
            text += "\n".join(archive.read(name).decode() for name in archive.namelist())
    for completion in completions:
        if len(completion) > 25 and "sorry" not in completion.lower() and "can't" not in completion.lower():
            assert completion not in text


def _completions(build: Path) -> list[str]:
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = list_eval_logs(str(build / "evaluations" / "logs"))
    return [
        sample.output.completion
        for info in logs
        if "probe" not in info.name.lower()
        for sample in read_eval_log(info).samples or []
    ]


def test_a_second_run_does_nothing_but_draw_what_is_gone(finished: Copy) -> None:
    before = finished.stamps()
    picture = finished.build / "figures" / "safety.svg"
    drawn = picture.read_bytes()
    picture.unlink()
    done = finished.make("reproduce")
    assert done.returncode == 0 and "section" not in done.stderr
    assert picture.read_bytes() == drawn
    assert finished.stamps() == before


@pytest.mark.attack("damaged files")
def test_damaged_files_are_noticed_and_made_again(finished: Copy) -> None:
    """A table emptied, the second half of a model's weights gone to zeros, the file of a stage cut in two."""
    build = finished.build
    table, cut = build / "tables" / "quality.csv", build / "09_thinking" / "items.jsonl"
    [weights] = build.glob("models/high-*/model.safetensors")
    header, half, whole = table.read_bytes().split(b"\n")[0], weights.stat().st_size // 2, cut.read_bytes()
    table.write_bytes(b"")
    weights.write_bytes(weights.read_bytes()[:half] + bytes(weights.stat().st_size - half))
    cut.write_bytes(whole[: len(whole) // 2])
    done = finished.make("reproduce")
    assert done.returncode == 0, done.stderr[-2000:]
    assert table.read_bytes().startswith(header) and any(weights.read_bytes()[half:]) and cut.read_bytes() == whole
    assert "quality.csv: missing or changed" in done.stderr and "items.jsonl: missing or changed" in done.stderr
    assert "trained again" in done.stderr


def say(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *words: str) -> tuple[int, str]:
    """A command of star1lib in this process, at `root`: its exit code and what it said."""
    monkeypatch.chdir(root)
    monkeypatch.delenv("STAR1_DATA", raising=False)
    with caplog.at_level("INFO"):
        return main(list(words)), caplog.text


@pytest.mark.attack("bad parameters")
def test_a_wrong_setting_stops_before_anything_runs(
    finished: Copy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = (finished.root / "params" / "smoke.yaml").read_text(encoding="utf-8")
    (finished.root / "params" / "broken.yaml").write_text(text.replace("audit_rows", "audit_rowz"), encoding="utf-8")
    code, said = say(finished.root, monkeypatch, caplog, "graph", "--profile", "broken")
    assert code == 2 and "did you mean 'audit_rows'" in said
    assert not (finished.root / "build" / "broken" / "notebooks").exists()


def test_a_failing_stage_ends_in_its_sentence(finished: Copy) -> None:
    path = finished.root / "params" / "missing.yaml"
    text = (finished.root / "params" / "smoke.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("train_sets: []", "train_sets: [GPTFuzz, Nonsense]"), encoding="utf-8")
    done = finished.make("reproduce", "PROFILE=missing")
    assert done.returncode != 0
    assert "Nonsense" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (finished.root / "build" / "missing" / "01_sources" / "manifest.json").exists()


def test_clean_asks(finished: Copy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, said = say(finished.root, monkeypatch, caplog, "clean", "--profile", "smoke")
    assert code == 2 and "YES=1" in said
    assert (finished.build / "models").exists()


def test_the_selection_exports_as_a_dataset(
    finished: Copy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert say(finished.root, monkeypatch, caplog, "export", "--profile", "smoke")[0] == 0
    rows = json.loads((finished.build / "dataset" / "data.json").read_text(encoding="utf-8"))
    assert len(rows) == len(files.read_jsonl(finished.build / "04_selection" / "selected.jsonl"))


def test_executed_notebooks_carry_their_parameters(finished: Copy) -> None:
    cells = json.loads((finished.root / runner.executed("smoke", "05_sft")).read_text(encoding="utf-8"))["cells"]
    injected = ["".join(c["source"]) for c in cells if "injected-parameters" in c["metadata"].get("tags", [])]
    assert len(injected) == 1
    assert "smoke" in injected[0]
