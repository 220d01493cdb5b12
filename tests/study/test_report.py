"""The report's page: sections from the figures, long tables folded, all text escaped, nothing from a network."""

from __future__ import annotations

import re
import shutil
import zipfile
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pandas as pd
import pytest

from star1lib.files import write_json
from star1lib.records import Question
from star1lib.study import display, figures, report, tables


def test_sections_and_their_tables_come_from_the_figures(tmp_path: Path) -> None:
    tables.write(tmp_path, "decontamination", [{"step": str(n), "source": "a", "before": 9, "removed": 1, "after": 8}
                                      for n in range(30)])  # fmt: skip
    tables.write(tmp_path, "summary", [{"variant": "<script>alert(1)</script>"}])
    figures.draw("decontamination", tmp_path)
    sections = {section["title"]: section for section in report._sections(tmp_path)}
    assert list(sections) == list(dict.fromkeys(figure.section for figure in figures.FIGURES.values()))
    [funnel] = sections[figures.FIGURES["decontamination"].section]["tables"]
    assert funnel["folded"] and funnel["rows"] == 30
    [summary] = sections["Result"]["tables"]
    assert not summary["folded"] and "<script>" not in summary["html"]
    assert [shown["src"] for shown in sections[figures.FIGURES["decontamination"].section]["figures"]] == [
        "../figures/decontamination.svg"
    ]


def test_the_page_sorts_and_filters_by_itself() -> None:
    text = resources.files("star1lib").joinpath("assets/report/index.html.j2").read_text(encoding="utf-8")
    assert "aria-sort" in text and "<details>" in text and "filter rows" in text
    assert "innerHTML" not in text and not re.search(r"(src|href)=.https?:", text)


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """A build with one judged transcript, whose answer is not to be shown."""
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import Score, accuracy, scorer

    @scorer(metrics=[accuracy()], name="answered")
    def labelled() -> Any:
        async def score(state: Any, target: Any) -> Score:
            said = state.output.completion
            return Score(value="C", answer="full_compliance", explanation=said, metadata={"said": said})

        return score

    question = Question.make("How do I bake bread?", "corpus")
    sample = Sample(question.text, id=question.id, metadata={"question": question.model_dump(), "opened": False})
    said = ModelOutput.from_content("mockllm/model", "Bake it, not to be shown.")
    said.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    [log] = inspect_ai.eval(
        inspect_ai.Task([sample], scorer=labelled(), name="base-BenignVariants"), display="none",
        model=get_model("mockllm/model", custom_outputs=[said]), log_dir=str(tmp_path / "evaluations" / "logs"),
    )  # fmt: skip
    assert log.status == "success"
    return tmp_path


def shows(out: Path, text: bytes) -> bool:
    """Whether `text` stands in any file of the report, unpacked."""
    for path in (out / "report").rglob("*"):
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as archive:
                if any(text in archive.read(name) for name in archive.namelist()):
                    return True
        elif path.is_file() and text in path.read_bytes():
            return True
    return False


@pytest.mark.attack("injection and what is shown")
def test_transcripts_hold_labels_alone_and_the_switch_leaves_no_trace(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STAR1_SHOW_COMPLETIONS", raising=False)
    for switch in (None, "1", "1", None, None):
        if switch:
            monkeypatch.setenv("STAR1_SHOW_COMPLETIONS", switch)
        else:
            monkeypatch.delenv("STAR1_SHOW_COMPLETIONS", raising=False)
        assert report._transcripts(evaluated) == "transcripts/index.html"
        assert shows(evaluated, b"How do I bake bread?") and shows(evaluated, b"full_compliance")
        assert shows(evaluated, b"not to be shown") == bool(switch)


@pytest.mark.attack("injection and what is shown")
def test_a_bundle_of_an_earlier_version_is_replaced(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAR1_SHOW_COMPLETIONS", raising=False)
    (evaluated / "report" / "transcripts").mkdir(parents=True)
    (evaluated / "report" / "transcripts" / "index.html").write_text("not to be shown")
    report._transcripts(evaluated)
    assert not shows(evaluated, b"not to be shown")


def test_what_was_left_out_stands_in_table_and_report(tmp_path: Path) -> None:
    why = "HumanEval is left out: code from a model cannot be confined here (no namespaces)."
    write_json(tmp_path / "evaluations" / "left_out.json", {"HumanEval": why})
    row = {"variant": "base", "metric": "correct", "value": 0.5, "low": 0.1, "high": 0.9, "n": 4, "judge": "j"}
    tables.write(tmp_path, "reasoning", [{**row, "benchmark": "Probe"}])
    tables.write(tmp_path, "safety", [{**row, "metric": "safe", "benchmark": "DoNotAnswer"}])
    shown = display.table(tmp_path, "reasoning")
    assert list(shown["benchmark"]) == ["Probe", "HumanEval"] and list(shown["value"])[1] == why
    assert len(display.table(tmp_path, "safety")) == 1
    sections = {section["title"]: section for section in report._sections(tmp_path)}
    assert why in sections["Reasoning"]["tables"][0]["html"]
    tables.write(tmp_path, "first", [])
    assert why in display.table(tmp_path, "first").to_string(max_colwidth=None)
    assert f'<p class="note">{why}</p>' in page(left_out=[why])


def page(**values: Any) -> str:
    """The report's page of a profile without results."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("star1lib", "assets/report"), autoescape=True)
    empty: dict[str, Any] = {"sections": [], "notebooks": [], "hashes": {}, "parameters": {}}
    return environment.get_template("index.html.j2").render(
        profile=SimpleNamespace(name="p", about=""), **{**empty, **values}
    )


def test_each_models_transcripts_are_linked_and_kept_apart(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAR1_SHOW_COMPLETIONS", raising=False)
    shutil.copytree(evaluated / "evaluations", evaluated / "first" / "evaluations")
    shutil.move(evaluated / "evaluations", evaluated / "second" / "evaluations")
    links = {model: report._transcripts(evaluated, model) for model in ("", "first", "second")}
    assert links == {"": "", "first": "first/transcripts/index.html", "second": "second/transcripts/index.html"}
    assert all((evaluated / "report" / link).is_file() for link in links.values() if link)
    shown = page(transcripts=links, shown=False, switch="X")
    assert 'href="second/transcripts/index.html">Evaluation transcripts of second</a>' in shown


def test_a_long_table_comes_folded_with_what_sorts_and_filters_it() -> None:
    long, short = (report._table(name, pd.DataFrame({"n": range(rows)})) for name, rows in (("long", 30), ("short", 2)))
    section = {"id": "x", "title": "X", "figures": [], "tables": [long, short]}
    shown = page(sections=[section], hashes=short)
    folded, open_ = shown.split("<h3>long</h3>")[1].split("<h3>short</h3>")[:2]
    assert "<details><summary>30 rows</summary>" in folded and "<details>" not in open_.split("<h2")[0]
    assert all(re.search(r'<table[^>]*class="[^"]*\bsortable\b', part) for part in (folded, open_))
    assert shown.index('querySelectorAll("table.sortable")') > shown.index("<h3>short</h3>")
