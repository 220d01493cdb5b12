"""Who makes the tokens on a CPU: own decoding, transformers' two ways, a vLLM server; same prompts, one run.

All ways decode greedily in float32, at the same time, so that they meet the same load, each in a process of its own and
on as many threads. Seconds are the processor's, of all processes, loading left out; a server's start stands in a column
of its own, since it is paid once a checkpoint. Tokens are compared with those of transformers' `generate`, or of own
decoding where it did not run; where two responses part, the logits at that place say whether it is a tie within 1e-3.

    python benchmarks/decoding.py [--new 64] [--penalty 1.05] [--thinking --model build/mini/models/star1-...]
                                  [--vllm .venv-vllm/bin/python] [--job build/mini] [--name decoding]

Without `--job` the prompts are benign: the corpus's benign variants and the arithmetic probe. `--job` names a finished
run: the prompts are then a sample of what it asked, in its mix of benchmarks, of answers with thinking (of its model
after stage 0) and without (of a trained one), as many at once as it asks. What the whole job would pay another way
decides whether own decoding is worth its lines: it stays if the job would take over 1.25 times as long with the best of
the others. What a way gave is kept in build/decoding: the same command again measures only what is missing. Writes
results/NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from star1lib.collection import corpus
from star1lib.evaluation.benchmarks import probe
from star1lib.files import read_jsonl
from star1lib.models import chat, checkpoints, generate, serving

RESULTS = Path(__file__).parent / "results"
KEPT = Path(__file__).parents[1] / "build" / "decoding"
TIE = 1e-3
WORTH = 1.25
Prompts = Sequence[list[int]]
Tokens = list[list[int]]
KINDS = {"thinking": "base", "plain": "plain_star1_no_thinking"}  # of answers: the model that is asked for them


@dataclass(frozen=True)
class Part:
    """Prompts for one checkpoint: the tokens of each, the most new ones, how many are asked at once."""

    kind: str
    model: str
    new: int
    prompts: Tokens
    at_once: int


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
    """Processor seconds, user and system, of this process and of every process it started, ended ones included."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


def parts(arguments: argparse.Namespace) -> list[Part]:
    """What is asked: benign questions of one model, or a sample of a finished job's."""
    if arguments.job:
        return [part for part in sampled(arguments.job, arguments.prompts) if part.kind in arguments.kinds]
    texts = questions(arguments.prompts)
    prompts = encoded(arguments.model, texts, arguments.thinking)
    return [Part("thinking" if arguments.thinking else "plain", arguments.model, arguments.new, prompts, len(texts))]


def encoded(model: str, texts: Sequence[str], thinking: bool) -> Tokens:
    """The prompts' tokens."""
    tokenizer = checkpoints.load_tokenizer(model)
    return [chat.prompt_tokens(tokenizer, [{"role": "user", "content": text}], thinking) for text in texts]


def kind_of(log: Any) -> str:
    """Whether the model of an evaluation thinks."""
    return "thinking" if log.eval.model_args["thinking"] else "plain"


def evaluations(job: Path, **how: Any) -> list[Any]:
    """The transcripts of a finished run."""
    from inspect_ai.log import read_eval_log

    return [read_eval_log(str(file), **how) for file in sorted((job / "evaluations" / "logs").glob("*.eval"))]


