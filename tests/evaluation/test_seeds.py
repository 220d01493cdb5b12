"""Seeds of one recipe are put together; questions of benchmarks are what training rows are held against."""

from __future__ import annotations

import math
from typing import Any

from star1lib.evaluation import benchmarks
from star1lib.evaluation.benchmarks import probe
from star1lib.evaluation.seeds import by_dose, over_seeds


def rate(variant: str, value: float, n: int = 4) -> dict[str, Any]:
    facts = {"variant": variant, "benchmark": "BenignVariants", "metric": "answered"}
    return {**facts, "value": value, "low": 0.0, "high": 1.0, "n": n}


def test_the_seeds_of_a_recipe_are_one_row() -> None:
    rates = [rate("base", 0.9), rate("mixed", 0.25), rate("mixed_seed2", 0.75), rate("mixed_seed3", math.nan, n=0)]
    base, mixed = over_seeds(rates)
    assert (base["recipe"], base["seeds"], base["value"]) == ("base", 1, 0.9) and math.isnan(base["spread"])
    assert (base["low"], base["high"]) == (0.0, 1.0), "of one seed its interval"
    assert (mixed["recipe"], mixed["seeds"], mixed["value"]) == ("mixed", 2, 0.5)
    assert (mixed["low"], mixed["high"]) == (0.25, 0.75), "of several the outermost"
    assert mixed["spread"] == math.sqrt(0.125)


def test_questions_of_benchmarks_without_those_of_the_run() -> None:
    assert benchmarks.questions(["Probe", "BenignVariants", "Probe"]) == probe.load()


def test_recipes_called_by_a_dose_are_found() -> None:
    rows = [
        {"recipe": name}
        for name in ("share_25", "rate_1e-5", "star1_no_thinking", "star1_5b", "base", "Llama-8B rows_10")
    ]
    found = [(row["sweep"], row["dose"]) for row in by_dose(rows)]
    assert found == [("share", 25.0), ("rate", 1e-5), ("Llama-8B rows", 10.0)]
