"""Ours beside the paper's: one table, the averages, the counts that claims are about (paper 4).

The paper's numbers are the printed ones (`star1lib/assets/paper/paper_tables.csv`); ours come from the
judged items of the run. They differ in model size, judge and number of questions, and every row says so.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from star1lib import stats
from star1lib.files import read_records
from star1lib.records import Example, ItemResult
from star1lib.study import claims, tables

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("06_safety", "07_reasoning", "08_data_quality", "10_over_refusal")
AVERAGES = {
    "safe": "average safety",
    "refused": "average refused",
    "correct": "average reasoning",
    "answered": "benign answered",
}
_FACTS = ("table", "model", "model_class", "billions", "role", "label")
_BESIDE = ("undecided", "low_bound", "high_bound", "disagreement")
_SHOWN = ("variant", "benchmark", "metric", "value", "low", "high", "n", "judge")


def paper_rows() -> list[dict[str, Any]]:
    """The printed tables, one row per table, model, role and benchmark; values as fractions.

    Roles are those of the claims; `label` is the name in print.
    """
    text = resources.files("star1lib").joinpath("assets/paper/paper_tables.csv").read_text(encoding="utf-8")
    rows = []
    for row in csv.DictReader(text.splitlines()):
        facts: dict[str, Any] = {name: row.pop(name) for name in _FACTS}
        facts |= {"table": int(facts["table"]), "billions": float(facts["billions"])}
        rows += [{**facts, "benchmark": name, "value": float(rate) / 100} for name, rate in row.items() if rate]
    return rows


@dataclass(frozen=True)
class Part:
    """The judged items of one model of a study; `name` and `title` are empty words for a study of one model.

    `model_class` None: the profile names the classes of its variants itself.
    """

    model: str
    items: list[ItemResult]
    title: str = ""
    model_class: str | None = None
    billions: float | None = None

    @property
    def name(self) -> str:
        """The model under the paper's name for it."""
        return self.title or self.model

    @property
    def titled(self) -> list[ItemResult]:
        """The items, variants called after their model too where there are several models."""
        if not self.title:
            return self.items
        return [item.model_copy(update={"variant": f"{self.title} {item.variant}"}) for item in self.items]


def parts(out: str | Path, base_model: str, models: Mapping[str, Mapping[str, Any]]) -> list[Part]:
    """What was measured of each model of the build `out`: `models` is what the runner says, empty for one model."""
    if not models:
        return [Part(base_model, all_items(out))]
    return [Part(name, all_items(facts["out"]), name, facts["model_class"], facts["billions"])
            for name, facts in models.items()]  # fmt: skip


def studies(parts: Sequence[Part], claim_roles: Mapping[str, Mapping[str, Sequence[str]]]) -> list[claims.Study]:
    """A study per model and class; of several models each plays those roles of its class whose variants it has."""
    made = []
    for part, (kind, played) in itertools.product(parts, claim_roles.items()):
        if part.model_class:
            there = {item.variant for item in part.items}
            played = {role: has for role, names in played.items() if (has := [n for n in names if n in there])}
        if part.model_class in (None, kind):
            made.append(claims.study(part.items, played, model=part.model, model_class=kind, billions=part.billions))
    return made


def beside_printed(
    parts: Sequence[Part],
    claim_roles: Mapping[str, Mapping[str, Sequence[str]]],
    more: Mapping[str, Sequence[str]],
    seed: int,
) -> list[dict[str, Any]]:
    """Every number that the paper prints for a model of `parts`, and our rate of each variant that plays its role.

    `more` names further variants of a role. A number that nobody measured here stands alone: its `variant` is empty.
    """
    ours: dict[tuple[str, str, str], dict[str, Any]] = {}
    for part in parts:
        for row in [*stats.rates_table(part.items), *averages(part.items, seed)]:
            if row["metric"] in ("safe", "correct"):
                ours.setdefault((part.name, row["variant"], row["benchmark"]), row)
    names, rows = {part.name for part in parts}, []
    for printed in paper_rows():
        model, role = printed["model"], printed["role"]
        players = [*claim_roles.get(printed["model_class"], {}).get(role, []), *more.get(role, [])]
        found = [name for name in dict.fromkeys(players) if (model, name, printed["benchmark"]) in ours]
        for name in (found or [""]) if model in names else []:
            mine = ours.get((model, name, printed["benchmark"]), {})
            facts = {key: printed[key] for key in ("table", "model", "label", "benchmark")}
            rates = {key: mine.get(key, math.nan) for key in ("value", "low", "high")}
            rows.append({**facts, "printed": printed["value"], "variant": name, **rates, "n": mine.get("n", 0),
                         "difference": rates["value"] - printed["value"]})  # fmt: skip
    return rows


