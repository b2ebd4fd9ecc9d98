from __future__ import annotations

import torch
from transformers import DynamicCache, Qwen3Config

from inference.roomy_cache import ROOM, roomy_cache


def test_it_holds_what_transformers_own_cache_holds() -> None:
    config = Qwen3Config(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, head_dim=4)
    ours, theirs = roomy_cache(config), DynamicCache(config=config)

    def both(tokens: int, rows: int) -> None:
        for layer in range(2):
            keys, values = torch.randn(2, rows, 2, tokens, 4).unbind()
            for one, other in zip(ours.update(keys, values, layer), theirs.update(keys, values, layer), strict=True):
                assert torch.equal(one, other)

    torch.manual_seed(0)
    both(5, 1)
    for cache in (ours, theirs):
        cache.batch_repeat_interleave(3)
    for _ in range(ROOM + 3):  # beyond what there is room for at first
        both(1, 3)
    for cache in (ours, theirs):
        cache.batch_select_indices(torch.tensor([2, 0]))
    both(2, 2)
    for cache in (ours, theirs):
        cache.crop(-4)
    both(1, 2)
    assert ours.get_seq_length() == theirs.get_seq_length() == 5 + ROOM + 3 + 2 - 4 + 1
    held = ours.layers[0].keys
    both(1, 2)
    assert ours.layers[0].keys.data_ptr() == held.data_ptr(), "nothing was copied"
