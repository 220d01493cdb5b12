"""Running one notebook with papermill, and what a reader at the terminal sees meanwhile."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from star1lib import policies
from star1lib.errors import UserError
from star1lib.files import atomic_path, read_json, write_json
from star1lib.study import graph, profiles
from star1lib.study import stages as study

log = logging.getLogger(__name__)
TIMINGS = "timings.json"


def run_stage(profile: profiles.Profile, name: str, *, root: Path = Path()) -> Path:
    """Execute one notebook and return its executed copy.

    The copy appears under its name only when every cell ran; a failed run is kept beside it as
    `<name>.failed.ipynb`. Raises :class:`UserError` with the sentence that the notebook ended in.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    stage = study.stage(name)
    values = read_json(root / graph.params_file(profile.name, name))
    target = root / graph.executed(profile.name, name)
    failed = target.with_name(f"{name}.failed.ipynb")
    _announce(profile.name, stage, root)
    _environment(profile)
    started = time.monotonic()
    try:
        with atomic_path(target, suffix=".ipynb") as temporary:
            try:
                papermill.execute_notebook(
                    str(root / stage.notebook),
                    str(temporary),
                    parameters=values,
                    kernel_name="python3",
                    progress_bar=False,
                    log_output=False,
                    stderr_file=sys.stderr,
                    cwd=str(root),
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                )
            except PapermillExecutionError:
                failed.write_bytes(temporary.read_bytes())
                raise
    except PapermillExecutionError as err:
        if err.ename == "UserError":
            raise UserError(f"{stage.name}: {err.evalue}") from err
        raise UserError(
            f"{stage.name}: {err.ename}: {err.evalue} (the failed run is {failed}; look at its last cell and rerun)."
        ) from err
    failed.unlink(missing_ok=True)
    _record(profile.name, name, time.monotonic() - started, root)
    return target


def _announce(profile: str, stage: study.Stage, root: Path) -> None:
    names = [known.name for known in study.STAGES]
    position = names.index(stage.name)
    timings = _timings(profile, root)
    left = [timings[name] for name in names[position:] if name in timings]
    remaining = (
        f", about {_clock(sum(left))} left by the last run's times" if len(left) == len(names) - position else ""
    )
    elapsed = sum(timings.get(name, 0.0) for name in names[:position])
    log.info(
        "[%d/%d] %s · section %s · %s (%d to go after it; %s spent before it%s)",
        position + 1,
        len(names),
        stage.name,
        stage.section,
        stage.title,
        len(names) - position - 1,
        _clock(elapsed),
        remaining,
    )


def _environment(profile: profiles.Profile) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    if profile.policies:
        os.environ[policies.VARIABLE] = str(Path(profile.policies).resolve())
    if profile.offline:
        # Without it, libraries try the hub first and stall for most of a minute.
        os.environ["HF_HUB_OFFLINE"] = "1"


def _timings(profile: str, root: Path) -> dict[str, float]:
    path = root / study.BUILD / profile / TIMINGS
    value: Any = read_json(path) if path.exists() else {}
    return {str(name): float(seconds) for name, seconds in value.items()}


def _record(profile: str, name: str, seconds: float, root: Path) -> None:
    timings = {**_timings(profile, root), name: round(seconds, 1)}
    write_json(root / study.BUILD / profile / TIMINGS, timings)
    log.info("%s finished in %s", name, _clock(seconds))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
