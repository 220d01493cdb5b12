"""Selection against the definition done one by one, its explanation, and the balance curve."""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star1lib.errors import UserError
from star1lib.policies import CATEGORIES, OTHER
from star1lib.selection import balance as select

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_select import pool_of, published_mix, select_balanced_direct


def example(number, *, source="A", category=("Self-Harm",), scores=(10, 10, 10)):
    score = made.scores(*scores) if scores else None
    return made.example(f"question {number}", id=f"q{number}", source=source, category=list(category), score=score)


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "source": st.sampled_from(["A", "B", "C", "D"]),
            "category": st.lists(st.sampled_from(CATEGORIES[:5]), max_size=4),
        }
    ),
    max_size=40,
)


@given(RECORDS, st.integers(0, 45))
@settings(max_examples=300, deadline=None)
def test_equals_the_definition_on_any_records(records, size) -> None:
    numbered = [{"n": n, **record} for n, record in enumerate(records)]
    assert select.select_balanced(numbered, size) == select_balanced_direct(numbered, size)


def test_equals_the_definition_on_a_pool_with_many_ties() -> None:
    pool = pool_of(published_mix(None), 700)
    assert select.select_balanced(pool, 40) == select_balanced_direct(pool, 40)


def test_published_thousand_down_to_300_equals_the_definition(mirror) -> None:
    rows = json.loads((mirror / "star1" / "STAR-1.json").read_text(encoding="utf-8"))
    kept = select.select_balanced(rows, 300)
    assert [row["id"] for row in kept] == [row["id"] for row in select_balanced_direct(rows, 300)]


def test_the_definition_by_hand() -> None:
    records = [
        {"id": 0, "source": "A", "category": ["x"]},
        {"id": 1, "source": "A", "category": ["x", "y"]},
        {"id": 2, "source": "B", "category": ["y"]},
        {"id": 3, "source": "A", "category": ["z"]},
    ]
    # P(A) = 3/4, P(x) = P(y) = 2/5: item 1 weighs 0.6 and goes; then x, y and z are level and A's first goes.
    steps = select.removals(records, 2)
    assert [step.index for step in steps] == [1, 0]
    assert steps[0].weight == 0.75 * 0.8 and steps[1].weight == (2 / 3) * (1 / 3)
    assert [row["id"] for row in select.select_balanced(records, 2)] == [2, 3]


@pytest.mark.parametrize("size", [-1, 2.5, True, "3"])
def test_a_wrong_size_is_named(size) -> None:
    with pytest.raises(UserError, match="target size"):
        select.select_balanced([], size)


@pytest.mark.parametrize("record", [{"source": "A"}, {"category": ["x"]}, {"source": "A", "category": "x"}])
def test_a_wrong_record_is_named_by_its_number(record) -> None:
    with pytest.raises(UserError, match="record 1"):
        select.select_balanced([{"source": "A", "category": ["x"]}, record], 1)


def test_select_says_why_each_example_went() -> None:
    pool = [
        example(0),
        example(1, scores=(10, 9, 10)),
        example(2, category=[OTHER]),
        example(3, scores=None),
        example(4),
        example(5, source="B", category=["Sexual / Adult"]),
    ]
    chosen = select.select(pool, 2)
    reasons = {dropped.id: dropped.reason for dropped in chosen.dropped}
    assert reasons == {"q1": "below_bar", "q2": "other_category", "q3": "unscored", "q0": "over_represented"}
    assert [kept.id for kept in chosen.kept] == ["q4", "q5"]
    balance = next(dropped for dropped in chosen.dropped if dropped.id == "q0")
    assert (balance.order, balance.p_source, balance.p_categories) == (0, 2 / 3, 2 / 3)
    assert balance.weight == balance.p_source * balance.p_categories


def test_medium_scored_rows_lie_between() -> None:
    pool = [example(0), example(1, scores=(5, 6, 7)), example(2, scores=(0, 0, 0)), example(3, category=[OTHER])]
    assert [e.id for e in select.scored_between(pool, 5, 9)] == ["q1"]
    assert math.isnan(select.mean_score(example(4, scores=None)))


def test_balance_curve_follows_one_run_and_rises() -> None:
    pool = pool_of(published_mix(None), 2000)
    rows = select.balance_curve(pool, [250, 500, 1000, 5000])
    assert [row["size"] for row in rows] == [2000, 1000, 500, 250]
    for row in rows:
        kept = select.select_balanced(pool, row["size"])
        assert row["source_entropy"] == pytest.approx(select.entropy(Counter(r["source"] for r in kept)))
        assert row["category_entropy"] == pytest.approx(select.entropy(Counter(c for r in kept for c in r["category"])))
    assert rows[0]["source_entropy"] < rows[-1]["source_entropy"]
    assert rows[0]["category_entropy"] < rows[-1]["category_entropy"]
    assert select.entropy({"a": 5, "b": 5, "c": 0}) == 1.0 and select.entropy({}) == 0.0
