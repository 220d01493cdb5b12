"""Dedup: the exact greedy join against the dense matrix, and its time and memory up to 530,000 questions.

    STAR1_DATA=... python benchmarks/bench_dedup.py [SIZE ...]

Every figure is CPU time of the step in a process of its own and that process's peak memory; `step_mib` is how much
higher the peak rose in the step, too low where making the input had a peak of its own.
Texts come from the mirror (STAR1_DATA) or, without one, from the corpus; larger sizes add seeded perturbations of
them (words dropped, swapped, replaced, frames put around them) and recombinations, so that clusters look real.
Vectors are seeded clusters on the sphere. Writes results/dedup.csv.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from star1lib.collection import corpus, dedup, sources

SIZES = (20_156, 50_000, 100_000, 200_000, 530_000)
FRAMES = ("Please, {}", "Tell me: {}", "I need to know. {}", "{} Answer in detail.", "Hypothetically, {}", "{}")
RESULT = Path(__file__).parent / "results" / "dedup.csv"


def base_texts() -> list[str]:
    """The questions of the mirrored sources, or those of the corpus."""
    if not (mirror := os.environ.get("STAR1_DATA")):
        return [row.question for row in corpus.load().rows]
    rows = [row for row in sources.SOURCES.values() if row.kind == "train" and row.mirror]
    return [question.text for row in rows for question in sources.load(row.name, Path(mirror))]


def grown(base: Sequence[str], size: int, seed: int = 0) -> list[str]:
    """`size` texts: `base` first, then seeded variants of a few much-copied ones and new mixtures of two."""
    rng = random.Random(seed)
    vocabulary = sorted({word for text in base for word in text.split()})
    texts = list(base[:size])
    while len(texts) < size:
        # A square makes early texts much more copied than late ones: a few big clusters, many small.
        words = base[int(len(base) * rng.random() ** 2)].split()
        if rng.random() < 0.35:
            other = base[rng.randrange(len(base))].split()
            words = words[: len(words) // 2] + other[len(other) // 2 :]
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(words)) if words else 0
            kind = rng.random()
            if kind < 0.4:
                words[place : place + 1] = []
            elif kind < 0.8:
                words[place : place + 1] = [rng.choice(vocabulary)]
            else:
                words.insert(place, rng.choice(vocabulary))
        texts.append(rng.choice(FRAMES).format(" ".join(words)))
    return texts


def clusters(size: int, seed: int = 0, width: int = 384) -> np.ndarray:
    """`size` float32 vectors around one centre per twenty of them, in seeded order."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(size // 20, 1), width), dtype=np.float32)
    vectors = np.empty((size, width), dtype=np.float32)
    for start in range(0, size, 8192):
        chosen = rng.integers(0, len(centres), size=min(8192, size - start))
        noise = rng.standard_normal((len(chosen), width), dtype=np.float32)
        vectors[start : start + len(chosen)] = centres[chosen] + 0.5 * noise
    return vectors


def dense(texts: Sequence[str], threshold: float = 0.6) -> list[int]:
    """The baseline: the whole cosine matrix, then the row-by-row loop."""
    matrix = dedup.tfidf_matrix(texts)
    similarity = (matrix @ matrix.T).toarray()
    kept: list[int] = []
    for row in range(len(texts)):
        if not (similarity[row, kept] >= threshold - dedup.EPSILON).any():
            kept.append(row)
    return kept


def plain_blocks(texts: Sequence[str], threshold: float = 0.6, block: int = 1024) -> list[int]:
    """The same rule with the sparse products of whole rows, a block of rows against all before them."""
    matrix = dedup.tfidf_matrix(texts)
    keeps = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), block):
        product = matrix[start : start + block] @ matrix[: start + block].T
        for row in range(product.shape[0]):
            near = product[[row]]
            near = near.indices[(near.data >= threshold - dedup.EPSILON) & (near.indices < start + row)]
            keeps[start + row] = not keeps[near].any()
    return np.flatnonzero(keeps).tolist()


WAYS = {"dense": dense, "plain blocks": plain_blocks, "greedy_tfidf": lambda texts: dedup.tfidf(texts).kept,
        "greedy_embedding": lambda vectors: dedup.embedding(vectors).kept}  # fmt: skip


def measure(case: str, size: int) -> dict[str, Any]:
    """Run one case in this process: CPU seconds, peak memory of the step in MiB, size and hash of the kept set."""
    import sklearn.feature_extraction.text  # noqa: F401  (imports are not what is measured)

    data: Any = clusters(size) if case == "greedy_embedding" else grown(base_texts(), size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.process_time()
    kept = WAYS[case](data)
    seconds = time.process_time() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "case": case, "n": len(data), "cpu_s": round(seconds, 2), "step_mib": (peak - before) // 1024,
        "process_mib": peak // 1024, "kept": len(kept),
        "kept_set": hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:12],
    }  # fmt: skip


def main() -> None:
    """Measure every case in a process of its own, the baselines on the smallest size, and write the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    plan = [(case, size) for case in WAYS for size in (sizes if case.startswith("greedy") else sizes[:1])]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        rows = list(pool.map(measure, *zip(*plan, strict=True)))
    for row in rows[1 : len(sizes) + 2]:
        if row["n"] == rows[0]["n"]:
            row["times_faster"] = round(rows[0]["cpu_s"] / row["cpu_s"], 1)
            row["times_less_memory"] = round(rows[0]["process_mib"] / row["process_mib"], 1)
            row["same_set"] = row["kept_set"] == rows[0]["kept_set"]
    table = pd.DataFrame(rows).assign(machine=f"{platform.machine()}, {os.cpu_count()} cores")
    table.to_csv(RESULT, index=False, lineterminator="\n")
    print(table)
    for case in ("greedy_tfidf", "greedy_embedding"):
        mine = table[table["case"] == case]
        for column in ("cpu_s", "process_mib"):
            slope = np.polyfit(np.log(mine["n"]), np.log(mine[column]), 1)[0]
            print(f"{case}: {column} grows as n^{slope:.2f}")


if __name__ == "__main__":
    main()
