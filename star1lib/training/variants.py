"""The arms of the study: which rows each model is trained on (paper 3.1, 4.1 to 4.3).

An arm is a base model and a recipe: a pool (`selected` or `medium`), thinking or not, how many rows,
how many benign twins. Arms are declared in the profile; this module turns them into checkpoints.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from star1lib.errors import UserError
from star1lib.files import parse_record, read_jsonl, read_records, write_stage
from star1lib.records import Example, NonEmpty, Record, first_error, subset
from star1lib.training.rows import TrainRow, rows, shown, split_twins
from star1lib.training.sft import TrainConfig, history, train

log = logging.getLogger(__name__)
BASE = "base"
TABLE = "arms.jsonl"


class Recipe(Record):
    """How an arm's training set is made; `epochs` overrides the common setting for this arm."""

    pool: Literal["selected", "medium"] = "selected"
    thinking: bool = True
    rows: int | None = Field(default=None, ge=1)
    twins: int = Field(default=0, ge=0)
    epochs: float | None = Field(default=None, gt=0)


class Arm(Record):
    """A model to evaluate: its checkpoint, whether it thinks, and what it was trained on."""

    name: NonEmpty
    checkpoint: NonEmpty
    thinking: bool
    pool: str
    rows: int
    twins: int


def base_arm(model: str) -> Arm:
    """The untrained model as an arm, so that it is measured like every other."""
    return Arm(name=BASE, checkpoint=model, thinking=False, pool="none", rows=0, twins=0)


def train_arms(
    recipes: Mapping[str, Mapping[str, Any]],
    *,
    selection: str | Path,
    models: str | Path,
    base_model: str,
    settings: Mapping[str, Any],
    seed: int,
    max_chars: int | None = None,
    twins_for_training: int = 0,
    save_steps: int = 50,
) -> tuple[list[Arm], list[dict[str, Any]]]:
    """Train each recipe and return the arms and the loss curves (arm, step, epoch, loss).

    `selection` is the folder of the selection stage; `twins_for_training` is how many of its benign
    twins may be trained on at all, the others stay held out in every arm.
    """
    config = _config(settings, seed)
    arms: list[Arm] = []
    curves: list[dict[str, Any]] = []
    for name, raw in recipes.items():
        recipe = parse_record(raw, Recipe, f"arms.{name}")
        training = training_rows(recipe, Path(selection), seed, max_chars, twins_for_training)
        chosen = config if recipe.epochs is None else config.model_copy(update={"epochs": recipe.epochs})
        checkpoint = train(name, training, base_model, Path(models), chosen, save_steps=save_steps)
        arms.append(
            Arm(
                name=name,
                checkpoint=os.path.relpath(checkpoint),
                thinking=recipe.thinking,
                pool=recipe.pool,
                rows=sum(row.kind == "safety" for row in training),
                twins=sum(row.kind == "benign" for row in training),
            )
        )
        curves += [{"arm": name, **entry} for entry in history(checkpoint)]
    return arms, curves


def training_rows(
    recipe: Recipe, selection: Path, seed: int, max_chars: int | None, twins_for_training: int
) -> list[TrainRow]:
    """The training set of one recipe from the selection stage's files."""
    pool = read_records(selection / f"{recipe.pool}.jsonl", Example)
    if not pool:
        raise UserError(
            f"{selection / (recipe.pool + '.jsonl')}: no rows in this pool; drop the arm or widen the pool."
        )
    chosen = subset(pool, recipe.rows, seed, max_chars=max_chars)
    training = rows(chosen, thinking=recipe.thinking)
    if recipe.twins:
        if recipe.twins > twins_for_training:
            raise UserError(f"arms: {recipe.twins} twins asked for, {twins_for_training} are set aside for training.")
        known, _ = split_twins(read_records(selection / "twins.jsonl", Example), twins_for_training, seed)
        training += rows(known[: recipe.twins], thinking=recipe.thinking, kind="benign")
    return training


def shown_row(
    recipes: Mapping[str, Mapping[str, Any]],
    selection: str | Path,
    base_model: str,
    settings: Mapping[str, Any],
    seed: int,
    max_chars: int | None = None,
) -> tuple[list[str], list[bool]]:
    """The first hand-written row of the first recipe as tokens and their loss mask; released rows stay unshown."""
    from transformers import AutoTokenizer

    from star1lib.models import checkpoints

    recipe = parse_record(next(iter(recipes.values())), Recipe, "arms")
    found = training_rows(recipe.model_copy(update={"twins": 0}), Path(selection), seed, max_chars, 0)
    row = next((row for row in found if row.source.startswith("hand-written")), None)
    if row is None:
        return ["no hand-written row under this profile: a released row is risky text and stays in the build folder"], [
            False
        ]
    tokenizer = AutoTokenizer.from_pretrained(checkpoints.resolve(base_model))
    return shown(row, tokenizer, _config(settings, seed).max_length)


def held_out_twins(selection: str | Path, twins_for_training: int, seed: int) -> list[Example]:
    """The benign twins that no arm trains on (paper 4.3)."""
    return split_twins(read_records(Path(selection) / "twins.jsonl", Example), twins_for_training, seed)[1]


def write(folder: str | Path, arms: Sequence[Arm], curves: Sequence[Mapping[str, Any]]) -> None:
    """Write the arms and their loss curves, manifest last."""
    write_stage(Path(folder), {TABLE: arms, "losses.jsonl": curves})


def table(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The arms as table rows; the checkpoint by its folder's name, which carries the content key."""
    return [{**arm.model_dump(), "checkpoint": Path(arm.checkpoint).name} for arm in arms]


def read(*folders: str | Path) -> list[Arm]:
    """The arms that the given stages trained, in order."""
    return [
        parse_record(row, Arm, str(Path(folder) / TABLE))
        for folder in folders
        for row in read_jsonl(Path(folder) / TABLE)
    ]


def _config(settings: Mapping[str, Any], seed: int) -> TrainConfig:
    try:
        return TrainConfig.model_validate({"seed": seed, **settings})
    except ValidationError as err:
        raise UserError(f"training: {first_error(err)}; correct it in the profile.") from err
