"""Several examples in a row are learned from as if each had a row of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from finetune import loss, packing, shared_prompt, tokenizer, trainer
from finetune.pretrain import new_model
from finetune.recipes import Shape, Training

EXAMPLES = [
    ([5, 6, 7, 8, 9], [[20, 21], [22, 23, 24], [20, 25]]),
    ([11, 12, 13], [[30, 31, 32, 33]]),
    ([14, 15], [[34], [35, 36]]),
]
ROWS = [shared_prompt.joined(*one) for one in EXAMPLES]


@pytest.fixture(scope="module")
def model() -> Any:
    return new_model(Shape(width=64, layers=2, heads=2, feed_forward=128), tokenizer.build(), 0)


def _learned(model: Any, batch: dict[str, torch.Tensor]) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """The logits of each target (all targets here differ, but 20), and the gradient."""
    model.zero_grad()
    logits_NV, targets_N = loss.target_logits(model, batch)
    cross_entropy(logits_NV, targets_N, reduction="sum").backward()
    named = dict(zip(targets_N.tolist(), logits_NV.detach(), strict=True))
    return named, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("room", [1, 20, 64])
def test_logits_and_gradients_are_those_of_separate_rows(model: Any, room: int) -> None:
    packed = packing.packed(ROWS, 0, room)
    assert len(packed["input_ids"]) == {1: 2, 20: 2, 64: 1}[room]
    found, gradient = _learned(model, packed)
    wanted, asked = _learned(model, shared_prompt.collate(ROWS, 0))
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[token], wanted[token], atol=1e-5) for token in wanted)
    assert torch.allclose(gradient, asked, atol=1e-4)


def test_an_example_sees_itself_alone_at_the_positions_it_would_have() -> None:
    batch = packing.packed(ROWS[1:], 0, 64)
    assert batch["input_ids"].tolist() == [[11, 12, 13, 30, 31, 32, 33, 14, 15, 34, 15, 35, 36]]
    assert batch["documents"].tolist() == [[1] * 7 + [2] * 6]
    assert batch["position_ids"].tolist() == [[*range(7), 0, 1, 2, 1, 2, 3]]
    assert packing.seen(batch)["attention_mask"][0, 0, -1].tolist() == [False] * 7 + [True] + [False] * 2 + [True] * 3


def test_a_card_takes_larger_passes_of_examples_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not trainer.packs()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert trainer.packs()
    assert trainer._micro_batches(Training(steps=1, batch=64, micro_batch=16)) == (64, 1)
    assert trainer._micro_batches(Training(steps=1, batch=256, micro_batch=16)) == (128, 2)
    assert sorted(trainer.any_order(50, 3)) == list(range(50)) != trainer.any_order(50, 3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not trainer.packs()
    unpacked = trainer._micro_batches(Training(steps=1, batch=64, micro_batch=16))
    assert unpacked == (16, 2), "large passes would be steps of one length"
