"""Tables as files, and what a notebook shows of them."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from star1lib.errors import UserError
from star1lib.records import Example, ItemResult, Question
from star1lib.study import display, figures, tables


def test_round_trip_missing_and_damaged(tmp_path: Path) -> None:
    tables.write(tmp_path, "t", [{"a": 1, "b": 1 / 3}, {"a": 2, "c": "x,y"}])
    frame = tables.read(tmp_path, "t")
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame["b"][0] == 0.333333
    with pytest.raises(UserError, match="the table is missing"):
        tables.read(tmp_path, "u")
    (tables.folder(tmp_path) / "t.csv").write_bytes(b"\xff\xfe\x00\x00\xd8")
    with pytest.raises(UserError, match="damaged"):
        tables.read(tmp_path, "t")
    tables.write(tmp_path, "empty", [])
    assert tables.read(tmp_path, "empty").empty


TEXTS = ["NA", "None", "nan", "007", "1e5", "True", " a ", "a\rb", 'a,b"c\r\nd', "\u2028", "-", "1"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_as_it_was_written(tmp_path: Path, text: str) -> None:
    tables.write(tmp_path, "t", [{"text": text, text: 1}, {"text": text, text: 2}])
    frame = tables.read(tmp_path, "t")
    assert list(frame["text"]) == [text, text] and list(frame[text]) == [1, 2]


def test_numbers_keep_their_digits_and_nothing_is_missing(tmp_path: Path) -> None:
    rows = [{"p": 2.3e-9, "rate": 1.5e-6, "n": 10**18 + 1, "yes": True, "no": None, "text": ""}]
    tables.write(tmp_path, "t", [*rows, {"p": 0.04, "rate": 1e-5, "n": 3, "yes": False, "text": "x"}])
    frame = tables.read(tmp_path, "t")
    assert list(frame["p"]) == [2.3e-9, 0.04] and list(frame["rate"]) == [1.5e-6, 1e-5]
    assert list(frame["n"]) == [10**18 + 1, 3] and frame["yes"].dtype == bool
    assert frame["no"].isna().all() and list(frame["text"].isna()) == [True, False]
    assert display.table(tmp_path, "t")["rate"][1] == "1e-05"
    assert display.table(tmp_path, "t")["p"][0] == "2.3e-09"


def test_tables_of_earlier_runs_are_read(tmp_path: Path) -> None:
    tables.write(tmp_path, "t", [])
    (tables.folder(tmp_path) / "t.csv").write_text('name,note,value\nbase,"a, b",0.5\nother,,1\n')
    frame = tables.read(tmp_path, "t")
    assert list(frame["name"]) == ["base", "other"] and list(frame["value"]) == [0.5, 1.0]
    (tables.folder(tmp_path) / "t.csv").write_text("name,note\nbase\n")
    with pytest.raises(UserError, match="damaged"):
        tables.read(tmp_path, "t")


def test_rates_are_shown_with_their_interval(tmp_path: Path) -> None:
    tables.write(tmp_path, "t", [{"value": 0.83, "low": 0.71, "high": 0.91, "n": 60}])
    shown = display.table(tmp_path, "t")
    assert list(shown.columns) == ["value", "n"]
    assert shown["value"][0] == "83% [71, 91]"
    tables.write(tmp_path, "d", [{"difference": 0.4, "low": 0.3, "high": 0.5, "p": 1e-6}])
    assert display.table(tmp_path, "d")["difference"][0] == "+40 points [+30, +50]"
    assert tables.percent(0.5, 0.1, 0.9, 4) == "50% [10, 90], n=4"
    tables.write(tmp_path, "none", [])
    assert "nothing to show" in display.table(tmp_path, "none").iloc[0, 0]


def test_prompts_are_shortened_and_completions_absent() -> None:
    long = Question.make("word " * 60, "s")
    assert display.prompts([long, Question.make("other", "s")])["question"].str.len().max() <= 80
    item = ItemResult(
        benchmark="b", variant="v", item_id="1", metric="safe", value=False, label="harmful", outcome="complete",
        judge="j", prompt_tokens=3, output_tokens=9, response_chars=30, snippet="[30 characters withheld]",
    )  # fmt: skip
    shown = display.items([item], metric="safe")
    assert shown["response"][0] == "[30 characters withheld]"
    assert display.outcomes([item])["responses"][0] == 1
    assert "n" in display.power([item], "v").columns


@pytest.mark.attack("injection and what is shown")
def test_shown_objects_are_escaped_and_foreign_rows_stay_unshown() -> None:
    shown = display.mask(["<script>", "alert"], [False, True]).data
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "#c7e9c0" in shown
    assert "Do not give methods" in display.policy("Self-Harm").data
    example = Example(
        id="a",
        question="<b>q</b>",
        source="STAR-1",
        category=["Other"],
        thinking="step one",
        answer="do this",
        teacher="t",
    )
    page = display.trace(example).to_html()
    assert "step one" not in page and "do this" not in page and "<b>" not in page
    own = example.model_copy(update={"source": "hand-written:privacy"})
    assert "step one" in display.trace(own).to_html()


@pytest.mark.attack("injection and what is shown")
@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-2", "'quoted'", "'", '=,"\n']
)
def test_no_cell_of_text_is_a_formula_and_every_one_comes_back(tmp_path: Path, text: str) -> None:
    path = tables.write(tmp_path, "t", [{"text": text, "n": -1}, {"text": text, "n": 2}])
    assert list(tables.read(tmp_path, "t")["text"]) == [text, text] and list(tables.read(tmp_path, "t")["n"]) == [-1, 2]
    with path.open(encoding="utf-8", newline="") as file:
        cells = [row[0] for row in csv.reader(file)][1:]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)> [l](javascript:x) ![i](http://e) --> $x^ | \x1b[2J'


@pytest.mark.attack("injection and what is shown")
def test_hostile_text_is_inert_on_every_page(tmp_path: Path) -> None:
    """As a judge, a role and a variant: caption and table in a notebook's page, Markdown of a published page, SVG."""
    import nbformat
    from IPython.utils.capture import capture_output
    from nbconvert import HTMLExporter

    rows = [{"variant": HOSTILE, "benchmark": "Probe", "metric": "safe", "judge": HOSTILE, "k": 1, "n": 2,
             "value": 0.5, "low": 0.1, "high": 0.9, "undecided": 0}]  # fmt: skip
    tables.write(tmp_path, "safety", rows)
    figures.draw("safety", tmp_path)
    with capture_output() as seen:
        figures.show("safety", tmp_path)
    cells = [nbformat.v4.new_output("display_data", data=one.data) for one in seen.outputs]
    shown = display.table(tmp_path, "safety")
    cells.append(nbformat.v4.new_output("display_data", data={"text/html": shown.to_html()}))
    alt = {"image/png": {"alt": figures.caption("safety", tmp_path)}}
    cells.append(nbformat.v4.new_output("display_data", data={"image/png": "AA=="}, metadata=alt))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=cells)])
    page = HTMLExporter(template_name="basic").from_notebook_node(notebook)[0]
    markdown = "\n".join([*tables.markdown(shown), tables.inert(figures.caption("safety", tmp_path))])
    svg = (tmp_path / "figures" / "safety.svg").read_text(encoding="utf-8")
    for text in (page, markdown, svg):
        assert "<script>alert" not in text and "<img src=x" not in text
    assert HOSTILE.split()[0] not in page and "](" not in markdown
    assert ElementTree.fromstring(svg).tag.endswith("svg")
