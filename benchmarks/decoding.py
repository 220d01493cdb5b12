"""Who makes the tokens on a CPU: transformers' `generate` in rounds (star1lib), in whole batches, a vLLM server.

The same prompts, one way after another, greedily, in float32 but where it says otherwise: StrongREJECT and sums, asked
of a chat model whose turn starts inside the thinking (`--model build/mini/models/star1-...`) or of a plain one. Seconds
are the processor's, of all processes, loading left out; a server's start, paid once a checkpoint, stands apart. No text
is kept.

    python benchmarks/decoding.py --model build/mini/models/star1-... [--new 160] [--vllm .venv-vllm/bin/python]

Prints the rows of the table in results/decoding.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import torch
from transformers import DynamicCache

from star1lib.evaluation import benchmarks
from star1lib.models import cache, chat, checkpoints, generate, serving

Tokens = list[list[int]]


def cpu() -> float:
    """Processor seconds of this process and of every process it started, ended ones included."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


def questions(count: int) -> list[str]:
    """As many harmful prompts as sums."""
    sets = [benchmarks.benchmark(name) for name in ("StrongREJECT", "Sums")]
    return [one.ask(question) for one in sets for question in one.prepare(one.load(None), 0)[: count // 2]]


def rounds(net: Any, prompts: Tokens, new: int, stops: set[int]) -> Tokens:
    """star1lib: finished rows leave after every round."""
    return [one.tokens for one in generate.generate(net, prompts, generate.Settings(new), stop_ids=stops)]


def concatenating(net: Any, prompts: Tokens, new: int, stops: set[int]) -> Tokens:
    """In rounds, with the library's own cache of keys and values."""
    with mock.patch.object(cache, "empty_cache", lambda config: DynamicCache(config=config)):
        return rounds(net, prompts, new, stops)


def whole(net: Any, prompts: Tokens, new: int, stops: set[int]) -> Tokens:
    """One call of the library for all: rows stay until the last one ends."""
    width = max(map(len, prompts))
    pads = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([prompt[:1] * pad + prompt for prompt, pad in zip(prompts, pads, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
    how = {"do_sample": False, "max_new_tokens": new, "eos_token_id": sorted(stops), "pad_token_id": 0}
    return [cut(row, stops) for row in net.generate(ids, attention_mask=mask, **how)[:, width:].tolist()]


def cut(tokens: Sequence[int], stops: set[int]) -> list[int]:
    """`tokens` up to the first stop token, which stays."""
    end = next((place + 1 for place, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end])


def served(server: serving.Server, prompts: Tokens, new: int, stops: set[int]) -> Tokens:
    """All prompts to a vLLM server in one request."""
    body = {"model": server.name, "prompt": prompts, "max_tokens": new, "temperature": 0, "return_token_ids": True,
            "stop_token_ids": sorted(stops)}  # fmt: skip
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(trust_env=False, timeout=3600, headers=headers) as client:
        reply = client.post(f"{server.base_url}/completions", json=body).raise_for_status()
    return [cut(one["token_ids"], stops) for one in sorted(reply.json()["choices"], key=lambda one: one["index"])]


def main() -> None:
    """Measure every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=checkpoints.SMOLLM2)
    parser.add_argument("--prompts", type=int, default=66)
    parser.add_argument("--new", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vllm", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net, tokenizer = checkpoints.load(given.model)
    net.train(False)
    thinking, stops = chat.opens_thinking(tokenizer), generate.stop_tokens(net, tokenizer)
    asked = [[{"role": "user", "content": text}] for text in questions(given.prompts)]
    prompts = [chat.prompt_tokens(tokenizer, messages, thinking) for messages in asked]
    print("| way | CPU s | ratio | tokens a CPU s | start, CPU s | equal |\n|---|--:|--:|--:|--:|--:|")
    rows: dict[str, tuple[float, Tokens]] = {}

    def measure(name: str, way: Callable[..., Tokens], who: Any, start: str = "") -> None:
        begin = cpu()
        made = way(who, prompts, given.new, stops)
        rows[name] = spent, found = cpu() - begin, made
        first, wanted = next(iter(rows.values()))
        equal = sum(a == b for a, b in zip(found, wanted, strict=True))
        print(f"| {name} | {spent:.1f} | {spent / first:.2f} | {sum(map(len, found)) / spent:.0f} | {start} "
              f"| {equal} of {len(prompts)} |", flush=True)  # fmt: skip

    measure("`generate` in rounds (star1lib)", rounds, net)
    measure("`generate`, whole batch", whole, net)
    half = checkpoints.load(given.model, "bfloat16")[0].eval()
    measure("`generate` in rounds, bfloat16", rounds, half)
    measure("the same, transformers' own cache", concatenating, half)
    if given.vllm:
        begin = cpu()
        with serving.serve(Path(checkpoints.resolve(given.model)), python=given.vllm, timeout=3600) as server:
            measure("vLLM on the CPU", served, server, f"{cpu() - begin:.1f}")


if __name__ == "__main__":
    main()
