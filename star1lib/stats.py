"""Rates, differences, averages and what a sample can see (paper 3.2, 4.3): no figure without its interval.

How undecided responses count: an item whose value is None (its thinking never closed, or the judge
could not be read) is neither a success nor a failure. `n` counts decided items only, `undecided`
counts the others beside it, and `low_bound` is k / (n + undecided): the rate if every undecided
item were a failure. Proportions are fractions of one, never percentages.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from .errors import UserError
from .records import ItemResult
from .stats_power import holm, paired_floor, power, power_note
from .stats_rank import auc, cohen_kappa, confusion, f1, kappa_interval, weighted_kappa

Value = bool | float | None
DRAWS = 10_000


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Rate(NamedTuple):
    """`k` successes of `n`, as a fraction with its interval; n = 0 gives nan for the value and 0 to 1."""

    k: float
    n: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.k:g}/{self.n} = {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Difference(NamedTuple):
    """A difference of two means with its interval."""

    value: float
    low: float
    high: float


class Spread(NamedTuple):
    """Mean over `n` seeds, standard deviation, and the t interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


class Average(NamedTuple):
    """Unweighted mean over `benchmarks`, its interval, and the total number of decided items."""

    value: float
    low: float
    high: float
    benchmarks: int
    n: int


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of k successes in n; 0 to 1 when n is 0. Raises ValueError unless 0 <= k <= n."""
    if not 0 <= k <= n:
        raise ValueError(f"wilson needs 0 <= k <= n, not k={k}, n={n}")
    if n == 0:
        return Interval(0.0, 1.0)
    z = _z(level)
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(low, high)


def rate(values: Iterable[bool | None], level: float = 0.95) -> Rate:
    """The share of True among decided values (None is left out), with its Wilson interval."""
    decided = [bool(value) for value in values if value is not None]
    k, n = sum(decided), len(decided)
    return Rate(k, n, k / n if n else math.nan, *wilson(k, n, level))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided exact p of paired yes/no outcomes: a binomial test on the pairs that differ; 1.0 when none does."""
    _same_length(a, b)
    only_a = sum(bool(x) and not y for x, y in zip(a, b, strict=True))
    only_b = sum(bool(y) and not x for x, y in zip(a, b, strict=True))
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def paired_bootstrap(
    a: Sequence[bool | float],
    b: Sequence[bool | float],
    seed: int = 0,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Difference:
    """mean(a) - mean(b) over the same items, with a percentile interval of resampled pairs.

    Where all pairs differ by the same amount resampling shows no spread at all, which is not the
    same as certainty; the interval is then widened by what Wilson allows for 0 of n other pairs.
    """
    _same_length(a, b)
    if not len(a):
        return Difference(math.nan, math.nan, math.nan)
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    steps, counts = np.unique(gaps, return_counts=True)
    value = float(gaps.mean())
    if len(steps) == 1:
        slack = wilson(0, len(gaps), level).high
        return Difference(value, max(-1.0, value - slack), min(1.0, value + slack))
    # Resampling n pairs is a multinomial draw over the distinct gaps: same law, far less memory.
    drawn = np.random.default_rng(seed).multinomial(len(gaps), counts / counts.sum(), size=draws)
    means = drawn @ steps / len(gaps)
    return Difference(value, *_percentiles(means, level))


def seeds(values: Sequence[float], level: float = 0.95) -> Spread:
    """Mean, standard deviation and t interval over several seeds; one seed gives nan for all but its mean."""
    if not values:
        raise ValueError("seeds needs at least one value")
    mean, n = fmean(values), len(values)
    if n == 1:
        return Spread(mean, math.nan, math.nan, math.nan, 1)
    from scipy.stats import t

    sd = stdev(values)
    half = float(t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, n)


def average_of_benchmarks(
    results: Mapping[str, Sequence[Value]], seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> Average:
    """Unweighted mean of the benchmarks' means, as in the paper's averages, with its interval.

    Each benchmark gets its own interval (Wilson for yes/no, bootstrap for graded values); the
    distances to their ends add in quadrature, which keeps its width where a benchmark is at 0 or 1.
    A benchmark without a decided item is an error: leaving it out would silently change the average.
    """
    if not results:
        raise UserError("an average over benchmarks needs at least one benchmark; name one in the profile.")
    means: list[float] = []
    below = above = 0.0
    total = 0
    for name, values in results.items():
        decided = [float(value) for value in values if value is not None]
        if not decided:
            raise UserError(f"{name}: no response was decided, so it has no rate to average; rerun it or leave it out.")
        mean, low, high = _mean_interval(decided, seed, level, draws)
        means.append(mean)
        below += (mean - low) ** 2
        above += (high - mean) ** 2
        total += len(decided)
    value, count = fmean(means), len(means)
    low = max(0.0, value - math.sqrt(below) / count)
    return Average(value, low, min(1.0, value + math.sqrt(above) / count), count, total)


def rates_table(items: Sequence[ItemResult], level: float = 0.95) -> list[dict[str, Any]]:
    """One row per variant, benchmark, metric and judge, in order of first appearance.

    Columns: variant, benchmark, metric, judge, k, n, value, low, high, undecided, low_bound,
    cut_off, open_thinking, no_answer, empty (counts of outcomes over all items), items, output_tokens (mean).
    """
    rows: list[dict[str, Any]] = []
    for (variant, benchmark, metric, judge), group in _groups(items).items():
        found = rate((item.value for item in group), level)
        row: dict[str, Any] = {"variant": variant, "benchmark": benchmark, "metric": metric, "judge": judge}
        row |= found._asdict()
        row["undecided"] = len(group) - found.n
        row["low_bound"] = found.k / len(group)
        for outcome in ("cut_off", "open_thinking", "no_answer", "empty"):
            row[outcome] = sum(item.outcome == outcome for item in group)
        row["items"] = len(group)
        row["output_tokens"] = fmean(item.output_tokens for item in group)
        rows.append(row)
    return rows


def differences_table(
    items: Sequence[ItemResult], baseline: str, seed: int = 0, level: float = 0.95
) -> list[dict[str, Any]]:
    """Every variant against `baseline`, paired by item, per benchmark, metric and judge.

    Columns: variant, baseline, benchmark, metric, judge, n (pairs decided in both), unpaired (items
    without a decided partner), gained and lost (pairs that changed), difference, low, high
    (variant minus baseline, paired bootstrap), p (exact McNemar), p_holm (over this table),
    smallest_visible (least difference this n can call significant).
    """
    groups = _groups(items)
    if baseline not in {item.variant for item in items}:
        raise UserError(f"baseline '{baseline}' has no results; evaluate it or name another variant.")
    rows: list[dict[str, Any]] = []
    for (variant, benchmark, metric, judge), group in groups.items():
        reference = groups.get((baseline, benchmark, metric, judge))
        if variant == baseline or reference is None:
            continue
        before = _by_item(reference)
        after = _by_item(group)
        shared = [name for name in after if before.get(name) is not None and after[name] is not None]
        a, b = [bool(after[name]) for name in shared], [bool(before[name]) for name in shared]
        gap = paired_bootstrap(a, b, seed, level=level)
        row: dict[str, Any] = {"variant": variant, "baseline": baseline, "benchmark": benchmark}
        row |= {"metric": metric, "judge": judge, "n": len(shared)}
        row["unpaired"] = len(set(after) | set(before)) - len(shared)
        row["gained"] = sum(x and not y for x, y in zip(a, b, strict=True))
        row["lost"] = sum(y and not x for x, y in zip(a, b, strict=True))
        row |= {"difference": gap.value, "low": gap.low, "high": gap.high, "p": mcnemar(a, b)}
        row["smallest_visible"] = paired_floor(len(shared))
        rows.append(row)
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows


def _groups(items: Sequence[ItemResult]) -> dict[tuple[str, str, str, str], list[ItemResult]]:
    groups: dict[tuple[str, str, str, str], list[ItemResult]] = defaultdict(list)
    for item in items:
        groups[item.variant, item.benchmark, item.metric, item.judge].append(item)
    return dict(groups)


def _by_item(group: Sequence[ItemResult]) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {}
    for item in group:
        if item.item_id in found:
            raise UserError(
                f"{item.variant}, {item.benchmark}: item {item.item_id} appears twice, so it cannot be paired; "
                "delete the results of that benchmark and rerun it."
            )
        found[item.item_id] = item.value
    return found


def _mean_interval(values: Sequence[float], seed: int, level: float, draws: int) -> tuple[float, float, float]:
    mean = fmean(values)
    if set(values) <= {0.0, 1.0}:
        return mean, *wilson(int(sum(values)), len(values), level)
    return paired_bootstrap(values, [0.0] * len(values), seed, draws, level)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _same_length(a: Sequence[Any], b: Sequence[Any]) -> None:
    if len(a) != len(b):
        raise ValueError(f"paired values differ in length: {len(a)} and {len(b)}")


__all__ = [
    "Average",
    "Difference",
    "Interval",
    "Rate",
    "Spread",
    "auc",
    "average_of_benchmarks",
    "cohen_kappa",
    "confusion",
    "differences_table",
    "f1",
    "holm",
    "kappa_interval",
    "mcnemar",
    "paired_bootstrap",
    "paired_floor",
    "power",
    "power_note",
    "rate",
    "rates_table",
    "seeds",
    "weighted_kappa",
    "wilson",
]
