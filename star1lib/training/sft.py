"""Supervised fine-tuning on TRL (paper 3.1): the loss on the answer alone, resumable, named by content.

A trained model lives in `<folder>/<variant>-<key>`, where the key is a hash of the rows, the base
weights and the settings. The same request twice trains once; a killed run goes on from its last
checkpoint; a folder without a manifest is unfinished. With `launch` the run is shared out over processes by
:func:`fit_launched`; the rows of every optimizer step stay the same.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import logging
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from star1lib.errors import UserError, shorten
from star1lib.files import (
    MANIFEST,
    fingerprint,
    read_json,
    read_manifest,
    read_records,
    verify_manifest,
    write_json,
    write_jsonl,
    write_manifest,
)
from star1lib.models import checkpoints
from star1lib.records import Record
from star1lib.training.rows import TrainRow, tokenize

log = logging.getLogger(__name__)
FORMAT = 3
# What libraries say when a disk is full; torch's own writer says only that it failed.
_FULL = re.compile(r"no space left|file too large|os error (27|28|122)|disk is full|PytorchStreamWriter|unexpected pos",
                   re.IGNORECASE)  # fmt: skip
_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
PORT = "29533"


OURS = {"votes": "token", "max_grad_norm": 1.0, "adam_beta2": 0.999, "weight_decay": 0.0}


class TrainConfig(Record):
    """Settings of one fine-tuning run; the defaults are those of the paper and of its authors' release (3.1, appendix).

    `dtype` bfloat16 computes in bfloat16 over float32 weights: at a rate of 1e-5 most updates are smaller than a step
    of bfloat16 and would be rounded away. `auto` is that where the machine multiplies it natively, else float32,
    which is many times faster there. Weight decay spares biases and norms; `max_grad_norm` 0 does not clip.
    `votes` says whose mean the loss is: one vote an example, for which a micro-batch is one row, or one a token.
    `recipe` chooses the settings that are not given: `paper` the authors' (the defaults), `ours` what transformers has
    and laptops need: a vote a token, so that short rows share a micro-batch; clipping at 1, for rates ten times theirs;
    a slower second moment and no decay, which are the usual ones.
    `launch` names a configuration of `accelerate launch` (`params/accelerate/`); without it one process trains.
    `joined` tokenizes prompt and answer as one text, as the authors do. It matters for a reasoning model without the
    trace: the newline that ends its prompt and the one that the row goes on with become a token of their own, so that
    no row shows how to close the thinking from where the prompt ends. Apart, as by default, they do.
    `stop_after` ends the run early, after so many optimizer steps of the schedule that the other settings make.
    """

    recipe: Literal["paper", "ours"] = "paper"
    epochs: float = Field(default=5, gt=0)
    learning_rate: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(default=128, ge=1)
    micro_batch_size: int = Field(default=1, ge=1)
    max_length: int = Field(default=8192, ge=16)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    adam_beta2: float = Field(default=0.95, gt=0, lt=1)
    max_grad_norm: float = Field(default=0.0, ge=0)
    votes: Literal["example", "token"] = "example"
    joined: bool = False
    dtype: Literal["float32", "bfloat16", "auto"] = "bfloat16"
    gradient_checkpointing: bool = False
    lora_rank: int | None = Field(default=None, ge=1)
    stop_after: int | None = Field(default=None, ge=1)
    seed: int = 0
    launch: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        named = OURS if isinstance(given, dict) and given.get("recipe") == "ours" else {}
        return {**named, **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _one_row_a_vote(self) -> TrainConfig:
        if self.votes == "example" and self.micro_batch_size != 1:
            raise ValueError("votes: one an example needs micro_batch_size 1; set that, or votes: token")
        return self


def key_of(rows: Sequence[TrainRow], base: str, config: TrainConfig, closed: bool = False) -> str:
    """16 hex digits that change with the rows, the base weights, the settings or a template left `closed`."""
    # What is not used stays out, so that models trained before there was such a setting keep their keys.
    unused = {name for name in ("joined", "stop_after") if not getattr(config, name)}
    settings = config.model_dump(exclude={"recipe", "launch", *unused})
    content = [FORMAT, [row.model_dump() for row in rows], checkpoints.weights_fingerprint(base), settings]
    return fingerprint([*content, "closed"] if closed else content)


def train(
    variant: str,
    rows: Sequence[TrainRow],
    base: str,
    folder: Path,
    config: TrainConfig,
    *,
    save_steps: int = 50,
    thinking: bool = False,
    closed: bool = False,
) -> Path:
    """Fine-tune `base` on `rows` and return the checkpoint's folder; trains nothing that is there, under any name.

    With `thinking` the checkpoint's template opens the thinking, as its rows do; `closed` says that it does not though
    they do, so that this is another checkpoint. Raises :class:`UserError` for an empty
    training set or a base model that cannot be loaded.
    """
    if not rows:
        raise UserError(f"variant '{variant}': no training rows; look at the selection stage's counts.")
    config = config.model_copy(update={"dtype": checkpoints.dtype_here(config.dtype)})
    key = key_of(rows, base, config, closed)
    target = folder / f"{variant}-{key}"
    for found in (target, *sorted(folder.glob(f"*-{key}"))):
        if _complete(found):
            log.info("%s: already trained (%s)", variant, found.name)
            return found
    work = folder / f".{variant}-{key}.partial"
    how = fit_launched if config.launch else fit
    history = how(rows, base, work, target.name, config, save_steps)
    if thinking:
        checkpoints.open_thinking(work / "final")  # before its files are listed by hash
    shutil.rmtree(target, ignore_errors=True)
    (work / "final").rename(target)
    write_manifest(
        target,
        sorted(path for path in target.rglob("*") if path.is_file()),
        variant=variant,
        key=key,
        base=base,
        config=config.model_dump(),
        rows=len(rows),
        row_ids=[row.id for row in rows],
        kinds={kind: sum(row.kind == kind for row in rows) for kind in sorted({row.kind for row in rows})},
        history=history,
        versions={name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "accelerate")},
    )
    shutil.rmtree(work, ignore_errors=True)
    return target


def history(checkpoint: Path) -> list[dict[str, float]]:
    """The training log of a checkpoint: one dict of step, epoch, loss and learning rate per logged step."""
    manifest = read_manifest(checkpoint)
    if manifest is None:
        raise UserError(f"{checkpoint}: no {MANIFEST}, so its training did not finish; run `make reproduce`.")
    return list(manifest["history"])


def _complete(target: Path) -> bool:
    """True when every file that training wrote is there as it was; a gigabyte takes about a second to hash."""
    if not target.is_dir():
        return False
    try:
        verify_manifest(target)
    except UserError as err:
        log.warning("%s (it is trained again)", err)
        return False
    return True


def fit(
    rows: Sequence[TrainRow], base: str, work: Path, name: str, config: TrainConfig, save_steps: int
) -> list[dict[str, float]]:
    """Train in this process, or in this one of several, and save the model in `work/final`; returns the history."""
    try:
        return _fit(rows, base, work, name, config, save_steps)
    except UserError:
        raise
    except Exception as err:  # of torch, safetensors, the file system
        if said := _ran_out(f"{type(err).__name__}: {err}", work, config):
            raise said from err
        raise
    finally:
        give_back()


def give_back() -> None:
    """Free what a training held: its trainer, which holds itself, and the freed memory that glibc would keep.

    Without it a process had 5.5 GB after two steps of a 135M model and 14 after several; with it 0.6.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _fit(
    rows: Sequence[TrainRow], base: str, work: Path, name: str, config: TrainConfig, save_steps: int
) -> list[dict[str, float]]:
    trainer = run(rows, base, work, name, config, save_steps)
    final = work / "final"
    if trainer.accelerator.num_processes > 1:
        _save_shared(trainer, final, config)
    else:
        trained = trainer.model.merge_and_unload() if config.lora_rank else trainer.model
        trained.config.use_cache = True
        (trained.bfloat16() if config.dtype == "bfloat16" else trained).save_pretrained(final)
        trainer.processing_class.save_pretrained(final)
    return [
        {name: float(entry[name]) for name in ("step", "epoch", "loss", "learning_rate") if name in entry}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def _save_shared(trainer: Any, final: Path, config: TrainConfig) -> None:
    """Gather a model that several processes share and have the first one save it."""
    import torch

    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        if config.dtype == "bfloat16":
            state = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
        model = trainer.accelerator.unwrap_model(trainer.model)
        model.config.use_cache = True
        model.save_pretrained(final, state_dict=state)
        trainer.processing_class.save_pretrained(final)
    trainer.accelerator.wait_for_everyone()


def _ran_out(text: str, work: Path, config: TrainConfig) -> UserError | None:
    """The sentence for an error that says that memory or disk ran out; None for any other."""
    if _MEMORY.search(text) or "MemoryError" in text:
        return out_of_memory(config)
    if _FULL.search(text):
        return UserError(f"{work}: the disk is full; free some space and run again, it goes on from its last "
                         "checkpoint.")  # fmt: skip
    return None


def out_of_memory(config: TrainConfig) -> UserError:
    """The sentence that says which setting to lower."""
    if config.micro_batch_size > 1:
        how = f"lower micro_batch_size (now {config.micro_batch_size}), the batch stays {config.batch_size}"
    elif not config.gradient_checkpointing:
        how = "set gradient_checkpointing: true"
    else:
        how = f"lower max_length (now {config.max_length}) or share the model out over more GPUs (training.launch)"
    return UserError(f"training: the accelerator is out of memory; {how}. What was trained is kept.")


def run(rows: Sequence[TrainRow], base: str, work: Path, name: str, config: TrainConfig, save_steps: int) -> Any:
    """The trainer of `base` on `rows` after its last step; goes on from the newest checkpoint in `work`."""
    from datasets import Dataset
    from transformers import PrinterCallback

    arguments = training_arguments(config, work, save_steps)  # before the model: several processes load it together
    model, tokenizer = checkpoints.load(base, "float32")
    dataset = Dataset.from_list(_with_answers(rows, tokenizer, config.max_length, config.joined))
    trainer = _trainer_class()(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=_lora(config),
        callbacks=[_progress(name), *_stop(config.stop_after)],
    )
    trainer.remove_callback(PrinterCallback)
    resume = _last_checkpoint(work)
    if resume is not None:
        log.info("%s: going on from %s", name, resume.name)
    # The mean over the micro-batches, each of one row, in place of the mean over the tokens of the batch.
    trainer.model_accepts_loss_kwargs = config.votes == "token"
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return trainer


def _with_answers(
    rows: Sequence[TrainRow], tokenizer: Any, max_length: int, joined: bool = False
) -> list[dict[str, list[int]]]:
    """The rows as tokens; one whose prompt leaves no room for an answer would teach nothing and is left out by id."""
    made = [tokenize(row, tokenizer, max_length, joined) for row in rows]
    silent = [row.id for row, tokens in zip(rows, made, strict=True) if not any(tokens["completion_mask"])]
    if silent:
        log.warning("left out, their prompts fill all %d tokens: %s", max_length, ", ".join(silent))
    if len(silent) == len(made):
        raise UserError(f"training: no row has room for an answer in {max_length} tokens; raise max_length.")
    return [tokens for tokens in made if any(tokens["completion_mask"])]


def accumulation(config: TrainConfig, processes: int) -> int:
    """How many micro-batches each of `processes` takes for one optimizer step, so that the batch stays what it is.

    Raises :class:`UserError` where several processes cannot share the batch out evenly.
    """
    micro = min(config.micro_batch_size, config.batch_size)
    if processes > 1 and config.batch_size % (micro * processes):
        raise UserError(f"training: batch_size {config.batch_size} is not shared out evenly over {processes} processes "
                        f"by {micro} rows each; change the number of processes or micro_batch_size.")  # fmt: skip
    return max(1, config.batch_size // (micro * processes))


def training_arguments(config: TrainConfig, work: Path, save_steps: int = 50) -> Any:
    """The settings as TRL takes them (an `SFTConfig`); checkpoints go to `work` every `save_steps` steps."""
    import torch
    from trl import SFTConfig

    micro = min(config.micro_batch_size, config.batch_size)
    return SFTConfig(
        output_dir=str(work),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation(config, int(os.environ.get("WORLD_SIZE", "1"))),
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_length=config.max_length,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        bf16=config.dtype == "bfloat16",
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        activation_checkpointing=config.gradient_checkpointing,
        completion_only_loss=True,
        logging_steps=1,
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=1,
        seed=config.seed,
        data_seed=config.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def shuffled(lengths: Sequence[int], batch: int, seed: str) -> list[int]:
    """Indices in the paper's plain shuffle, the rows of each batch by falling length.

    The order inside a batch does not change its gradient; micro-batches of like length pad less.
    """
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return [index for group in batches for index in sorted(group, key=lambda i: -lengths[i])]


def _trainer_class() -> type:
    """TRL's SFTTrainer, shuffled by :func:`shuffled`."""
    import torch
    from transformers import Trainer
    from trl import SFTTrainer

    class Shuffled(torch.utils.data.Sampler):
        """The same order in every run for a seed and epoch; a resumed run asks for the epoch it was in."""

        def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
            self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return len(self.lengths)

        def __iter__(self) -> Iterator[int]:
            return iter(shuffled(self.lengths, self.batch, f"{self.seed}-{self.epoch}"))

    class ShuffledTrainer(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
            lengths = [len(ids) for ids in dataset["input_ids"]]
            batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            batch *= self.accelerator.num_processes
            return Shuffled(lengths, batch, int(self.args.data_seed or 0))

        # The model's own loss: TRL's adds entropy and accuracy, a quarter more of a CPU's time (sft_loss.md).
        compute_loss = SFTTrainer.compute_loss if torch.cuda.is_available() else Trainer.compute_loss

    return ShuffledTrainer


def _lora(config: TrainConfig) -> Any:
    if config.lora_rank is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError as err:
        raise UserError("lora_rank: LoRA needs the package `peft`; install it or set lora_rank to null.") from err
    return LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear")


def _progress(name: str) -> Any:
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """One tqdm line per run, with the loss beside it."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=name, unit="step")

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.bar.set_postfix(loss=f"{float(logs['loss']):.2f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return Progress()


def _stop(after: int | None) -> list[Any]:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        """Ends the run after so many steps; the schedule stays that of all steps."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= after

    return [Stop()] if after else []


def _last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end; a torn one is removed."""
    for folder in sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[-1]), reverse=True):
        try:
            read_json(folder / "trainer_state.json")
            # A shared optimizer is a folder of its own (FSDP), or lies in one named after the step (DeepSpeed).
            optimizer = [folder / "optimizer.pt", folder / "optimizer_0" / ".metadata", *folder.glob("global_step*")]
            if any(path.exists() for path in optimizer) and any(folder.glob("rng_state*.pth")):
                return folder
        except UserError:
            pass
        shutil.rmtree(folder, ignore_errors=True)
    return None


def fit_launched(
    rows: Sequence[TrainRow], base: str, work: Path, name: str, config: TrainConfig, save_steps: int
) -> list[dict[str, float]]:
    """As :func:`fit`, in the processes that `accelerate launch` starts; each runs this module on the job in `work`.

    Raises :class:`UserError` with the last error of their log; what was trained is kept and gone on from.
    """
    import torch

    assert config.launch is not None
    if not Path(config.launch).exists():
        raise UserError(f"training.launch: {config.launch} does not exist; name a file of params/accelerate/.")
    work.mkdir(parents=True, exist_ok=True)
    (work / "history.json").unlink(missing_ok=True)
    write_jsonl(work / "rows.jsonl", rows)
    job = {"base": base, "name": name, "config": config.model_dump(), "save_steps": save_steps}
    write_json(work / "job.json", job)
    with (work / "launch.log").open("wb") as out:
        asked = command(config.launch, work, os.environ, torch.cuda.device_count())
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    text = (work / "launch.log").read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        if said := _ran_out(text, work, config):
            raise said
        lines = [line.strip() for line in text.splitlines() if "Error: " in line] or text.splitlines()[-1:] or [""]
        reason = shorten(lines[0].rsplit("Error: ", 1)[-1], 300)
        raise UserError(
            f"{name}: the launched training ended with code {done.returncode} ({reason}); its log is "
            f"{work / 'launch.log'}. Run again, it goes on from its last checkpoint."
        )
    history: list[dict[str, float]] = read_json(work / "history.json")
    return history


def command(launch: str, work: Path, environment: Mapping[str, str], gpus: int = 0) -> list[str]:
    """The command that starts the job in `work`: on this machine, or with srun on every node of a Slurm job.

    A process for each of the `gpus` of every node, or as many as STAR1_PROCESSES or the configuration says.
    """
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch]
    run = ["-m", "star1lib.training.sft", str(work)]
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    if processes := environment.get("STAR1_PROCESSES") or gpus * nodes:
        start += ["--num_processes", str(processes)]
    if nodes == 1:
        return [*start, *run]
    start += ["--num_machines", str(nodes), "--main_process_port", PORT, "--rdzv_backend", "static"]
    start += ["--main_process_ip", environment.get("MASTER_ADDR", "127.0.0.1")]
    # Each node finds its own rank.
    line = f"exec {shlex.join(start)} --machine_rank $SLURM_NODEID {shlex.join(run)}"
    return ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "bash", "-c", line]


def main(work: Path) -> None:
    """What each launched process does: train, save together; the first one writes the history."""
    job = read_json(work / "job.json")
    config = TrainConfig.model_validate(job["config"])
    history = fit(
        read_records(work / "rows.jsonl", TrainRow), job["base"], work, job["name"], config, job["save_steps"]
    )
    if os.environ.get("RANK", "0") == "0":
        write_json(work / "history.json", history)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    main(Path(sys.argv[1]))
