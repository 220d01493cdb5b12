"""One training run over several processes: written as a job, started by `accelerate launch`, read back.

The notebook's process writes the job and waits; each launched process runs `python -m star1lib.training.launched JOB`.
How many processes, on how many machines and how the model is shared out is the launch configuration's affair
(`params/accelerate/`); the rows of every optimizer step are those of one process.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from star1lib.errors import UserError, shorten
from star1lib.files import read_json, read_records, write_json, write_jsonl
from star1lib.training.rows import TrainRow
from star1lib.training.sft import TrainConfig, fit, out_of_memory

log = logging.getLogger(__name__)
PORT = "29533"


def fit_launched(
    rows: Sequence[TrainRow], base: str, work: Path, name: str, config: TrainConfig, save_steps: int
) -> list[dict[str, float]]:
    """As :func:`star1lib.training.sft.fit`, in processes of their own.

    Raises :class:`UserError` with the last error of their log; what was trained is kept and gone on from.
    """
    import torch

    assert config.launch is not None
    if not Path(config.launch).exists():
        raise UserError(f"training.launch: {config.launch} does not exist; name a file of params/accelerate/.")
    work.mkdir(parents=True, exist_ok=True)
    (work / "history.json").unlink(missing_ok=True)
    write_jsonl(work / "rows.jsonl", rows)
    job = {"base": base, "name": name, "config": config.model_dump(), "save_steps": save_steps}
    write_json(work / "job.json", job)
    with (work / "launch.log").open("wb") as out:
        asked = command(config.launch, work, os.environ, torch.cuda.device_count())
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    text = (work / "launch.log").read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        if "out of memory" in text.lower():
            raise out_of_memory(config)
        lines = [line.strip() for line in text.splitlines() if "Error: " in line] or text.splitlines()[-1:] or [""]
        reason = shorten(lines[0].rsplit("Error: ", 1)[-1], 300)
        raise UserError(
            f"{name}: the launched training ended with code {done.returncode} ({reason}); its log is "
            f"{work / 'launch.log'}. Run again, it goes on from its last checkpoint."
        )
    history: list[dict[str, float]] = read_json(work / "history.json")
    return history


def command(launch: str, work: Path, environment: Mapping[str, str], gpus: int = 0) -> list[str]:
    """The command that starts the job in `work`: on this machine, or with srun on every node of a Slurm job.

    A process for each of the `gpus` of every node, or as many as STAR1_PROCESSES or the configuration says.
    """
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch]
    run = ["-m", "star1lib.training.launched", str(work)]
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    if processes := environment.get("STAR1_PROCESSES") or gpus * nodes:
        start += ["--num_processes", str(processes)]
    if nodes == 1:
        return [*start, *run]
    start += ["--num_machines", str(nodes), "--main_process_port", PORT, "--rdzv_backend", "static"]
    start += ["--main_process_ip", environment.get("MASTER_ADDR", "127.0.0.1")]
    # Each node finds its own rank.
    line = f"exec {shlex.join(start)} --machine_rank $SLURM_NODEID {shlex.join(run)}"
    return ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "bash", "-c", line]


def main(work: Path) -> None:
    """What each launched process does: train, save together; the first one writes the history."""
    job = read_json(work / "job.json")
    config = TrainConfig.model_validate(job["config"])
    history = fit(
        read_records(work / "rows.jsonl", TrainRow), job["base"], work, job["name"], config, job["save_steps"]
    )
    if os.environ.get("RANK", "0") == "0":
        write_json(work / "history.json", history)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    main(Path(sys.argv[1]))
