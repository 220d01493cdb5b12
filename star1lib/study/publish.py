"""From a finished build to committed results: `figures/<profile>/` and the README's tables.

Only small tables and pictures are copied; no completion is among them. The README's tables are
written between markers from the committed files, so that its numbers come from a run and a test can
compare the two.
"""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import Any

from star1lib.errors import UserError
from star1lib.files import read_json, write_json, write_text
from star1lib.study import profiles, report, stages, tables
from star1lib.study.display import readable

FIGURES = Path("figures")
README = Path("README.md")
RESULTS = "results.json"
_TABLES = (
    "main", "summary", "averages", "findings", "safety", "safety_differences", "judges_crossed",
    "reasoning", "reasoning_differences",
    "quality", "quality_differences", "thinking", "thinking_differences", "over_refusal",
    "over_refusal_differences", "over_seeds", "variants", "first", "roles", "sources", "decontamination", "categories",
    "scores", "selection",
    "balance", "scorer_audit", "scorer_agreement", "tagger_audit", "losses",
)  # fmt: skip


def publish(name: str, root: Path = Path()) -> list[Path]:
    """Copy tables and figures of the build `name`, write its results file, refresh the README; return the paths."""
    profile = profiles.load(name, root)
    out = root / stages.BUILD / name
    if not tables.exists(out, "main"):
        raise UserError(f"{out}: not a finished build; run `make reproduce PROFILE={name}` first.")
    target = root / FIGURES / name
    shutil.rmtree(target, ignore_errors=True)
    written = []
    for table in _TABLES:
        if tables.exists(out, table):
            written.append(_copy(tables.folder(out) / f"{table}.csv", target / "tables" / f"{table}.csv"))
    for picture in sorted((out / "figures").glob("*.svg")) + sorted((out / "figures").glob("*.png")):
        written.append(_copy(picture, target / picture.name))
    written.append(write_json(target / RESULTS, results(profile, out)))
    refresh(root)
    return [*written, root / README]


def results(profile: profiles.Profile, out: Path) -> dict[str, Any]:
    """What a results file says: the run's settings, machine, versions, hashes, and the rates themselves."""
    timings = out / "timings.json"
    return {
        "profile": profile.model_dump(),
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "notebook_seconds": read_json(timings) if timings.exists() else {},
        "files": report.hashes(out),
        "main": _rows(out, "main"),
        "findings": _rows(out, "findings"),
    }


def _rows(out: Path, name: str) -> list[dict[str, Any]]:
    frame = tables.read(out, name)
    return [{str(k): (None if v != v else v) for k, v in row.items()} for row in frame.to_dict("records")]


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def refresh(root: Path = Path()) -> Path:
    """Write the README's marked tables again from `figures/`."""
    path = root / README
    return write_text(path, refreshed(path.read_text(encoding="utf-8"), root))


def refreshed(text: str, root: Path = Path()) -> str:
    """`text` with every block between `<!-- table NAME PROFILE -->` and `<!-- end -->` written from its file."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if line.startswith("<!-- table "):
            _, _, name, profile, _ = line.split()
            lines += [line, *_markdown(root / FIGURES / profile, name), "<!-- end -->"]
            inside = True
        elif inside:
            inside = not line.startswith("<!-- end")
        else:
            lines.append(line)
    return "\n".join(lines)


def _markdown(build: Path, name: str) -> list[str]:
    if not tables.exists(build, name):
        return [f"(no `{name}` table in figures/{build.name} yet)"]
    frame = readable(tables.read(build, name)).astype(str)
    if "undecided" in frame.columns and set(frame["undecided"]) <= {"0.0", ""}:
        frame = frame.drop(columns="undecided")
    header = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + " --- |" * len(frame.columns)
    return [header, rule, *("| " + " | ".join(row) + " |" for row in frame.itertuples(index=False, name=None))]
