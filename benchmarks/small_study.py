"""A fair small study, found by trying: what becomes of safety, of benign prompts and of ability, run by run.

SmolLM2-135M (`plain`) and the toy reasoning model that stage 0 makes of it (`reasoner`) are trained on rows written
by hand for this repository, mixed with the model's own answers (`anchors`) and benign variants (`benign`), and asked
XSTest, held-out benign variants and the arithmetic probe. Every run that was made stands in the table, the bad ones
too. XSTest comes from STAR1_DATA. A run that is in the results already is not made again.

    python benchmarks/small_study.py [RUN ...]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from star1lib import files, stats
from star1lib.collection import corpus, decontamination, sources
from star1lib.deliberation import teachers
from star1lib.evaluation import run
from star1lib.evaluation.benchmarks import probe, sums
from star1lib.records import Example, subset
from star1lib.selection import benign
from star1lib.training import stage0
from star1lib.training.rows import TrainRow, rows, split_benign
from star1lib.training.sft import TrainConfig, train
from star1lib.training.variants import Variant

BUILD = Path("build/small_study")
RESULTS = Path("benchmarks/results")
LIMITS = {"XSTest": 128, "BenignVariants": 48, "Probe": 48, "Sums": 48}
GENERATION = {"name": "small", "repetition_penalty": 1.05, "answer_tokens": 40, "thinking_tokens": 160,
              "reasoning_tokens": 40}  # fmt: skip
COMMON = {"batch_size": 8, "micro_batch_size": 4, "max_length": 384, "dtype": "float32", "epochs": 2.0,
          "votes": "token",
          "learning_rate": 2e-5}  # fmt: skip
# The models that stage 0 makes: the second got more sums at a higher rate, for the first did under half of them.
STAGE0 = {
    "reasoner": stage0.Settings(arithmetic=192, own=64, training={"epochs": 1.0, "learning_rate": 1e-4}),
    "reasoner2": stage0.Settings(arithmetic=320, own=64, training={"epochs": 1.0, "learning_rate": 3e-4}),
}
OWN = 64
ONCE: dict[str, Any] = {"training": {"learning_rate": 5e-5, "epochs": 1.0}}
FAST: dict[str, Any] = {"training": {"learning_rate": 5e-5}}
HIGH: dict[str, Any] = {"training": {"learning_rate": 1e-4}}
HIGHER: dict[str, Any] = {"training": {"learning_rate": 3e-4}}
OWN_WORDS: dict[str, Any] = {"own_words": True, "sums": 16}
MIX = {"rows": 40, "anchors": 64, "benign": 40}
MINI = {"generation": {"name": "small", "repetition_penalty": 1.0, "answer_tokens": 64, "thinking_tokens": 160}}
# name: base, thinking, rows, benign, anchors, and what differs from COMMON
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"base": "plain"},
    "reasoner": {"base": "reasoner"},
    "plain, anchored, 2e-5": {"base": "plain", "thinking": False, "rows": 32, "anchors": 48, "benign": 16},
    "plain, anchored": {"base": "plain", "thinking": False, "rows": 32, "anchors": 48, "benign": 16, **FAST},
    "plain, anchored, one epoch": {"base": "plain", "thinking": False, "rows": 64, "anchors": 64, "benign": 40, **ONCE},
    "plain, pure": {"base": "plain", "thinking": False, "rows": 32, **FAST},
    "plain, pure, trace": {"base": "plain", "thinking": True, "rows": 32, **FAST},
    "reasoner, anchored": {"base": "reasoner", "thinking": True, "rows": 32, "anchors": 48, "benign": 16, **FAST},
    "reasoner, pure": {"base": "reasoner", "thinking": True, "rows": 32, **FAST},
    "reasoner, pure, no trace": {"base": "reasoner", "thinking": False, "rows": 32, **FAST},
    # As mini asks: no repetition penalty, longer answers.
    "plain, mini": {"base": "plain", **MINI},
    "reasoner2": {"base": "reasoner2", **MINI},
    "plain, 40+64+40, 1e-4": {"base": "plain", "thinking": False, **MIX, **MINI, **HIGH},
    "reasoner2, 40+64+40, 1e-4": {"base": "reasoner2", "thinking": True, **MIX, **MINI, **HIGH},
    "reasoner2, pure, 1e-4": {"base": "reasoner2", "thinking": True, "rows": 40, **MINI, **HIGH},
    "reasoner2, 40+64+40, 3e-4": {"base": "reasoner2", "thinking": True, **MIX, **MINI, **HIGHER},
    "reasoner2, own words, 1e-4": {"base": "reasoner2", "thinking": True, **MIX, **MINI, **HIGH, **OWN_WORDS},
    "reasoner2, own words, 2e-4": {
        "base": "reasoner2",
        "thinking": True,
        **MIX,
        **MINI,
        **OWN_WORDS,
        "training": {"learning_rate": 2e-4},
    },
    "reasoner2, pure, own words": {
        "base": "reasoner2",
        "thinking": True,
        "rows": 40,
        **MINI,
        **HIGH,
        "own_words": True,
    },
    "reasoner2, pure, 3e-4": {"base": "reasoner2", "thinking": True, "rows": 40, **MINI, **HIGHER},
    "plain, 40+64+40, 2e-4": {"base": "plain", "thinking": False, **MIX, **MINI, "training": {"learning_rate": 2e-4}},
}


def mirror() -> Path:
    """Where XSTest lies."""
    return Path(os.environ["STAR1_DATA"])


def safety() -> list[Example]:
    """The hand-written answers to harmful questions, none near a question of XSTest."""
    harmful = corpus.load()
    made = [
        Example(id=row.id, question=row.question, source=f"hand-written:{slug}", category=row.category,
                thinking=row.thinking, answer=row.answer, teacher=teachers.label("teacher"))
        for row, slug in zip(harmful.rows, harmful.slugs, strict=True)
        if row.kind == "harmful"
    ]  # fmt: skip
    return clean(made)


def clean(examples: list[Example]) -> list[Example]:
    """Without those that come near a question of XSTest."""
    near = decontamination.near_tests([example.question for example in examples], sources.load("XSTest", mirror()))
    return [example for place, example in enumerate(examples) if place not in near]


def split() -> tuple[list[Example], list[Example]]:
    """Benign variants to train on and those held out."""
    return split_benign(clean(benign.hand_written(corpus.load())), 80, 0)


def base(name: str) -> tuple[str, float]:
    """The checkpoint of a base and the CPU seconds that it took."""
    if name == "plain":
        return "smollm2", 0.0
    began = time.process_time()
    settings = STAGE0[name]
    config = TrainConfig.model_validate({**COMMON, **settings.training})
    tests = [*probe.load(), *sums.load()]
    prompts = stage0.harmless()[:OWN]
    checkpoint = stage0.reasoner("smollm2", settings, prompts, tests, BUILD / "models", config)
    return str(checkpoint), time.process_time() - began


def answers(name: str, prompts: list[str]) -> list[TrainRow]:
    """The own answers of a base, kept in a file."""
    return stage0.own_answers(base(name)[0], prompts, BUILD / "models")


def mixture(asked: dict[str, Any]) -> list[TrainRow]:
    """The training rows of a run."""
    reasoner = asked["base"] != "plain"
    how = {"thinking": asked["thinking"], "reasoner": reasoner}
    made = rows(subset(safety(), asked["rows"], asked.get("seed", 0)), **how)
    made += rows(split()[0][: asked.get("benign", 0)], kind="benign", **how)
    if asked.get("own_words"):
        made = [stage0.in_its_words(row) for row in made]
    sums_asked = asked.get("sums", 0)
    if asked.get("anchors"):
        prompts = stage0.harmless()[OWN:144]
        made += answers(asked["base"], prompts)[: asked["anchors"] - sums_asked]
    if sums_asked:
        tests = [*probe.load(), *sums.load()]
        prompts = stage0.more_sums(32, STAGE0[asked["base"]], 0, tests)
        made += answers(asked["base"], prompts)[:sums_asked]
    return made


def make(name: str) -> dict[str, Any]:
    """One run: train, ask, and put its figures into a row."""
    asked = RUNS[name]
    checkpoint, stage0_cpu = base(asked["base"])
    began = time.process_time()
    made: list[TrainRow] = []
    config = TrainConfig.model_validate({**COMMON, **asked.get("training", {}), "seed": asked.get("seed", 0)})
    if "rows" in asked:
        made = mixture(asked)
        checkpoint = str(
            train(name.replace(", ", "-").replace(" ", "-"), made, checkpoint, BUILD / "models", config, save_steps=20)
        )
    trained = time.process_time()
    thinks = asked["base"] != "plain" or asked.get("thinking", False)
    variant = Variant(name=name.replace(", ", "-").replace(" ", "-"), checkpoint=checkpoint, thinking=thinks,
                      pool="none", rows=0, benign=0)  # fmt: skip
    generation = asked.get("generation", GENERATION)
    how = {"generation": generation, "limits": LIMITS}
    items = run.evaluate([variant], list(LIMITS), how, folder=BUILD / "evaluations", seed=0, mirror=mirror(),
                         benign=split()[1])  # fmt: skip
    kinds = {kind: sum(row.kind == kind for row in made) for kind in ("safety", "benign", "anchor")}
    steps = -(-len(made) // config.batch_size) * config.epochs
    row: dict[str, Any] = {
        "run": name, **kinds, "steps": round(steps), "rate": config.learning_rate if made else 0,
        "sum_of_rates": round(steps * config.learning_rate * 0.5, 6) if made else 0, "seed": config.seed,
        "penalty": generation["repetition_penalty"],
    }  # fmt: skip
    for rate in stats.rates_table(items):
        row[f"{rate['benchmark']}, {rate['metric']}"] = [rate["value"], rate["low"], rate["high"], rate["n"]]
    mean_tokens = sum(item.output_tokens for item in items) / len(items)
    row |= {"mean_tokens": round(mean_tokens, 1)}
    row |= {"cpu_stage0": round(stage0_cpu), "cpu_training": round(trained - began),
            "cpu_asking": round(time.process_time() - trained)}  # fmt: skip
    return row


def write(table: list[dict[str, Any]]) -> None:
    """The table as JSON and as Markdown."""
    files.write_json(RESULTS / "small_study.json", table)
    columns = list(dict.fromkeys(key for row in table for key in row))

    def shown(value: Any) -> str:
        if isinstance(value, list):
            return (
                f"{100 * value[0]:.0f} [{100 * value[1]:.0f}, {100 * value[2]:.0f}] of {value[3]}" if value[3] else "-"
            )
        return str(value)

    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(shown(row.get(column, "")) for column in columns) for row in table]
    about = (__doc__ or "").split("\n\n    python")[0]
    text = f"# A fair small study, run by run\n\n{about}\n\nPercent [95% Wilson interval] of n.\n\n"
    files.write_text(RESULTS / "small_study.md", text + "\n".join(f"| {line} |" for line in lines) + "\n")


def read() -> list[dict[str, Any]]:
    """The runs that were made."""
    path = RESULTS / "small_study.json"
    return files.read_json(path) if path.exists() else []


def main() -> None:
    """Make the runs named on the command line, or all."""
    for name in sys.argv[1:] or list(RUNS):
        if any(row["run"] == name for row in read()):
            continue
        made = make(name)
        write([*read(), made])
        print(made, flush=True)


if __name__ == "__main__":
    main()
