"""Agreement and ranking: kappa, confusion, AUC, F1 (judge cards, tagging and scoring agreement).

What a sample can see, and p values of many comparisons at once.

Rates, differences, averages and what a sample can see (paper 3.2, 4.3): no figure without its interval.

How undecided responses count: an item whose value is None (its thinking never closed, or the judge
could not be read) is neither a success nor a failure. `n` counts decided items only, `undecided`
counts the others beside it, and `low_bound` is k / (n + undecided): the rate if every undecided
item were a failure. Proportions are fractions of one, never percentages.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from star1lib.errors import UserError
from star1lib.records import ItemResult

Label = TypeVar("Label", bound=Hashable)
Weights = Literal["none", "linear", "quadratic"]


class F1(NamedTuple):
    """Micro F1 over all decisions, macro F1 over labels, F1 per label."""

    micro: float
    macro: float
    per_label: dict[str, float]


def confusion(a: Sequence[Label], b: Sequence[Label], labels: Sequence[Label]) -> np.ndarray:
    """Counts (len(labels), len(labels)): rows are `a`, columns `b`. A label outside `labels` is a ValueError."""
    if len(a) != len(b):
        raise ValueError(f"labels differ in length: {len(a)} and {len(b)}")
    place = {label: i for i, label in enumerate(labels)}
    unknown = {label for label in (*a, *b) if label not in place}
    if unknown:
        raise ValueError(f"labels not listed: {sorted(map(str, unknown))}")
    table = np.zeros((len(labels), len(labels)), dtype=int)
    for x, y in zip(a, b, strict=True):
        table[place[x], place[y]] += 1
    return table


def weighted_kappa(
    a: Sequence[Label],
    b: Sequence[Label],
    labels: Sequence[Label],
    weights: Weights = "linear",
) -> float:
    """Cohen's kappa of two raters over ordered `labels`, disagreements weighted by their distance.

    1.0 when both give one and the same label throughout; nan without items.
    """
    return float(_kappa(confusion(a, b, labels)[None].astype(float), weights)[0])


def kappa_interval(
    a: Sequence[Label],
    b: Sequence[Label],
    labels: Sequence[Label],
    weights: Weights = "none",
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of :func:`weighted_kappa` over resampled items; nan without items."""
    seen = confusion(a, b, labels)
    total = int(seen.sum())
    if total == 0:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).multinomial(total, seen.ravel() / total, size=draws)
    values = _kappa(drawn.reshape(draws, *seen.shape).astype(float), weights)
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _kappa(tables: np.ndarray, weights: Weights) -> np.ndarray:
    """Kappa of each of `tables` (draws, labels, labels)."""
    size = tables.shape[-1]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    cost = {"none": (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    total = tables.sum(axis=(1, 2))
    chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    expected = (cost * chance).sum(axis=(1, 2))
    observed = (cost * tables).sum(axis=(1, 2)) * total
    agreed = np.where(total > 0, 1.0, math.nan)
    return np.where(expected > 0, 1.0 - observed / np.where(expected > 0, expected, 1.0), agreed)


def cohen_kappa(a: Sequence[Label], b: Sequence[Label]) -> float:
    """Cohen's kappa of two raters over unordered labels."""
    labels = sorted({*a, *b}, key=str)
    return weighted_kappa(a, b, labels, "none")


def auc(gold: Sequence[bool], score: Sequence[float]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half; nan if one class."""
    if len(gold) != len(score):
        raise ValueError(f"gold and score differ in length: {len(gold)} and {len(score)}")
    positive = np.asarray(gold, dtype=bool)
    values = np.asarray(score, dtype=float)
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return math.nan
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def f1(gold: Sequence[str | Collection[str]], guess: Sequence[str | Collection[str]]) -> F1:
    """F1 of single labels or sets of labels per item.

    Macro is over the labels that occur in `gold`; with one label per item micro F1 is the accuracy.
    """
    if len(gold) != len(guess):
        raise ValueError(f"gold and guess differ in length: {len(gold)} and {len(guess)}")
    right: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    given: Counter[str] = Counter()
    for truth, answer in zip(gold, guess, strict=True):
        expected, found = _as_set(truth), _as_set(answer)
        wanted.update(expected)
        given.update(found)
        right.update(expected & found)
    per_label = {label: 2 * right[label] / (wanted[label] + given[label]) for label in sorted(wanted)}
    total = wanted.total() + given.total()
    micro = 2 * right.total() / total if total else math.nan
    macro = sum(per_label.values()) / len(per_label) if per_label else math.nan
    return F1(micro, macro, per_label)


def _as_set(labels: str | Collection[str]) -> set[str]:
    return {labels} if isinstance(labels, str) else set(labels)


def power(n: int, p: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference from rate `p` that two independent samples of `n` items show with this power.

    Arcsine approximation, in the direction of one half (the harder one); 1.0 when even the largest
    change cannot be seen.
    """
    if n < 1 or not 0 <= p <= 1:
        raise ValueError(f"power needs n >= 1 and 0 <= p <= 1, not n={n}, p={p}")
    need = (NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)) * math.sqrt(2 / n)
    near = min(p, 1 - p)
    angle = math.asin(math.sqrt(near)) + need / 2
    return 1.0 if angle > math.pi / 2 else math.sin(angle) ** 2 - near


def paired_floor(n: int, alpha: float = 0.05) -> float:
    """Least difference that exact McNemar can ever call significant on `n` pairs; above 1 means none can."""
    changed = 1
    while 2 * 0.5**changed > alpha:
        changed += 1
    return changed / n if n else math.inf


def power_note(n: int, p: float, alpha: float = 0.05) -> str:
    """One sentence on what `n` items can see, for under a table."""
    floor = paired_floor(n, alpha)
    paired = (
        f"a paired comparison needs at least {100 * floor:.1f} points"
        if floor <= 1
        else "no paired comparison can be significant"
    )
    return f"n = {n}: from a rate of {p:.2f}, 80% power needs {100 * power(n, p, alpha):.1f} points; {paired}."


def holm(values: Sequence[float]) -> list[float]:
    """Holm-adjusted p values, in the order given."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted = [0.0] * len(values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = running
    return adjusted


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
