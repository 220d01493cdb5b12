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
from star1lib.evaluation import run as evaluation
from star1lib.evaluation.benchmarks import probe, sums
from star1lib.records import Example, Tagged, subset
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
          "votes": "token", "learning_rate": 2e-5}  # fmt: skip
# The models that stage 0 makes: the second got more sums at a higher rate, for the first did under half of them.
STAGE0 = {
    "reasoner": stage0.Settings(arithmetic=192, own=64, training={"epochs": 1.0, "learning_rate": 1e-4}),
    "reasoner2": stage0.Settings(arithmetic=320, own=64, training={"epochs": 1.0, "learning_rate": 3e-4}),
}
OWN = 64


def asked(base: str, rate: float | None = None, **changes: Any) -> dict[str, Any]:
    """What a run asks for: rows, benign variants, anchors, and what differs from COMMON; without a rate no training."""
    training = {"learning_rate": rate, **changes.pop("training", {})} if rate else {}
    return {"base": base, "thinking": base != "plain", "training": training, **changes}


FEW = {"rows": 32, "anchors": 48, "benign": 16}
MIX = {"rows": 40, "anchors": 64, "benign": 40}
# As mini asks: no repetition penalty, longer answers.
MINI = {"generation": {"name": "small", "repetition_penalty": 1.0, "answer_tokens": 64, "thinking_tokens": 160}}
OWN_WORDS: dict[str, Any] = {"own_words": True, "sums": 16}
RUNS: dict[str, dict[str, Any]] = {
    "plain": asked("plain"),
    "reasoner": asked("reasoner"),
    "plain, anchored, 2e-5": asked("plain", 2e-5, **FEW),
    "plain, anchored": asked("plain", 5e-5, **FEW),
    "plain, anchored, one epoch": asked("plain", 5e-5, rows=64, anchors=64, benign=40, training={"epochs": 1.0}),
    "plain, pure": asked("plain", 5e-5, rows=32),
    "plain, pure, trace": asked("plain", 5e-5, rows=32, thinking=True),
    "reasoner, anchored": asked("reasoner", 5e-5, **FEW),
    "reasoner, pure": asked("reasoner", 5e-5, rows=32),
    "reasoner, pure, no trace": asked("reasoner", 5e-5, rows=32, thinking=False),
    "plain, mini": asked("plain", **MINI),
    "reasoner2": asked("reasoner2", **MINI),
    "plain, 40+64+40, 1e-4": asked("plain", 1e-4, **MIX, **MINI),
    "reasoner2, 40+64+40, 1e-4": asked("reasoner2", 1e-4, **MIX, **MINI),
    "reasoner2, pure, 1e-4": asked("reasoner2", 1e-4, rows=40, **MINI),
    "reasoner2, 40+64+40, 3e-4": asked("reasoner2", 3e-4, **MIX, **MINI),
    "reasoner2, own words, 1e-4": asked("reasoner2", 1e-4, **MIX, **MINI, **OWN_WORDS),
    "reasoner2, own words, 2e-4": asked("reasoner2", 2e-4, **MIX, **MINI, **OWN_WORDS),
    "reasoner2, pure, own words": asked("reasoner2", 1e-4, rows=40, own_words=True, **MINI),
    "reasoner2, pure, 3e-4": asked("reasoner2", 3e-4, rows=40, **MINI),
    "plain, 40+64+40, 2e-4": asked("plain", 2e-4, **MIX, **MINI),
}


def mirror() -> Path:
    """Where XSTest lies."""
    return Path(os.environ["STAR1_DATA"])


def safety() -> list[Example]:
    """The hand-written answers to harmful questions, none near a question of XSTest."""
    written = corpus.load()
    tagged = [Tagged(id=row.id, question=row.question, source=row.source, category=row.category)
              for row in written.harmful]  # fmt: skip
    return clean([example for example in teachers.deliberate(tagged, written)[0] if "flaw" not in example.meta])


def clean(examples: list[Example]) -> list[Example]:
    """Without those that come near a question of XSTest."""
    near = decontamination.near_tests(
        [example.question for example in examples], sources.load("XSTest", mirror()), BUILD / "models"
    )
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


