"""The linked HTML report of a build: pictures, tables, executed notebooks, and what exactly ran.

It reads finished tables, figures and notebooks and computes nothing. Completions are not in it, its transcripts
included, unless `STAR1_SHOW_COMPLETIONS=1` is set while it is made.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.evaluation import run
from star1lib.evaluation.judges import offline
from star1lib.files import read_json, read_manifest, write_text
from star1lib.safeguards import SWITCH, completions_shown
from star1lib.study import figures, profiles, runner, stages
from star1lib.study.display import complete, left_out, readable

if TYPE_CHECKING:
    import pandas as pd

_FOLDED = 24  # a table with more rows is folded
_PACKAGES = ("torch", "transformers", "trl", "inspect-ai", "sentence-transformers", "papermill", "numpy", "pandas")


def build(profile: profiles.Profile, *, root: Path = Path()) -> Path:
    """Write `build/<profile>/report/index.html` and its parts; return the page.

    Raises :class:`UserError` when a notebook has not been executed yet.
    """
    import jinja2
    import pandas as pd
    from markupsafe import Markup

    out = root / stages.BUILD / profile.name
    models = runner.finished(profile, root)
    steps = stages.steps(profile.name, models)
    for step in steps:
        if not (root / runner.executed(step.build, step.stage.name)).exists():
            raise UserError(f"{step.stage.name}: not executed yet; run `make reproduce PROFILE={profile.name}` first.")
    page = out / "report" / "index.html"
    builds = {"": profile, **{model: profile.of(model) for model in models}}
    for build in builds.values():
        for name in figures.outdated(root / stages.BUILD / build.name):
            figures.draw(name, root / stages.BUILD / build.name)
    templates = jinja2.PackageLoader("star1lib", "assets/report")
    environment = jinja2.Environment(loader=templates, autoescape=True, trim_blocks=True)
    given = {step: runner.params_file(step.build, step.stage.name) for step in steps}
    files = pd.DataFrame([row for model in builds for row in hashes(out / model)])
    html = environment.get_template("index.html.j2").render(
        profile=profile,
        base_model=", ".join(models) or profile.common.get("base_model", "smollm2"),
        sections=[*(section for model in builds for section in _sections(out, model)), _judges_section()],
        notebooks=_notebooks(steps, out, root),
        transcripts={model: link for model in builds if (link := _transcripts(out, model))},
        shown=completions_shown(),
        left_out=list(dict.fromkeys(why for model in builds for why in left_out(out / model).values())),
        switch=SWITCH,
        machine=Markup(pd.DataFrame([machine()]).T.to_html(header=False, border=0)),
        hashes=_table("data and results by hash", files),
        parameters={_title(step): json.dumps(read_json(root / path), indent=1) for step, path in given.items()},
    )
    return write_text(page, html)


def machine() -> dict[str, Any]:
    """Processor, memory, system and package versions of this machine; no host name, no path."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory GiB": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "judge": f"offline {offline.version()}",
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text(encoding="utf-8"), re.M) if info.exists() else None
    return found[1].strip() if found else platform.processor() or "unknown"


def _title(step: stages.Step) -> str:
    """A step's name, after its model where there are several."""
    return "/".join([*step.build.split("/")[1:], step.stage.name])


def hashes(out: Path) -> list[dict[str, Any]]:
    """The files of every stage with their hash and size, from the stages' manifests."""
    made = {stage.name: read_manifest(out / stage.name) for stage in stages.STAGES}
    return [{"build": out.name, "stage": stage, "file": name, "sha256": facts["sha256"][:16], "bytes": facts["bytes"]}
            for stage, manifest in made.items() if manifest for name, facts in manifest["files"].items()]  # fmt: skip


