"""The forward pass of greedy decoding on a CPU, for models of the Llama shape: rows join and leave between steps.

Weights are fused and laid out as a CPU multiplies them fastest (measured on one AVX-512 core with 128 rows: kept
transposed 1.1 to 1.6 times faster than in the library's layout, the output layer 1.5 times faster in blocks that stay
in the cache). That copies them, so it is for small models; :mod:`star1lib.models.generate` asks the library for the
others. benchmarks/decoding.py measures what this is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_BYTES = 4 << 30
HEAD_BLOCK = 768
# Prefill in pieces that stay in a CPU's caches, their rows nearly equally long.
PREFILL_TOKENS = 1024
_SHAPES = ("llama", "qwen2", "mistral")


class OutOfCacheError(RuntimeError):
    """The keys and values of the batch would exceed the memory set aside for them."""


def supports(model: Any) -> bool:
    """True for a small model on a CPU for which :class:`Decoder` computes what the model computes."""
    config = model.config
    if model.device.type != "cpu" or config.model_type not in _SHAPES:
        return False
    windowed = config.model_type == "mistral" and getattr(config, "sliding_window", None) is not None
    windowed = windowed or bool(getattr(config, "use_sliding_window", False))
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return (
        not windowed
        and rope in ("default", "llama3", "linear")
        and getattr(config, "hidden_act", "silu") == "silu"
        and size <= MOST_BYTES
    )


def best(logits: Tensor) -> Tensor:
    """Index of the largest logit per row: in two rounds, which a CPU does five times faster than one argmax."""
    rows, size = logits.shape
    width = 256
    if size % width or not logits.is_contiguous():
        return logits.argmax(-1)
    groups = logits.view(rows, -1, width)
    chosen = groups.amax(-1).argmax(-1)
    return chosen * width + groups[torch.arange(rows), chosen].argmax(-1)


class _Linear:
    """One or several linear layers on one input, shape (tokens, in), their outputs side by side."""

    def __init__(self, *layers: Any) -> None:
        self.weight = torch.cat([layer.weight.detach() for layer in layers]).t().contiguous()
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def add_to(self, x: Tensor, y: Tensor) -> Tensor:
        """`x` plus the layers' outputs on `y`; overwrites `x`."""
        return x.addmm_(y, self.weight) if self.bias is None else x.add_(self(y))