def all_items(out: str | Path) -> list[ItemResult]:
    """The judged items of every evaluating stage of a build, each once."""
    from star1lib.evaluation import run

    return run.read(*(Path(out) / stage for stage in STAGES))


def averages(items: Sequence[ItemResult], seed: int) -> list[dict[str, Any]]:
    """Per variant and metric: the unweighted mean over benchmarks, as the paper averages, with its interval.

    Only benchmarks that every variant of a metric was asked are averaged, so that means compare; of these
    the paper's alone, where they are all there. `low_bound` and `high_bound` are the means of the benchmarks' bounds.
    """
    rows = []
    known = {(row["variant"], row["metric"], row["benchmark"]): row for row in stats.rates_table(items)}
    for metric, title in AVERAGES.items():
        mine = [item for item in items if item.metric == metric]
        variants = list(dict.fromkeys(item.variant for item in mine))
        asked = [{item.benchmark for item in mine if item.variant == variant} for variant in variants]
        common = sorted(set.intersection(*asked)) if asked else []
        shared = claims.load().averaged(metric, common)
        for variant in variants:
            groups = {name: [item.value for item in mine if (item.variant, item.benchmark) == (variant, name)]
                      for name in shared}  # fmt: skip
            row: dict[str, Any] = {"variant": variant, "metric": metric, "benchmark": title}
            for end in ("low_bound", "high_bound"):
                row[end] = fmean(known[variant, metric, name][end] for name in shared) if shared else math.nan
            row |= {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0}
            if shared and all(any(value is not None for value in values) for values in groups.values()):
                found = stats.average_of_benchmarks(groups, seed)
                row |= {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
            rows.append({**row, "over": ", ".join(shared)})
    return rows


def main_table(items: Sequence[ItemResult], paper_model: str, seed: int) -> list[dict[str, Any]]:
    """Our rates and averages with intervals and judges, then the paper's printed ones for `paper_model`."""
    rows: list[dict[str, Any]] = [{"who": "ours", **{key: row.get(key, "") for key in (*_SHOWN, *_BESIDE)}}
                                  for row in stats.rates_table(items)]  # fmt: skip
    for row in averages(items, seed):
        bounds = {key: row[key] for key in ("low_bound", "high_bound")}
        rows.append({"who": "ours", **{key: row.get(key, "") for key in _SHOWN}, "judge": "as above", **bounds})
    printed = {(row["label"], row["benchmark"]): row for row in paper_rows() if row["model"] == paper_model}
    for (label, benchmark), row in printed.items():
        judge = "Llama-Guard-3" if benchmark in (*claims.load().sets["safe"], AVERAGES["safe"]) else ""
        rows.append({"who": f"paper, {paper_model}", "variant": label, "benchmark": benchmark, "value": row["value"],
                     "judge": judge})  # fmt: skip
    return rows


COUNTED = ("sources", "decontamination", "selection", "balance")


def counts(of: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """What a run counted, under the names of the claims about counts, from its tables `COUNTED` as far as they go."""
    found: dict[str, int] = {}
    if "sources" in of:
        found["sources"] = len(of["sources"].query("kind == 'train' and status == 'loaded'"))
    if "decontamination" in of:
        steps = of["decontamination"].groupby("step", sort=False)[["before", "after"]].sum()
        found |= {"collected": int(steps["before"].iloc[0]), "decontaminated": int(steps["after"].iloc[-1])}
    if "selection" in of:
        found["categories"] = len(of["selection"])
    if "balance" in of:
        found["selected"] = int(of["balance"].query("which == 'selected'")["size"].max())
    return found


def shares(selection: str | Path) -> list[dict[str, Any]]:
    """Category and source shares of the selected set: kind, name, rows, share (two categories count twice)."""
    selected = read_records(Path(selection) / "selected.jsonl", Example)
    counted: Mapping[str, Counter[str]] = {
        "category": Counter(name for row in selected for name in row.category),
        "source": Counter(row.source for row in selected),
    }
    return [{"kind": kind, "name": name, "rows": rows, "share": rows / len(selected)}
            for kind, names in counted.items() for name, rows in names.most_common()]  # fmt: skip


def summary(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """One row per variant, one column per benchmark and metric, each cell a rate with interval and n."""
    rows: dict[str, dict[str, Any]] = {}
    for row in stats.rates_table(items):
        cell = tables.percent(row["value"], row["low"], row["high"], row["n"]) if row["n"] else "undecided"
        if row["undecided"] and row["n"]:
            cell += f" ({row['undecided']} undecided)"
        entry = rows.setdefault(row["variant"], {"variant": row["variant"]})
        entry[f"{row['benchmark']}, {row['metric']}"] = cell
    columns = list(dict.fromkeys(column for entry in rows.values() for column in entry))
    return [{column: entry.get(column, "not asked") for column in columns} for entry in rows.values()]
