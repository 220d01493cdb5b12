"""Ours beside the paper's: one table, the averages, and each finding against our figures (paper 4).

The paper's numbers are the printed ones (`star1lib/assets/paper/paper_tables.csv`); ours come from the
judged items of the run. They differ in model size, judge and number of questions, and every row says so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from star1lib import stats
from star1lib.evaluation import run
from star1lib.records import ItemResult

STAGES = ("06_safety", "07_reasoning", "08_data_quality", "10_over_refusal")
_COLUMNS = {
    "strongreject": "StrongREJECT",
    "jbb": "JBB-Behaviors",
    "wildchat": "WildChat",
    "wildjailbreak": "WildJailbreak-eval",
    "avg_safety": "average safety",
    "mmlu_pro": "MMLU-Pro",
    "aime2024": "AIME2024",
    "math500": "MATH500",
    "gpqa_diamond": "GPQA-Diamond",
    "humaneval": "HumanEval",
    "avg_reasoning": "average reasoning",
}
_AVERAGED = {
    "safe": "average safety",
    "refused": "average refused",
    "correct": "average reasoning",
    "answered": "benign answered",
}


def paper_rows() -> list[dict[str, Any]]:
    """The printed tables, one row per table, model, variant and benchmark; values as fractions."""
    text = resources.files("star1lib").joinpath("assets/paper/paper_tables.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = []
    for row in csv.DictReader(lines):
        for column, benchmark in _COLUMNS.items():
            if row[column]:
                rows.append(
                    {
                        "table": int(row["table"]),
                        "model": row["base"],
                        "variant": row["model"],
                        "benchmark": benchmark,
                        "value": float(row[column]) / 100,
                    }
                )
    return rows


def all_items(out: str | Path) -> list[ItemResult]:
    """The judged items of every evaluating stage of a build, each once."""
    return run.read(*(Path(out) / stage for stage in STAGES))


def write(folder: str | Path, items: Sequence[ItemResult]) -> None:
    """Write the items that the figures rest on, manifest last."""
    run.write(folder, items)


def averages(items: Sequence[ItemResult], seed: int) -> list[dict[str, Any]]:
    """Per variant and metric: the unweighted mean over benchmarks, as the paper averages, with its interval.

    Only benchmarks that every variant of a metric was asked are averaged, so that means compare.
    """
    rows = []
    for metric, title in _AVERAGED.items():
        mine = [item for item in items if item.metric == metric]
        variants = list(dict.fromkeys(item.variant for item in mine))
        asked = [{item.benchmark for item in mine if item.variant == variant} for variant in variants]
        shared = sorted(set.intersection(*asked)) if asked else []
        for variant in variants:
            groups = {
                name: [item.value for item in mine if item.variant == variant and item.benchmark == name]
                for name in shared
            }
            decided = {name: values for name, values in groups.items() if any(v is not None for v in values)}
            row: dict[str, Any] = {"variant": variant, "metric": metric, "benchmark": title}
            if len(decided) == len(shared) and shared:
                found = stats.average_of_benchmarks(decided, seed)
                row |= {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
            else:
                row |= {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0}
            rows.append({**row, "over": ", ".join(shared)})
    return rows


def main_table(items: Sequence[ItemResult], paper_model: str, seed: int) -> list[dict[str, Any]]:
    """Our rates and averages with intervals and judges, then the paper's printed ones for `paper_model`."""
    rows: list[dict[str, Any]] = []
    for row in stats.rates_table(items):
        rows.append({"who": "ours", **{key: row[key] for key in _SHOWN}, "undecided": row["undecided"]})
    for row in averages(items, seed):
        rows.append({"who": "ours", **{key: row.get(key, "") for key in _SHOWN}, "judge": "as above"})
    seen = set()
    for printed in paper_rows():
        names = (paper_model, paper_model.removeprefix("R1-Distill-").replace("Qwen-", "Qwen2.5-"))
        if printed["model"] in names and printed["variant"] != "Instruct":
            variant = {"base": "R1 Distilled", "STAR-1 High 1K": "STAR-1"}.get(printed["variant"], printed["variant"])
            if (variant, printed["benchmark"]) in seen:
                continue
            seen.add((variant, printed["benchmark"]))
            rows.append(
                {
                    "who": f"paper, {paper_model}",
                    "variant": variant,
                    "benchmark": printed["benchmark"],
                    "value": printed["value"],
                    "judge": "Llama-Guard-3" if printed["table"] != 1 or "safety" in printed["benchmark"] else "",
                }
            )
    return rows


