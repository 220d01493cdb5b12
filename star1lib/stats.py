"""Rates, differences, agreement and power (paper 3.2, 4): no figure without its interval.

The formulas are those of scipy, statsmodels and scikit-learn; this module says which of them the study
uses, on which items, and what they give at the edges (no items, one class, no change).

How undecided responses count: an item whose value is None (its thinking never closed, or the judge
could not be read) is neither a success nor a failure. `n` counts decided items only, `undecided`
counts the others beside it. `low_bound` and `high_bound` are the rate of all items if every one whose outcome is
unknown were a failure, or a success; thinking that never closed is unknown even where its value is False (no answer
is a wrong answer). Proportions are fractions of one, never percentages.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from star1lib.errors import UserError
from star1lib.records import ItemResult

if TYPE_CHECKING:
    import numpy as np

Label = TypeVar("Label", bound=Hashable)
Weights = Literal["none", "linear", "quadratic"]
Value = bool | float | None
DRAWS = 10_000
ALPHA = 0.05


class Rate(NamedTuple):
    """`k` successes of `n`, as a fraction with its interval; n = 0 gives nan for the value and 0 to 1."""

    k: float
    n: int
    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two means with its interval."""

    value: float
    low: float
    high: float


class Average(NamedTuple):
    """Unweighted mean over `benchmarks`, its interval, and the total number of decided items."""

    value: float
    low: float
    high: float
    benchmarks: int
    n: int


def wilson(k: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of k successes in n; 0 to 1 when n is 0. Raises ValueError unless 0 <= k <= n."""
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= k <= n:
        raise ValueError(f"wilson needs 0 <= k <= n, not k={k}, n={n}")
    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(k, n, method="wilson")
    # Rounding may leave the closed ends a hair inside.
    return 0.0 if k == 0 else float(low), 1.0 if k == n else float(high)


def rate(values: Iterable[bool | None]) -> Rate:
    """The share of True among decided values (None and nan are left out), with its Wilson interval."""
    decided = [bool(value) for value in values if value is not None and value == value]
    k, n = sum(decided), len(decided)
    return Rate(k, n, k / n if n else math.nan, *wilson(k, n))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided exact p of paired yes/no outcomes: a binomial test on the pairs that differ; 1.0 when none does."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    return float(exact(confusion([bool(x) for x in a], [bool(y) for y in b], [True, False]), exact=True).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Holm-adjusted p values, in the order given."""
    import numpy as np

    # As statsmodels' multipletests, which clears the whole process of garbage at each call, a third of a second.
    found = np.asarray(values, dtype=float)
    order, adjusted = np.argsort(found), np.empty_like(found)
    adjusted[order] = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)).clip(max=1.0)
    return [float(p) for p in adjusted]


def paired_bootstrap(a: Sequence[bool | float], b: Sequence[bool | float], seed: int = 0) -> Difference:
    """mean(a) - mean(b) over the same items, with a 95% percentile interval of resampled pairs.

    Where all pairs differ by the same amount resampling shows no spread at all, which is not the
    same as certainty; the interval is then widened by what Wilson allows for 0 of n other pairs.
    """
    import numpy as np
    from scipy.stats import bootstrap

    if not len(a):
        return Difference(math.nan, math.nan, math.nan)
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    value = float(gaps.mean())
    if (gaps == gaps[0]).all():
        _, slack = wilson(0, len(gaps))
        return Difference(value, max(-1.0, value - slack), min(1.0, value + slack))
    found = bootstrap(
        (gaps,), np.mean, n_resamples=DRAWS, batch=500, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return Difference(value, float(found.low), float(found.high))


def paired_variance(gaps: Sequence[float] | np.ndarray) -> float:
    """Variance of the mean of paired differences (each from -1 to 1), after Agresti and Min (2005).

    Half a pair is added to each of the four outcomes, so that a few pairs, or pairs that all agree, are no certainty.
    """
    import numpy as np

    half = math.sqrt(0.5)
    added = np.append(np.asarray(gaps, dtype=float), [half, -half])
    return float(added.var()) / len(added)


def power(n: int, p: float) -> float:
    """Smallest difference from rate `p` that two independent samples of `n` items show, 5% two-sided, with 80% power.

    Cohen's effect size h (arcsine), in the direction of one half (the harder one); 1.0 when even the
    largest change cannot be seen.
    """
    from statsmodels.stats.power import NormalIndPower

    if n < 1 or not 0 <= p <= 1:
        raise ValueError(f"power needs n >= 1 and 0 <= p <= 1, not n={n}, p={p}")
    effect = NormalIndPower().solve_power(nobs1=n, alpha=ALPHA / 2, power=0.8, alternative="larger")
    near = min(p, 1 - p)
    angle = math.asin(math.sqrt(near)) + float(effect) / 2
    return 1.0 if angle > math.pi / 2 else math.sin(angle) ** 2 - near


def paired_floor(n: int) -> float:
    """Least difference that exact McNemar can ever call significant on `n` pairs; above 1 means none can."""
    return math.ceil(1 - math.log2(ALPHA)) / n if n else math.inf


def power_note(n: int, p: float) -> str:
    """One sentence on what `n` items can see, for under a table."""
    floor = paired_floor(n)
    paired = (
        f"a paired comparison needs at least {100 * floor:.1f} points"
        if floor <= 1
        else "no paired comparison can be significant"
    )
    return f"n = {n}: from a rate of {p:.2f}, 80% power needs {100 * power(n, p):.1f} points; {paired}."


def confusion(a: Sequence[Label], b: Sequence[Label], labels: Sequence[Label]) -> np.ndarray:
    """Counts (len(labels), len(labels)): rows are `a`, columns `b`. A label outside `labels` is a KeyError."""
    import numpy as np

    # scikit-learn's own warns wherever both give one and the same label, and fails on none at all.
    place = {label: number for number, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), dtype=int)
    for x, y in zip(a, b, strict=True):
        table[place[x], place[y]] += 1
    return table


