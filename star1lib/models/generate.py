"""Batched greedy generation with a local model: many prompts in, texts with real token counts out.

Prompts are sorted by length; a finished sequence leaves the batch at once and the next prompt takes its
place, so no step is spent on padding or on sequences that are done (benchmarks/generation.py measures it).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from star1lib.errors import UserError
from star1lib.models.packed import best
from star1lib.models.steppers import OutOfCacheError, Stepper, make_stepper

log = logging.getLogger(__name__)

VERSION = 1
BATCH = 256
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


@dataclass
class _Row:
    index: int
    prompt: list[int]
    made: list[int] = field(default_factory=list)


class _History:
    """Token ids of each row, for the repetition penalty over prompt and response.

    Unused places repeat the row's first token, which changes nothing.
    """

    def __init__(self, penalty: float, device: Any) -> None:
        self.penalty, self.device = penalty, device
        self.ids = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.sizes: list[int] = []

    def _widen(self, width: int) -> None:
        missing = width - self.ids.shape[1]
        if missing > 0:
            filler = self.ids[:, :1] if self.sizes else self.ids.new_zeros(0, 1)
            self.ids = torch.cat((self.ids, filler.expand(-1, missing)), dim=1)

    def join(self, sequences: Sequence[Sequence[int]]) -> None:
        """Append rows."""
        if self.penalty == 1.0:
            return
        self._widen(max(len(sequence) for sequence in sequences) + 64)
        width = self.ids.shape[1]
        padded = [[*sequence, *[sequence[0]] * (width - len(sequence))] for sequence in sequences]
        self.ids = torch.cat((self.ids, torch.tensor(padded, device=self.device)))
        self.sizes += [len(sequence) for sequence in sequences]

    def add(self, tokens: Tensor, first: int) -> None:
        """Append one token to each row from `first` on."""
        if self.penalty == 1.0:
            return
        self._widen(max(self.sizes) + 1)
        rows = torch.arange(first, len(self.sizes), device=self.device)
        self.ids[rows, torch.tensor(self.sizes[first:], device=self.device)] = tokens
        self.sizes[first:] = [size + 1 for size in self.sizes[first:]]

    def keep(self, order: Sequence[int]) -> None:
        """Reorder as :meth:`Stepper.keep` does."""
        if self.penalty != 1.0:
            self.sizes = [self.sizes[old] for old in order]
            self.ids = self.ids[list(order), : max(self.sizes, default=0) + 64]

    def apply(self, logits: Tensor, first: int) -> Tensor:
        """Logits with the penalty of Keskar et al. (2019): seen tokens are divided, or multiplied if negative."""
        if self.penalty == 1.0:
            return logits
        ids = self.ids[first:]
        scores = logits.gather(1, ids)
        return logits.scatter(1, ids, torch.where(scores < 0, scores * self.penalty, scores / self.penalty))


def default_cache_bytes(model: Any) -> int:
    """Memory for keys and values: most of a free accelerator, at most 4 GiB or a third of a CPU machine."""
    if model.device.type == "cuda":
        return int(torch.cuda.mem_get_info(model.device)[0] * 0.8)
    import psutil

    return min(4 << 30, psutil.virtual_memory().total // 3)


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that every prompt starts with, one token short of the shortest prompt."""
    low, high = min(map(list, prompts)), max(map(list, prompts))
    limit = min(len(prompt) for prompt in prompts) - 1
    size = 0
    while size < limit and low[size] == high[size]:
        size += 1
    return low[:size]


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
    batch_size: int = BATCH,
    cache_bytes: int | None = None,
    fast: bool = True,
    on_done: Callable[[int, Generation], None] | None = None,
) -> list[Generation]:
    """Greedy responses to tokenised `prompts`, in their order.

    `on_done(index, generation)` is called as soon as a response ends. When memory runs out the batch is halved
    and the interrupted sequences go on from where they were; one prompt that does not fit alone is a
    :class:`UserError`.
    """
    if not prompts:
        return []
    if any(len(prompt) == 0 for prompt in prompts):
        raise UserError("generate: a prompt without tokens; give every question some text.")
    loop = _Loop(model, settings, stop_ids, on_done, batch_size)
    budget = default_cache_bytes(model) if cache_bytes is None else cache_bytes
    with torch.inference_mode():
        loop.run([list(prompt) for prompt in prompts], budget, fast)
    return [loop.done[index] for index in range(len(prompts))]


