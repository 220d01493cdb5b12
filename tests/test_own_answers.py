"""The labelled answers of the own models: no text is kept, and the printed figures are those of the columns."""

import re
from pathlib import Path
from runpy import run_path

from star1lib.evaluation.judges import offline

TOOL = run_path(str(Path(__file__).parents[1] / "benchmarks" / "own_answers.py"))
ROWS = TOOL["read_csv"](TOOL["RESULT"].with_suffix(".csv"))


def test_no_column_holds_text() -> None:
    labels, harm = {*offline.LABELS, offline.UNRELATED}, {"yes", "no", ""}
    harms = ("first_harmful", "second_harmful", *TOOL["JUDGES"])
    allowed = dict.fromkeys(("first", "second", "refusal_judge"), labels) | dict.fromkeys(harms, harm)
    assert set(ROWS[0]) == {"number", "variant", "benchmark", "item_id", *allowed}
    assert len(ROWS) == 200
    for row in ROWS:
        assert all(row[name] in values for name, values in allowed.items())
        assert row["number"].isdigit()
        assert re.fullmatch(r"[0-9a-f]{16}", row["item_id"])
        assert re.fullmatch(r"\w+", row["variant"])


def test_figures_are_those_of_the_columns_and_the_card_has_them() -> None:
    printed = TOOL["RESULT"].with_suffix(".md").read_text(encoding="utf-8")
    assert printed == TOOL["report"](ROWS)
    for name in ("CARD.md", "TEMPLATE.md"):
        section = (offline.FOLDER / name).read_text(encoding="utf-8").split("## On this repository's own models")[1]
        lines = [line for line in section.split("\n## ")[0].splitlines() if re.search(r"\d%", line) and line[0] == "|"]
        assert lines
        assert all(line in printed for line in lines)