def weighted_kappa(a: Sequence[Label], b: Sequence[Label], labels: Sequence[Label], weights: Weights) -> float:
    """Cohen's kappa of two raters over ordered `labels`, disagreements weighted by their distance.

    1.0 when both give one and the same label throughout; nan without items.
    """
    return _kappa(confusion(a, b, labels), weights)


def cohen_kappa(a: Sequence[Label], b: Sequence[Label]) -> float:
    """Cohen's kappa of two raters over unordered labels."""
    return weighted_kappa(a, b, sorted({*a, *b}, key=str), "none")


def kappa_interval(
    a: Sequence[Label], b: Sequence[Label], labels: Sequence[Label], seed: int = 0
) -> tuple[float, float]:
    """95% percentile interval of :func:`cohen_kappa` over resampled items; nan without items."""
    import numpy as np

    seen = confusion(a, b, labels)
    if not len(a):
        return math.nan, math.nan
    # Resampling items is a multinomial draw over the cells of the table: same law, far less memory.
    drawn = np.random.default_rng(seed).multinomial(len(a), seen.ravel() / len(a), size=2000)
    low, high = np.quantile([_kappa(table.reshape(seen.shape), "none") for table in drawn], [0.025, 0.975])
    return float(low), float(high)


def _kappa(table: np.ndarray, weights: Weights) -> float:
    """Kappa of a table of counts; from the table and not from items, since an interval needs thousands of them."""
    from statsmodels.stats.inter_rater import cohens_kappa

    if not table.sum():
        return math.nan
    if ((table.sum(axis=0) + table.sum(axis=1)) > 0).sum() == 1:
        return 1.0  # both gave one and the same label, where the formula divides zero by zero
    return float(cohens_kappa(table, wt=None if weights == "none" else weights, return_results=False))


