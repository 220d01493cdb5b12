"""Batched greedy generation with a local model: many prompts in, texts with real token counts out.

A small model on a CPU is decoded by :mod:`star1lib.models.decode`: a finished sequence leaves the batch at once and the
next prompt takes its place. Every other model is decoded by transformers' `generate`, in batches of like length.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from star1lib.errors import UserError
from star1lib.models import decode

log = logging.getLogger(__name__)

VERSION = 1
BATCH = 256
LIBRARY_BATCH = 32
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
    batch_size: int | None = None,
    on_done: Callable[[int, Generation], None] | None = None,
) -> list[Generation]:
    """Greedy responses to tokenised `prompts`, in their order.

    `on_done(index, generation)` is called as soon as a response ends. When memory runs out the batch is halved and the
    interrupted sequences go on from where they were; one prompt that does not fit alone is a :class:`UserError`.
    """
    if not prompts:
        return []
    if any(len(prompt) == 0 for prompt in prompts):
        raise UserError("generate: a prompt without tokens; give every question some text.")
    kind = _Own if decode.supports(model) else _Library
    loop = kind(model, settings, stop_ids, batch_size, on_done)
    with torch.inference_mode():
        loop.run(prompts)
    return [loop.done[index] for index in range(len(prompts))]


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Tokens that every prompt starts with, one token short of the shortest prompt; none for a single prompt."""
    low, high = min(map(list, prompts)), max(map(list, prompts))
    limit = min(map(len, prompts)) - 1 if len(prompts) > 1 else 0
    return low[: next((place for place in range(limit) if low[place] != high[place]), limit)]


@dataclass
class _Row:
    index: int
    prompt: list[int]
    made: list[int] = field(default_factory=list)


