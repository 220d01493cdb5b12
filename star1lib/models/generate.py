"""Batched greedy generation with a local model: many prompts in, texts with real token counts out.

transformers' `generate` makes the tokens, a round of some at a time; between two rounds finished sequences leave the
batch, keys and values of the others stay. benchmarks/decoding.py measures what that is worth.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from star1lib.errors import UserError

log = logging.getLogger(__name__)

VERSION = 1
BATCH = 256
ROUND = 16
StopReason = Literal["stop", "max_tokens", "model_length"]


@dataclass(frozen=True)
class Settings:
    """Greedy decoding: the most new tokens and the repetition penalty (1.0 leaves the logits alone)."""

    max_new_tokens: int
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens: {self.max_new_tokens} given; it must be at least 1.")
        if self.repetition_penalty <= 0:
            raise UserError(f"repetition_penalty: {self.repetition_penalty} given; it must be above 0 (1.0 = none).")


@dataclass(frozen=True)
class Generation:
    """New tokens of one prompt, the stop token included, and why they ended."""

    tokens: list[int]
    stop_reason: StopReason
    prompt_tokens: int


def stop_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Token ids that end a response: the tokenizer's and those of the model's generation settings."""
    ids = {tokenizer.eos_token_id}
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids.update(configured if isinstance(configured, list | tuple) else [configured])
    return {int(token) for token in ids if token is not None}


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    *,
    stop_ids: set[int],
    on_done: Callable[[int, Generation], None] | None = None,
) -> list[Generation]:
    """Greedy responses to tokenised `prompts`, in their order.

    `on_done(index, generation)` is called as soon as a response ends. When memory runs out the batch is halved and the
    interrupted sequences go on from where they were; one prompt that does not fit alone is a :class:`UserError`.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise UserError("generate: a prompt without tokens; give every question some text.")
    batches = _Batches(model, settings, stop_ids, on_done)
    batches.run(prompts)
    return [batches.done[index] for index in range(len(prompts))]


def cache_bytes(device: Any) -> int:
    """What keys and values may take: half of a GPU's free memory, a third of a machine's, at most 4 GiB there."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] // 2)
    import psutil

    return int(min(4 << 30, psutil.virtual_memory().total // 3))


@dataclass
class _Row:
    index: int
    prompt: list[int]
    made: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.made


class _Batches:
    """The prompts batch by batch, the longest first: too large a batch shows at the start."""

    def __init__(
        self,
        model: Any,
        settings: Settings,
        stop_ids: set[int],
        on_done: Callable[[int, Generation], None] | None,
    ) -> None:
        self.model, self.settings, self.stop_ids, self.on_done = model, settings, stop_ids, on_done
        self.window = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        self.done: dict[int, Generation] = {}
        self.rows: list[_Row] = []

    def run(self, prompts: Sequence[Sequence[int]]) -> None:
        """Generate for all prompts."""
        rows = sorted((_Row(i, list(p)) for i, p in enumerate(prompts)), key=lambda row: -len(row.prompt))
        pending = deque(row for row in rows if len(row.prompt) < self.window)
        for row in rows:
            if len(row.prompt) >= self.window:
                self._finish(row, "model_length")
        limit = min(BATCH, self._room(len(rows[0].prompt))) if rows else 0
        while pending:
            self.rows = [pending.popleft() for _ in range(min(limit, len(pending)))]
            try:
                self._batch()
            except (MemoryError, RuntimeError) as err:
                if not _out_of_memory(err):
                    raise
                limit = self._halved(limit, len(self.rows) + len(pending), err)
                pending.extendleft(reversed(self.rows))

    def _room(self, longest: int) -> int:
        """How many sequences memory has keys and values for, at full length."""
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * size * self.model.dtype.itemsize
        return max(1, cache_bytes(self.model.device) // (token * (longest + self.settings.max_new_tokens)))

    def _batch(self) -> None:
        """Generate for the present rows until each has ended; what they have made so far is part of their prompts."""
        from star1lib.models.cache import empty_cache

        width, device = max(len(row.ids) for row in self.rows), self.model.device
        pads = [width - len(row.ids) for row in self.rows]
        # Padding repeats a row's first token, which a repetition penalty has seen anyway.
        padded = [row.prompt[:1] * pad + row.ids for row, pad in zip(self.rows, pads, strict=True)]
        ids = torch.tensor(padded, device=device)
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads], device=device)
        cache = empty_cache(self.model.config)
        while self.rows:
            with torch.inference_mode():
                ids = self.model.generate(
                    ids,
                    attention_mask=mask,
                    cache=cache,
                    do_sample=False,
                    max_new_tokens=min(ROUND, *map(self._left, self.rows)),
                    repetition_penalty=self.settings.repetition_penalty,
                    eos_token_id=sorted(self.stop_ids) or -1,
                    pad_token_id=0,
                )
            made = ids[:, mask.shape[1] :]
            stay = [place for place, tokens in enumerate(made.tolist()) if not self._ended(self.rows[place], tokens)]
            before, self.rows = len(self.rows), [self.rows[place] for place in stay]
            if 0 < len(stay) < before:
                cache.batch_select_indices(torch.tensor(stay, device=device))
            ids, mask = ids[stay], torch.cat((mask, torch.ones_like(made)), dim=1)[stay]

    def _left(self, row: _Row) -> int:
        """How many tokens a row may still get."""
        return min(self.settings.max_new_tokens - len(row.made), self.window - len(row.ids))

    def _ended(self, row: _Row, tokens: Sequence[int]) -> bool:
        """Give a row its new tokens; true when that is its end."""
        for token in tokens:
            row.made.append(token)
            if token in self.stop_ids:
                return self._finish(row, "stop")
        if self._left(row) > 0:
            return False
        return self._finish(row, "max_tokens" if len(row.made) == self.settings.max_new_tokens else "model_length")

    def _finish(self, row: _Row, reason: StopReason) -> bool:
        self.done[row.index] = generation = Generation(row.made, reason, len(row.prompt))
        if self.on_done is not None:
            self.on_done(row.index, generation)
        return True

    def _halved(self, limit: int, left: int, err: BaseException) -> int:
        """Half of the batch that was too large."""
        if limit == 1 or left == 1:
            raise UserError(
                "generate: out of memory with a single prompt; use a smaller model, fewer new tokens or a "
                f"machine with more memory ({type(err).__name__})."
            ) from err
        limit = max(1, min(limit, left) // 2)
        log.warning("out of memory: going on with %d sequences at once", limit)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return limit


def _out_of_memory(err: BaseException) -> bool:
    if isinstance(err, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(err) or "out of memory" in str(err)
