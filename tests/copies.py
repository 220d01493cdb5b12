"""Copies of the repository: what make would run there, and studies that look run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from star1lib import files
from star1lib.study import profiles, runner, stages


def copied(repository: Path, root: Path, *folders: str) -> Path:
    """These folders of the repository at `root`; without names all that a study needs."""
    for folder in folders or ("notebooks", "params", "star1lib"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(repository / folder, root / folder, ignore=ignored)
    return root


def would_run(root: Path, profile: str, *models: str) -> list[str]:
    """What make would run: `build stage`, in order."""
    graph = runner.write_graph(profiles.load(profile, root), mirror=None, root=root, models=models)
    command = ["make", "-n", "-f", str(graph.relative_to(root)), "PYTHON=python", "all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [line.split("--profile ")[1] for line in done.stdout.splitlines() if "--profile" in line]


def pretend(root: Path, profile: str, *models: str) -> None:
    """Every step looks run, each later than the one before it."""
    for path in root.rglob("*"):
        os.utime(path, (1_000, 1_000))
    for place, step in enumerate(stages.steps(profile, models)):
        files.write_manifest(root / "build" / step.build / step.stage.name, [])
        executed = root / runner.executed(step.build, step.stage.name)
        executed.parent.mkdir(parents=True, exist_ok=True)
        executed.touch()
        os.utime(executed, (2_000 + place, 2_000 + place))
