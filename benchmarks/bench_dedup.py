"""Dedup: the exact greedy join against the dense matrix, and its time and memory up to 530,000 questions.

    python benchmarks/bench_dedup.py [--mirror FOLDER] [--sizes 20156,50000,...] [--out benchmarks/results]

Every figure is CPU time of the step in a process of its own and that process's peak memory; `step_mib` is how much
higher the peak rose in the step, too low where making the input had a peak of its own.
Texts come from the mirror (STAR1_DATA) or, without one, from the corpus; larger sizes add seeded perturbations of
them (words dropped, swapped, replaced, frames put around them) and recombinations, so that clusters look real.
Vectors are seeded clusters on the sphere. The table is dedup.csv, the plot dedup.png.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (20_156, 50_000, 100_000, 200_000, 530_000)
FRAMES = ("Please, {}", "Tell me: {}", "I need to know. {}", "{} Answer in detail.", "Hypothetically, {}", "{}")
DENSE_LIMIT = 25_000


def base_texts(mirror: str | None) -> list[str]:
    """The questions of the mirrored sources, or those of the corpus."""
    from star1lib.collection import corpus, sources

    if not mirror:
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
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    from star1lib.collection.dedup import EPSILON

    similarity = cosine_similarity(TfidfVectorizer().fit_transform(texts))
    kept = [0]
    for row in range(1, len(texts)):
        if not (similarity[row, kept] >= threshold - EPSILON).any():
            kept.append(row)
    return kept


def plain_blocks(texts: Sequence[str], threshold: float = 0.6, block: int = 1024) -> list[int]:
    """A plain blocked sparse product of all rows with all earlier ones, without any index."""
    from star1lib.collection.dedup import EPSILON, tfidf_matrix

    matrix = tfidf_matrix(texts)
    keeps = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), block):
        stop = min(start + block, len(texts))
        product = matrix[start:stop] @ matrix[:stop].T
        for row in range(start, stop):
            span = slice(product.indptr[row - start], product.indptr[row - start + 1])
            near = product.indices[span][product.data[span] >= threshold - EPSILON]
            keeps[row] = not keeps[near[near < row]].any()
    return np.flatnonzero(keeps).tolist()


def measure(case: str, size: int, mirror: str | None) -> dict[str, Any]:
    """Run one case in this process: CPU seconds, peak memory of the step in MiB, size and hash of the kept set."""
    import scipy.sparse  # noqa: F401  (imports are not what is measured)
    import sklearn.metrics.pairwise  # noqa: F401

    from star1lib.collection import dedup

    functions: dict[str, Callable[[Any], list[int]]] = {
        "dense": dense, "plain blocks": plain_blocks, "greedy_tfidf": dedup.greedy_tfidf,
        "greedy_embedding": dedup.greedy_embedding,
    }  # fmt: skip
    data: Any = clusters(size) if case == "greedy_embedding" else grown(base_texts(mirror), size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.process_time()
    kept = functions[case](data)
    seconds = time.process_time() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:12]
    return {
        "case": case, "n": len(data), "cpu_s": round(seconds, 2), "step_mib": (peak - before) // 1024,
        "process_mib": peak // 1024, "kept": len(kept), "kept_set": digest,
    }  # fmt: skip


def throughput(mirror: str | None, size: int = 512) -> list[dict[str, Any]]:
    """Sentences per CPU second of our encoder and of plain `SentenceTransformer.encode`, on the same texts."""
    from sentence_transformers import SentenceTransformer

    from star1lib.models import embed

    base = base_texts(mirror)
    texts = [base[i * len(base) // size] for i in range(min(size, len(base)))]
    plain = SentenceTransformer(str(embed.minilm_folder()), device="cpu")
    rows = []
    for name, encode in (("plain encode", plain.encode), ("embed.encode", embed.encode)):
        encode(texts[:8])
        clock = time.process_time()
        encode(texts)
        seconds = time.process_time() - clock
        rows.append({"case": name, "n": len(texts), "cpu_s": round(seconds, 2), "per_s": round(len(texts) / seconds)})
    return rows


def child(case: str, size: int, mirror: str | None) -> list[dict[str, Any]]:
    """Measure one case in a fresh process; a case that dies gives a row that says so."""
    command = [sys.executable, __file__, "--case", case, "--size", str(size), *(["--mirror", mirror] if mirror else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        return [{"case": case, "n": size, "note": f"failed with status {done.returncode}"}]
    return list(json.loads(done.stdout.splitlines()[-1]))


def exponent(rows: Sequence[dict[str, Any]], column: str) -> float:
    """Slope of log(column) over log(n)."""
    points = [(row["n"], row[column]) for row in rows if row.get(column)]
    if len(points) < 2:
        return float("nan")
    n, value = zip(*points, strict=True)
    return float(np.polyfit(np.log(n), np.log(value), 1)[0])


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Time and memory over n on logarithmic axes, with the fitted exponents."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, column, label in zip(
        axes, ("cpu_s", "process_mib"), ("CPU time (s)", "peak memory of the process (MiB)"), strict=True
    ):
        for case, marker in (("greedy_tfidf", "o"), ("greedy_embedding", "s"), ("dense", "x")):
            mine = [row for row in rows if row["case"] == case and row.get(column)]
            slope = f", n^{exponent(mine, column):.2f}" if len(mine) > 1 else ""
            axis.plot([r["n"] for r in mine], [r[column] for r in mine], marker=marker, label=f"{case}{slope}")
        axis.set(xscale="log", yscale="log", xlabel="questions", ylabel=label)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure every case, write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--mirror", default=os.environ.get("STAR1_DATA") or None)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        found = throughput(args.mirror) if args.case == "encode" else [measure(args.case, args.size, args.mirror)]
        print(json.dumps(found))
        return
    sizes = [int(size) for size in args.sizes.split(",")]
    plan = [(case, sizes[0]) for case in ("dense", "plain blocks") if sizes[0] <= DENSE_LIMIT]
    plan += [(case, size) for case in ("greedy_tfidf", "greedy_embedding") for size in sizes] + [("encode", 0)]
    rows: list[dict[str, Any]] = []
    for case, size in plan:
        rows += child(case, size, args.mirror)
        print(rows[-1], flush=True)
    reference = next((row for row in rows if row["case"] == "dense" and "cpu_s" in row), None)
    for row in rows:
        row["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
        if reference and row["n"] == reference["n"] and row["case"] in ("plain blocks", "greedy_tfidf"):
            row["times_faster"] = round(reference["cpu_s"] / row["cpu_s"], 1)
            row["times_less_memory"] = round(reference["process_mib"] / row["process_mib"], 1)
            row["same_set"] = row["kept_set"] == reference["kept_set"]
    for case in ("greedy_tfidf", "greedy_embedding"):
        mine = [row for row in rows if row["case"] == case]
        for column in ("cpu_s", "process_mib"):
            print(f"{case}: {column} grows as n^{exponent(mine, column):.2f}")
    args.out.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (args.out / "dedup.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, args.out / "dedup.png")


if __name__ == "__main__":
    main()
