"""Several answers to one prompt are learned from as if each were an example of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from finetune import loss, shared_prompt, tokenizer
from finetune.pretrain import new_model
from finetune.recipes import Shape

PROMPTS = [[5, 6, 7, 8, 9], [11, 12, 13]]
ANSWERS = [[[20, 21], [22, 23, 24], [20, 25]], [[30, 31, 32, 33]]]


@pytest.fixture(scope="module")
def model() -> Any:
    return new_model(Shape(width=64, layers=2, heads=2, feed_forward=128), tokenizer.build(), 0)


def _logits(model: Any, rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return loss.target_logits(model, shared_prompt.collate(rows, 0))


def _gradient(model: Any, rows: list[dict[str, Any]]) -> torch.Tensor:
    model.zero_grad()
    logits_NV, targets_N = _logits(model, rows)
    cross_entropy(logits_NV, targets_N, reduction="sum").backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_logits_and_gradients_are_those_of_separate_examples(model: Any) -> None:
    together = [shared_prompt.joined(p, group) for p, group in zip(PROMPTS, ANSWERS, strict=True)]
    apart = [shared_prompt.joined(p, [a]) for p, group in zip(PROMPTS, ANSWERS, strict=True) for a in group]
    assert sum(row["length"] for row in together) < sum(row["length"] for row in apart)
    (found_NV, told_N), (wanted_NV, asked_N) = _logits(model, together), _logits(model, apart)
    assert told_N.tolist() == asked_N.tolist() == [i for group in ANSWERS for a in group for i in a]
    assert torch.allclose(found_NV, wanted_NV, atol=1e-5)
    assert torch.allclose(_gradient(model, together), _gradient(model, apart), atol=1e-4)


def test_one_answer_is_the_plain_sequence_and_needs_no_mask() -> None:
    row = shared_prompt.joined([5, 6], [[7, 8]])
    assert row["input_ids"] == [5, 6, 7, 8]
    assert row["starts"] == []
    assert row["labels"] == [shared_prompt.IGNORED] * 2 + [7, 8]
    batch = shared_prompt.collate([row, shared_prompt.joined([5], [[7]])], 0)
    assert "parts" not in batch
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["input_ids"][1].tolist() == [5, 7, 0, 0]


def test_each_answer_stands_where_it_would_alone_and_sees_the_prompt_and_itself() -> None:
    batch = shared_prompt.collate([shared_prompt.joined([5, 6, 7], [[8, 9], [10]])], 0)
    assert batch["input_ids"][0].tolist() == [5, 6, 7, 8, 9, 7, 10]
    assert batch["parts"][0].tolist() == [0, 0, 1, 1, 1, 2, 2]
    told = shared_prompt.seen(batch["parts"])
    assert told["position_ids"][0].tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert told["attention_mask"][0, 0, -1].tolist() == [True, True, False, False, False, True, True]


def test_the_first_anchor_of_every_answer_counts_more() -> None:
    one, other = [1, 20, 21, 1, 22, 2, 23], [1, 24, 1, 25]
    batch = shared_prompt.collate([shared_prompt.joined([5, 6], [one, other])], 0)
    found = loss.weights(batch["labels"], [1, 2], 3.0, batch["parts"])
    heavy = [3, 3, 3, 1, 1, 1, 1, 3, 3, 1, 1]
    assert (found * sum(heavy) / len(heavy)).tolist() == pytest.approx(heavy)