_SHOWN = ("variant", "benchmark", "metric", "value", "low", "high", "n", "judge")


def findings(items: Sequence[ItemResult], seed: int) -> list[dict[str, Any]]:
    """Each finding of the paper with our difference, its interval, and the verdict that the interval allows.

    `holds` when the whole interval lies on the finding's side of zero, `fails` when it lies on the
    other, `undecided` when it holds zero.
    """
    rows = []
    for text, metric, better, worse in _FINDINGS:
        found = _pooled_difference(items, metric, better, worse, seed)
        if found is None:
            rows.append({"finding": text, "ours": f"{better} - {worse}", "n": 0, "verdict": "not measured here"})
            continue
        gap, n = found
        verdict = "holds" if gap.low > 0 else "fails" if gap.high < 0 else "undecided at this n"
        rows.append(
            {
                "finding": text,
                "ours": f"{better} - {worse}, {metric}",
                "difference": gap.value,
                "low": gap.low,
                "high": gap.high,
                "n": n,
                "verdict": verdict,
            }
        )
    return rows


_FINDINGS = (
    ("Safety rises by fine-tuning on the selected rows (the paper: by 40 points)", "safe", "star1", "base"),
    ("Refusals of harmful prompts rise by fine-tuning on the selected rows", "refused", "star1", "base"),
    ("Safety rises without the thinking trace too", "safe", "star1_no_thinking", "base"),
    ("Refusals rise without the thinking trace too", "refused", "star1_no_thinking", "base"),
    ("Reasoning is kept (the paper loses 1.1 points; a whole interval below zero fails)", "correct", "star1", "base"),
    ("A reasoning model needs the trace in its rows (safety)", "safe", "star1", "star1_no_thinking"),
    ("High-scored rows beat medium-scored ones (safety)", "safe", "high", "medium"),
    ("High-scored rows beat medium-scored ones (refusals)", "refused", "high", "medium"),
    ("Fine-tuning makes a model refuse benign questions", "answered", "base", "star1_no_thinking"),
    ("Benign twins in the mixture repair over-refusal", "answered", "star1_with_twins", "star1_no_thinking"),
)


def _pooled_difference(
    items: Sequence[ItemResult], metric: str, first: str, second: str, seed: int
) -> tuple[stats.Difference, int] | None:
    """Mean over shared items of `first` minus `second`, bootstrapped by item; None without shared items."""
    values: dict[str, Mapping[tuple[str, str], bool]] = {
        variant: {
            (item.benchmark, item.item_id): item.value
            for item in items
            if item.variant == variant and item.metric == metric and item.value is not None
        }
        for variant in (first, second)
    }
    shared = [key for key in values[first] if key in values[second]]
    if not shared:
        return None
    a, b = [values[first][key] for key in shared], [values[second][key] for key in shared]
    return stats.paired_bootstrap(a, b, seed), len(shared)


def summary(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """One row per variant, one column per benchmark and metric, each cell a rate with interval and n."""
    from star1lib.study.tables import percent

    rows: dict[str, dict[str, Any]] = {}
    for row in stats.rates_table(items):
        cell = percent(row["value"], row["low"], row["high"], row["n"]) if row["n"] else "undecided"
        if row["undecided"] and row["n"]:
            cell += f" ({row['undecided']} undecided)"
        entry = rows.setdefault(row["variant"], {"variant": row["variant"]})
        entry[f"{row['benchmark']}, {row['metric']}"] = cell
    columns = list(dict.fromkeys(column for entry in rows.values() for column in entry))
    return [{column: entry.get(column, "not asked") for column in columns} for entry in rows.values()]
