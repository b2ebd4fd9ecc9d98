"""A KV cache with room for tokens to come. transformers' own one copies all that it holds for each new token: more than
half the time of a small model that reads a prompt of a thousand tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch

ROOM = 128
"""Tokens for which there is room each time that all is copied."""


def roomy_cache(config: Any) -> DynamicCache:
    """A `DynamicCache` whose ordinary layers (not those of a sliding window) are `RoomyLayer`s."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class RoomyLayer(DynamicLayer):
    """Its keys and values, shape (rows, heads, tokens, head size), are the front parts of larger tensors."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._rooms: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values, these at the end."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys: torch.Tensor = self._with("keys", self.keys, key_states)
        values: torch.Tensor = self._with("values", self.values, value_states)
        self.keys, self.values = keys, values
        return keys, values

    def _with(self, name: str, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        length = held.shape[-2] if held.numel() else 0
        whole = length + new.shape[-2]
        room = self._rooms.get(name)
        # Whoever repeats or selects rows puts another tensor in the place of ours.
        if room is None or room.shape[-2] < whole or (length and room.data_ptr() != held.data_ptr()):
            room = new.new_empty(*new.shape[:-2], whole + ROOM, new.shape[-1])
            if length:
                room[..., :length, :] = held
            self._rooms[name] = room
        room[..., length:whole, :] = new
        return room[..., :whole, :]
