"""One training step on a CPU with two losses: TRL as it comes, and TRL with the model's own, which star1lib takes.

Both see the corpus's traces and answers, as the default job trains on them, with the loss on the answer alone. A third
loss, star1lib's own over answer positions alone, saved 3% beside the model's and was taken out; its row in the results
is of the run that decided it (the order of rows was its own too, hence its other losses). Each loss trains a fresh
SmolLM2-135M for `--steps` steps of 8 rows; the first step is left out of the figure.
Writes results/sft_loss.json and results/sft_loss.md.

    python benchmarks/sft_loss.py [--steps 6]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTTrainer

from star1lib.collection import corpus
from star1lib.files import write_json, write_text
from star1lib.models import checkpoints
from star1lib.models.chat import join_thinking
from star1lib.training import sft
from star1lib.training.rows import TrainRow, tokenize

RESULT = Path(__file__).parent / "results" / "sft_loss"
BATCH, LENGTH = 8, 384
OURS = "star1lib: the model's loss"
HEAD = (
    "| loss | CPU s a step | ratio | loss of the last step | widest difference from star1lib's |\n|---|---|---|---|---|"
)

LINE = "| {loss} | {cpu_s_per_step} | {cpu_ratio:.2f} | {loss_of_last_step} | {widest_difference_of_loss:.1e} |"


def data(tokenizer: Any, count: int) -> Dataset:
    """`count` rows of the corpus with their traces, tokenised; the loss is on trace and answer."""
    rows = [
        TrainRow(id=row.id, prompt=row.question, completion=join_thinking(row.thinking, row.answer), source="corpus")
        for row in corpus.load().harmful[:count]
    ]
    return Dataset.from_list([tokenize(row, tokenizer, LENGTH) for row in rows])


def measure(trainer_class: type, steps: int) -> tuple[list[float], list[float]]:
    """Processor seconds of each step but the first, and the loss of every step."""
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

    model, tokenizer = checkpoints.load("smollm2")
    config = sft.TrainConfig(
        epochs=1, batch_size=BATCH, micro_batch_size=BATCH, max_length=LENGTH, dtype="float32", votes="token"
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=model,
            args=sft.training_arguments(config, Path(folder), save_steps=10 * steps),
            train_dataset=data(tokenizer, BATCH * steps),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.args.save_strategy = "no"
        trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return [after - before for before, after in itertools.pairwise(marks)], losses


def main() -> None:
    """Measure the losses in turn and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    steps = parser.parse_args().steps
    classes = {OURS: sft._trainer_class(), "TRL as it comes": SFTTrainer}
    found = {name: measure(kind, steps) for name, kind in classes.items()}
    rows = [
        {
            "loss": name,
            "cpu_s_per_step": round(statistics.median(seconds), 2),
            "cpu_ratio": round(sum(seconds) / sum(found[OURS][0]), 2),
            "widest_difference_of_loss": max(abs(a - b) for a, b in zip(losses, found[OURS][1], strict=True)),
            "loss_of_last_step": round(losses[-1], 4),
        }
        for name, (seconds, losses) in found.items()
    ]
    machine = (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used, {torch.backends.cpu.get_cpu_capability()}"
    )
    facts = {"steps": steps, "rows_per_step": BATCH, "max_length": LENGTH, "machine": machine}
    write_json(RESULT.with_suffix(".json"), {**facts, "rows": rows})
    lines = [LINE.format(**row) for row in rows]
    about = f"SmolLM2-135M, float32, {steps} steps of {BATCH} rows of the corpus with traces; {machine}.\n"
    write_text(RESULT.with_suffix(".md"), "\n".join([about, HEAD, *lines, ""]))


if __name__ == "__main__":
    main()