def own_answers(name: str, prompts: list[str]) -> list[TrainRow]:
    """The own answers of a base, kept in a file."""
    return stage0.own_answers(base(name)[0], prompts, BUILD / "models")


def mixture(run: dict[str, Any]) -> list[TrainRow]:
    """The training rows of a run."""
    how = {"thinking": run["thinking"], "reasoner": run["base"] != "plain"}
    made = rows(subset(safety(), run["rows"], 0), **how)
    made += rows(split()[0][: run.get("benign", 0)], kind="benign", **how)
    if run.get("own_words"):
        made = [stage0.in_its_words(row) for row in made]
    sums_asked = run.get("sums", 0)
    if run.get("anchors"):
        made += own_answers(run["base"], stage0.harmless()[OWN:144])[: run["anchors"] - sums_asked]
    if sums_asked:
        prompts = stage0.more_sums(32, STAGE0[run["base"]], 0, [*probe.load(), *sums.load()])
        made += own_answers(run["base"], prompts)[:sums_asked]
    return made


def make(name: str) -> dict[str, Any]:
    """One run: train, ask, and put its figures into a row."""
    run, slug = RUNS[name], name.replace(", ", "-").replace(" ", "-")
    checkpoint, stage0_cpu = base(run["base"])
    began = time.process_time()
    config = TrainConfig.model_validate({**COMMON, **run["training"], "seed": 0})
    made = mixture(run) if "rows" in run else []
    if made:
        checkpoint = str(train(slug, made, checkpoint, BUILD / "models", config, save_steps=20))
    trained = time.process_time()
    thinks = run["thinking"] or run["base"] != "plain"
    variant = Variant(name=slug, checkpoint=checkpoint, thinking=thinks, pool="none", rows=0, benign=0)
    generation = run.get("generation", GENERATION)
    items = evaluation.evaluate([variant], list(LIMITS), {"generation": generation, "limits": LIMITS},
                                folder=BUILD / "evaluations", seed=0, mirror=mirror(), benign=split()[1])  # fmt: skip
    kinds = {kind: sum(row.kind == kind for row in made) for kind in ("safety", "benign", "anchor")}
    steps = -(-len(made) // config.batch_size) * config.epochs
    rates = {f"{rate['benchmark']}, {rate['metric']}": [rate["value"], rate["low"], rate["high"], rate["n"]]
             for rate in stats.rates_table(items)}  # fmt: skip
    return {
        "run": name, **kinds, "steps": round(steps), "rate": config.learning_rate if made else 0,
        "sum_of_rates": round(steps * config.learning_rate * 0.5, 6) if made else 0, "seed": config.seed,
        "penalty": generation["repetition_penalty"], **rates,
        "mean_tokens": round(sum(item.output_tokens for item in items) / len(items), 1),
        "cpu_stage0": round(stage0_cpu), "cpu_training": round(trained - began),
        "cpu_asking": round(time.process_time() - trained),
    }  # fmt: skip


def shown(value: Any) -> str:
    """A cell of the table: a rate with its interval and n in percent, anything else as it is."""
    if not isinstance(value, list):
        return str(value)
    rate, low, high, n = value
    return f"{100 * rate:.0f} [{100 * low:.0f}, {100 * high:.0f}] of {n}" if n else "-"


def write(table: list[dict[str, Any]]) -> None:
    """The table as JSON and as Markdown."""
    files.write_json(RESULTS / "small_study.json", table)
    columns = list(dict.fromkeys(key for row in table for key in row))
    lines = [columns, ["---"] * len(columns), *([shown(row.get(column, "")) for column in columns] for row in table)]
    about = (__doc__ or "").split("\n\n    python")[0]
    text = f"# A fair small study, run by run\n\n{about}\n\nPercent [95% Wilson interval] of n.\n\n"
    files.write_text(RESULTS / "small_study.md", text + "".join(f"| {' | '.join(line)} |\n" for line in lines))


def main() -> None:
    """Make the runs named on the command line, or all, that are not in the table yet."""
    path = RESULTS / "small_study.json"
    table = files.read_json(path) if path.exists() else []
    for name in sys.argv[1:] or RUNS:
        if name not in {row["run"] for row in table}:
            table.append(make(name))
            write(table)
            print(table[-1], flush=True)


if __name__ == "__main__":
    main()
