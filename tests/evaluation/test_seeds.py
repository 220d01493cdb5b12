"""Seeds of one recipe are put together; questions of benchmarks are what training rows are held against."""

from __future__ import annotations

import math
from typing import Any

from star1lib.evaluation import benchmarks
from star1lib.evaluation.benchmarks import probe
from star1lib.evaluation.seeds import by_dose, over_seeds
from star1lib.records import ItemResult
from star1lib.training.variants import Variant


def variant(name: str, seed: int = 0, **counts: int) -> Variant:
    facts: dict[str, Any] = {"rows": 0, "benign": 0, **counts}
    return Variant(name=name, checkpoint="c", thinking=False, pool="selected", seed=seed, **facts)


def items(variant: str, right: int, of: int, undecided: int = 0) -> list[ItemResult]:
    values = [True] * right + [False] * (of - right) + [None] * undecided
    return [
        ItemResult(benchmark="BenignVariants", variant=variant,
                   item_id=str(place), metric="answered", value=value, label="",
                   outcome="complete", judge="j", prompt_tokens=1, output_tokens=1, response_chars=1)
        for place, value in enumerate(values)
    ]  # fmt: skip


def test_the_seeds_of_a_recipe_are_one_row() -> None:
    asked = [variant("base"), variant("mixed", rows=1, benign=1, anchors=2), variant("mixed_seed2", 2, rows=1)]
    judged = [*items("base", 4, 4), *items("mixed", 1, 4), *items("mixed_seed2", 3, 4, undecided=2)]
    base, mixed = over_seeds(judged, asked)
    assert (base["recipe"], base["seeds"], base["mean"]) == ("base", 1, 1.0)
    assert math.isnan(base["spread"]) and math.isnan(base["share"])
    assert (mixed["recipe"], mixed["seeds"], mixed["mean"], mixed["share"]) == ("mixed", 2, 0.5, 0.75)
    assert (mixed["lowest"], mixed["highest"]) == (0.25, 0.75)
    assert mixed["spread"] == math.sqrt(0.125)


def test_questions_of_benchmarks_without_those_of_the_run() -> None:
    assert benchmarks.questions(["Probe", "BenignVariants", "Probe"]) == probe.load()


def test_recipes_called_by_a_dose_are_found() -> None:
    rows = [{"recipe": name} for name in ("share_25", "rate_1e-5", "star1_no_thinking", "star1_5b", "base")]
    assert [(row["sweep"], row["dose"]) for row in by_dose(rows)] == [("share", 25.0), ("rate", 1e-5)]
