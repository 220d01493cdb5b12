"""A profile on a Slurm cluster: one job file, written here and handed to `sbatch` by the user.

The job runs `make reproduce` on its first node; training spreads itself over all nodes (`training.launch`, see
:func:`star1lib.training.sft.fit_launched`), and a job that ran out of time goes on when the same file is submitted
again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from star1lib.errors import UserError
from star1lib.files import write_text
from star1lib.study import stages
from star1lib.study.profiles import Profile


def write(
    profile: Profile, models: Sequence[str] = (), *, nodes: int = 1, gpus: int = 8, hours: float = 24,
    root: Path = Path(),
) -> Path:  # fmt: skip
    """Write `build/<profile>/slurm.sh` for the chosen `models` and return its path.

    Raises :class:`UserError` for a model that the profile does not have, numbers below one, and several nodes without
    a launch configuration, which would leave all but one idle.
    """
    chosen = profile.chosen(models)
    if min(nodes, gpus, hours) <= 0:
        raise UserError(f"slurm: {nodes} nodes, {gpus} GPUs, {hours:g} hours; each must be more than nothing.")
    if nodes > 1 and not profile.common.get("training", {}).get("launch"):
        raise UserError("slurm: several nodes need training.launch in the profile, a file of params/accelerate/.")
    goal = ["make", "reproduce", f"PROFILE={profile.name}", *([f"MODELS={','.join(chosen)}"] if models else [])]
    minutes = round(60 * hours)
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=star1-{re.sub(r'[^A-Za-z0-9_.-]', '-', profile.name)}",
        f"#SBATCH --nodes={nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={gpus}",
        f"#SBATCH --time={minutes // 60}:{minutes % 60:02d}:00",
        f"#SBATCH --output={stages.BUILD / profile.name}/slurm-%j.log",
        "#SBATCH --requeue",
        "# Submit it from the repository, whose folder all nodes must see; keys come from your environment (--export).",
        "set -eu",
        'cd "$SLURM_SUBMIT_DIR"',
        "# Training starts one launcher a node itself, so everything else runs on the first node alone.",
        'export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
        shlex.join(goal),
    ]
    return write_text(root / stages.BUILD / profile.name / "slurm.sh", "\n".join(lines) + "\n")