def _sections(build: Path, model: str = "") -> list[dict[str, Any]]:
    """The sections of a build, or of one of its models: pictures and tables that are there."""
    sections, out = [], build / model
    place = f"../{model}/figures" if model else "../figures"
    for title, drawn, shown in figures.sections(out, out / "figures"):
        if model and not shown:
            continue
        heading = f"{model}: {title}" if model else title
        sections.append({
            "id": re.sub(r"[^a-z0-9]+", "-", heading.lower()),
            "title": heading,
            "figures": [{"src": f"{place}/{name}.svg", "caption": figures.caption(name, out)} for name in drawn],
            "tables": [_table(name.replace("_", " "), complete(readable(frame), out)) for name, frame in shown.items()],
        })  # fmt: skip
    return sections


def _table(title: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A table for the template: its text escaped; a long one folded."""
    from markupsafe import Markup

    html = frame.to_html(index=False, border=0, escape=True, classes="sortable")
    return {"title": title, "html": Markup(html), "rows": len(frame), "folded": len(frame) > _FOLDED}


def _judges_section() -> dict[str, Any]:
    """The judge card: agreement with people, each model left out of its own fit; judges among themselves."""
    from importlib import resources

    import pandas as pd

    text = resources.files("star1lib").joinpath("assets/judge/agreement.json").read_text(encoding="utf-8")
    found: Any = json.loads(text)
    people = pd.DataFrame(found["rows"])[["judge", "held_out", "n", "agreement", "low", "high", "kappa"]]
    shown = ["a", "b", "n", "value", "low", "high", "kappa", "kappa_low", "kappa_high"]
    frames = {"agreement with people": readable(people.rename(columns={"agreement": "value"})),
              "agreement between judges": readable(pd.DataFrame(found["between"])[shown])}  # fmt: skip
    for row in found["rows"]:
        if row["held_out"] in ("every model", "GPTFuzz, whole questions"):
            counts = [{"people \\ judge": label} | dict(zip(row["labels"], line, strict=True))
                      for label, line in zip(row["labels"], row["confusion"], strict=True)]  # fmt: skip
            frames[f"confusion: {row['judge']}, {row['held_out']}"] = pd.DataFrame(counts)
    cards = [_table(title, frame) for title, frame in frames.items()]
    return {"id": "judges", "title": "The judges and their agreement with people", "figures": [], "tables": cards}


def _notebooks(steps: Sequence[stages.Step], out: Path, root: Path) -> list[dict[str, str]]:
    runner.without_grammar()
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")
    listing = []
    for step in steps:
        stage, times = step.stage, root / stages.BUILD / step.build / runner.TIMINGS
        timings = read_json(times) if times.exists() else {}
        source = root / runner.executed(step.build, stage.name)
        page = out / "report" / "notebooks" / f"{_title(step)}.html"
        if not page.exists() or page.stat().st_mtime < source.stat().st_mtime:
            write_text(page, exporter.from_filename(str(source))[0])
        seconds = timings.get(stage.name)
        listing.append({"href": f"notebooks/{_title(step)}.html",
                        "title": f"{_title(step)} · {stage.title}", "section": stage.section,
                        "seconds": f"{seconds:.0f} s here" if seconds else ""})  # fmt: skip
    return listing


def _transcripts(out: Path, model: str = "") -> str:
    """The static bundle of Inspect's viewer, made when there are logs: labels only, or all of it under the switch."""
    shown, logs = completions_shown(), out / model / "evaluations" / "logs"
    target = out / "report" / model / "transcripts"
    index, bare = target / "index.html", target / "labels_only"
    page = index.relative_to(out / "report").as_posix()
    there = list(logs.glob("*.eval"))
    newest = max((path.stat().st_mtime for path in there), default=0.0)
    made = index if shown else bare
    if there and made.exists() and bare.exists() != shown and made.stat().st_mtime >= newest:
        return page
    shutil.rmtree(target, ignore_errors=True)
    if not there:
        return ""
    from inspect_ai.log import bundle_log_dir

    with tempfile.TemporaryDirectory() as labels:
        if not shown and not run.labels_only(logs.parent, labels):
            return ""
        bundle_log_dir(log_dir=str(logs if shown else labels), output_dir=str(target), overwrite=True)
    for path in (index,) if shown else (index, bare):
        path.touch()
    return page
