"""The report's page: sections from the figures, long tables folded, all text escaped, nothing from a network."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pandas as pd

from star1lib.study import figures, report, tables


def test_sections_and_their_tables_come_from_the_figures(tmp_path: Path) -> None:
    tables.write(tmp_path, "decontamination", [{"step": str(n), "source": "a", "before": 9, "removed": 1, "after": 8}
                                      for n in range(30)])  # fmt: skip
    tables.write(tmp_path, "summary", [{"variant": "<script>alert(1)</script>"}])
    figures.draw("decontamination", tmp_path)
    sections = {section["title"]: section for section in report._sections(tmp_path)}
    assert list(sections) == list(figures.sections())
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


def test_a_long_table_comes_folded_with_what_sorts_and_filters_it() -> None:
    long, short = (report._table(name, pd.DataFrame({"n": range(rows)})) for name, rows in (("long", 30), ("short", 2)))
    section = {"id": "x", "title": "X", "figures": [], "tables": [long, short]}
    environment = jinja2.Environment(loader=jinja2.PackageLoader("star1lib", "assets/report"), autoescape=True)
    page = environment.get_template("index.html.j2").render(
        profile=SimpleNamespace(name="p", about=""), sections=[section], notebooks=[], hashes=short, parameters={}
    )
    folded, open_ = page.split("<h3>long</h3>")[1].split("<h3>short</h3>")[:2]
    assert "<details><summary>30 rows</summary>" in folded and "<details>" not in open_.split("<h2")[0]
    assert all(re.search(r'<table[^>]*class="[^"]*\bsortable\b', part) for part in (folded, open_))
    assert page.index('querySelectorAll("table.sortable")') > page.index("<h3>short</h3>")