class _Head:
    """The output layer; its logits live in one buffer that the next call overwrites."""

    def __init__(self, layer: Any) -> None:
        self.blocks = [block.t().contiguous() for block in layer.weight.detach().split(HEAD_BLOCK)]
        self.bias, self.out = layer.bias, torch.empty(0, len(layer.weight), dtype=layer.weight.dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits, shape (rows, vocabulary)."""
        if len(self.out) < len(hidden):
            self.out = self.out.new_empty(len(hidden), self.out.shape[1])
        out, begin = self.out[: len(hidden)], 0
        for block in self.blocks:
            torch.mm(hidden, block, out=out[:, begin : begin + block.shape[1]])
            begin += block.shape[1]
        return out if self.bias is None else out.add_(self.bias)


class _Layer:
    def __init__(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.norm1, self.norm2 = block.input_layernorm.weight, block.post_attention_layernorm.weight
        self.qkv, self.out = _Linear(attention.q_proj, attention.k_proj, attention.v_proj), _Linear(attention.o_proj)
        self.gate_up, self.down = _Linear(mlp.gate_proj, mlp.up_proj), _Linear(mlp.down_proj)


class Decoder:
    """A batch of sequences, rows 0..n-1 in the order in which they joined, and the model's step over them.

    `prefix` are tokens that every sequence starts with (computed once), `rows` and `new_tokens` what to expect, and
    `cache_bytes` the most that keys and values may take: beyond it every method raises :class:`OutOfCacheError`.
    """

    # The cache has shape (layers, rows, 2 x key heads, positions, head size). A row always starts at position 0, so
    # nothing is padded on the left, and rows of any length stand side by side.

    def __init__(self, model: Any, prefix: Sequence[int], rows: int, new_tokens: int, cache_bytes: int) -> None:
        config, self.body, self.dtype = model.config, model.model, model.dtype
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.groups, self.eps = self.heads // self.kv_heads, config.rms_norm_eps
        self.layers = [_Layer(block) for block in self.body.layers]
        self.embedding, self.last_norm = self.body.embed_tokens.weight, self.body.norm.weight
        self.head = _Head(model.lm_head)
        self.expected, self.headroom, self.cache_bytes = rows, min(new_tokens, 256), cache_bytes
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.cos = self.sin = self.cache = torch.zeros(0)
        self.prefix: Tensor | None = None
        self.start = 0
        if prefix:
            self.cache = self._allocate(1, len(prefix))
            self._prefill([list(prefix)])
            self.prefix, self.start, self.cache = self.cache, len(prefix), torch.zeros(0)

    @property
    def rows(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    def join(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Append rows; logits of their last positions, shape (rows joined, vocabulary), valid until the next call."""
        longest = max(len(sequence) for sequence in sequences)
        self._reserve(self.rows + len(sequences), longest + 1)
        group = max(1, PREFILL_TOKENS // (longest - self.start))
        hidden: list[Tensor] = []
        for begin in range(0, len(sequences), group):
            part = sequences[begin : begin + group]
            if self.prefix is not None:
                self.cache[:, self.rows : self.rows + len(part), :, : self.start] = self.prefix
            hidden.append(self._prefill(part))
            self.lengths = torch.cat((self.lengths, torch.tensor([len(sequence) for sequence in part])))
        return self.head(torch.cat(hidden))

    def step(self, tokens: Tensor) -> Tensor:
        """Extend every row by one token, shape (rows,); next logits, shape (rows, vocabulary)."""
        n, longest = self.rows, int(self.lengths.max()) + 1
        self._reserve(n, longest)
        spots = torch.arange(n * 2 * self.kv_heads).view(n, -1) * self.cache.shape[3]
        spots = (spots + self.lengths[:, None]).flatten()
        mask = (torch.arange(longest)[None] <= self.lengths[:, None])[:, None, None]

        def attend(index: int, q: Tensor, kv: Tensor) -> Tensor:
            cache = self.cache[index, :n]
            cache.view(-1, self.head_dim).index_copy_(0, spots, kv.view(-1, self.head_dim))
            keys, values = cache[:, :, :longest].chunk(2, dim=1)
            query = q.reshape(n, self.kv_heads, self.groups, self.head_dim)
            return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).reshape(n, -1)

        hidden = self._blocks(tokens, self.cos[self.lengths], self.sin[self.lengths], attend)
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

    def _allocate(self, rows: int, positions: int) -> Tensor:
        shape = (len(self.layers), rows, 2 * self.kv_heads, positions, self.head_dim)
        size = torch.Size(shape).numel() * self.embedding.element_size()
        if size > self.cache_bytes:
            raise OutOfCacheError(f"{size} bytes of keys and values, {self.cache_bytes} are set aside")
        cos, sin = self.body.rotary_emb(self.embedding[:1, None], torch.arange(positions)[None])
        self.cos, self.sin = cos[0, :, None], sin[0, :, None].clone()
        self.sin[..., : self.head_dim // 2].neg_()
        # The kernel multiplies masked values by zero: they must be finite, so not `empty`.
        return torch.zeros(shape, dtype=self.dtype)

    def _reserve(self, rows: int, positions: int) -> None:
        """Make room; grows by half again so that long generations copy the cache only a few times."""
        have_rows, have = (self.cache.shape[1], self.cache.shape[3]) if self.cache.dim() == 5 else (0, 0)
        if rows <= have_rows and positions <= have:
            return
        wanted = have if positions <= have else max(positions + self.headroom, have * 3 // 2)
        try:
            grown = self._allocate(max(rows, self.expected), wanted)
        except OutOfCacheError:
            grown = self._allocate(rows, positions)
        if self.rows:
            grown[:, : self.rows, :, :have] = self.cache[:, : self.rows]
        self.cache = grown

    def _rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.head_dim // 2
        turned = torch.cat((heads[..., half:], heads[..., :half]), dim=-1)
        return torch.addcmul(heads * cos, turned, sin)

    def _blocks(
        self, tokens: Tensor, cos: Tensor, sin: Tensor, attend: Callable[[int, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Last hidden states of `tokens`, shape (tokens, hidden); `attend(layer, q, kv)` stores and attends."""
        x, rotated = F.embedding(tokens, self.embedding), self.heads + self.kv_heads
        for index, layer in enumerate(self.layers):
            mixed = layer.qkv(F.rms_norm(x, x.shape[-1:], layer.norm1, self.eps)).view(len(x), -1, self.head_dim)
            turned = self._rotate(mixed[:, :rotated], cos, sin)
            kv = torch.cat((turned[:, self.heads :], mixed[:, rotated:]), dim=1)
            x = layer.out.add_to(x, attend(index, turned[:, : self.heads], kv))
            gate, up = layer.gate_up(F.rms_norm(x, x.shape[-1:], layer.norm2, self.eps)).chunk(2, dim=-1)
            x = layer.down.add_to(x, F.silu(gate).mul_(up))
        return F.rms_norm(x, x.shape[-1:], self.last_norm, self.eps)

    def _prefill(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Last hidden states of rows after the present ones, padded on the right, where a causal mask never looks."""
        first, count, start = self.rows, len(sequences), self.start
        sizes = [len(sequence) - start for sequence in sequences]
        width = max(sizes)
        padded = [list(s[start:]) + [0] * (width - size) for s, size in zip(sequences, sizes, strict=True)]
        cos, sin = (table[start : start + width].repeat(count, 1, 1) for table in (self.cos, self.sin))
        mask = torch.ones(width, start + width, dtype=torch.bool).tril(start).repeat(self.groups, 1)
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

        hidden = self._blocks(torch.tensor(padded).flatten(), cos, sin, attend)
        return hidden.view(count, width, -1)[torch.arange(count), torch.tensor(sizes) - 1]
