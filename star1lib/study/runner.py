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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from star1lib import files, policies
from star1lib.errors import UserError, plain
from star1lib.study import profiles, room, stages, tables

log = logging.getLogger(__name__)
TIMINGS = "timings.json"
MADE = "made.json"  # per stage: the tables that it wrote and its executed notebook, by hash


class _Fact(TypedDict):
    sha256: str
    bytes: int


_Made = dict[str, dict[str, _Fact]]
_Times = dict[str, float]
_Kept = TypeVar("_Kept", bound=dict[str, Any])

# The data that a package owns, folders of star1lib/assets; files directly in assets belong to every stage.
_ASSETS = {"collection": ("corpus",), "evaluation": ("judge",), "study": ("paper",)}


def executed(build: str, stage: str) -> Path:
    """The executed notebook of a stage in a build (`<profile>`, or `<profile>/<model>`), relative to the repository."""
    return stages.BUILD / build / "notebooks" / f"{stage}.ipynb"


def params_file(build: str, stage: str) -> Path:
    """The file with one notebook's parameters, rewritten only when they change."""
    return stages.BUILD / build / "params" / f"{stage}.json"


def prerequisites(step: stages.Step, known: Sequence[stages.Step], root: Path) -> list[Path]:
    """Everything whose change makes the executed notebook of `step` stale, relative to `root`.

    The rule is coarse on purpose: the notebook, its parameters, every file of the packages that the stage may
    import, what tables and items look like in a notebook, and the executed notebooks that it needs. A stage that
    runs again for a change that does not touch it finds its expensive results under their content keys.
    """
    library, stage = root / "star1lib", step.stage
    sources = [path for path in library.glob("*.py") if path.name != "__main__.py"]
    sources += [library / "study" / "tables.py", library / "study" / "display.py"]
    sources += [path for path in (library / "assets").glob("*") if path.is_file()]
    for package in stage.packages:
        sources += library.glob(f"{package}/**/*.py")
        for folder in _ASSETS.get(package, ()):
            sources += [path for path in (library / "assets" / folder).rglob("*") if path.is_file()]
    return [
        stage.notebook,
        params_file(step.build, stage.name),
        *sorted({path.relative_to(root) for path in sources}),
        *(executed(one.build, one.stage.name) for one in stages.needs(step, known)),
    ]


def forget_damaged(steps: Sequence[stages.Step], root: Path = Path()) -> list[str]:
    """Remove executed notebooks that changed, or whose tables or stage folder did; return their stages.

    Make then runs those stages, and what depends on them, again.
    """
    damaged = []
    for step in steps:
        copy, build = root / executed(step.build, step.stage.name), root / stages.BUILD / step.build
        if not copy.exists():
            continue
        try:
            files.verify_manifest(build / step.stage.name)
            files.check_listing(build, _bookkeeping(build / MADE, _Made).get(step.stage.name, {}))
        except UserError as err:
            log.warning("%s (it will run again)", err)
            copy.unlink()
            damaged.append(step.stage.name)
    return damaged


def write_graph(
    profile: profiles.Profile, *, mirror: str | None, root: Path = Path(), models: Sequence[str] = ()
) -> Path:
    """Write the parameter files that changed and `build/<profile>/graph.mk`; return the graph's path.

    The graph runs the named `models` of the profile's list, all without names; the last stage reads those and every
    other one that an earlier run finished.
    """
    name = profile.name
    chosen = profile.chosen(models)
    with files.lock(root / stages.BUILD / name, "graph"):
        files.sweep(root / stages.BUILD / name)
        steps = stages.steps(name, chosen)
        forget_damaged(steps, root)
        read = [model for model in profile.chosen() if model in chosen or model in finished(profile, root)]
        for step in steps:
            own = profile if step.build == name else profile.of(step.build.removeprefix(f"{name}/"))
            values = profiles.parameters(own, step.stage.name, mirror=mirror, root=root,
                                         models=read if own is profile else ())  # fmt: skip
            target = root / params_file(step.build, step.stage.name)
            if _bookkeeping(target, dict[str, Any]) != values:
                files.write_json(target, values)
        return _write_graph(profile, steps, root)


def finished(profile: profiles.Profile, root: Path = Path()) -> list[str]:
    """The models of the profile's list whose stages have all been run."""
    last = [stage.name for stage in stages.STAGES if stage.per_model]
    return [model for model in profile.chosen()
            if all((root / executed(f"{profile.name}/{model}", stage)).exists() for stage in last)]  # fmt: skip


def _bookkeeping(path: Path, kind: type[_Kept]) -> _Kept:
    """The `kind` of mapping in a file that can be made again; an empty one, with a warning, when it is damaged."""
    try:
        return TypeAdapter(kind).validate_python(files.read_json(path)) if path.exists() else kind()
    except UserError as err:
        log.warning("%s (it is made again)", err)
    except ValidationError:
        log.warning("%s: it holds something else (it is made again)", path)
    return kind()


