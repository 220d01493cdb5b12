"""Ours beside the paper's: the printed numbers, the averages, the verdicts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from made import items

from star1lib.evaluation import run
from star1lib.files import write_jsonl
from star1lib.records import Example
from star1lib.study import compare, tables


def test_averages_compare_over_the_same_benchmarks_only() -> None:
    mixed = items("base", "A", [True, False]) + items("base", "B", [True, True]) + items("star1", "A", [True, True])
    rows = {row["variant"]: row for row in compare.averages(mixed, 0)}
    assert rows["base"]["over"] == rows["star1"]["over"] == "A"
    assert rows["base"]["value"] == 0.5
    assert rows["star1"]["value"] == 1.0


def test_undecided_is_not_an_average() -> None:
    [row] = compare.averages(items("star1", "A", [None, None]), 0)
    assert math.isnan(row["value"])


def test_harmful_xstest_prompts_are_not_averaged_into_safety() -> None:
    found = [*items("base", "A", [False]), *items("base", "XSTest", [True])]
    [row] = compare.averages(found, 0)
    assert row["over"] == "A" and row["value"] == 0


def test_the_run_counts_what_the_claims_are_about(tmp_path: Path) -> None:
    assert compare.counts({}) == {}
    sources = (("train", "loaded"), ("train", "partial"), ("evaluate", "loaded"))
    tables.write(tmp_path, "sources", [{"kind": kind, "status": status} for kind, status in sources])
    funnel = [{"step": step, "before": before, "after": after} for step, before, after in
              (("n-gram", 5, 4), ("n-gram", 5, 5), ("TF-IDF", 9, 7))]  # fmt: skip
    tables.write(tmp_path, "decontamination", funnel)
    tables.write(tmp_path, "selection", [{"category": "Self-Harm", "pool": 7, "selected": 3}])
    tables.write(tmp_path, "balance", [{"size": 7, "which": "target size"}, {"size": 3, "which": "selected"}])
    counted = compare.counts(tables.some(tmp_path, (*compare.COUNTED, "absent")))
    assert counted == {"sources": 1, "collected": 10, "decontaminated": 7, "categories": 1, "selected": 3}


def test_shares_of_the_selected_set(tmp_path: Path) -> None:
    rows = [Example(id=str(i), question="q", source="s", category=["A", "B"][: 1 + i], thinking="", answer="a",
                    teacher="t") for i in range(2)]  # fmt: skip
    write_jsonl(tmp_path / "selected.jsonl", rows)
    found = {(row["kind"], row["name"]): row["share"] for row in compare.shares(tmp_path)}
    assert found == {("category", "A"): 1.0, ("category", "B"): 0.5, ("source", "s"): 1.0}


def test_summary_shows_no_bare_percentage() -> None:
    [row] = compare.summary(items("base", "A", [True, False, None]))
    assert row["A, safe"] == "50% [9, 91], n=2 (1 undecided)"


def test_main_table_keeps_ours_and_the_papers_apart() -> None:
    rows = compare.main_table(items("base", "A", [True]), "R1-Distill-Qwen-1.5B", 0)
    assert {row["who"] for row in rows} == {"ours", "paper, R1-Distill-Qwen-1.5B"}
    printed = {(row["variant"], row["benchmark"]): row["value"] for row in rows if row["who"] != "ours"}
    assert printed["STAR-1", "average safety"] == pytest.approx(0.903)
    assert printed["R1 Distilled", "average safety"] == pytest.approx(0.358)


def test_the_two_judges_are_crossed_on_the_same_answers() -> None:
    refused, safe = [True, True, False, None], [True, False, True, None]
    [row] = run.crossed([*items("star1", "A", refused, "refused"), *items("star1", "A", safe, "safe")])
    assert row["n"] == 4 and row["undecided"] == 1 and row["complied, harmful"] == 0
    assert row["refused, safe"] == row["refused, harmful"] == row["complied, safe"] == 1
