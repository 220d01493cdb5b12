"""The order of the study: the make graph of a profile, and one notebook run by papermill.

One make target per executed notebook, written from the list of stages. Make decides what is stale;
a stage whose folder is damaged has its executed notebook removed first, so that make runs it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from star1lib import policies
from star1lib.errors import UserError
from star1lib.files import atomic_path, lock, read_json, sweep, verify_manifest, write_json, write_text
from star1lib.study import profiles, stages

log = logging.getLogger(__name__)
TIMINGS = "timings.json"
# The data that a package owns, folders of star1lib/assets; files directly in assets belong to every stage.
_ASSETS = {"collection": ("corpus",), "evaluation": ("judge",), "study": ("paper",)}


def executed(profile: str, stage: str) -> Path:
    """The executed notebook of a stage, relative to the repository."""
    return stages.BUILD / profile / "notebooks" / f"{stage}.ipynb"


def params_file(profile: str, stage: str) -> Path:
    """The file with one notebook's parameters, rewritten only when they change."""
    return stages.BUILD / profile / "params" / f"{stage}.json"


def prerequisites(stage: stages.Stage, profile: str, root: Path) -> list[Path]:
    """Everything whose change makes the executed notebook of `stage` stale, relative to `root`.

    The rule is coarse on purpose: the notebook, its parameters, every file of the packages that the stage may
    import, what tables and items look like in a notebook, and the executed notebooks that it needs. A stage that
    runs again for a change that does not touch it finds its expensive results under their content keys.
    """
    library = root / "star1lib"
    files = [path for path in library.glob("*.py") if path.name != "__main__.py"]
    files += [library / "study" / "tables.py", library / "study" / "display.py"]
    files += [path for path in (library / "assets").glob("*") if path.is_file()]
    for package in stage.packages:
        files += library.glob(f"{package}/**/*.py")
        for folder in _ASSETS.get(package, ()):
            files += [path for path in (library / "assets" / folder).rglob("*") if path.is_file()]
    return [
        stage.notebook,
        params_file(profile, stage.name),
        *sorted({path.relative_to(root) for path in files}),
        *(executed(profile, name) for name in stage.needs),
    ]


def forget_damaged(profile: str, root: Path = Path()) -> list[str]:
    """Remove executed notebooks whose stage folder is missing, unfinished or changed; return their stages.

    Make then runs those stages, and what depends on them, again.
    """
    damaged = []
    for stage in stages.STAGES:
        copy = root / executed(profile, stage.name)
        if not copy.exists():
            continue
        try:
            verify_manifest(root / stages.BUILD / profile / stage.name)
        except UserError as err:
            log.warning("%s (it will run again)", err)
            copy.unlink()
            damaged.append(stage.name)
    return damaged


def write_graph(profile: profiles.Profile, *, mirror: str | None, root: Path = Path()) -> Path:
    """Write the parameter files that changed and `build/<profile>/graph.mk`; return the graph's path."""
    name = profile.name
    with lock(root / stages.BUILD / name, "graph"):
        sweep(root / stages.BUILD / name)
        forget_damaged(name, root)
        for stage in stages.STAGES:
            values = profiles.parameters(profile, stage.name, mirror=mirror, root=root)
            target = root / params_file(name, stage.name)
            if _bookkeeping(target) != values:
                write_json(target, values)
        return _write_graph(profile, root)


def _bookkeeping(path: Path) -> Any:
    """The content of a file that can be made again; None, with a warning, when it is damaged."""
    try:
        return read_json(path) if path.exists() else None
    except UserError as err:
        log.warning("%s (it is made again)", err)
        return None


def _write_graph(profile: profiles.Profile, root: Path) -> Path:
    name = profile.name
    lines = ["# Written by `python -m star1lib graph`; do not edit.", ""]
    targets = [executed(name, stage.name) for stage in stages.STAGES]
    lines += [f"all: {' '.join(map(str, targets))}", ".PHONY: all", ""]
    needed = {stage.name: prerequisites(stage, name, root) for stage in stages.STAGES}
    if profile.policies:
        needed = {name: [*paths, Path(profile.policies)] for name, paths in needed.items()}
    for stage, target in zip(stages.STAGES, targets, strict=True):
        lines += [
            f"{target}: {' '.join(map(str, needed[stage.name]))}",
            f"\t@$(PYTHON) -m star1lib run --profile {name} {stage.name}",
            "",
        ]
    # A module that a fresh checkout no longer has must not stop make with "no rule".
    sources = sorted({str(path) for paths in needed.values() for path in paths})
    lines += [f"{path}:" for path in sources if path not in {str(target) for target in targets}]
    path = root / stages.BUILD / name / "graph.mk"
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def run_stage(profile: profiles.Profile, name: str, *, root: Path = Path()) -> Path:
    """Execute one notebook and return its executed copy.

    The copy appears under its name only when every cell ran; a failed run is kept beside it as
    `<name>.failed.ipynb`. Raises :class:`UserError` with the sentence that the notebook ended in.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    stage = stages.stage(name)
    values = read_json(root / params_file(profile.name, name))
    target = root / executed(profile.name, name)
    failed = target.with_name(f"{name}.failed.ipynb")
    _announce(profile.name, stage, root)
    _environment(profile)
    started = time.monotonic()
    _end_with_parent()
    try:
        with lock(root / stages.BUILD / profile.name, name), atomic_path(target, suffix=".ipynb") as temporary:
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
    except (DeadKernelError, TimeoutError) as err:
        raise UserError(
            f"{stage.name}: the notebook's process died without a word, most likely for want of memory; close other "
            "programs or lower batch_size, micro_batch_size or max_length in the profile, and run again."
        ) from err
    failed.unlink(missing_ok=True)
    _record(profile.name, name, time.monotonic() - started, root)
    return target


def _end_with_parent() -> None:
    """Die when make dies (Linux); the notebook's kernel watches this process by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def _announce(profile: str, stage: stages.Stage, root: Path) -> None:
    names = [known.name for known in stages.STAGES]
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
    # Threads that wait for work sleep: beside other work on the machine, spinning ones would take its time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    if profile.policies:
        os.environ[policies.VARIABLE] = str(Path(profile.policies).resolve())
    if profile.offline:
        # Without it, libraries try the hub first and stall for most of a minute.
        os.environ["HF_HUB_OFFLINE"] = "1"


def _timings(profile: str, root: Path) -> dict[str, float]:
    value = _bookkeeping(root / stages.BUILD / profile / TIMINGS)
    numbers = value.items() if isinstance(value, dict) else ()
    return {str(name): float(seconds) for name, seconds in numbers if isinstance(seconds, int | float)}


def _record(profile: str, name: str, seconds: float, root: Path) -> None:
    timings = {**_timings(profile, root), name: round(seconds, 1)}
    write_json(root / stages.BUILD / profile / TIMINGS, timings)
    log.info("%s finished in %s", name, _clock(seconds))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