def _write_graph(profile: profiles.Profile, steps: Sequence[stages.Step], root: Path) -> Path:
    lines = ["# Written by `python -m star1lib graph`; do not edit.", ""]
    targets = [executed(step.build, step.stage.name) for step in steps]
    lines += [f"all: {' '.join(map(str, targets))}", ".PHONY: all", ""]
    own = [Path(profile.policies)] if profile.policies else []
    needed = {step: [*prerequisites(step, steps, root), *own] for step in steps}
    before: dict[str, str] = {}  # of a build: its stages run one at a time, however many jobs make may run
    for step, target in zip(steps, targets, strict=True):
        lines += [f"{target}: {' '.join(map(str, needed[step]))}{before.get(step.build, '')}",
                  f"\t@$(PYTHON) -m star1lib run --profile {step.build} {step.stage.name}", ""]  # fmt: skip
        before[step.build] = f" | {target}"
    # A module that a fresh checkout no longer has must not stop make with "no rule".
    sources = sorted({str(path) for paths in needed.values() for path in paths})
    lines += [f"{path}:" for path in sources if path not in {str(target) for target in targets}]
    path = root / stages.BUILD / profile.name / "graph.mk"
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.write_text(path, text)
    return path


def run_stage(profile: profiles.Profile, name: str, *, root: Path = Path()) -> Path:
    """Execute one notebook and return its executed copy; `profile` may be that of one model (`Profile.of`).

    The copy appears under its name only when every cell ran; a failed run is kept beside it as
    `<name>.failed.ipynb`. Raises :class:`UserError` with the sentence that the notebook ended in.
    """
    without_grammar()
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    stage = stages.stage(name)
    build = root / stages.BUILD / profile.name
    values = files.read_json(root / params_file(profile.name, name))
    target = root / executed(profile.name, name)
    failed = target.with_name(f"{name}.failed.ipynb")
    _announce(profile.name, stage, root)
    _environment(profile)
    started, before = time.monotonic(), {path: path.stat().st_mtime_ns for path in tables.folder(build).glob("*.csv")}
    _end_with_parent()
    room.raise_file_limit()
    try:
        with files.lock(build, name), files.atomic_path(target, suffix=".ipynb") as temporary:
            try:
                papermill.execute_notebook(
                    str(root / stage.notebook), str(temporary), parameters=values, kernel_name="python3", cwd=str(root),
                    progress_bar=False, log_output=False, stderr_file=_Terminal(),
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                )  # fmt: skip
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
    written = [path for path in tables.folder(build).glob("*.csv") if before.get(path) != path.stat().st_mtime_ns]
    files.write_json(build / MADE, _bookkeeping(build / MADE, _Made) | {name: files.listing(build, [*written, target])})
    seconds = time.monotonic() - started
    files.write_json(build / TIMINGS, _bookkeeping(build / TIMINGS, _Times) | {name: round(seconds, 1)})
    log.info("%s finished in %s", name, _clock(seconds))
    return target


def without_grammar() -> None:
    """Have papermill and nbconvert imported without the grammar of IRIs that jsonschema builds where it is installed.

    That takes over a second each time; without the package jsonschema leaves IRIs unchecked, and notebooks hold none.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


class _Terminal:
    """Standard error for what a notebook writes: of all control characters, a progress bar's carriage return acts."""

    def write(self, text: str) -> int:
        """Write `text`, its other control characters as escapes."""
        return sys.stderr.write("\r".join(map(plain, text.split("\r"))))

    def flush(self) -> None:
        """As standard error does."""
        sys.stderr.flush()


def _end_with_parent() -> None:
    """Die when make dies (Linux); the notebook's kernel watches this process by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def _announce(build: str, stage: stages.Stage, root: Path) -> None:
    _, _, model = build.partition("/")
    names = [known.name for known in stages.STAGES if known.per_model or not model]
    place, timings = names.index(stage.name), _bookkeeping(root / stages.BUILD / build / TIMINGS, _Times)
    left = [timings[name] for name in names[place:] if name in timings]
    remaining = f", about {_clock(sum(left))} left by the last run's times" if len(left) == len(names) - place else ""
    spent = _clock(sum(timings.get(name, 0.0) for name in names[:place]))
    title = f"{stage.name} · section {stage.section} · {stage.title}"
    counted = f"{len(names) - place - 1} to go after it; {spent} spent before it{remaining}"
    log.info("%s[%d/%d] %s (%s)", f"{model} " if model else "", place + 1, len(names), title, counted)


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


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
