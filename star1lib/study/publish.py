"""From a finished build to committed results: `figures/<profile>/` with a page of its own, and the README's tables.

Only small tables and pictures are copied; no completion is among them. The wide tables stand in
`figures/<profile>/README.md`; the README's short ones are written between markers from the committed files, so that
its numbers come from a run and a test can compare the two.
"""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.files import read_json, write_json, write_text
from star1lib.study import compare, figures, profiles, report, runner, stages, tables
from star1lib.study.display import left_out, readable

if TYPE_CHECKING:
    import pandas as pd

FIGURES = Path("figures")
README = Path("README.md")
RESULTS = "results.json"
_TABLE = re.compile(r"(<!-- table (?P<name>\S+) (?P<profile>\S+) -->)\n.*?<!-- end -->", re.DOTALL)
_SHORT = {"brief": "averages", "seeds": "over_seeds"}
_PICTURES = (".svg", ".png", ".pdf", ".md", ".tex")


def publish(name: str, root: Path = Path()) -> list[Path]:
    """Copy tables and figures of the build `name`, write results and page, refresh the README; return the paths.

    Each finished model of a list has a folder of its own beside them. Raises :class:`UserError` for a build that is not
    finished.
    """
    profile = profiles.load(name, root)
    out, target = root / stages.BUILD / name, root / FIGURES / name
    if not tables.exists(out, "main"):
        raise UserError(f"{out}: not a finished build; run `make reproduce PROFILE={name}` first.")
    shutil.rmtree(target, ignore_errors=True)
    written: list[Path] = []
    # The page of all comes last: it links to those of its models.
    for one in (*map(profile.of, runner.finished(profile, root)), profile):
        written += _publish(one, root / stages.BUILD / one.name, root / FIGURES / one.name)
    return [*written, refresh(root)]


def _publish(profile: profiles.Profile, out: Path, target: Path) -> list[Path]:
    found = [table for table in figures.all_tables() if tables.exists(out, table)]
    written = [_copy(tables.folder(out) / f"{table}.csv", target / "tables" / f"{table}.csv") for table in found]
    pictures = sorted(path for path in (out / "figures").glob("*") if path.suffix in _PICTURES)
    written += [_copy(picture, target / picture.name) for picture in pictures]
    return [*written, write_json(target / RESULTS, results(profile, out)), write_page(target)]


def results(profile: profiles.Profile, out: Path) -> dict[str, Any]:
    """What a results file says: the run's settings, machine, versions, hashes, and the rates themselves."""
    timings = out / "timings.json"
    return {
        "profile": profile.model_dump(),
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "notebook_seconds": read_json(timings) if timings.exists() else {},
        "files": report.hashes(out),
        "left_out": left_out(out),
        "main": _rows(out, "main"),
        "claims": _rows(out, "claims"),
    }


def _rows(out: Path, name: str) -> list[dict[str, Any]]:
    return [{str(k): (None if v != v else v) for k, v in row.items()}
            for frame in tables.some(out, [name]).values() for row in frame.to_dict("records")]  # fmt: skip


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

    def fresh(found: re.Match[str]) -> str:
        return "\n".join([found[1], *_markdown(root / FIGURES / found["profile"], found["name"]), "<!-- end -->"])

    return _TABLE.sub(fresh, text)


def write_page(build: Path) -> Path:
    """Write the page of a published build, `figures/<profile>/README.md`, from its own tables and pictures."""
    about = read_json(build / RESULTS)
    models = sorted(path.parent.name for path in build.glob(f"*/{RESULTS}"))
    lines = [f"# Results of the profile `{about['profile']['name']}`", "", about["profile"]["about"], "",
             f"Run on {about['date']}; settings, versions, hashes and machine are in `{RESULTS}`, every table is in "
             "`tables/`. Rates carry 95% intervals, differences are in points. Long tables are folded.",
             *(["", "By model: " + ", ".join(f"[{model}]({model}/README.md)" for model in models)] if models else []),
             *(f"\n{sentence}" for sentence in about.get("left_out", {}).values())]  # fmt: skip
    rest = sorted(path.stem for path in tables.folder(build).glob("*.csv"))
    for title, drawn, shown in figures.sections(build, build):
        pictures = [f"![{name.replace('_', ' ')}]({name}.svg)\n\n*{tables.inert(figures.caption(name, build))}*\n"
                    for name in drawn]  # fmt: skip
        lines += _section(build, title, pictures, shown)
        rest = [name for name in rest if name not in shown]
    lines += _section(build, "Other tables", [], tables.some(build, rest))
    return write_text(build / README, "\n".join(lines).rstrip() + "\n")


def _section(build: Path, title: str, pictures: list[str], found: Mapping[str, pd.DataFrame]) -> list[str]:
    if not found and not pictures:
        return []
    lines = ["", f"## {title}", "", *pictures]
    for name, frame in found.items():
        lines += ["<details>", f"<summary>{name.replace('_', ' ')}: {len(frame)} rows</summary>", "",
                  *_markdown(build, name), "", "</details>", ""]  # fmt: skip
    return lines


def _markdown(build: Path, name: str) -> list[str]:
    """One table; `brief` and `seeds` are the short ones: a row per variant or recipe, a column per average."""
    frame = tables.some(build, [_SHORT.get(name, name)])
    if not frame:
        return [f"(no `{name}` table in figures/{build.name} yet)"]
    [shown] = map(readable, frame.values())
    return tables.markdown(_wide(shown) if name in _SHORT else shown)


def _wide(averages: pd.DataFrame) -> pd.DataFrame:
    """Averages of variants, or of recipes over their seeds, in a column each."""
    averages = averages[averages["benchmark"].isin(compare.AVERAGES.values())].rename(columns={"recipe": "variant"})
    order = {axis: list(dict.fromkeys(averages[axis])) for axis in ("variant", "benchmark")}
    wide = averages.pivot(index="variant", columns="benchmark", values="value").fillna("not asked")
    return wide.loc[order["variant"], order["benchmark"]].reset_index()