class _Library:
    """transformers' `generate` over batches, the longest prompts first: too large a batch shows at the start."""

    batch = LIBRARY_BATCH

    def __init__(
        self,
        model: Any,
        settings: Settings,
        stop_ids: set[int],
        batch_size: int | None,
        on_done: Callable[[int, Generation], None] | None,
    ) -> None:
        self.model, self.settings, self.stop_ids, self.on_done = model, settings, stop_ids, on_done
        self.limit = batch_size or self.batch
        self.window = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        self.done: dict[int, Generation] = {}
        self.rows: list[_Row] = []

    def run(self, prompts: Sequence[Sequence[int]]) -> None:
        """Generate for all prompts."""
        rows = sorted((_Row(i, list(p)) for i, p in enumerate(prompts)), key=lambda row: -len(row.prompt))
        self.pending = deque(row for row in rows if len(row.prompt) < self.window)
        for row in rows:
            if len(row.prompt) >= self.window:
                self._finish(row, "model_length")
        self._start()
        while self.pending or self.rows:
            try:
                self._advance()
            except (MemoryError, RuntimeError) as err:
                if not _out_of_memory(err):
                    raise
                self._halve(err)
                self._start()

    def _start(self) -> None:
        """Make ready, at first and again when memory ran out."""

    def _advance(self) -> None:
        """Generate one batch to its end."""
        new = min(self.settings.max_new_tokens, self.window - len(self.pending[0].prompt))
        # A row that the model's window cuts short goes alone, or it would cut the others short.
        size = self.limit if new == self.settings.max_new_tokens else 1
        self._admit(size)
        # Padding repeats a row's first token, which a repetition penalty has seen anyway.
        width = max(len(row.prompt) for row in self.rows)
        pads = [width - len(row.prompt) for row in self.rows]
        ids = [row.prompt[:1] * pad + row.prompt for row, pad in zip(self.rows, pads, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in pads]
        made = self.model.generate(
            torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(mask, device=self.model.device),
            do_sample=False,
            max_new_tokens=new,
            repetition_penalty=self.settings.repetition_penalty,
            eos_token_id=sorted(self.stop_ids) or -1,
            pad_token_id=0,
        )
        for row, tokens in zip(self.rows, made[:, width:].tolist(), strict=True):
            for token in tokens:
                row.made.append(token)
                if reason := self._reason(row):
                    self._finish(row, reason)
                    break
        self.rows = []

    def _admit(self, count: int) -> None:
        self.rows += [self.pending.popleft() for _ in range(min(count, len(self.pending)))]

    def _reason(self, row: _Row) -> StopReason | None:
        if row.made[-1] in self.stop_ids:
            return "stop"
        if len(row.made) >= self.settings.max_new_tokens:
            return "max_tokens"
        return "model_length" if len(row.prompt) + len(row.made) >= self.window else None

    def _finish(self, row: _Row, reason: StopReason) -> None:
        self.done[row.index] = generation = Generation(row.made, reason, len(row.prompt))
        if self.on_done is not None:
            self.on_done(row.index, generation)

    def _halve(self, err: BaseException) -> None:
        left = len(self.rows) + len(self.pending)
        if self.limit == 1 or left == 1:
            raise UserError(
                "generate: out of memory with a single prompt; use a smaller model, fewer new tokens or a "
                f"machine with more memory ({type(err).__name__})."
            ) from err
        self.limit = max(1, min(self.limit, left) // 2)
        log.warning("out of memory: going on with %d sequences at once", self.limit)
        self.pending.extendleft(reversed(self.rows))
        self.rows = []
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()


def cache_bytes() -> int:
    """What own decoding may use for keys and values."""
    import psutil

    return int(min(4 << 30, psutil.virtual_memory().total // 3))


class _Own(_Library):
    """Own decoding: one step at a time, rows leave as they end and others join."""

    batch = BATCH

    def _start(self) -> None:
        self.decoder: decode.Decoder | None = None

    def _advance(self) -> None:
        if self.decoder is None:
            prefix = common_prefix([row.prompt for row in self.pending])
            rows = min(self.limit, len(self.pending))
            self.decoder = decode.Decoder(self.model, prefix, rows, self.settings.max_new_tokens, cache_bytes())
        free = self.limit - len(self.rows)
        # New rows join some at a time: one by one, their prefill would be slow.
        if self.pending and (not self.rows or free >= min(max(1, self.limit // 16), len(self.pending))):
            first = len(self.rows)
            logits = self.decoder.join([row.prompt + row.made for row in islice(self.pending, free)])
            self._admit(free)
        else:
            logits, first = self.decoder.step(torch.tensor([row.made[-1] for row in self.rows])), 0
        self._choose(self.decoder, logits, first)

    def _penalised(self, logits: Tensor, first: int) -> Tensor:
        """Logits with the penalty of Keskar et al. (2019): seen tokens are divided, or multiplied if negative."""
        penalty = self.settings.repetition_penalty
        if penalty == 1.0:
            return logits
        seen = [row.prompt + row.made for row in self.rows[first:]]
        width = max(map(len, seen))
        ids = torch.tensor([tokens + tokens[:1] * (width - len(tokens)) for tokens in seen])
        scores = logits.gather(1, ids)
        return logits.scatter_(1, ids, torch.where(scores < 0, scores * penalty, scores / penalty))

    def _choose(self, decoder: decode.Decoder, logits: Tensor, first: int) -> None:
        """Take the best token for rows from `first` on, and let finished rows leave."""
        chosen = decode.best(self._penalised(logits.float(), first))
        stay = list(range(first))
        for place, token in enumerate(chosen.tolist(), first):
            row = self.rows[place]
            row.made.append(token)
            if reason := self._reason(row):
                self._finish(row, reason)
            else:
                stay.append(place)
        if len(stay) < len(self.rows):
            order = _fill_gaps(stay)
            self.rows = [self.rows[place] for place in order]
            decoder.keep(order)


def _fill_gaps(stay: list[int]) -> list[int]:
    """New order of rows in which those that leave are replaced by the last ones: few rows have to move."""
    kept = set(stay)
    size = len(stay)
    movers = [place for place in reversed(stay) if place >= size]
    return [place if place in kept else movers.pop() for place in range(size)]


def _out_of_memory(err: BaseException) -> bool:
    if isinstance(err, decode.OutOfCacheError | MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(err) or "out of memory" in str(err)
