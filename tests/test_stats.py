"""Statistics against values worked out by hand or by reference implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star1lib import stats
from star1lib.errors import UserError
from star1lib.records import ItemResult


def item(variant, item_id, value, *, benchmark="StrongREJECT", judge="offline", outcome="complete", **more):
    return ItemResult(
        benchmark=benchmark,
        variant=variant,
        item_id=item_id,
        metric="safe",
        value=value,
        label="",
        outcome=outcome,
        judge=judge,
        prompt_tokens=5,
        output_tokens=10,
        response_chars=40,
        **more,
    )


def test_wilson_known_values():
    low, high = stats.wilson(0, 10)
    assert low == 0 and high == pytest.approx(0.2775, abs=1e-4)
    low, high = stats.wilson(81, 263)
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert stats.wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        stats.wilson(3, 2)


def test_wilson_agrees_with_scipy():
    from scipy.stats import binomtest

    for k, n in [(0, 30), (7, 30), (30, 30), (250, 313)]:
        reference = binomtest(k, n).proportion_ci(method="wilson")
        assert stats.wilson(k, n) == pytest.approx((reference.low, reference.high), abs=1e-12)


@given(st.integers(1, 400), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_wilson_holds_the_rate(n, share):
    k = round(n * share)
    low, high = stats.wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1 and high > low


def test_mcnemar_exact():
    # 1 against 9 discordant pairs: 2 * (1 + 10) / 1024.
    a = [True] * 9 + [False] + [True] * 20
    b = [False] * 9 + [True] + [True] * 20
    assert stats.mcnemar(a, b) == pytest.approx(22 / 1024)
    assert stats.mcnemar(b, a) == stats.mcnemar(a, b)
    assert stats.mcnemar([True, False], [True, False]) == 1.0
    assert stats.mcnemar([True, False], [False, True]) == 1.0
    with pytest.raises(ValueError):
        stats.mcnemar([True], [])


def test_paired_bootstrap_is_seeded_and_right():
    rng = np.random.default_rng(3)
    b = rng.random(400) < 0.5
    a = b | (rng.random(400) < 0.2)
    first, again = stats.paired_bootstrap(a, b, seed=1), stats.paired_bootstrap(a, b, seed=1)
    assert first == again
    assert first.value == pytest.approx(a.mean() - b.mean())
    gaps = a.astype(float) - b.astype(float)
    half = 1.96 * gaps.std() / 20
    assert first.low == pytest.approx(first.value - half, abs=0.006)
    assert first.high == pytest.approx(first.value + half, abs=0.006)
    reverse = stats.paired_bootstrap(b, a, seed=1)
    assert reverse.value == pytest.approx(-first.value)


def test_bootstrap_without_a_change_is_not_certainty():
    gap = stats.paired_bootstrap([True] * 30, [True] * 30)
    assert gap.value == 0 and gap.low < -0.1 and gap.high > 0.1
    assert math.isnan(stats.paired_bootstrap([], []).value)


def test_average_of_benchmarks_is_unweighted():
    average = stats.average_of_benchmarks({"a": [True] * 10, "b": [True, False] * 50, "c": [None, False]})
    assert average.value == pytest.approx(0.5) and average.benchmarks == 3 and average.n == 111
    assert average.low < 0.5 < average.high
    one = stats.average_of_benchmarks({"a": [True] * 7 + [False] * 3})
    assert (one.low, one.high) == pytest.approx(stats.wilson(7, 10))
    assert stats.average_of_benchmarks({"a": [True] * 20, "b": [True] * 20}).low < 1
    graded = stats.average_of_benchmarks({"a": [0.2, 0.4, 0.9, 0.7]}, seed=2)
    assert graded == stats.average_of_benchmarks({"a": [0.2, 0.4, 0.9, 0.7]}, seed=2)
    with pytest.raises(UserError, match="AIME2024"):
        stats.average_of_benchmarks({"AIME2024": [None]})
    with pytest.raises(UserError):
        stats.average_of_benchmarks({})


def test_average_interval_covers():
    rng = np.random.default_rng(0)
    rates = {"a": (0.9, 40), "b": (0.5, 30), "c": (0.97, 100)}
    truth = sum(p for p, _ in rates.values()) / 3
    hits = 0
    for _ in range(400):
        drawn = {name: list(rng.random(n) < p) for name, (p, n) in rates.items()}
        found = stats.average_of_benchmarks(drawn)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.985


def test_power_says_what_n_can_see():
    assert stats.power(30, 0.3) > 0.3
    assert stats.power(30, 0.3) > 0.05 and stats.paired_floor(30) == pytest.approx(0.2)
    assert stats.power(10_000, 0.5) < 0.021
    assert stats.power(500, 0.1) == pytest.approx(stats.power(500, 0.9))
    assert stats.power(1, 0.5) == 1.0
    assert stats.paired_floor(5) > 1
    assert "20.0 points" in stats.power_note(30, 0.3) and "no paired" in stats.power_note(4, 0.5)
    with pytest.raises(ValueError):
        stats.power(0, 0.5)


def test_power_matches_simulation():
    from scipy.stats import norm

    n, p = 200, 0.3
    q = p + stats.power(n, p)
    rng = np.random.default_rng(1)
    a, b = rng.binomial(n, p, 20_000) / n, rng.binomial(n, q, 20_000) / n
    pooled = (a + b) / 2
    seen = np.abs(a - b) / np.sqrt(2 * pooled * (1 - pooled) / n) > norm.ppf(0.975)
    assert seen.mean() == pytest.approx(0.8, abs=0.02)


def test_holm():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


def test_kappa_agrees_with_sklearn():
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    rng = np.random.default_rng(0)
    a = list(rng.integers(0, 11, 200))
    b = [int(min(10, max(0, x + rng.integers(-2, 3)))) for x in a]
    for weights in ("linear", "quadratic"):
        expected = cohen_kappa_score(a, b, weights=weights, labels=range(11))
        assert stats.weighted_kappa(a, b, range(11), weights) == pytest.approx(expected)
    assert stats.cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    gold = list(rng.random(200) < 0.4)
    score = list(np.round(rng.random(200) + 0.3 * np.array(gold), 1))
    assert stats.auc(gold, score) == pytest.approx(roc_auc_score(gold, score))


def test_kappa_interval_is_seeded_and_holds_the_value():
    a = ["yes"] * 30 + ["no"] * 30 + ["yes"] * 5 + ["no"] * 3
    b = ["yes"] * 30 + ["no"] * 30 + ["no"] * 5 + ["yes"] * 3
    low, high = stats.kappa_interval(a, b, ["yes", "no"], seed=4)
    assert (low, high) == stats.kappa_interval(a, b, ["yes", "no"], seed=4)
    value = stats.cohen_kappa(a, b)
    # Large-sample standard error of kappa with nearly even margins: sqrt(po (1 - po) / n) / (1 - pe).
    error = math.sqrt((60 / 68) * (8 / 68) / 68) / 0.5
    assert low == pytest.approx(value - 1.96 * error, abs=0.04) and high == pytest.approx(
        value + 1.96 * error, abs=0.04
    )
    assert math.isnan(stats.kappa_interval([], [], ["yes"])[0])


def test_kappa_edges():
    assert stats.cohen_kappa(["x"] * 4, ["x"] * 4) == 1.0
    assert math.isnan(stats.weighted_kappa([], [], [0, 1], "linear"))
    assert stats.cohen_kappa([True, False], [False, True]) == -1.0
    assert math.isnan(stats.auc([True, True], [0.1, 0.2]))
    with pytest.raises(KeyError):
        stats.confusion(["x"], ["y"], ["x"])
    with pytest.raises(ValueError, match="shorter"):
        stats.confusion(["x"], [], ["x"])


def test_rates_table_counts_undecided_beside():
    items = [item("base", str(i), i < 6) for i in range(8)]
    items += [item("base", "8", None, outcome="open_thinking"), item("base", "9", False, outcome="cut_off")]
    items += [item("base", "0", True, judge="llama-guard-3")]
    first, other = stats.rates_table(items)
    assert (first["k"], first["n"], first["undecided"], first["items"]) == (6, 9, 1, 10)
    assert first["value"] == pytest.approx(6 / 9) and first["low_bound"] == pytest.approx(0.6)
    assert (first["cut_off"], first["open_thinking"], first["no_answer"]) == (1, 1, 0)
    assert (first["low"], first["high"]) == stats.wilson(6, 9)
    assert other["judge"] == "llama-guard-3" and other["n"] == 1
    empty = stats.rates_table([item("base", "0", None, outcome="open_thinking")])[0]
    assert empty["n"] == 0 and math.isnan(empty["value"]) and empty["low_bound"] == 0
    assert stats.rates_table([]) == []


def test_further_judges_are_in_every_rate_with_how_far_they_differ():
    others = [True, True, False, None]
    items = [item("base", str(i), i < 3, others={"not refused": other}) for i, other in enumerate(others)]
    [row] = stats.disagreement(items)
    assert (row["other"], row["k"], row["n"]) == ("not refused", 1, 3)
    assert row["value"] == pytest.approx(1 / 3) and row["low"] < 1 / 3 < row["high"] and row["kappa"] == 0
    [rate] = stats.rates_table(items)
    assert rate["disagreement"] == "not refused: 33% of 3 differ, kappa 0.00"
    assert (
        stats.disagreement([item("base", "0", True)]) == []
        and "disagreement" not in stats.rates_table([item("base", "0", True)])[0]
    )


def test_unknown_outcomes_bound_rates_and_differences():
    unknown = [item("base", str(i), False if i < 5 else None, outcome="open_thinking") for i in range(10)]
    [row] = stats.rates_table([*unknown, *(item("base", str(i), True) for i in range(10, 20))])
    assert (row["low_bound"], row["high_bound"]) == (0.5, 1.0)
    base = [item("base", str(i), False) for i in range(40)]
    sure = stats.differences_table([*base, *(item("s", str(i), i < 30) for i in range(40))], "base")[0]
    assert sure["at_worst"] == sure["at_best"] == sure["difference"] == 0.75 and sure["verdict"] == "higher"
    hidden = [
        item("s", str(i), True if i < 15 else None, outcome="complete" if i < 15 else "open_thinking")
        for i in range(40)
    ]
    maybe = stats.differences_table([*base, *hidden], "base")[0]
    assert (maybe["difference"], maybe["at_worst"], maybe["at_best"]) == (1.0, 0.375, 1.0) and maybe[
        "verdict"
    ] == "higher"
    few = stats.differences_table([*(item("base", str(i), False if i < 10 else None) for i in range(40)),
                                   *(item("s", str(i), i < 10) for i in range(40))], "base")[0]  # fmt: skip
    assert few["p_holm"] < 0.05 and few["at_worst"] < 0 < few["at_best"] and few["verdict"] == "open"
    same = stats.differences_table([*base, *(item("s", str(i), False) for i in range(40))], "base")[0]
    assert same["verdict"] == "not shown"


def test_differences_are_paired_by_item():
    items = [item("base", str(i), False) for i in range(20)]
    items += [item("star", str(19 - i), i < 15) for i in range(20)]
    items += [item("base", "20", None, outcome="open_thinking"), item("star", "20", True), item("star", "21", True)]
    (row,) = stats.differences_table(items, "base")
    assert (row["n"], row["unpaired"], row["gained"], row["lost"]) == (20, 2, 15, 0)
    assert row["difference"] == pytest.approx(0.75) and row["low"] > 0.5 and row["high"] < 1
    assert row["p"] == pytest.approx(2 / 2**15) == row["p_holm"]
    assert row["smallest_visible"] == pytest.approx(0.3)
    assert row["cut_off_difference"] == pytest.approx(-1 / 21) and not row["cut_off_differs"]


def test_a_cut_off_share_that_differs_is_flagged():
    items = [item("base", str(i), True, outcome="cut_off" if i < 3 else "complete") for i in range(20)]
    items += [item("star", str(i), True, outcome="open_thinking" if i < 12 else "complete") for i in range(20)]
    (row,) = stats.differences_table(items, "base")
    assert row["cut_off_difference"] == pytest.approx(9 / 20) and row["cut_off_differs"]


def test_differences_refuse_what_cannot_be_paired():
    items = [item("base", "1", True), item("base", "1", True), item("star", "1", True)]
    with pytest.raises(UserError, match="twice"):
        stats.differences_table(items, "base")
    with pytest.raises(UserError, match="no results"):
        stats.differences_table(items, "nobody")
