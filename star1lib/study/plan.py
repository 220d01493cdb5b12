"""The plan before the run: memory, tokens, GPU hours, disk and dollars of each model and stage, before anything starts.

Memory of a full fine-tune is 16 bytes a parameter (fp32 masters, gradients and two Adam moments), shared out over the
GPUs where training is launched on them, plus one gathered layer, the activations that checkpointing keeps, and the
logits of one micro-batch. Time is arithmetic over what the card can do at an assumed share of its peak; generation is
bound by reading weights and cache. Every assumption is a constant here and is printed with the plan. Nothing is
measured by this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.evaluation.settings import PAPER_REASONING_TOKENS, Evaluation, Kind
from star1lib.study import tables
from star1lib.study.profiles import Profile
from star1lib.training.sft import TrainConfig, accumulation

STATES = {"weights": 4, "gradients": 4, "optimizer": 8}  # bytes a parameter in training, all in fp32
TRAINING_BYTES = sum(STATES.values())
TRAINING_SHARE, GENERATION_SHARE = 0.35, 0.5  # of the card's peak arithmetic and of its memory's speed
RESERVE = 0.08  # of a card's memory: context, fragmentation, kernels' workspace
SLOWEST_STEP_S = 0.008  # of decoding one token for all sequences: kernels and sampling, however small the model
CONCURRENT = 128  # sequences that a server decodes at once on one card
KEPT_CHECKPOINTS = 1  # resumable checkpoints on disk while a model trains
GIB = 1 << 30
_ROW_CHARS = 1347 + 474 + 160  # thinking, answer and question of the published rows, on average

ASSUMED = (
    f"Assumed, not measured: {TRAINING_SHARE:.0%} of the card's bf16 peak in training; in generation "
    f"{GENERATION_SHARE:.0%} of its memory's speed, {CONCURRENT} answers at once, {1e3 * SLOWEST_STEP_S:g} ms a token "
    f"at least, an answer a quarter of its budget; {TRAINING_BYTES} bytes a parameter in training, "
    f"{RESERVE:.0%} of the memory kept free. Judging and the calls of `make cost` are not in it."
)


@dataclass(frozen=True)
class Card:
    """An accelerator: memory in GiB, bf16 peak in TFLOP/s without sparsity, memory speed in GB/s (makers' sheets).

    `usd` is an assumed price of an hour, from no price list: whoever rents one knows better.
    """

    name: str
    memory: float
    tflops: float
    bandwidth: float
    usd: float


CARDS = {card.name: card for card in (
    Card("A100-40", 40, 312, 1555, 1.3),
    Card("A100-80", 80, 312, 2039, 1.8),
    Card("H100-80", 80, 989, 3350, 2.5),
    Card("H200-141", 141, 989, 4800, 3.5),
    Card("L40S-48", 48, 362, 864, 0.9),
    Card("RTX4090-24", 24, 165, 1008, 0.4),
)}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What a decoder's size follows from; the numbers are those of the models' published configurations."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    head_size: int = 128
    tied: bool = False

    @property
    def parameters(self) -> int:
        """Weights; the distilled models' embeddings are not tied to the output layer."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + (1 if self.tied else 2) * self.vocabulary * self.hidden + self.hidden

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token in bf16."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_size


MODELS = {
    "R1-Distill-Qwen-1.5B": Shape(1536, 28, 12, 2, 8960, 151_936),
    "R1-Distill-Qwen-7B": Shape(3584, 28, 28, 4, 18_944, 152_064),
    "R1-Distill-Llama-8B": Shape(4096, 32, 32, 8, 14_336, 128_256),
    "R1-Distill-Qwen-14B": Shape(5120, 48, 40, 8, 13_824, 152_064),
    "R1-Distill-Qwen-32B": Shape(5120, 64, 40, 8, 27_648, 152_064),
    "Qwen2.5-1.5B-Instruct": Shape(1536, 28, 12, 2, 8960, 151_936, tied=True),
    "Qwen2.5-7B-Instruct": Shape(3584, 28, 28, 4, 18_944, 152_064),
    "Llama-3.1-8B-Instruct": Shape(4096, 32, 32, 8, 14_336, 128_256),
}


@dataclass(frozen=True)
class Work:
    """How much there is to do for one model: variants to train, tokens a variant sees, prompts and answers to generate.

    `released` counts checkpoints that are evaluated and not trained; `train_tokens` is of all epochs of one variant;
    `prompts` and `answer_tokens` (mean) are of one evaluated variant.
    """

    variants: int
    train_tokens: float
    prompts: int
    answer_tokens: float
    released: int = 0


def _training(config: TrainConfig, gpus: int) -> int:
    """How many of the cards train: one, where training is not launched on all."""
    return gpus if config.launch else 1


def training_memory(shape: Shape, config: TrainConfig, gpus: int) -> dict[str, float]:
    """GiB on each card while `config` trains on `gpus`, of which it takes one if it is not launched on all.

    The states `weights`, `gradients` and `optimizer` are shared out, `activations` (with the gathered layer and the
    logits) are not.
    """
    sharing = _training(config, gpus)
    layer = (shape.parameters - (1 if shape.tied else 2) * shape.vocabulary * shape.hidden) / shape.layers
    tokens = config.micro_batch_size * config.max_length
    kept = shape.layers if config.gradient_checkpointing else 17 * shape.layers
    # The layer at work and the next one, in bf16 with their fp32 gradients; a card alone gathers nothing.
    gathered = 0.0 if sharing == 1 else 2 * layer * 2 + layer * 4
    activations = tokens * (kept * shape.hidden * 2 + 6 * shape.intermediate * 2)
    logits = tokens * shape.vocabulary * 4 / 8  # the loss is taken in pieces of an eighth
    parts = {name: size * shape.parameters / sharing for name, size in STATES.items()}
    return {name: value / GIB for name, value in {**parts, "activations": activations + gathered + logits}.items()}


def plan(name: str, card: Card, gpus: int, config: TrainConfig, work: Work) -> dict[str, Any]:
    """What one model takes on `gpus` cards, a row of :func:`table`; `fits` says why not if not, and what would.

    GiB on each card of training (see :func:`training_memory`, `training` in all) and of serving (the weights alone,
    split over so many "cards a server"); tokens of all variants, hours on all cards together, GiB on disk. Raises
    :class:`UserError` for less than one card and an unknown shape.
    """
    if gpus < 1:
        raise UserError(f"plan: {gpus} GPUs; name one or more.")
    shape = known(name) or _local_shape(name)
    parts = training_memory(shape, config, gpus)
    split = _split(shape, card)
    # Forward, backward and, with checkpointing, the forward pass again.
    flops = (8 if config.gradient_checkpointing else 6) * shape.parameters * work.train_tokens * work.variants
    train_hours = flops / (card.tflops * 1e12 * TRAINING_SHARE * _training(config, gpus)) / 3600
    each = work.answer_tokens / 2
    moved = 2 * shape.parameters + CONCURRENT * each * shape.cache_bytes
    step = max(moved / (card.bandwidth * 1e9 * GENERATION_SHARE * max(split, 1)), SLOWEST_STEP_S)
    servers = max(1, gpus // max(split, 1))
    answers = work.prompts * work.answer_tokens * (work.variants + work.released + 1)
    generate_hours = answers / (CONCURRENT / step * servers) / 3600
    disk = ((work.variants + work.released) * 2 + KEPT_CHECKPOINTS * (TRAINING_BYTES - 4)) * shape.parameters / GIB
    return {
        "model": name, "parameters": shape.parameters, **parts, "training": sum(parts.values()),
        "serving": 2 * shape.parameters / GIB / (split or 1), "cards a server": split,
        "fits": _fits(shape, card, gpus, config), "tokens trained": work.train_tokens * work.variants,
        "tokens generated": answers, "hours of training": train_hours, "hours of generation": generate_hours,
        "GPU hours": (train_hours + generate_hours) * gpus, "GiB on disk": disk,
    }  # fmt: skip


def _split(shape: Shape, card: Card) -> int:
    """Over how many cards a server has to split the weights, so that room is left for its cache; 0 for more than 8."""
    room = 0.7 * card.memory * (1 - RESERVE) * GIB
    return min((n for n in (1, 2, 4, 8) if 2 * shape.parameters / n < room), default=0)


def _lacks(shape: Shape, card: Card, gpus: int, config: TrainConfig) -> str:
    """What cannot be done on so many cards; empty where all can."""
    room, split = card.memory * (1 - RESERVE), _split(shape, card)
    if not 0 < split <= gpus:
        return f"serving needs {split or 'more than 8'} cards"
    if (need := sum(training_memory(shape, config, gpus).values())) > room:
        return f"training needs {need:.0f} GiB a card, {room:.0f} are there"
    try:
        accumulation(config, _training(config, gpus))
    except UserError:
        return f"a batch of {config.batch_size} is not shared out evenly over {gpus} cards"
    return ""


def _fits(shape: Shape, card: Card, gpus: int, config: TrainConfig) -> str:
    if not (lacks := _lacks(shape, card, gpus, config)):
        return "yes"
    enough = next((n for n in (1, 2, 4, 8, 16, 32, 64) if n > gpus and not _lacks(shape, card, n, config)), None)
    if enough:
        return f"no: {lacks}; {enough} cards would do"
    if not config.launch:
        return f"no: {lacks}; share it out, training.launch: params/accelerate/fsdp2.yaml, or take a larger card"
    if not config.gradient_checkpointing:
        return f"no: {lacks}; set gradient_checkpointing: true"
    return f"no: {lacks}; lower micro_batch_size or max_length, or take a larger card"


def known(name: str) -> Shape | None:
    """The shape of a model of the paper, by its name on the hub or without its owner."""
    return MODELS.get(name.split("/")[-1].removeprefix("DeepSeek-"))


def _local_shape(name: str) -> Shape:
    from transformers import AutoConfig

    from star1lib.models import checkpoints

    try:
        found = AutoConfig.from_pretrained(checkpoints.resolve(name), local_files_only=True)
        heads = found.num_attention_heads
        return Shape(
            found.hidden_size, found.num_hidden_layers, heads, getattr(found, "num_key_value_heads", heads),
            found.intermediate_size, found.vocab_size, getattr(found, "head_dim", None) or found.hidden_size // heads,
            bool(getattr(found, "tie_word_embeddings", False)),
        )  # fmt: skip
    except (OSError, ValueError, AttributeError, UserError) as err:
        raise UserError(
            f"plan: the size of '{name}' is not known; known are {', '.join(MODELS)}, or name a folder."
        ) from err


def card(name: str) -> Card:
    """A card by name; raises :class:`UserError` for one that is not in the table."""
    if name not in CARDS:
        raise UserError(f"GPU '{name}': not in the table; choose one of {', '.join(CARDS)}.")
    return CARDS[name]


def table(plans: Sequence[Mapping[str, Any]], card: Card, gpus: int, usd_per_gpu_hour: float | None = None) -> str:
    """The plans as Markdown (memory, then work), a total, and the assumptions that they rest on.

    Dollars are at `usd_per_gpu_hour`, without it at the card's own; a negative one is a :class:`UserError`.
    """
    import pandas as pd

    usd = card.usd if usd_per_gpu_hour is None else usd_per_gpu_hour
    if not 0 <= usd < float("inf"):
        raise UserError(f"plan: {usd:g} USD for an hour of a GPU; give what it costs.")
    frame = pd.DataFrame(plans)
    frame["USD"] = frame["GPU hours"] * usd
    forms = dict.fromkeys(("parameters", "tokens trained", "tokens generated"), "{:.3g}")
    forms |= dict.fromkeys(("hours of training", "hours of generation", "GPU hours"), "{:.1f}")
    for column in frame.columns.drop(["model", "fits"]):
        frame[column] = frame[column].map(forms.get(column, "{:.0f}").format)
    place = list(frame.columns).index("fits") + 1
    memory, work = map(tables.markdown, (frame.iloc[:, :place], frame[["model", *frame.columns[place:]]]))
    hours = sum(one["GPU hours"] for one in plans)
    whose = "assumed, USD= gives yours" if usd_per_gpu_hour is None else "as given"
    summed = f"{hours:.0f} GPU hours on {gpus} x {card.name}, {hours * usd:,.0f} USD at {usd:g} an hour ({whose})."
    lines = ["GiB on each card:", "", *memory, "", "For all variants of a model:", "", *work, "", summed, ASSUMED]
    return "\n".join(lines)


def refuse(plans: Sequence[Mapping[str, Any]]) -> None:
    """Raise :class:`UserError` naming the first model that does not fit and what would."""
    for one in plans:
        if one["fits"] != "yes":
            raise UserError(f"plan: {one['model']} does not fit ({one['fits'].removeprefix('no: ')}).")


def of_profile(profile: Profile, card: Card, gpus: int, models: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A plan per model: the named ones, else those of the profile."""
    plans = []
    if profile.models and (misspelt := [one for one in models if not (known(one) or Path(one).exists())]):
        profile.chosen(misspelt)
    for name in models or profile.chosen() or [str(profile.common.get("base_model", ""))]:
        own = profile.of(name) if name in profile.chosen() else profile
        config = TrainConfig.model_validate(own.common.get("training", {}))
        model = str(own.common["base_model"]) if own is not profile else name
        plans.append({**plan(model, card, gpus, config, work_of(own, config)), "model": name})
    return plans


def work_of(profile: Profile, config: TrainConfig) -> Work:
    """The counts of a profile: its variants with their rows, its benchmarks with their published or limited sizes.

    A row has the published rows' mean length, an answer a quarter of its budget.
    """
    recipes = {name: recipe for _, name, recipe in profile.recipes()}
    kinds = ("safety_sets", "reasoning_sets", "over_refusal_sets")
    sets = [name for section in profile.notebooks.values() for kind in kinds for name in section.get(kind, [])]
    size = int(profile.setting("04_selection", "size", 1000))
    trained = [recipe for recipe in recipes.values() if not recipe.get("checkpoint")]
    rows = sum(int(recipe.get("rows") or _published(recipe.get("pool", ""), size)) + int(recipe.get("benign", 0))
               for recipe in trained)  # fmt: skip
    each = min(_ROW_CHARS / 4, config.max_length)
    how = Evaluation.model_validate({"generation": {"name": "paper"}, **profile.common.get("evaluation", {})})
    counts = {name: min(_published(name, 250), how.limits.get(name, 1 << 30)) for name in dict.fromkeys(sets)}
    kind_of: dict[str, Kind] = dict.fromkeys(PAPER_REASONING_TOKENS, "reasoning")
    tokens = sum(count * how.generation.budget(name, kind_of.get(name, "safety"), thinking=True) / 4
                 for name, count in counts.items())  # fmt: skip
    prompts = sum(counts.values())
    share = rows / max(len(trained), 1)
    released = len(recipes) - len(trained)
    return Work(len(trained), share * each * config.epochs, prompts, tokens / max(prompts, 1), released)


def _published(name: str, otherwise: int) -> int:
    """How many rows or questions a set has."""
    return (sources.SOURCES[name].expected if name in sources.SOURCES else None) or otherwise
