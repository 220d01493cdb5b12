"""How often the ledger gives the authors' verdicts on items drawn at the paper's printed rates, at the paper's n.

The printed rates do not say how items pair. An answer is right where its question's difficulty and a chance of its own,
both normal, stay together under the rate; `pairing` is the share of the variance that is the question's, alike for all
variants of a model. With 1 an item is as hard for one variant as for the other, with 0 every answer stands alone.
Writes results/claims_simulation.md; each condition is kept in build/claims_simulation.json as soon as it is done.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from star1lib.files import write_text
from star1lib.study import claims, compare

RESULT, WORK = Path(__file__).parent / "results" / "claims_simulation.md", Path("build/claims_simulation.json")
SIZES = {"StrongREJECT": 313, "JBB-Behaviors": 100, "WildChat": 370, "WildJailbreak-eval": 250,
         "MMLU-Pro": 12032, "AIME2024": 30, "MATH500": 500, "GPQA-Diamond": 198, "HumanEval": 164}  # fmt: skip
# Rates that put the first role of each "not less" claim three points below the second: a holding verdict is false.
AT_MARGIN = {"star1": -0.03, "high": -0.03, "no_think": -0.06}
CONDITIONS: dict[str, dict[str, Any]] = {
    "printed, paired 1": {},
    "equal rates": {"pairing": 0.0, "offsets": {}},
    "printed, paired 0.5": {"pairing": 0.5},
    "printed, paired 0.5, 8 answers a question": {"pairing": 0.5, "samples": 8},
    "three points less": {"pairing": 0.5, "offsets": AT_MARGIN},
    "printed, paired 0": {"pairing": 0.0},
}


def draw(
    rng: np.random.Generator, pairing: float = 1.0, offsets: Mapping[str, float] | None = None, samples: int = 1
) -> list[claims.Study]:
    """Items of every model of the paper at its printed rates, at the paper's n, as studies of the ledger.

    With `offsets` (by role, 0 where it has none) all have the rates of their base, moved. `samples` answers are drawn
    to a question of AIME, GPQA and HumanEval, whose sizes leave most open; an item's value is their mean.
    """
    metrics = {name: metric for metric, names in claims.load().sets.items() for name in names}
    models: dict[tuple[str, str, float], dict[tuple[str, str], list[dict[str, pd.Series]]]] = {}
    shared: dict[tuple[str, str], np.ndarray] = {}
    printed = [row for row in compare.paper_rows() if row["benchmark"] in SIZES]
    rates = {(row["model"], row["role"], row["benchmark"]): row for row in printed}
    for (model, role, benchmark), row in rates.items():
        rate, size = row["value"], SIZES[benchmark]
        if offsets is not None:
            rate = np.clip(rates[model, "base", benchmark]["value"] + offsets.get(role, 0.0), 0.0, 1.0)
        times = samples if size < 200 and metrics[benchmark] == "correct" else 1
        difficulty = shared.setdefault((model, benchmark), rng.standard_normal(size))
        own = rng.standard_normal((times, size))
        right = np.sqrt(pairing) * difficulty + np.sqrt(1 - pairing) * own < norm.ppf(rate)
        outcomes = models.setdefault((model, row["model_class"], row["billions"]), {})
        outcomes.setdefault((role, metrics[benchmark]), [{}])[0][benchmark] = pd.Series(right.mean(axis=0))
    return [claims.Study(model, kind, outcomes, billions) for (model, kind, billions), outcomes in models.items()]


def name(row: Mapping[str, Any]) -> str:
    """A claim as the table names it; every claim that can be drawn has another one."""
    return f"{row['number']}: {row['ours']}, {row['metric']}"


def count(draws: int = 100, seed: int = 0, **how: Any) -> dict[str, dict[str, int]]:
    """By claim, how often each verdict came in so many draws."""
    rng, found = np.random.default_rng(seed), dict[str, Counter[str]]()
    gc.freeze()  # Holm's correction collects garbage each time; what is here already need not be looked at again
    for _ in tqdm(range(draws)):
        for row in claims.ledger(draw(rng, **how)):
            if row["n"]:
                found.setdefault(name(row), Counter())[row["verdict"]] += 1
    gc.unfreeze()
    return {claim: dict(verdicts) for claim, verdicts in found.items()}


def main() -> None:
    """Draw what is not at hand, and write the table."""
    found = json.loads(WORK.read_text(encoding="utf-8")) if WORK.exists() else {}
    for condition, how in CONDITIONS.items():
        if condition not in found:
            found[condition] = count(**how)
            WORK.parent.mkdir(exist_ok=True)
            write_text(WORK, json.dumps(found))
    write_text(RESULT, report(found))


def report(found: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """The table as Markdown: a row a claim; of 100 draws, how many hold."""
    rules = {name(row): claim.rule for claim, row in zip(claims.load().claims, claims.ledger([]), strict=True)}
    drawn = list(found["printed, paired 1"])
    printed = [condition for condition in CONDITIONS if condition.startswith("printed")]
    head = ["claim", *(f"holds: {condition.removeprefix('printed, ')}" for condition in printed), "false holds"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for claim in drawn:
        null = "three points less" if rules[claim] == "not_less" else "equal rates"
        cells = [str(found[condition][claim].get(claims.HOLDS, 0)) if condition in found else "–"
                 for condition in (*printed, null)]  # fmt: skip
        lines.append(f"| {claim} | {' | '.join(cells)} |")
    rest = ", ".join(sorted({claim.split(":")[0] for claim in rules if claim not in drawn}, key=int))
    return (
        f"{WORDS}\n\n" + "\n".join(lines) + f"\n\nNot drawn, since no item or no rate of theirs is printed: {rest}.\n"
    )


WORDS = """# The ledger on items drawn at the paper's printed rates

Of 100 draws at the paper's n, in how many each claim gets the authors' verdict (holds), and how often it holds where it
should not: at equal rates for "more" and "shrinks", at three points less for "not less". `paired` is the share of an
answer's chance that is its question's, alike for the variants of a model; the printed rates do not say it. Made by
`python benchmarks/claims_simulation.py`.

Claims of safety are decided whatever it is, and so is better reasoning (claim 3). "Reasoning is kept" (2, 10) is
decided at one answer a question only where items are fully paired: AIME's 30 questions weigh a fifth of the mean, and
what they leave open is more than the points between the printed difference and the margin. The test is paired and the
mean unweighted already; what decides is more answers to each question of the three sets with fewer than 200 (AIME,
GPQA, HumanEval), as the column with 8 shows."""

if __name__ == "__main__":
    main()
