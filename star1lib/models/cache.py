"""transformers' cache of keys and values, with room ahead: its own layers copy all they hold for every new token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 16  # tokens that fit before everything is copied again


class _Layer(DynamicLayer):  # type: ignore[misc]
    """`keys` and `values` are the filled parts of two larger tensors."""

    larger: list[Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the new states; returns all of them."""
        start, new = self.get_seq_length(), (key_states, value_states)
        end = start + key_states.shape[-2]
        if not start or self.larger is None or self.larger[0].shape[-2] < end:
            start, new = 0, super().update(key_states, value_states)  # the library's, which copies all it holds
            self.larger = [one.new_empty((*one.shape[:-2], end + ROOM, one.shape[-1])) for one in new]
        for larger, states in zip(self.larger, new, strict=True):
            larger[..., start:end, :] = states
        self.keys, self.values = (larger[..., :end, :] for larger in self.larger)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences."""
        super().batch_select_indices(indices)
        self.larger = None


def empty_cache(config: Any) -> Any:
    """An empty cache for a model of this configuration; layers that keep a window or a state stay transformers'."""
    made = DynamicCache(config=config)
    made.layers = [_Layer() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made
