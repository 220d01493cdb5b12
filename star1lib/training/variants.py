"""The variants of the study: which rows each model is trained on (paper 3.1, 4.1 to 4.3).

A variant is a base model and a recipe: a pool (`selected`, `medium` or a released set), thinking or not, how many rows,
how many benign variants of harmful questions and of the model's own answers beside them. Or it is a checkpoint that
somebody else trained and that is evaluated alone. Recipes are declared in the profile; this module turns them into
checkpoints. No row comes near a question of a benchmark that the profile asks.
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from star1lib.collection import decontamination, released
from star1lib.errors import UserError
from star1lib.files import parse_record, read_jsonl, read_records, write_stage
from star1lib.models import chat, checkpoints
from star1lib.models.roles import served
from star1lib.records import Example, NonEmpty, Question, Record, first_error
from star1lib.training import stage0
from star1lib.training.rows import TrainRow, rows, split_benign
from star1lib.training.sft import TrainConfig, history, train

log = logging.getLogger(__name__)
_Asked = TypeVar("_Asked", str, Example)
BASE = "base"
PLAIN = "plain"
RELEASED = "released checkpoint"
TABLE = "variants.jsonl"
# As the selection stage names it.
_BENIGN_FILE = "benign_variants.jsonl"
# Table 3.1 of the paper: 1,000 rows, five epochs in batches of 128, a cosine from 1e-5 to zero.
_PAPER = {"name": "the paper", "base": "R1-Distill", "thinking": True, "pool": "selected", "rows": 1000, "steps": 40,
          "peak_rate": 1e-5, "sum_of_rates": 2e-4}  # fmt: skip


class Recipe(Record):
    """How a variant's training set is made: a random sample of `rows` rows of a pool, or all of it.

    `base` names the untrained model it starts from, `benign` counts benign variants of harmful questions (this run's,
    or with `benign_pool` the released ones), `anchors` the base's own answers to harmless prompts; `training` overrides
    common settings, `steps` fixes the optimizer steps. `marks` keeps rows of a released pool whose mean score lies in
    it. `checkpoint`, a folder or a pinned hub model, is evaluated as it is and stands alone.

    `thinking` is `template` (rows with the trace, asked by the model's own template), `forced` or true (asked by one
    that opens the thinking, as a reasoning model's own does), or `none` or false (the answer alone, asked by its own).
    """

    base: NonEmpty = BASE
    pool: Literal["selected", "medium", "STAR-1", "STAR-41K", "SafeChain"] = "selected"
    marks: tuple[float, float] | None = None
    benign_pool: Literal["own", "STAR-benign-915"] = "own"
    checkpoint: NonEmpty | None = None
    thinking: Literal["template", "forced", "none"] | bool = True
    rows: int | None = Field(default=None, ge=1)
    benign: int = Field(default=0, ge=0)
    anchors: int = Field(default=0, ge=0)
    steps: int | None = Field(default=None, ge=1)
    training: dict[str, Any] = Field(default_factory=dict)

    @property
    def trace(self) -> bool:
        """Whether its rows hold the trace."""
        return self.thinking not in ("none", False)

    @property
    def forced(self) -> bool:
        """Whether the trained model's template opens the thinking, whatever its base's does."""
        return self.thinking in ("forced", True)

    @model_validator(mode="after")
    def _alone(self) -> Recipe:
        if self.checkpoint and len(self.model_fields_set) > 1:
            raise ValueError("checkpoint: is evaluated as it is; leave the other fields out")
        if self.marks and self.pool in ("selected", "medium"):
            raise ValueError("marks: chooses among a released pool; name one as pool")
        return self


class Variant(Record):
    """A model to evaluate: its checkpoint, whether its turn starts inside the thinking, and what it was trained on."""

    name: NonEmpty
    checkpoint: NonEmpty
    thinking: bool
    pool: str
    rows: int
    benign: int
    anchors: int = 0
    base: str = BASE
    seed: int = 0


@dataclass(frozen=True)
class Bases:
    """The untrained models, harmless prompts and sums that none was trained on, and the questions they are asked."""

    variants: list[Variant]
    prompts: list[str]
    tests: list[Question]

    def __getitem__(self, name: str) -> Variant:
        found = {variant.name: variant for variant in self.variants}
        if name not in found:
            raise UserError(f"variants: base '{name}' is not known; the bases of this profile are {', '.join(found)}.")
        return found[name]

    def toy(self, name: str) -> bool:
        """Whether stage 0 made the base of this name."""
        return name == BASE and any(variant.name == PLAIN for variant in self.variants)


def make_bases(
    base_model: str,
    settings: Mapping[str, Any],
    *,
    training: Mapping[str, Any],
    tests: Sequence[Question],
    models: str | Path,
    seed: int,
    save_steps: int = 50,
) -> tuple[Bases, list[dict[str, Any]]]:
    """The models that the study starts from, and the loss curve of stage 0.

    With empty `settings`, `base_model` is the base. Else stage 0 makes the base of it, a toy reasoning model
    (:mod:`star1lib.training.stage0`), and `base_model` stays as the base called `plain`.
    """
    prompts = _clean(stage0.harmless(), tests, models)
    if not settings:
        return Bases([base_variant(base_model)], prompts, list(tests)), []
    chosen = parse_record(settings, stage0.Settings, "stage0")
    config = _config({**training, **chosen.training}, seed)
    own, spare = prompts[: chosen.own], prompts[chosen.own :]
    checkpoint = stage0.reasoner(base_model, chosen, own, tests, Path(models), config, save_steps)
    bases = [base_variant(os.path.relpath(checkpoint)), base_variant(base_model, PLAIN)]
    spare += stage0.more_sums(len(spare) // 4, chosen, config.seed, tests)
    curve = [{"variant": "stage 0", **entry} for entry in history(checkpoint)]
    return Bases(bases, spare, list(tests)), curve


def base_variant(model: str, name: str = BASE) -> Variant:
    """An untrained model as a variant, so that it is measured like every other."""
    thinking = not served(model) and chat.opens_thinking(checkpoints.load_tokenizer(model))
    return Variant(name=name, checkpoint=model, thinking=thinking, pool="none", rows=0, benign=0, base=name)


def train_variants(
    recipes: Mapping[str, Mapping[str, Any]],
    data: TrainingData,
    settings: Mapping[str, Any],
    *,
    seeds: Sequence[int] = (),
    save_steps: int = 50,
) -> tuple[list[Variant], list[dict[str, Any]]]:
    """Train each recipe and return the variants and the loss curves (variant, step, epoch, loss).

    Each recipe is trained on a sample of its own for the seed of `data` and for every other one of `seeds`; those
    variants are called `<recipe>_seed<seed>`. What is only evaluated, a `checkpoint`, is a variant without rows.
    """
    variants: list[Variant] = []
    curves: list[dict[str, Any]] = []
    for title, raw in recipes.items():
        recipe = parse_record(raw, Recipe, f"variants.{title}")
        if recipe.checkpoint:
            variants.append(base_variant(recipe.checkpoint, title).model_copy(update={"pool": RELEASED}))
            continue
        for drawn in dict.fromkeys((data.seed, *seeds)):
            name = title if drawn == data.seed else f"{title}_seed{drawn}"
            base, training = data.bases[recipe.base], data.rows(recipe, drawn)
            config = _config({**settings, **recipe.training}, drawn)
            if recipe.steps:
                per_epoch = -(-len(training) // config.batch_size)
                config = config.model_copy(update={"epochs": recipe.steps / per_epoch})
            checkpoint = train(name, training, base.checkpoint, Path(data.models), config,
                               save_steps=save_steps, thinking=recipe.forced,
                               closed=recipe.trace and not (recipe.forced or base.thinking))  # fmt: skip
            counts = {kind: sum(row.kind == kind for row in training) for kind in ("safety", "benign", stage0.ANCHOR)}
            variants.append(
                Variant(
                    name=name,
                    checkpoint=os.path.relpath(checkpoint),
                    thinking=recipe.forced or base.thinking,
                    pool=recipe.pool,
                    rows=counts["safety"],
                    benign=counts["benign"],
                    anchors=counts[stage0.ANCHOR],
                    base=recipe.base,
                    seed=drawn,
                )
            )
            curves += [{"variant": name, **entry} for entry in history(checkpoint)]
    return variants, curves


@dataclass(frozen=True)
class TrainingData:
    """What recipes draw their rows from: the folder of the selection stage and the bases' own answers.

    `models` is where models, own answers and what is near a test question are kept; `benign_for_training` is how many
    of the selection's benign variants may be trained on at all, the others stay held out from every model. Released
    sets come from `mirror` or their pinned place.
    """

    bases: Bases
    selection: str | Path
    models: str | Path
    seed: int
    benign_for_training: int = 0
    mirror: str | Path | None = None
    pools: dict[str, list[Example]] = field(default_factory=dict, repr=False)

    def rows_of(self, recipes: Mapping[str, Mapping[str, Any]]) -> list[TrainRow]:
        """Every row that the recipes of a profile stand for, as :func:`train_variants` trains on them."""
        parsed = [parse_record(recipe, Recipe, f"variants.{name}") for name, recipe in recipes.items()]
        return [row for recipe in parsed if not recipe.checkpoint for row in self.rows(recipe, self.seed)]

    def rows(self, recipe: Recipe, seed: int) -> list[TrainRow]:
        """The training set of one recipe: `seed` draws the sample, the split of benign variants stays."""
        base = self.bases[recipe.base]
        as_rows = partial(rows, thinking=recipe.trace, reasoner=base.thinking)
        pool = self._pool(recipe)
        drawn = as_rows(random.Random(seed).sample(pool, len(pool)))[: recipe.rows]
        if recipe.benign:
            drawn += as_rows(self._benign(recipe), kind="benign")
        if recipe.trace and self.bases.toy(recipe.base):
            drawn = [stage0.in_its_words(row) for row in drawn]
        if recipe.anchors:
            found = stage0.own_answers(base.checkpoint, self.bases.prompts, cache=Path(self.models))
            if len(found) < recipe.anchors:
                raise UserError(f"variants: {recipe.anchors} anchors asked for, {len(found)} own answers at hand; ask "
                                "for fewer or give stage 0 fewer of the harmless prompts.")  # fmt: skip
            drawn += random.Random(seed).sample(found, recipe.anchors)
        return drawn

    def _pool(self, recipe: Recipe) -> list[Example]:
        name, path = recipe.pool, Path(self.selection) / f"{recipe.pool}.jsonl"
        if name not in self.pools:
            found = self._released(name) if name in released.SETS else read_records(path, Example)
            self.pools[name] = _clean(found, self.bases.tests, self.models)
        low, high = recipe.marks or (-math.inf, math.inf)
        chosen = [row for row in self.pools[name] if not recipe.marks or (row.score and low <= row.score.mean <= high)]
        if not chosen:
            raise UserError(f"{path}: no rows in this pool; drop the variant or widen the pool.")
        return chosen

    def _released(self, name: str) -> list[Example]:
        return released.load(name, Path(self.mirror) if self.mirror else None)

    def _benign(self, recipe: Recipe) -> list[Example]:
        count = recipe.benign
        if recipe.benign_pool != "own":
            return _clean(self._released(recipe.benign_pool), self.bases.tests, self.models)[:count]
        if count > self.benign_for_training:
            raise UserError(
                f"variants: {count} benign rows asked for, but benign_for_training sets {self.benign_for_training} "
                "aside; raise it or ask for fewer."
            )
        found = read_records(Path(self.selection) / _BENIGN_FILE, Example)
        known, held_out = split_benign(found, self.benign_for_training, self.seed)
        tests = [*self.bases.tests, *(Question.make(example.question, example.source) for example in held_out)]
        return _clean(known, tests, self.models)[:count]


def _clean(rows: Sequence[_Asked], tests: Sequence[Question], models: str | Path) -> list[_Asked]:
    """The rows, or prompts, that are not too near to a test question."""
    texts = [row.question if isinstance(row, Example) else row for row in rows]
    near = decontamination.near_tests(texts, tests, Path(models))
    if near:
        log.info("%d of %d rows left out: too near to a test question", len(near), len(rows))
    return [row for place, row in enumerate(rows) if place not in near]


def held_out_benign(selection: str | Path, benign_for_training: int, seed: int) -> list[Example]:
    """The benign variants of questions that no model trains on (paper 4.3)."""
    return split_benign(read_records(Path(selection) / _BENIGN_FILE, Example), benign_for_training, seed)[1]


def write(
    folder: str | Path,
    variants: Sequence[Variant],
    curves: Sequence[Mapping[str, Any]],
    *,
    bases: Bases | None = None,
    items: Sequence[Record] = (),
) -> None:
    """Write the variants and their loss curves, manifest last; with them the bases and judged items, if any."""
    files: dict[str, Any] = {TABLE: variants, "losses.jsonl": curves, "items.jsonl": items}
    if bases:
        prompts = [{"prompt": prompt} for prompt in bases.prompts]
        files |= {"bases.jsonl": bases.variants, "prompts.jsonl": prompts, "tests.jsonl": bases.tests}
    write_stage(Path(folder), files)


def read_bases(folder: str | Path) -> Bases:
    """The bases that :func:`write` wrote to `folder`."""
    variants = read_records(Path(folder) / "bases.jsonl", Variant)
    prompts = [str(row["prompt"]) for row in read_jsonl(Path(folder) / "prompts.jsonl")]
    return Bases(variants, prompts, read_records(Path(folder) / "tests.jsonl", Question))


def table(variants: Sequence[Variant], curves: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """The variants as table rows, the paper's last; the checkpoint by its folder's name, which carries the content key.

    `steps`, `peak_rate` and `sum_of_rates` say how far each was trained.
    """
    rates = {v.name: [row["learning_rate"] for row in curves if row["variant"] == v.name] for v in variants}
    made = [
        {
            **variant.model_dump(),
            "checkpoint": Path(variant.checkpoint).name,
            "steps": len(rates[variant.name]),
            "peak_rate": max(rates[variant.name], default=0.0),
            "sum_of_rates": sum(rates[variant.name]),
        }
        for variant in variants
    ]
    return [*made, {**dict.fromkeys(made[0], ""), **_PAPER}] if made else []


def read(*folders: str | Path) -> list[Variant]:
    """The variants that the given stages trained, each once, in order."""
    found = [
        parse_record(row, Variant, str(Path(folder) / TABLE))
        for folder in folders
        for row in read_jsonl(Path(folder) / TABLE)
    ]
    return list({variant.name: variant for variant in found}.values())


def _config(settings: Mapping[str, Any], seed: int) -> TrainConfig:
    try:
        return TrainConfig.model_validate({"seed": seed, **settings})
    except ValidationError as err:
        raise UserError(f"training: {first_error(err)}; correct it in the profile.") from err