class _Loop:
    def __init__(
        self,
        model: Any,
        settings: Settings,
        stop_ids: set[int],
        on_done: Callable[[int, Generation], None] | None,
        limit: int,
    ) -> None:
        self.model, self.settings, self.stop_ids, self.on_done = model, settings, stop_ids, on_done
        self.limit = limit
        self.window = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        self.done: dict[int, Generation] = {}
        self.rows: list[_Row] = []

    def run(self, prompts: list[list[int]], budget: int, fast: bool) -> None:
        """Generate for all prompts, the longest first: too large a batch shows at the start, not at the end."""
        self.pending = deque(sorted((_Row(i, p) for i, p in enumerate(prompts)), key=lambda row: -len(row.prompt)))
        self._refuse_full_window()
        if not self.pending:
            return
        prefix = common_prefix([row.prompt for row in self.pending]) if len(self.pending) > 1 else []
        stepper: Stepper | None = None
        history = _History(self.settings.repetition_penalty, self.model.device)
        while self.pending or self.rows:
            try:
                if stepper is None:
                    stepper = make_stepper(
                        self.model,
                        prefix,
                        min(self.limit, len(self.pending)),
                        self.settings.max_new_tokens,
                        budget,
                        fast,
                    )
                self._advance(stepper, history)
            except (OutOfCacheError, MemoryError, RuntimeError) as err:
                if not _out_of_memory(err):
                    raise
                self._halve(err)
                history = _History(self.settings.repetition_penalty, self.model.device)
                stepper = None

    def _refuse_full_window(self) -> None:
        for row in [row for row in self.pending if len(row.prompt) >= self.window]:
            self.pending.remove(row)
            self._finish(row, "model_length")

    def _advance(self, stepper: Stepper, history: _History) -> None:
        free = self.limit - len(self.rows)
        worth = not self.rows or (stepper.joins and free >= min(max(1, self.limit // 16), len(self.pending)))
        if self.pending and free and worth:
            fresh = [self.pending[place] for place in range(min(free, len(self.pending)))]
            sequences = [row.prompt + row.made for row in fresh]
            logits = stepper.join(sequences)
            history.join(sequences)
            first = len(self.rows)
            for row in fresh:
                self.rows.append(row)
                self.pending.popleft()
            self._choose(stepper, history, logits, first)
            return
        tokens = torch.tensor([row.made[-1] for row in self.rows], device=self.model.device)
        self._choose(stepper, history, stepper.step(tokens), 0)

    def _choose(self, stepper: Stepper, history: _History, logits: Tensor, first: int) -> None:
        """Take the best token for rows from `first` on, and let finished rows leave."""
        chosen = best(history.apply(logits.float(), first))
        history.add(chosen, first)
        for row, token in zip(self.rows[first:], chosen.tolist(), strict=True):
            row.made.append(token)
        stay: list[int] = []
        for position, row in enumerate(self.rows):
            reason = self._reason(row) if position >= first else None
            if reason is None:
                stay.append(position)
            else:
                self._finish(row, reason)
        if len(stay) < len(self.rows):
            order = _fill_gaps(stay)
            self.rows = [self.rows[position] for position in order]
            history.keep(order)
            stepper.keep(order)

    def _reason(self, row: _Row) -> StopReason | None:
        if row.made[-1] in self.stop_ids:
            return "stop"
        if len(row.made) >= self.settings.max_new_tokens:
            return "max_tokens"
        return "model_length" if len(row.prompt) + len(row.made) >= self.window else None

    def _finish(self, row: _Row, reason: StopReason) -> None:
        generation = Generation(row.made, reason, len(row.prompt))
        self.done[row.index] = generation
        if self.on_done is not None:
            self.on_done(row.index, generation)

    def _halve(self, err: BaseException) -> None:
        if self.limit == 1 or (len(self.rows) + len(self.pending)) == 1:
            raise UserError(
                "generate: out of memory with a single prompt; use a smaller model, fewer new tokens or a "
                f"machine with more memory ({type(err).__name__})."
            ) from err
        self.limit = max(1, min(self.limit, len(self.rows) + len(self.pending)) // 2)
        log.warning("out of memory: going on with %d sequences at once", self.limit)
        self.pending.extendleft(reversed(self.rows))
        self.rows = []
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()


def _fill_gaps(stay: list[int]) -> list[int]:
    """New order of rows in which those that leave are replaced by the last ones: few rows have to move."""
    kept = set(stay)
    size = len(stay)
    movers = [position for position in reversed(stay) if position >= size]
    return [position if position in kept else movers.pop() for position in range(size)]


def _out_of_memory(err: BaseException) -> bool:
    if isinstance(err, OutOfCacheError | MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(err) or "out of memory" in str(err)
