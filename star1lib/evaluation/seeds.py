"""Several seeds of one recipe in one row: the mean of their rates and their spread."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

SEED = r"_seed\d+$"
"""Ends the name of a variant that is its recipe's once more, with another seed."""
_DOSE = re.compile(r"((?:.+ )?[a-z]+)_([0-9.]+(?:e[+-]?[0-9]+)?)")


def recipe_of(variant: str) -> str:
    """The recipe of a variant, of whatever seed."""
    return re.sub(SEED, "", variant)


def by_dose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of :func:`over_seeds` whose recipe is called `<sweep>_<dose>` (`share_25`, `rate_1e-5`), with both.

    Of several models, whose names stand before the recipe, each has sweeps of its own.
    """
    named = [(row, found) for row in rows if (found := _DOSE.fullmatch(row["recipe"]))]
    return [{"sweep": found[1], "dose": float(found[2]), **row} for row, found in named]


def over_seeds(rates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each recipe over its seeds: a row per recipe, benchmark and metric with the mean of its rates and their spread.

    `rates` are rows with variant, benchmark, metric, value, low, high and n, such as those of
    :func:`star1lib.stats.rates_table`. `value` is the mean over seeds, `spread` their standard deviation (nan for one),
    `low` and `high` the rates of the outermost seeds, of a single seed its 95% interval.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rates:
        if row["n"]:
            groups.setdefault((recipe_of(row["variant"]), row["benchmark"], row["metric"]), []).append(row)
    return [
        _over(rows, recipe=recipe, benchmark=name, metric=metric) for (recipe, name, metric), rows in groups.items()
    ]


def _over(rows: Sequence[Mapping[str, Any]], **named: str) -> dict[str, Any]:
    values = [row["value"] for row in rows]
    several = len(values) > 1
    low, high = (min(values), max(values)) if several else (rows[0]["low"], rows[0]["high"])
    spread = stdev(values) if several else math.nan
    return {**named, "seeds": len(values), "value": fmean(values), "low": low, "high": high, "spread": spread}
