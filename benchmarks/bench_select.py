"""Selection: the grouped algorithm against the one-by-one definition, on the mix of sources and categories of STAR-1.

    STAR1_DATA=... python benchmarks/bench_select.py

With a mirror the mix is that of the published rows (sources and category lists as they occur); without, a stand-in mix
with the same number of sources and a similar spread. Seconds are those of the processor, which other work on the
machine does not stretch; both ways use one core. Writes results/select.csv.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from star1lib.policies import CATEGORIES
from star1lib.selection.balance import select_balanced

RESULT = Path(__file__).parent / "results" / "select.csv"
DIRECT_UP_TO = 20_000  # records; one by one, these take minutes
Records = list[dict[str, Any]]


def select_balanced_direct(records: Sequence[Mapping[str, Any]], size: int) -> list[Mapping[str, Any]]:
    """The definition of the paper, word for word: all probabilities and weights anew after each removal."""
    left = list(records)
    while len(left) > size:
        sources = Counter(record["source"] for record in left)
        mentions = Counter(name for record in left for name in record["category"])
        total, all_mentions = len(left), sum(mentions.values())
        worst, worst_weight = 0, -1.0
        for index, record in enumerate(left):
            p_categories = 0.0
            for name in record["category"]:
                p_categories += mentions[name] / all_mentions
            weight = sources[record["source"]] / total * p_categories
            if weight > worst_weight:
                worst, worst_weight = index, weight
        del left[worst]
    return left


def published_mix(mirror: Path | None) -> Records:
    """Source and category list of the 1,000 published rows, or a stand-in mix without a mirror."""
    path = mirror / "star1" / "STAR-1.json" if mirror else None
    if path and path.exists():
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [{"source": row["source"], "category": list(row["category"])} for row in rows]
    draw = random.Random(0)
    shares = [0.3, 0.26, 0.14, 0.09, 0.07, 0.04, 0.03, 0.02, 0.02, 0.02] + [0.002] * 8
    return [
        {
            "source": f"source-{draw.choices(range(len(shares)), shares)[0]}",
            "category": draw.sample(CATEGORIES, draw.choices((1, 2, 3), (0.7, 0.285, 0.015))[0]),
        }
        for _ in range(1000)
    ]


def pool_of(mix: Records, size: int, seed: int = 0) -> Records:
    """`size` records drawn from `mix` with replacement."""
    draw = random.Random(seed)
    return [{"id": number, **draw.choice(mix)} for number in range(size)]


def timed(function: Any, *arguments: Any) -> tuple[Any, float]:
    """The result of a call and its CPU seconds."""
    start = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - start


def main() -> None:
    """Time both on the same pools, check that they agree, write the table."""
    mirror = Path(os.environ["STAR1_DATA"]) if os.environ.get("STAR1_DATA") else None
    mix = published_mix(mirror)
    facts = {"mix": "published STAR-1" if mirror else "stand-in", "cores": os.cpu_count(),
             "python": platform.python_version()}  # fmt: skip
    rows = []
    for size, target in ((1_000, 300), (20_000, 1_000), (41_000, 1_000), (1_000_000, 1_000)):
        pool = pool_of(mix, size) if size > len(mix) else [{"id": number, **row} for number, row in enumerate(mix)]
        kept, seconds = timed(select_balanced, pool, target)
        row: dict[str, Any] = {"pool": size, "target": target, "grouped_s": round(seconds, 3)}
        if size <= DIRECT_UP_TO:
            direct, elapsed = timed(select_balanced_direct, pool, target)
            row |= {"direct_s": round(elapsed, 1), "speedup": round(elapsed / seconds), "same": direct == kept}
        rows.append({**row, **facts})
        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULT, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
