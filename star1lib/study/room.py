"""Whether this machine has room for a profile, asked before the first notebook: folders, open files, disk, memory.

The estimates are plain arithmetic over the size of the base models, and say what is needed at least: a checkpoint for
every variant, one resumable checkpoint beside them, and, where no GPU is, the sixteen bytes a parameter of training.
"""

from __future__ import annotations

import re
import resource
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from star1lib.errors import UserError
from star1lib.files import read_json
from star1lib.models import checkpoints
from star1lib.study import plan, stages
from star1lib.study.profiles import Profile

FILES = 256  # open at once: a notebook's process, its kernel and their libraries hold about a hundred
_OTHER_GIB = 1.0  # on disk beside the models: transcripts, answers, executed notebooks, figures
_LIBRARIES_GIB = 2.0  # in memory beside the model: torch, transformers and the rest
_RESUMABLE = 12  # bytes a parameter on disk: weights and two Adam moments in float32
_PARAMETERS = {checkpoints.SMOLLM2: 134_515_008, checkpoints.TINY: 3_250_000}


def check(profile: Profile, root: Path = Path(), models: Sequence[str] = ()) -> None:
    """Raise :class:`UserError`, with numbers and a remedy, for the first thing that `profile` lacks here.

    `models` are those of its list that are run, all without names.
    """
    build = root / stages.BUILD / profile.name
    _check_folders(build)
    if (allowed := raise_file_limit()) < FILES:
        raise UserError(f"open files: {allowed} are allowed here, {FILES} are needed; run `ulimit -n {FILES}` or more.")
    disk, memory = needs(profile, models)
    folders = [root / stages.BUILD / one.name / "models" for one in profile.each(models)]
    made = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) / plan.GIB
    free = shutil.disk_usage(build).free / plan.GIB
    if free < disk - made:
        raise UserError(f"{build}: {free:.1f} GiB are free on its disk, the profile needs about {disk - made:.1f} "
                        "more; free some, or train fewer variants or models.")  # fmt: skip
    there, what = memory_limit()
    if there < memory:
        raise UserError(f"memory: {what} is {there:.1f} GiB, the profile needs about {memory:.1f}; raise it, or take "
                        "a smaller base_model.")  # fmt: skip


def needs(profile: Profile, models: Sequence[str] = ()) -> tuple[float, float]:
    """GiB on disk and in memory that a whole run of `profile` takes at least; its models train one after another.

    Memory of a training that is shared out over GPUs is judged by :mod:`star1lib.study.plan`, not where there are none.
    """
    kept, largest, memory = 0, 0, 0
    billions = {f"{profile.name}/{one.folder}": one.billions for one in profile.models}
    for one in profile.each(models):
        training = one.common.get("training", {})
        parameters = _parameters(str(one.common.get("base_model", checkpoints.SMOLLM2)), billions.get(one.name))
        kept += parameters * _models(one) * (2 if training.get("dtype", "bfloat16") == "bfloat16" else 4)
        largest = max(largest, parameters)
        here = 4 if shutil.which("nvidia-smi") else 0 if training.get("launch") else plan.TRAINING_BYTES
        memory = max(memory, parameters * here)
    return _OTHER_GIB + (kept + largest * _RESUMABLE) / plan.GIB, _LIBRARIES_GIB + memory / plan.GIB


def _models(profile: Profile) -> int:
    """How many models a run trains: every variant once a seed, and the model of stage 0."""
    first = sum(bool(section.get("stage0")) for section in profile.notebooks.values())
    return first + sum(1 + len(profile.setting(stage, "seeds", [])) for stage, _, _ in profile.recipes())


def _parameters(model: str, billions: float | None = None) -> int:
    """Of the base model, as far as that is known before anything is loaded: by its table, its files, or its name."""
    if found := _PARAMETERS.get(model):
        return found
    if shape := plan.known(model):
        return shape.parameters
    if weights := sum(path.stat().st_size for path in Path(model).glob("*.safetensors")):
        config: Any = read_json(Path(model) / "config.json")
        return weights // (4 if "float32" in (config.get("dtype"), config.get("torch_dtype")) else 2)
    if billions:
        return round(1e9 * billions)
    if named := re.search(r"(\d+(?:\.\d+)?)([BM])\b", model, re.IGNORECASE):
        return round(float(named[1]) * (1e9 if named[2] in "bB" else 1e6))
    raise UserError(f"model '{model}': its size is not known; name a folder with its weights, or list it under "
                    "`models:` with its `billions`.")  # fmt: skip


def memory_limit() -> tuple[float, str]:
    """GiB that a process may have here, and what says so; without bound where nothing says."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    there, what = min((_meminfo(), "the machine's memory"), (_cgroup(), "the container's limit (memory.max)"),
                      (float("inf") if soft == resource.RLIM_INFINITY else soft, "ulimit -v"))  # fmt: skip
    return there / plan.GIB, what


def _meminfo() -> float:
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith(("MemTotal:", "SwapTotal:"))]
    return float(sum(sizes)) if sizes else float("inf")


def _cgroup() -> float:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup", name)
        text = path.read_text(encoding="utf-8").strip() if path.exists() else "max"
        if text.isdigit():
            return float(text)
    return float("inf")


def raise_file_limit(wanted: int = 4096) -> int:
    """Raise the soft limit of open files as far as the hard one and `wanted` allow; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)


def _check_folders(build: Path) -> None:
    """Folders that are written to, each with the variable that names another one."""
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        folders = {"HOME": Path(jupyter_runtime_dir()), "STAR1_CACHE": checkpoints.cache_folder()}
    except RuntimeError as err:
        raise UserError("HOME: it names no folder; set it to one that can be written to.") from err
    for variable, folder in {"": build, **folders}.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as err:
            other = f", or set {variable} to a folder that is" if variable else ""
            raise UserError(f"{folder}: cannot be written to ({err.strerror}); make it writable{other}.") from err
