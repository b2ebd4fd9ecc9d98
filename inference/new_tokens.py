"""Embeddings of tokens that an adapter brings along, put in their places once and not at every step.

peft 0.21 copies the whole table of embeddings for each forward pass, and once more for the head that shares it: more
than half of a step of SmolLM2 on a CPU, whose table has 51,000 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Tables = dict[tuple[int, tuple[str, ...]], tuple[tuple[int, ...], "Tensor"]]
"""By the address of the base's table and the adapters in use: at which of their versions it was made, and the table."""


def keep(model: Any) -> None:
    """Let the layers of a PeftModel make each adapter's table anew only when the adapter has changed, or learns."""
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    tables: Tables = {}
    for layer in model.modules():
        if isinstance(layer, TrainableTokensLayer):
            layer.get_merged_weights = partial(_table, layer, layer.get_merged_weights, tables)


def _table(
    layer: Any, make: Callable[[Sequence[str]], Tensor], tables: Tables, active_adapters: Sequence[str]
) -> Tensor:
    import torch

    if torch.is_grad_enabled():
        return make(active_adapters)
    # A head that shares the embeddings shares their table.
    key = (layer.base_layer.weight.data_ptr(), tuple(active_adapters))
    versions = tuple(layer.trainable_tokens_delta[name]._version for name in active_adapters)
    if key not in tables or tables[key][0] != versions:
        tables[key] = versions, make(active_adapters)
    return tables[key][1]