def auc(gold: Sequence[bool], score: Sequence[float]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half; nan if one class."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(gold, score)) if len(set(gold)) == 2 else math.nan


def average_of_benchmarks(results: Mapping[str, Sequence[Value]], seed: int = 0) -> Average:
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
        mean, low, high = _mean_interval(decided, seed)
        means.append(mean)
        below += (mean - low) ** 2
        above += (high - mean) ** 2
        total += len(decided)
    value, count = fmean(means), len(means)
    low = max(0.0, value - math.sqrt(below) / count)
    return Average(value, low, min(1.0, value + math.sqrt(above) / count), count, total)


def rates_table(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """One row per variant, benchmark, metric and judge, in order of first appearance.

    Columns: variant, benchmark, metric, judge, k, n, value, low, high, undecided, low_bound, high_bound,
    cut_off, thinking_cut, open_thinking, no_answer, empty, filtered (counts of outcomes over all items), items,
    output_tokens (mean);
    where further judges saw the answers, `disagreement` has :func:`disagreement` in words.
    """
    apart: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for pair in disagreement(items):
        said = f"{pair['other']}: {100 * pair['value']:.0f}% of {pair['n']} differ, kappa {pair['kappa']:.2f}"
        apart[pair["variant"], pair["benchmark"], pair["metric"], pair["judge"]].append(said)
    rows: list[dict[str, Any]] = []
    for (variant, benchmark, metric, judge), group in _groups(items).items():
        found = rate(item.value for item in group)
        row: dict[str, Any] = {"variant": variant, "benchmark": benchmark, "metric": metric, "judge": judge}
        row |= found._asdict()
        row["undecided"] = len(group) - found.n
        row["low_bound"], row["high_bound"] = (fmean(ends) for ends in zip(*map(_ends, group), strict=True))
        for outcome in ("cut_off", "thinking_cut", "open_thinking", "no_answer", "empty", "filtered"):
            row[outcome] = sum(item.outcome == outcome for item in group)
        row["items"] = len(group)
        row["output_tokens"] = fmean(item.output_tokens for item in group)
        if others := apart.get((variant, benchmark, metric, judge)):
            row["disagreement"] = "; ".join(others)
        rows.append(row)
    return rows


def disagreement(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """How far the judge of each row of :func:`rates_table` and each further judge differ on the same answers.

    Columns: variant, benchmark, metric, judge, other, other_value (the rate by the other), k (items that differ), n
    (labelled by both), value, low, high (k / n with Wilson's interval), kappa.
    """
    rows: list[dict[str, Any]] = []
    for (variant, benchmark, metric, judge), group in _groups(items).items():
        for other in dict.fromkeys(name for item in group for name in item.others):
            pairs = [(item.value, item.others.get(other)) for item in group]
            both = [(bool(a), bool(b)) for a, b in pairs if a is not None and b is not None]
            row: dict[str, Any] = {"variant": variant, "benchmark": benchmark, "metric": metric, "judge": judge}
            row |= {"other": other, "other_value": rate(b for _, b in both).value}
            row |= rate(a != b for a, b in both)._asdict()
            rows.append(row | {"kappa": cohen_kappa([a for a, _ in both], [b for _, b in both])})
    return rows


def differences_table(items: Sequence[ItemResult], baseline: str, seed: int = 0) -> list[dict[str, Any]]:
    """Every variant against `baseline`, paired by item, per benchmark, metric and judge.

    Columns: variant, baseline, benchmark, metric, judge, n (pairs decided in both), unpaired (items
    without a decided partner), gained and lost (pairs that changed), difference, low, high
    (variant minus baseline, paired bootstrap), p (exact McNemar), p_holm (over this table),
    smallest_visible (least difference this n can call significant), cut_off_difference (share of responses
    that the budget ended, in the answer or in the thinking, variant minus baseline), cut_off_differs
    (its exact McNemar p is below 0.05: the difference beside it may be the budget's), at_worst and at_best (the
    difference over all pairs if every unknown outcome spoke against the variant, or for it) and verdict: "higher" or
    "lower" where p_holm is below 0.05 and stays so at both ends, "open" where it does not, else "not shown".
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
        gap = paired_bootstrap(a, b, seed)
        row: dict[str, Any] = {"variant": variant, "baseline": baseline, "benchmark": benchmark}
        row |= {"metric": metric, "judge": judge, "n": len(shared)}
        row["unpaired"] = len(set(after) | set(before)) - len(shared)
        row["gained"] = sum(x and not y for x, y in zip(a, b, strict=True))
        row["lost"] = sum(y and not x for x, y in zip(a, b, strict=True))
        row |= {"difference": gap.value, "low": gap.low, "high": gap.high, "p": mcnemar(a, b)}
        row["smallest_visible"] = paired_floor(len(shared))
        row |= _worst_and_best(reference, group)
        ended, ended_before = _by_budget(group), _by_budget(reference)
        both = [name for name in ended if name in ended_before]
        c, d = [ended[name] for name in both], [ended_before[name] for name in both]
        row["cut_off_difference"] = (sum(c) - sum(d)) / len(both) if both else 0.0
        row["cut_off_differs"] = bool(both) and mcnemar(c, d) < ALPHA
        rows.append(row)
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
        row["verdict"] = "not shown" if adjusted >= ALPHA else row["verdict"]
    return rows


def _ends(item: ItemResult) -> tuple[bool, bool]:
    """The least and the most that an item may count: equal where its outcome is known."""
    unknown = item.value is None or item.outcome == "open_thinking"
    return (False, True) if unknown else (bool(item.value), bool(item.value))


def _worst_and_best(before: Sequence[ItemResult], after: Sequence[ItemResult]) -> dict[str, Any]:
    """The difference at both ends, and which verdict holds at both, if any."""
    old = {item.item_id: _ends(item) for item in before}
    pairs = [(_ends(item), old[item.item_id]) for item in after if item.item_id in old]
    gaps: list[float] = []
    signs: set[int] = set()
    for end in (0, 1):
        a, b = [new[end] for new, _ in pairs], [known[1 - end] for _, known in pairs]
        gaps.append((sum(a) - sum(b)) / len(pairs) if pairs else math.nan)
        signs.add((-1 if gaps[-1] < 0 else 1) if mcnemar(a, b) < ALPHA else 0)
    verdict = "higher" if signs == {1} else "lower" if signs == {-1} else "open"
    return {"at_worst": gaps[0], "at_best": gaps[1], "verdict": verdict}


def _groups(items: Sequence[ItemResult]) -> dict[tuple[str, str, str, str], list[ItemResult]]:
    groups: dict[tuple[str, str, str, str], list[ItemResult]] = defaultdict(list)
    for item in items:
        groups[item.variant, item.benchmark, item.metric, item.judge].append(item)
    return dict(groups)


def _by_budget(group: Sequence[ItemResult]) -> dict[str, bool]:
    return {item.item_id: item.outcome in ("cut_off", "thinking_cut", "open_thinking") for item in group}


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


def _mean_interval(values: Sequence[float], seed: int) -> tuple[float, float, float]:
    mean = fmean(values)
    if set(values) <= {0.0, 1.0}:
        return mean, *wilson(int(sum(values)), len(values))
    return paired_bootstrap(values, [0.0] * len(values), seed)
