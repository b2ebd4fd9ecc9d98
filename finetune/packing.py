"""Several examples in one row, so that a step on a graphics card is one pass without padding.

A card waits for the next kernel unless a pass is large; a large pass of examples of many lengths would be half padding;
and a step of examples of one length teaches to copy (`trainer.mixed_order`). An example sees itself alone, at the
positions that it would have alone, so that loss and gradients are those of separate rows.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from finetune.shared_prompt import IGNORED, which_see_which

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 1024
"""Tokens of a row, or more where an example is longer."""


def packed(rows: Sequence[dict[str, Any]], padding: int, room: int = ROOM) -> dict[str, Tensor]:
    """A batch of as few rows as first fit finds, longest first: what `shared_prompt.collate` gives, `parts` always;
    `documents`, the number of its example at each token (0: padding); and `position_ids`, all (B, T)."""
    import torch

    bins: list[list[dict[str, Any]]] = []
    left: list[int] = []
    rows = sorted(rows, key=lambda row: -len(row["input_ids"]))
    room = max(room, len(rows[0]["input_ids"]))
    for row in rows:
        size = len(row["input_ids"])
        at = next((i for i, free in enumerate(left) if free >= size), len(bins))
        if at == len(bins):
            bins.append([])
            left.append(room)
        bins[at].append(row)
        left[at] -= size
    longest = max(sum(len(row["input_ids"]) for row in group) for group in bins)
    fill = {"input_ids": padding, "labels": IGNORED, "attention_mask": 0, "parts": 0, "documents": 0, "position_ids": 0}
    batch = {name: torch.full((len(bins), longest), empty) for name, empty in fill.items()}
    for b, group in enumerate(bins):
        start = 0
        for number, row in enumerate(group, 1):
            here = slice(start, start + len(row["input_ids"]))
            parts, positions = _places(len(row["input_ids"]), row.get("starts") or [])
            told = (row["input_ids"], row["labels"], 1, parts, number, positions)
            for name, values in zip(fill, told, strict=True):
                batch[name][b, here] = torch.as_tensor(values)
            start = here.stop
    return batch


def _places(length: int, starts: Sequence[int]) -> tuple[list[int], list[int]]:
    """For each token of an example: 0 in the prompt, in answers their number; and its position."""
    prompt = starts[0] if starts else length
    parts, positions = [0] * prompt, list(range(prompt))
    for number, (begin, end) in enumerate(pairwise([*starts, length]), 1):
        parts += [number] * (end - begin)
        positions += range(prompt, prompt + end - begin)
    return parts, positions


def seen(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model is told of a packed batch, as `shared_prompt.seen` says it of another."""
    documents_BT = batch["documents"]
    mask_BTT = which_see_which(batch["parts"]) & (documents_BT[:, :, None] == documents_BT[:, None, :])
    return {"attention_mask": mask_BTT[:, None], "position_ids": batch["position_ids"]}
