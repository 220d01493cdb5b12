"""One decoding step over a batch of sequences: an own forward for Llama-shaped models, else the library's.

A stepper holds the sequences it has seen (keys and values only); :mod:`star1lib.models.generate` decides which
tokens come next and which rows leave. Rows are numbered 0..n-1 in the order in which they joined.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from star1lib.models.packed import Head, Projection, worth_packing

# Prefill in pieces: on a CPU they stay in its caches, and rows of one piece are nearly equally long.
CHUNK_TOKENS = {"cpu": 1024}
CHUNK_TOKENS_ELSEWHERE = 8192
_FAST_TYPES = ("llama", "qwen2", "mistral")


class OutOfCacheError(RuntimeError):
    """The keys and values of the batch would exceed the memory set aside for them."""


class Stepper(Protocol):
    """What the decoding loop needs of a model."""

    joins: bool
    rows: int

    def join(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Append rows; logits of their last positions, shape (rows joined, vocabulary), valid until the next call."""

    def step(self, tokens: Tensor) -> Tensor:
        """Extend every row by one token, shape (rows,); next logits, shape (rows, vocabulary)."""

    def keep(self, order: Sequence[int]) -> None:
        """Make old row `order[i]` the new row `i` and forget the others."""

    def clear(self) -> None:
        """Forget all rows and free their memory."""


def supports_fast(config: Any) -> bool:
    """True when :class:`FastLlama` computes what the model computes."""
    if config.model_type not in _FAST_TYPES or getattr(config, "hidden_act", "silu") != "silu":
        return False
    windowed = config.model_type == "mistral" and getattr(config, "sliding_window", None) is not None
    windowed = windowed or bool(getattr(config, "use_sliding_window", False))
    rope = getattr(config, "rope_parameters", None) or {}
    return not windowed and rope.get("rope_type", "default") in ("default", "llama3", "linear")


def make_stepper(
    model: Any, prefix: Sequence[int], batch_size: int, new_tokens: int, cache_bytes: int, fast: bool = True
) -> Stepper:
    """The fastest stepper for `model`; `prefix` are tokens that every sequence starts with (computed once)."""
    if fast and supports_fast(model.config):
        return FastLlama(model, prefix, batch_size, new_tokens, cache_bytes)
    return LibraryStepper(model, cache_bytes)


class _Layer:
    def __init__(self, block: Any, pack: bool) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.norm1, self.norm2 = block.input_layernorm.weight, block.post_attention_layernorm.weight
        self.qkv = Projection(attention.q_proj, attention.k_proj, attention.v_proj, pack=pack)
        self.out = Projection(attention.o_proj, pack=pack)
        self.gate_up = Projection(mlp.gate_proj, mlp.up_proj, pack=pack)
        self.down = Projection(mlp.down_proj, pack=pack)


