"""The Slurm job file: what it asks of the cluster, what it runs, and what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.study import profiles, slurm


def test_the_job_file_asks_for_the_cluster_and_runs_one_command(repository: Path, tmp_path: Path) -> None:
    paper = profiles.load("paper", repository)
    path = slurm.write(paper, ["R1-Distill-Qwen-32B"], nodes=4, gpus=8, hours=36.5, root=tmp_path)
    text = path.read_text(encoding="utf-8")
    asked = {line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert {"--nodes=4", "--gpus-per-node=8", "--time=36:30:00", "--ntasks-per-node=1", "--requeue"} <= asked
    assert text.splitlines()[-1] == "make reproduce PROFILE=paper MODELS=R1-Distill-Qwen-32B"
    assert "MASTER_ADDR" in text and "API_KEY" not in text
    subprocess.run(["bash", "-n", str(path)], check=True)
    everything = slurm.write(paper, root=tmp_path).read_text(encoding="utf-8")
    assert everything.splitlines()[-1] == "make reproduce PROFILE=paper"


def test_what_no_cluster_can_give_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more than nothing"):
        slurm.write(profiles.load("paper", repository), nodes=0, root=tmp_path)
    with pytest.raises(UserError, match="no model 'R1-Distil-Qwen-7B'; did you mean 'R1-Distill-Qwen-7B'"):
        slurm.write(profiles.load("paper", repository), ["R1-Distil-Qwen-7B"], root=tmp_path)
    with pytest.raises(UserError, match=r"several nodes need training\.launch"):
        slurm.write(profiles.load("mini", repository), nodes=2, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
