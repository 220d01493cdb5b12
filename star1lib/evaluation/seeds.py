"""Several seeds of one recipe in one row: the mean of their rates and their spread."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

SEED = r"_seed\d+$"
"""Ends the name of a variant that is its recipe's once more, with another seed."""
_DOSE = re.compile(r"([a-z]+)_([0-9.]+(?:e[+-]?[0-9]+)?)")


def by_dose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of :func:`over_seeds` whose recipe is called `<sweep>_<dose>` (`share_25`, `rate_1e-5`), with both."""
    named = [(row, found) for row in rows if (found := _DOSE.fullmatch(row["recipe"]))]
    return [{"sweep": found[1], "dose": float(found[2]), **row} for row, found in named]


def over_seeds(rates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each recipe over its seeds: a row per recipe, benchmark and metric with the mean of its rates and their spread.

    `rates` are rows with variant, benchmark, metric, value and n, such as those of :func:`star1lib.stats.rates_table`.
    `spread` is the standard deviation over seeds (nan for one), `lowest` and `highest` are the outermost seeds' rates.
    """
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rates:
        if row["n"]:
            recipe = re.sub(SEED, "", row["variant"])
            groups.setdefault((recipe, row["benchmark"], row["metric"]), []).append(row["value"])
    return [
        {
            "recipe": recipe,
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
