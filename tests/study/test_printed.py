"""The authors' printed rates, fed through the tables as judged items, give the authors' tables and averages back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import items

from star1lib.records import ItemResult
from star1lib.study import claims, compare, figures, tables

N = 1000  # a printed tenth of a point is one item
TENTH = 0.001 + 1e-9
PRINTED = compare.paper_rows()
TABLES = sorted({(row["table"], row["model"]) for row in PRINTED})
REASONING = set(claims.load().sets["correct"])


def fed(rows: list[dict[str, Any]], name: str) -> list[ItemResult]:
    """`N` items for each printed rate that is no average; variants are called by the rows' field `name`."""
    return [
        item for row in rows if not row["benchmark"].startswith("average")
        for item in items(row[name], row["benchmark"], [i < round(N * row["value"]) for i in range(N)],
                          "correct" if row["benchmark"] in REASONING else "safe")
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "model"), TABLES)
def test_a_printed_table_comes_back_with_its_averages(number: int, model: str, tmp_path: Path) -> None:
    rows = [row for row in PRINTED if (row["table"], row["model"]) == (number, model)]
    made = compare.main_table(fed(rows, "label"), model, 0)
    ours = {(row["variant"], row["benchmark"]): row for row in made if row["who"] == "ours"}
    assert len(rows) == len(ours)
    for row in rows:
        assert abs(ours[row["label"], row["benchmark"]]["value"] - row["value"]) <= TENTH, row
    tables.write(tmp_path, "main", made)
    text = figures.FIGURES[f"table{number}"].text
    assert text is not None
    frame = text(tables.some(tmp_path, ["main"])).set_index(["model", "variant"])
    for row in rows:
        drawn, printed = (frame.loc[(who, row["label"]), row["benchmark"]].split(" [")[0] for who in ("ours", model))
        assert printed == f"{100 * row['value']:.1f}"
        assert abs(float(drawn) - float(printed)) <= 100 * TENTH


def test_the_ledger_gives_the_printed_differences_back() -> None:
    studies = []
    for model in dict.fromkeys(row["model"] for row in PRINTED):
        rows = {(row["role"], row["benchmark"]): row for row in PRINTED if row["model"] == model}
        [first, *_] = rows.values()
        played = {role: [role] for role, _ in rows}
        studies.append(claims.study(fed(list(rows.values()), "role"), played, model=model,
                                    model_class=first["model_class"], billions=first["billions"]))  # fmt: skip
    found = claims.by_model(studies)
    of_printed_size = [row for row in found if row["printed"] == row["printed"]]
    assert {row["number"] for row in of_printed_size} == {1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13}
    for row in of_printed_size:
        # Two averages, each printed to a tenth.
        assert abs(row["difference"] - row["printed"]) <= 2 * TENTH, (row["claim"], row["models"])
    over_all = {(row["number"], row["metric"]): row for row in claims.ledger(studies)}
    assert over_all[1, "safe"]["difference"] == pytest.approx(0.400, abs=TENTH)
    assert over_all[2, "correct"]["difference"] == pytest.approx(-0.011, abs=TENTH)
    assert over_all[4, "safe"]["difference"] == pytest.approx(over_all[4, "safe"]["printed"], abs=TENTH)
    for number in (1, 3, 4, 6, 7, 8, 11, 12):
        assert over_all[number, "safe"]["verdict"] == claims.HOLDS, over_all[number, "safe"]


def test_rates_fed_in_come_back_beside_the_printed_ones() -> None:
    """Every printed number of two models has ours beside it, averages included, by the roles that variants play."""
    parts, roles = [], {}
    for model, kind in (("R1-Distill-Qwen-1.5B", "reasoning"), ("Qwen2.5-1.5B-Instruct", "plain")):
        rows = [row for row in PRINTED if row["model"] == model]
        roles[kind] = {row["role"]: [row["role"]] for row in rows}
        once = {(row["role"], row["benchmark"]): row for row in rows}
        parts.append(compare.Part(model, fed(list(once.values()), "role"), model, kind))
    beside = compare.beside_printed(parts, roles, {}, 0)
    assert len(beside) == sum(row["model"] in {part.model for part in parts} for row in PRINTED)
    assert [row for row in beside if not abs(row["difference"]) <= TENTH] == []
