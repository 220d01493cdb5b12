"""Who makes the tokens on a CPU: own decoding, transformers' two ways, a vLLM server; same prompts, one run.

All ways decode greedily in float32, at the same time, so that they meet the same load, each in a process of its own and
on as many threads. Seconds are the processor's, loading left out; a server's start stands in a column of its own, since
it is paid once a checkpoint. Tokens are compared with those of transformers'
`generate`; where two responses part, the logits at that place say whether it is a tie within 1e-3. The prompts are
benign: the corpus's benign variants and the arithmetic probe.

    python benchmarks/decoding.py [--new 64] [--penalty 1.05] [--thinking --model build/mini/models/star1-...]
                                  [--vllm .venv-vllm/bin/python] [--job build/mini] [--name decoding]

`--job` names a finished run: what share of it is decoding decides whether own decoding is worth its lines (it stays
if the whole job would take over 1.25 times as long with the best of the others). What a way gave is kept in
build/decoding: the same command again measures only what is missing. Writes results/NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from star1lib.collection import corpus
from star1lib.evaluation.benchmarks import probe
from star1lib.models import chat, checkpoints, generate, serving

RESULTS = Path(__file__).parent / "results"
KEPT = Path(__file__).parents[1] / "build" / "decoding"
TIE = 1e-3
WORTH = 1.25
Prompts = Sequence[list[int]]
Tokens = list[list[int]]


def questions(count: int) -> list[str]:
    """`count` benign questions: four of five from the corpus, the others sums of the probe."""
    benign = [row.question for row in corpus.load().rows if row.kind == "benign"]
    sums = [question.text for question in probe.load()]
    return [*benign[: count * 4 // 5], *sums[: count - count * 4 // 5]]


def cut(tokens: Sequence[int], stops: set[int]) -> list[int]:
    """`tokens` up to the first stop token, which stays."""
    end = next((place + 1 for place, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end])


def plain(net: Any, tokenizer: Any, prompts: Prompts, settings: generate.Settings, size: int) -> Tokens:
    """transformers' `generate`, batches of `size` prompts of like length, padded on the left."""
    stops, found = generate.stop_tokens(net, tokenizer), {}
    tokenizer.padding_side = "left"
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for begin in range(0, len(order), size):
        places = order[begin : begin + size]
        batch = tokenizer.pad({"input_ids": [prompts[place] for place in places]}, return_tensors="pt")
        with torch.inference_mode():
            made = net.generate(
                **batch,
                do_sample=False,
                max_new_tokens=settings.max_new_tokens,
                repetition_penalty=settings.repetition_penalty,
                pad_token_id=tokenizer.pad_token_id,
            )
        for place, row in zip(places, made[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            found[place] = cut(row, stops)
    return [found[place] for place in range(len(prompts))]


def continuous(net: Any, tokenizer: Any, prompts: Prompts, settings: generate.Settings, size: int) -> Tokens:
    """transformers' continuous batching, `size` requests at once; it knows no repetition penalty and drops it."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    stops = generate.stop_tokens(net, tokenizer)
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=sorted(stops),
        pad_token_id=tokenizer.pad_token_id,
    )
    longest = max(map(len, prompts)) + settings.max_new_tokens
    batching = ContinuousBatchingConfig(
        max_requests_per_batch=size,
        page_size=32,
        num_blocks=size * (longest // 32 + 2),
        max_batch_tokens=1024,
    )
    made = net.generate_batch([list(p) for p in prompts], generation_config=config, continuous_batching_config=batching)
    return [cut(row.generated_tokens, stops) for row in made.values()]


def own(net: Any, tokenizer: Any, prompts: Prompts, settings: generate.Settings) -> Tokens:
    """star1lib's decoding."""
    stops = generate.stop_tokens(net, tokenizer)
    return [result.tokens for result in generate.generate(net, prompts, settings, stop_ids=stops)]


def ask(server: serving.Server, prompts: Prompts, settings: generate.Settings, stops: set[int]) -> Tokens:
    """All prompts to a vLLM server in one request."""
    import httpx

    body = {
        "model": server.name,
        "prompt": list(prompts),
        "max_tokens": settings.max_new_tokens,
        "temperature": 0,
        "repetition_penalty": settings.repetition_penalty,
        "stop_token_ids": sorted(stops),
        "return_token_ids": True,
    }
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(trust_env=False, timeout=3600, headers=headers) as client:
        reply = client.post(f"{server.base_url}/completions", json=body)
        reply.raise_for_status()
        choices = sorted(reply.json()["choices"], key=lambda choice: choice["index"])
    return [cut(choice["token_ids"], stops) for choice in choices]


def processor_seconds() -> float:
    """Processor seconds of this process and of every process it started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def encoded(arguments: argparse.Namespace, tokenizer: Any) -> Tokens:
    """The prompts' tokens."""
    return [
        chat.prompt_tokens(tokenizer, [{"role": "user", "content": text}], arguments.thinking)
        for text in questions(arguments.prompts)
    ]


def child(arguments: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process: its responses and the processor seconds of start and work."""
    resource.setrlimit(resource.RLIMIT_CPU, (arguments.most, arguments.most))
    torch.set_num_threads(arguments.threads)
    settings, way = generate.Settings(arguments.new, arguments.penalty), arguments.way
    if way == "vllm":
        tokenizer = checkpoints.load_tokenizer(arguments.model)
        prompts, stops = encoded(arguments, tokenizer), {tokenizer.eos_token_id}
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        begin, folder = processor_seconds(), Path(checkpoints.resolve(arguments.model))
        with serving.serve(folder, python=arguments.vllm, max_num_seqs=256, timeout=3600) as server:
            ready = processor_seconds()
            found = ask(server, prompts, settings, stops)
            return {"tokens": found, "cpu_s": processor_seconds() - ready, "start_cpu_s": ready - begin}
    net, tokenizer = checkpoints.load(arguments.model)
    net.train(False)
    prompts = encoded(arguments, tokenizer)
    name, _, size = way.partition(":")
    ready = processor_seconds()
    if name == "own":
        found = own(net, tokenizer, prompts, settings)
    else:
        found = {"plain": plain, "continuous": continuous}[name](net, tokenizer, prompts, settings, int(size))
    return {"tokens": found, "cpu_s": processor_seconds() - ready, "start_cpu_s": 0.0}


def gap(net: Any, prompt: list[int], mine: list[int], theirs: list[int], penalty: float) -> float:
    """How far the logits of the two tokens at the first place where two responses differ are below the best one."""
    place = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
    if place is None:
        return float("inf")
    ids = torch.tensor([[*prompt, *mine[:place]]])
    with torch.inference_mode():
        logits = net(ids).logits[0, -1]
    seen = ids[0].unique()
    logits[seen] = torch.where(logits[seen] < 0, logits[seen] * penalty, logits[seen] / penalty)
    return float(logits.max() - logits[[mine[place], theirs[place]]].min())


def compare(net: Any, prompts: Prompts, found: Tokens, wanted: Tokens, penalty: float) -> dict[str, Any]:
    """How many responses equal the reference token for token, how many part at a tie, the widest gap."""
    pairs = [(p, a, b) for p, a, b in zip(prompts, found, wanted, strict=True) if a != b]
    gaps = [gap(net, prompt, mine, theirs, penalty) for prompt, mine, theirs in pairs]
    return {
        "equal": len(prompts) - len(gaps),
        "ties": sum(width <= TIE for width in gaps),
        "other": sum(width > TIE for width in gaps),
        "widest_gap": max(gaps, default=0.0),
    }


def job_facts(build: Path) -> dict[str, Any]:
    """Of a finished run: the share of its seconds spent in generation, the tokens made, how many models made them."""
    from inspect_ai.log import read_eval_log

    spent, tokens, models = 0.0, 0, set()
    for file in sorted((build / "evaluations" / "logs").glob("*.eval")):
        log = read_eval_log(str(file), header_only=True)
        begin, end = (datetime.datetime.fromisoformat(str(t)) for t in (log.stats.started_at, log.stats.completed_at))
        spent += (end - begin).total_seconds()
        tokens += sum(usage.output_tokens for usage in log.stats.model_usage.values())
        models.add(log.eval.model)
    whole = sum(json.loads((build / "timings.json").read_text(encoding="utf-8")).values())
    return {"decoding_share": round(spent / whole, 3), "job_tokens": tokens, "job_models": len(models)}


def whole_job(facts: dict[str, Any], row: dict[str, Any], own_row: dict[str, Any]) -> tuple[float, float]:
    """How many times as long the job takes with another way: a start a model counted, and left out."""
    mine = facts["job_tokens"] / own_row["tokens_per_cpu_s"]
    theirs = facts["job_tokens"] / row["tokens_per_cpu_s"]
    started = theirs + facts["job_models"] * row["start_cpu_s"]
    share = facts["decoding_share"]
    return 1 + share * (started / mine - 1), 1 + share * (theirs / mine - 1)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per way; all ways run at the same time, in processes of their own, so that they meet the same load."""
    ways = {f"plain:{size}": f"transformers `generate`, batches of {size}" for size in arguments.batch}
    ways["own"] = "star1lib"
    if arguments.penalty == 1.0:
        ways |= {
            f"continuous:{size}": f"transformers `generate_batch`, {size} at once" for size in arguments.continuous
        }
    if arguments.vllm:
        ways["vllm"] = "vLLM on the CPU"
    KEPT.mkdir(parents=True, exist_ok=True)
    files = {way: KEPT / f"{arguments.name}-{way.replace(':', '-')}.json" for way in ways}
    begun = [
        subprocess.Popen([sys.executable, *sys.argv, "--way", way, "--out", str(file)])
        for way, file in files.items()
        if not file.exists()
    ]
    for process in begun:
        process.wait()
    found = {way: json.loads(file.read_text(encoding="utf-8")) for way, file in files.items() if file.exists()}
    net, tokenizer = checkpoints.load(arguments.model)
    prompts, base = encoded(arguments, tokenizer), found["own"]["cpu_s"]
    wanted = found.get(f"plain:{arguments.batch[0]}", found["own"])["tokens"]
    rows: list[dict[str, Any]] = []
    for way, name in ways.items():
        if way not in found:
            rows.append(
                {"way": name, "cpu_s": None, "note": f"stopped before it was done, at most {arguments.most} CPU s"}
            )
            continue
        tokens, cpu = found[way]["tokens"], found[way]["cpu_s"]
        made = sum(map(len, tokens))
        rows.append(
            {
                "way": name,
                "cpu_s": round(cpu, 1),
                "start_cpu_s": round(found[way]["start_cpu_s"], 1),
                "tokens": made,
                "tokens_per_cpu_s": round(made / cpu, 1),
                "cpu_ratio": round(cpu / base, 2),
                **compare(net, prompts, tokens, wanted, arguments.penalty),
            }
        )
    return rows


def report(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table in words."""
    lines = [
        f"{facts['prompts']} benign prompts, {facts['model']}, at most {facts['new']} new tokens, repetition penalty "
        f"{facts['penalty']}, greedy, float32, {facts['threads']} threads on a {facts['machine']} CPU "
        f"({facts['flags']}), {facts['date']}, torch {facts['torch']}, transformers {facts['transformers']}.",
        "",
        "| way | CPU s | ratio | tokens a CPU s | start, CPU s | equal | tie within 1e-3 | other | widest gap |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["cpu_s"] is None:
            lines.append(f"| {row['way']} | {row['note']} | | | | | | | |")
            continue
        lines.append(
            f"| {row['way']} | {row['cpu_s']} | {row['cpu_ratio']:.2f} | {row['tokens_per_cpu_s']} | "
            f"{row['start_cpu_s'] or ''} | {row['equal']} | {row['ties']} | {row['other']} | {row['widest_gap']:.1e} |"
        )
    if facts.get("decoding_share"):
        own_row = next(row for row in rows if row["way"] == "star1lib")
        others = [row for row in rows if row["cpu_s"] and row is not own_row]
        factors = {row["way"]: whole_job(facts, row, own_row) for row in others}
        lines += [
            "",
            f"The default job: {facts['job_tokens']:,} new tokens by {facts['job_models']} models, "
            f"{facts['decoding_share']:.0%} of its time. The whole job with another way, in times of own decoding:",
            *(f"{name} {started:.2f} ({bare:.2f} without its starts)." for name, (started, bare) in factors.items()),
            f"The rule: own decoding stays where the best of them is over {WORTH}.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, then write the table."""
    import transformers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--label", help="what to call the model in the table")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--penalty", type=float, default=1.0)
    parser.add_argument("--thinking", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 100])
    parser.add_argument("--continuous", type=int, nargs="+", default=[32])
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--name", default="decoding")
    parser.add_argument("--most", type=int, default=3600, help="CPU seconds after which a way is given up")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        arguments.out.write_text(json.dumps(child(arguments)), encoding="utf-8")
        return
    rows = measure(arguments)
    cpu = Path("/proc/cpuinfo")
    facts = {
        "prompts": arguments.prompts,
        "model": arguments.label or arguments.model,
        "new": arguments.new,
        "penalty": arguments.penalty,
        "thinking": arguments.thinking,
        "threads": arguments.threads,
        "machine": platform.machine(),
        "flags": "AVX-512" if cpu.exists() and "avx512f" in cpu.read_text(encoding="utf-8") else "no AVX-512",
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **(job_facts(arguments.job) if arguments.job else {}),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**facts, "rows": rows}, indent=1) + "\n"
    (RESULTS / f"{arguments.name}.json").write_text(text, encoding="utf-8")
    (RESULTS / f"{arguments.name}.md").write_text(report(facts, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
