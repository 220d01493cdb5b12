"""The report's page: sections from the figures, long tables folded, all text escaped, nothing from a network."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

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
