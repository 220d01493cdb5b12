"""Several seeds of one recipe in one row: the mean of their rates and their spread."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from star1lib import stats
from star1lib.records import ItemResult
from star1lib.training.variants import Variant

_DOSE = re.compile(r"([a-z]+)_([0-9.]+(?:e[+-]?[0-9]+)?)")


def by_dose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of :func:`over_seeds` whose recipe is called `<sweep>_<dose>` (`share_25`, `rate_1e-5`), with both."""
    named = [(row, found) for row in rows if (found := _DOSE.fullmatch(row["recipe"]))]
    return [{"sweep": found[1], "dose": float(found[2]), **row} for row, found in named]


def over_seeds(items: Sequence[ItemResult], variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Each recipe over its seeds: a row per recipe, benchmark and metric with the mean of the rates and their spread.

    `share` is the part of the training rows that is benign, `spread` the standard deviation over seeds (nan for one),
    `lowest` and `highest` the rates of the outermost seeds. Undecided items are left out, as in every rate.
    """
    rates = {(row["variant"], row["benchmark"], row["metric"]): row for row in stats.rates_table(items)}
    groups: dict[tuple[str, str, str], list[float]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for one in variants:
        recipe = one.name.removesuffix(f"_seed{one.seed}")
        total = one.rows + one.benign + one.anchors
        share = (one.benign + one.anchors) / total if total else math.nan
        facts.setdefault(recipe, {"recipe": recipe, "base": one.base, "rows": one.rows, "share": share})
        for (variant, benchmark, metric), row in rates.items():
            if variant == one.name and row["n"]:
                groups.setdefault((recipe, benchmark, metric), []).append(row["value"])
    return [
        {
            **facts[recipe],
            "benchmark": benchmark,
            "metric": metric,
            "seeds": len(values),
            "mean": fmean(values),
            "spread": stdev(values) if len(values) > 1 else math.nan,
            "lowest": min(values),
            "highest": max(values),
        }
        for (recipe, benchmark, metric), values in groups.items()
    ]
