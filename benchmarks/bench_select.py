"""Selection: the grouped algorithm against the one-by-one definition, on the mix of sources and categories of STAR-1.

    python benchmarks/bench_select.py [--mirror FOLDER] [--out benchmarks/results/select.csv]

With a mirror the mix is that of the published rows (sources and category lists as they occur); without,
a stand-in mix with the same number of sources and a similar spread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.policies import CATEGORIES
from star1lib.selection.balance import removals, select_balanced

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
    """The result of a call and its CPU seconds, which other work on the machine does not stretch; both use one core."""
    start = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - start


def main() -> None:
    """Time both on the same pools, check that they agree, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mirror", type=Path, default=os.environ.get("STAR1_DATA") or Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/select.csv"))
    parser.add_argument("--direct-steps", type=int, default=300, help="removals that the direct loop is timed on")
    parser.add_argument("--direct-full", action="store_true", help="run the direct loop to the end on every pool")
    options = parser.parse_args()
    mirror = Path(options.mirror)
    mix = published_mix(mirror)
    rows = []
    for size, target in ((1_000, 300), (20_000, 1_000), (41_000, 1_000), (1_000_000, 1_000)):
        pool = pool_of(mix, size) if size > len(mix) else [{"id": i, **row} for i, row in enumerate(mix)]
        kept, seconds = timed(select_balanced, pool, target)
        row: dict[str, Any] = {"pool": size, "target": target, "grouped_s": round(seconds, 3)}
        if size <= 41_000:
            row |= direct_row(pool, target, kept, seconds, options)
        row |= {"mix": "published STAR-1" if mirror.exists() else "stand-in", "cores": os.cpu_count()}
        row["python"] = platform.python_version()
        rows.append(row)
        print(row, flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with options.out.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(rows)


def direct_row(
    pool: Records, target: int, kept: Records, seconds: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Time of the direct loop: whole up to 20,000 removals or when asked for, else first and last steps, integrated.

    A step costs time in proportion to what is left, so n removals from a to b cost the mean of the
    cost at both ends, times n.
    """
    removed = len(pool) - target
    if options.direct_full or removed <= 20_000:
        direct, elapsed = timed(select_balanced_direct, pool, target)
        return {
            "direct_s": round(elapsed, 1),
            "direct_how": "measured",
            "speedup": round(elapsed / seconds),
            "same": [r["id"] for r in direct] == [r["id"] for r in kept],
        }
    steps = options.direct_steps
    first, at_first = timed(select_balanced_direct, pool, len(pool) - steps)
    same = [r["id"] for r in first] == [r["id"] for r in select_balanced(pool, len(pool) - steps)]
    order = removals(pool, target)
    gone = {step.index for step in order[:-steps]}
    late = [record for index, record in enumerate(pool) if index not in gone]
    last, at_last = timed(select_balanced_direct, late, target)
    same = same and [r["id"] for r in last] == [r["id"] for r in kept]
    elapsed = removed * (at_first + at_last) / (2 * steps)
    return {
        "direct_s": round(elapsed, 1),
        "direct_how": f"first and last {steps} removals measured, integrated",
        "speedup": round(elapsed / seconds),
        "same": same,
    }


if __name__ == "__main__":
    main()