def sampled(job: Path, count: int) -> list[Part]:
    """About `count` of the job's prompts: of each kind and benchmark as large a share as in the job, evenly spread."""
    logs = evaluations(job)
    asked, inputs = defaultdict(Counter), {}  # type: ignore[var-annotated]
    for log in logs:
        variant, benchmark = log.eval.task.split("-", 1)
        asked[kind_of(log)][benchmark] += len(log.samples)
        inputs[variant, benchmark] = log
    whole = sum(benchmarks.total() for benchmarks in asked.values())
    found = []
    for kind, variant in KINDS.items():
        texts = []
        for benchmark, number in sorted(asked[kind].items()):
            log = inputs[variant, benchmark]
            size = round(count * number / whole)
            texts += [log.samples[place * len(log.samples) // size].input for place in range(size)]
        model = str(job.parents[1] / log.eval.model_args["path"])
        at_once = round(sum(len(log.samples) for log in logs) / len(logs))
        prompts = encoded(model, texts, kind == "thinking")
        shuffled = [prompts[place * 37 % len(prompts)] for place in range(len(prompts))]  # benchmarks meet in a batch
        found.append(Part(kind, model, log.plan.config.max_tokens, shuffled, at_once))
    return found


def child(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One way, in this process: of each part its responses and the processor seconds of start and work."""
    resource.setrlimit(resource.RLIMIT_CPU, (arguments.most, arguments.most))
    torch.set_num_threads(arguments.threads)
    return [
        (by_vllm if arguments.way == "vllm" else here)(part, generate.Settings(part.new, arguments.penalty), arguments)
        for part in parts(arguments)
    ]


def batches(part: Part) -> list[Tokens]:
    """A part's prompts, as many as are asked at once."""
    return [part.prompts[begin : begin + part.at_once] for begin in range(0, len(part.prompts), part.at_once)]


def by_vllm(part: Part, settings: generate.Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """A part through a vLLM server of its checkpoint."""
    stops = {checkpoints.load_tokenizer(part.model).eos_token_id}
    begin, folder = processor_seconds(), Path(checkpoints.resolve(part.model))
    with serving.serve(folder, python=arguments.vllm, max_num_seqs=256, timeout=3600) as server:
        ready = processor_seconds()
        found = [row for batch in batches(part) for row in ask(server, batch, settings, stops)]
        return {"tokens": found, "cpu_s": processor_seconds() - ready, "start_cpu_s": ready - begin}


def here(part: Part, settings: generate.Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """A part by this process."""
    net, tokenizer = checkpoints.load(part.model)
    net.train(False)
    name, _, size = arguments.way.partition(":")
    ready, found = processor_seconds(), []
    for batch in batches(part):
        if name == "own":
            found += own(net, tokenizer, batch, settings)
        else:
            found += {"plain": plain, "continuous": continuous}[name](net, tokenizer, batch, settings, int(size))
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


def compare(asked: Sequence[Part], found: Sequence[Tokens], wanted: Sequence[Tokens], penalty: float) -> dict[str, Any]:
    """How many responses equal the reference token for token, how many part at a tie, the widest gap."""
    gaps = []
    for part, mine, theirs in zip(asked, found, wanted, strict=True):
        pairs = [(p, a, b) for p, a, b in zip(part.prompts, mine, theirs, strict=True) if a != b]
        net = checkpoints.load(part.model)[0] if pairs else None
        gaps += [gap(net, prompt, a, b, penalty) for prompt, a, b in pairs]
    return {
        "equal": sum(len(part.prompts) for part in asked) - len(gaps),
        "ties": sum(width <= TIE for width in gaps),
        "other": sum(width > TIE for width in gaps),
        "widest_gap": max(gaps, default=0.0),
    }


def job_facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of a finished run: the tokens it made, by kind, how many models made them, and what its notebooks took."""
    logs, tokens = evaluations(arguments.job, header_only=True), Counter()  # type: ignore[var-annotated]
    for log in logs:
        tokens[kind_of(log)] += sum(usage.output_tokens for usage in log.stats.model_usage.values())
    tokenizer = checkpoints.load_tokenizer(checkpoints.SMOLLM2)
    for file in (arguments.job / "models").glob("own-answers-*.jsonl"):  # a model's own, which the next one is taught
        tokens["own answers"] += sum(len(tokenizer(row["completion"])["input_ids"]) for row in read_jsonl(file))
    models = len({log.eval.model for log in logs})
    return {"job_tokens": tokens, "job_models": models, "job_cpu_s": arguments.job_cpu, "asking": arguments.asking}


def whole_job(facts: dict[str, Any], row: dict[str, Any], own_row: dict[str, Any]) -> dict[str, float]:
    """How many times as long the job takes with another way, and what of that its starts are.

    All that the job spends on asking counts as decoding, which loading, Inspect and judging are not: it takes at most
    so long. Answers of a kind that was not asked for count as those of the last kind that was.
    """

    def seconds(one: dict[str, Any]) -> float:
        speed = one["speed"]
        last = [*speed.values()][-1]
        return float(sum(number / speed.get(kind, last) for kind, number in facts["job_tokens"].items()))

    starts = facts["job_models"] * row["start_cpu_s"] / facts["job_cpu_s"]
    times = 1 + facts["asking"] * (seconds(row) / seconds(own_row) - 1) + starts
    return {"times": round(times, 3), "starts": round(starts, 3)}


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per way; all ways run at the same time, in processes of their own, so that they meet the same load."""
    ways = {f"plain:{size}": f"transformers `generate`, batches of {size}" for size in arguments.batch}
    ways["own"] = "star1lib"
    ways |= {f"continuous:{size}": f"transformers `generate_batch`, {size} at once" for size in arguments.continuous}
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
    asked, base = parts(arguments), sum(part["cpu_s"] for part in found["own"])
    reference = found.get(f"plain:{arguments.batch[0]}" if arguments.batch else "own", found["own"])
    wanted = [part["tokens"] for part in reference]
    rows: list[dict[str, Any]] = []
    for way, name in ways.items():
        if way not in found:
            note = f"stopped before it was done, at most {arguments.most} CPU s"
            rows.append({"way": name, "cpu_s": None, "note": note})
            continue
        made = {part.kind: sum(map(len, got["tokens"])) for part, got in zip(asked, found[way], strict=True)}
        cpu = {part.kind: got["cpu_s"] for part, got in zip(asked, found[way], strict=True)}
        starts = [got["start_cpu_s"] for got in found[way]]
        rows.append(
            {
                "way": name,
                "cpu_s": round(sum(cpu.values()), 1),
                "cpu_ratio": round(sum(cpu.values()) / base, 2),
                "start_cpu_s": round(min(starts), 1),
                "starts": [round(start, 1) for start in starts],
                "tokens": made,
                "speed": {kind: round(made[kind] / cpu[kind], 1) for kind in made},
                **compare(asked, [part["tokens"] for part in found[way]], wanted, arguments.penalty),
            }
        )
    return rows


def report(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table in words."""
    sets = [f"{n} with {kind} answers of at most {new} tokens ({model})" for kind, n, new, model in facts["parts"]]
    kinds = [kind for kind, *_ in facts["parts"]]
    lines = [
        f"Prompts: {'; '.join(sets)}; {facts['at_once']} at once, repetition penalty {facts['penalty']}, greedy, "
        f"float32, {facts['threads']} threads on a {facts['machine']} CPU ({facts['flags']}), {facts['date']}, "
        f"torch {facts['torch']}, transformers {facts['transformers']}.",
        "",
        f"| way | CPU s | ratio | tokens a CPU s: {', '.join(kinds)} | start, CPU s | equal | tie within 1e-3 | other "
        "| widest gap |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["cpu_s"] is None:
            lines.append(f"| {row['way']} | {row['note']} | | | | | | | |")
            continue
        lines.append(
            f"| {row['way']} | {row['cpu_s']} | {row['cpu_ratio']:.2f} | "
            f"{', '.join(str(row['speed'][kind]) for kind in kinds)} | {row['start_cpu_s'] or ''} | {row['equal']} | "
            f"{row['ties']} | {row['other']} | {row['widest_gap']:.1e} |"
        )
    if facts.get("job_tokens"):
        made = ", ".join(f"{number:,} ({kind})" for kind, number in facts["job_tokens"].items())
        lines += [
            "",
            f"The default job: {facts['job_cpu_s']:,} CPU s, {facts['asking']:.0%} of them asking; new tokens: {made}; "
            f"{facts['job_models']} models. The whole job with another way, in times of own decoding:",
            *(
                f"{row['way']} {job['times']:.2f}, of that its starts {job['starts']:.2f}."
                for row in rows
                if (job := row.get("whole_job"))
            ),
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
    parser.add_argument("--batch", type=int, nargs="*", default=[32, 100])
    parser.add_argument("--continuous", type=int, nargs="*", default=[32])
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of answers, with --job")
    parser.add_argument("--job-cpu", type=float, default=5489, help="CPU seconds of the whole job (default_job.md)")
    parser.add_argument("--asking", type=float, default=0.44, help="the share of its time that the job spends asking")
    parser.add_argument("--name", default="decoding")
    parser.add_argument("--most", type=int, default=3600, help="CPU seconds after which a way is given up")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        arguments.out.write_text(json.dumps(child(arguments)), encoding="utf-8")
        return
    rows, asked = measure(arguments), parts(arguments)
    cpu = Path("/proc/cpuinfo")
    facts = {
        "parts": [
            (part.kind, len(part.prompts), part.new, arguments.label or Path(part.model).name.rpartition("-")[0])
            for part in asked
        ],
        "at_once": asked[0].at_once,
        "penalty": arguments.penalty,
        "threads": arguments.threads,
        "machine": platform.machine(),
        "flags": "AVX-512" if cpu.exists() and "avx512f" in cpu.read_text(encoding="utf-8") else "no AVX-512",
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **(job_facts(arguments) if arguments.job else {}),
    }
    if arguments.job:
        own_row = next(row for row in rows if row["way"] == "star1lib")
        for row in rows:
            if row["cpu_s"] and row is not own_row:
                row["whole_job"] = whole_job(facts, row, own_row)
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**facts, "rows": rows}, indent=1) + "\n"
    (RESULTS / f"{arguments.name}.json").write_text(text, encoding="utf-8")
    (RESULTS / f"{arguments.name}.md").write_text(report(facts, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
