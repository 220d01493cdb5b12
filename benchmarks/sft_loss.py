"""One training step on a CPU with three losses: TRL as it comes, TRL with the model's own, and star1lib's.

All three see the same rows in the same order and carry loss on the answer alone; what differs is which positions go
through the vocabulary's matrix and how. Each loss trains a fresh SmolLM2-135M for `--steps` steps of 8 rows; the first
step is left out of the figure. Writes benchmarks/results/sft_loss.csv.

    python benchmarks/sft_loss.py [--steps 6]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULT = Path(__file__).parent / "results" / "sft_loss.csv"
BATCH, PROMPT, LENGTH = 8, 100, 300


def machine() -> str:
    """The kind of machine in words."""
    import torch

    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8") if cpu.exists() else ""
    accelerator = "an accelerator" if torch.cuda.is_available() else "no accelerator"
    return f"{os.cpu_count()} cores, {accelerator}, {'with' if 'avx512f' in flags else 'without'} AVX-512"


def data(tokenizer: Any, count: int) -> Any:
    """`count` rows of LENGTH tokens, of which the first PROMPT carry no loss."""
    import random

    from datasets import Dataset

    rng = random.Random(0)
    mask = [0] * PROMPT + [1] * (LENGTH - PROMPT)
    rows = [
        {"input_ids": [rng.randrange(100, len(tokenizer)) for _ in mask], "completion_mask": mask} for _ in range(count)
    ]
    return Dataset.from_list(rows)


def measure(trainer_class: type, steps: int) -> tuple[float, float, float]:
    """CPU and wall seconds a step (medians without the first step) and the loss of the last step."""
    from transformers import PrinterCallback, TrainerCallback

    from star1lib.models import checkpoints
    from star1lib.training import sft

    marks: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marks.append((time.process_time(), time.perf_counter()))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.process_time(), time.perf_counter()))

    model, tokenizer = checkpoints.load("smollm2")
    config = sft.TrainConfig(epochs=1, batch_size=BATCH, micro_batch_size=BATCH, max_length=LENGTH, dtype="float32")
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
    pairs = list(itertools.pairwise(marks[1:]))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return (
        statistics.median(after[0] - before[0] for before, after in pairs),
        statistics.median(after[1] - before[1] for before, after in pairs),
        float(losses[-1]),
    )


def main() -> None:
    """Measure the three losses in turn and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    steps = parser.parse_args().steps

    from transformers import Trainer
    from trl import SFTTrainer

    from star1lib.training import sft

    class ModelLoss(SFTTrainer):
        compute_loss = Trainer.compute_loss

    ours = "star1lib, answer only"
    classes = {
        "TRL as it comes": SFTTrainer,
        "TRL with the model's loss": ModelLoss,
        ours: sft._trainer_class("shuffled"),
    }
    found = {name: measure(kind, steps) for name, kind in classes.items()}
    rows = [
        {
            "loss": name,
            "cpu_s_per_step": round(cpu, 2),
            "wall_s_per_step": round(wall, 2),
            "cpu_ratio": round(cpu / found[ours][0], 2),
            "loss_of_last_step": round(last, 4),
            "steps": steps,
            "rows_per_step": BATCH,
            "tokens_per_row": LENGTH,
            "machine": machine(),
        }
        for name, (cpu, wall, last) in found.items()
    ]
    with RESULT.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