class FastLlama:
    """Decoding for models of the Llama shape: fused weights, one preallocated cache, rows of any length side by side.

    The cache has shape (layers, rows, 2 x key heads, positions, head size). A row always starts at position 0,
    so nothing is padded on the left, and rows may join and leave between steps.
    """

    joins = True

    def __init__(self, model: Any, prefix: Sequence[int], batch_size: int, new_tokens: int, cache_bytes: int) -> None:
        config, self.body = model.config, model.model
        self.device, self.dtype = model.device, model.dtype
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.groups, self.eps = self.heads // self.kv_heads, config.rms_norm_eps
        pack = worth_packing(model)
        self.layers = [_Layer(block, pack) for block in self.body.layers]
        self.embedding, self.last_norm = self.body.embed_tokens.weight, self.body.norm.weight
        self.head = Head(model.lm_head, pack)
        self.batch_size, self.headroom, self.cache_bytes = batch_size, min(new_tokens, 256), cache_bytes
        self.rows, self.lengths = 0, torch.zeros(0, dtype=torch.long, device=self.device)
        self.cos = self.sin = torch.zeros(0)
        self.cache = torch.zeros(0)
        self.prefix: Tensor | None = None
        self.start = 0
        if prefix:
            self.cache = self._allocate(1, len(prefix))
            self._forward_new([list(prefix)])
            self.prefix, self.start = self.cache[:, :1, :, : len(prefix)].clone(), len(prefix)
        self.clear()

    def _allocate(self, rows: int, positions: int) -> Tensor:
        shape = (len(self.layers), rows, 2 * self.kv_heads, positions, self.head_dim)
        size = torch.empty(0, dtype=self.dtype).element_size()
        for extent in shape:
            size *= extent
        if size > self.cache_bytes:
            raise OutOfCacheError(f"{size} bytes of keys and values, {self.cache_bytes} are set aside")
        places = torch.arange(positions, device=self.device)[None]
        cos, sin = self.body.rotary_emb(self.embedding[:1, None], places)
        self.cos, self.sin = cos[0, :, None], sin[0, :, None].clone()
        self.sin[..., : self.head_dim // 2].neg_()
        # The kernel multiplies masked values by zero: they must be finite, so not `empty`.
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _reserve(self, rows: int, positions: int) -> None:
        """Make room; grows by half again so that long generations copy the cache only a few times."""
        have_rows, have = (self.cache.shape[1], self.cache.shape[3]) if self.cache.dim() == 5 else (0, 0)
        if rows <= have_rows and positions <= have:
            return
        wanted = have if positions <= have else max(positions + self.headroom, have * 3 // 2)
        try:
            grown = self._allocate(max(rows, self.batch_size), wanted)
        except OutOfCacheError:
            grown = self._allocate(rows, positions)
        if self.rows:
            grown[:, : self.rows, :, :have] = self.cache[:, : self.rows]
        self.cache = grown

    def _rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.head_dim // 2
        turned = torch.cat((heads[..., half:], heads[..., :half]), dim=-1)
        return torch.addcmul(heads * cos, turned, sin)

    def _blocks(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Any) -> Tensor:
        """All layers on tokens `x`, shape (tokens, hidden); `attend(layer, q, kv)` stores and attends."""
        rotated = self.heads + self.kv_heads
        for index, layer in enumerate(self.layers):
            mixed = layer.qkv(F.rms_norm(x, x.shape[-1:], layer.norm1, self.eps)).view(len(x), -1, self.head_dim)
            turned = self._rotate(mixed[:, :rotated], cos, sin)
            kv = torch.cat((turned[:, self.heads :], mixed[:, rotated:]), dim=1)
            x = layer.out.add_to(x, attend(index, turned[:, : self.heads], kv))
            gate, up = layer.gate_up(F.rms_norm(x, x.shape[-1:], layer.norm2, self.eps)).chunk(2, dim=-1)
            x = layer.down.add_to(x, F.silu(gate).mul_(up))
        return F.rms_norm(x, x.shape[-1:], self.last_norm, self.eps)

    def _forward_new(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Prefill rows after the present ones, padded on the right, where a causal mask never looks."""
        first, count, start = self.rows, len(sequences), self.start
        sizes = [len(sequence) - start for sequence in sequences]
        width = max(sizes)
        padded = [list(s[start:]) + [0] * (width - size) for s, size in zip(sequences, sizes, strict=True)]
        ids = torch.tensor(padded, device=self.device)
        cos = self.cos[start : start + width].repeat(count, 1, 1)
        sin = self.sin[start : start + width].repeat(count, 1, 1)
        mask = torch.ones(width, start + width, dtype=torch.bool, device=self.device).tril(start)
        mask = mask.repeat(self.groups, 1)
        shape = (count, width, self.kv_heads, self.groups, self.head_dim)

        def attend(index: int, q: Tensor, kv: Tensor) -> Tensor:
            cache = self.cache[index, first : first + count]
            cache[:, :, start : start + width] = kv.view(count, width, -1, self.head_dim).transpose(1, 2)
            keys, values = cache[:, :, : start + width].chunk(2, dim=1)
            # The query heads that share a key head stand side by side as extra queries: nothing is repeated.
            query = q.reshape(shape).permute(0, 2, 3, 1, 4).reshape(count, self.kv_heads, -1, self.head_dim)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            mixed = mixed.view(count, self.kv_heads, self.groups, width, self.head_dim)
            return mixed.permute(0, 3, 1, 2, 4).reshape(count * width, -1)

        hidden = self._blocks(F.embedding(ids.flatten(), self.embedding), cos, sin, attend)
        ends = torch.tensor(sizes, device=self.device) - 1
        return hidden.view(count, width, -1)[torch.arange(count, device=self.device), ends]

    def join(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Append rows; logits of their last positions, shape (rows joined, vocabulary), valid until the next call."""
        longest = max(len(sequence) for sequence in sequences)
        self._reserve(self.rows + len(sequences), longest + 1)
        chunk = CHUNK_TOKENS.get(self.device.type, CHUNK_TOKENS_ELSEWHERE)
        group = max(1, chunk // (longest - self.start))
        hidden: list[Tensor] = []
        for begin in range(0, len(sequences), group):
            part = sequences[begin : begin + group]
            if self.prefix is not None:
                self.cache[:, self.rows : self.rows + len(part), :, : self.start] = self.prefix
            hidden.append(self._forward_new(part))
            sizes = torch.tensor([len(sequence) for sequence in part], device=self.device)
            self.lengths = torch.cat((self.lengths, sizes))
            self.rows += len(part)
        return self.head(torch.cat(hidden))

    def step(self, tokens: Tensor) -> Tensor:
        """Extend every row by one token, shape (rows,); next logits, shape (rows, vocabulary)."""
        n, longest = self.rows, int(self.lengths.max()) + 1
        self._reserve(n, longest)
        spots = torch.arange(n * 2 * self.kv_heads, device=self.device).view(n, -1) * self.cache.shape[3]
        spots = (spots + self.lengths[:, None]).flatten()
        mask = (torch.arange(longest, device=self.device)[None] <= self.lengths[:, None])[:, None, None]
        cos, sin = self.cos[self.lengths], self.sin[self.lengths]

        def attend(index: int, q: Tensor, kv: Tensor) -> Tensor:
            cache = self.cache[index, :n]
            cache.view(-1, self.head_dim).index_copy_(0, spots, kv.view(-1, self.head_dim))
            keys, values = cache[:, :, :longest].chunk(2, dim=1)
            query = q.reshape(n, self.kv_heads, self.groups, self.head_dim)
            return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).reshape(n, -1)

        hidden = self._blocks(F.embedding(tokens, self.embedding), cos, sin, attend)
        self.lengths = self.lengths + 1
        return self.head(hidden)

    def keep(self, order: Sequence[int]) -> None:
        """Make old row `order[i]` the new row `i` and forget the others; few rows move when few leave."""
        moved = [(new, old) for new, old in enumerate(order) if new != old]
        if moved:
            news, olds = ([pair[k] for pair in moved] for k in (0, 1))
            used = int(self.lengths[olds].max())
            self.cache[:, news, :, :used] = self.cache[:, olds, :, :used]
        self.lengths = self.lengths[list(order)]
        self.rows = len(order)

    def clear(self) -> None:
        """Forget all rows and free their memory."""
        self.rows, self.lengths = 0, self.lengths[:0]
        self.cache = torch.zeros(0)


class LibraryStepper:
    """The model's own forward over a left-padded batch: for every architecture without a faster way."""

    joins = False

    def __init__(self, model: Any, cache_bytes: int) -> None:
        from transformers import DynamicCache

        self.model, self.cache_bytes, self.rows = model, cache_bytes, 0
        self._new_cache = DynamicCache
        names = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self.clear()

    def _forward(self, ids: Tensor) -> Tensor:
        places = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(
            input_ids=ids, attention_mask=self.mask, position_ids=places, use_cache=True, logits_to_keep=1,
            **{self._cache_name: self.cache},
        )  # fmt: skip
        return out.logits[:, -1]

    def join(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Start a batch; logits of the last positions, shape (rows, vocabulary)."""
        if self.rows:
            raise RuntimeError("this stepper takes new rows only when it is empty")
        device = self.model.device
        width = max(len(sequence) for sequence in sequences)
        ids = torch.tensor([[0] * (width - len(s)) + list(s) for s in sequences], device=device)
        self.mask = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences], device=device)
        self.rows = len(sequences)
        return self._forward(ids)

    def step(self, tokens: Tensor) -> Tensor:
        """Extend every row by one token, shape (rows,); next logits, shape (rows, vocabulary)."""
        self.mask = torch.cat((self.mask, self.mask.new_ones(self.rows, 1)), dim=1)
        return self._forward(tokens[:, None])

    def keep(self, order: Sequence[int]) -> None:
        """Make old row `order[i]` the new row `i` and forget the others."""
        if not order:
            self.clear()
            return
        chosen = torch.tensor(list(order), dtype=torch.long, device=self.model.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.rows = self.mask[chosen], len(order)

    def clear(self) -> None:
        """Forget all rows and free their memory."""
        self.cache, self.mask, self.rows = self._new_cache(), torch.zeros(0, 0, dtype=torch.long), 0
