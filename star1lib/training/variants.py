"""The variants of the study: which rows each model is trained on (paper 3.1, 4.1 to 4.3).

A variant is a base model and a recipe: a pool (`selected` or `medium`), thinking or not, how many rows, how many
benign variants of harmful questions. Recipes are declared in the profile; this module turns them into checkpoints.
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
from star1lib.training.rows import TrainRow, rows, split_benign
from star1lib.training.sft import TrainConfig, history, train

log = logging.getLogger(__name__)
BASE = "base"
TABLE = "variants.jsonl"
# As the selection stage names it.
_BENIGN_FILE = "twins.jsonl"


class Recipe(Record):
    """How a variant's training set is made; `epochs` overrides the common setting for this variant."""

    pool: Literal["selected", "medium"] = "selected"
    thinking: bool = True
    rows: int | None = Field(default=None, ge=1)
    benign: int = Field(default=0, ge=0)
    epochs: float | None = Field(default=None, gt=0)


class Variant(Record):
    """A model to evaluate: its checkpoint, whether it thinks, and what it was trained on."""

    name: NonEmpty
    checkpoint: NonEmpty
    thinking: bool
    pool: str
    rows: int
    benign: int


def base_variant(model: str) -> Variant:
    """The untrained model as a variant, so that it is measured like every other."""
    return Variant(name=BASE, checkpoint=model, thinking=False, pool="none", rows=0, benign=0)


def train_variants(
    recipes: Mapping[str, Mapping[str, Any]],
    *,
    selection: str | Path,
    models: str | Path,
    base_model: str,
    settings: Mapping[str, Any],
    seed: int,
    max_chars: int | None = None,
    benign_for_training: int = 0,
    save_steps: int = 50,
) -> tuple[list[Variant], list[dict[str, Any]]]:
    """Train each recipe and return the variants and the loss curves (variant, step, epoch, loss).

    `selection` is the folder of the selection stage; `benign_for_training` is how many of its benign
    variants may be trained on at all, the others stay held out from every model.
    """
    config = _config(settings, seed)
    variants: list[Variant] = []
    curves: list[dict[str, Any]] = []
    for name, raw in recipes.items():
        recipe = parse_record(raw, Recipe, f"variants.{name}")
        training = training_rows(recipe, Path(selection), seed, max_chars, benign_for_training)
        chosen = config if recipe.epochs is None else config.model_copy(update={"epochs": recipe.epochs})
        checkpoint = train(name, training, base_model, Path(models), chosen, save_steps=save_steps)
        variants.append(
            Variant(
                name=name,
                checkpoint=os.path.relpath(checkpoint),
                thinking=recipe.thinking,
                pool=recipe.pool,
                rows=sum(row.kind == "safety" for row in training),
                benign=sum(row.kind == "benign" for row in training),
            )
        )
        curves += [{"variant": name, **entry} for entry in history(checkpoint)]
    return variants, curves


def training_rows(
    recipe: Recipe, selection: Path, seed: int, max_chars: int | None, benign_for_training: int
) -> list[TrainRow]:
    """The training set of one recipe from the selection stage's files."""
    pool = read_records(selection / f"{recipe.pool}.jsonl", Example)
    if not pool:
        raise UserError(
            f"{selection / (recipe.pool + '.jsonl')}: no rows in this pool; drop the variant or widen the pool."
        )
    chosen = subset(pool, recipe.rows, seed, max_chars=max_chars)
    training = rows(chosen, thinking=recipe.thinking)
    if recipe.benign:
        if recipe.benign > benign_for_training:
            raise UserError(
                f"variants: {recipe.benign} benign rows asked for, but benign_for_training sets {benign_for_training} "
                "aside; raise it or ask for fewer."
            )
        known, _ = split_benign(read_records(selection / _BENIGN_FILE, Example), benign_for_training, seed)
        training += rows(known[: recipe.benign], thinking=recipe.thinking, kind="benign")
    return training


def rows_of(
    recipe: Mapping[str, Any],
    *,
    selection: str | Path,
    seed: int,
    max_chars: int | None = None,
    benign_for_training: int = 0,
) -> list[TrainRow]:
    """The training set that a recipe of the profile stands for, as `train_variants` trains on it."""
    checked = parse_record(recipe, Recipe, "variants")
    return training_rows(checked, Path(selection), seed, max_chars, benign_for_training)


def held_out_benign(selection: str | Path, benign_for_training: int, seed: int) -> list[Example]:
    """The benign variants of questions that no model trains on (paper 4.3)."""
    return split_benign(read_records(Path(selection) / _BENIGN_FILE, Example), benign_for_training, seed)[1]


def write(folder: str | Path, variants: Sequence[Variant], curves: Sequence[Mapping[str, Any]]) -> None:
    """Write the variants and their loss curves, manifest last."""
    write_stage(Path(folder), {TABLE: variants, "losses.jsonl": curves})


def table(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """The variants as table rows; the checkpoint by its folder's name, which carries the content key."""
    return [{**variant.model_dump(), "checkpoint": Path(variant.checkpoint).name} for variant in variants]


def read(*folders: str | Path) -> list[Variant]:
    """The variants that the given stages trained, in order."""
    return [
        parse_record(row, Variant, str(Path(folder) / TABLE))
        for folder in folders
        for row in read_jsonl(Path(folder) / TABLE)
    ]


def _config(settings: Mapping[str, Any], seed: int) -> TrainConfig:
    try:
        return TrainConfig.model_validate({"seed": seed, **settings})
    except ValidationError as err:
        raise UserError(f"training: {first_error(err)}; correct it in the profile.") from err
