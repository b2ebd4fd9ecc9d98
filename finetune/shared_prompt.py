"""Several answers to one prompt, of which the prompt is read once.

An example is *prompt without its last token*, then for each answer *that token, the answer*. An answer sees the prompt
and itself, at the positions that it would have alone, so that loss and gradients are those of separate examples. Where
a prompt takes ten times an answer's room, eight answers cost half as much again as one; and several draws from the law
that is to be learned say more of it than one.

Shapes: B examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of what is no target."""


def joined(prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> dict[str, Any]:
    """One example: `input_ids`, `labels`, `length`, and `starts`, where each answer's part begins; no starts where
    there is only one answer."""
    ids, labels = [*prompt], [IGNORED] * len(prompt)
    starts: list[int] = []
    for answer in answers:
        if len(answers) > 1:
            starts.append(len(prompt) - 1 if not starts else len(ids))
        if len(starts) > 1:
            ids.append(prompt[-1])
            labels.append(IGNORED)
        ids += answer
        labels += answer
    return {"input_ids": ids, "labels": labels, "length": len(ids), "starts": starts}


def collate(rows: Sequence[dict[str, Any]], padding: int) -> dict[str, Tensor]:
    """A batch, padded on the right: `input_ids`, `labels`, `attention_mask` (what is no padding), all (B, T); and where
    an example has several answers `parts`: 0 in prompts, in answers their number."""
    import torch

    longest = max(len(row["input_ids"]) for row in rows)
    fill = (("input_ids", padding), ("labels", IGNORED))
    batch = {n: torch.tensor([[*r[n], *[empty] * (longest - len(r[n]))] for r in rows]) for n, empty in fill}
    lengths_B1 = torch.tensor([[len(row["input_ids"])] for row in rows])
    batch["attention_mask"] = (torch.arange(longest) < lengths_B1).long()
    if any(row.get("starts") for row in rows):
        begins_BT = torch.zeros(len(rows), longest, dtype=torch.long)
        for begins_T, row in zip(begins_BT, rows, strict=True):
            begins_T[row["starts"]] = 1
        batch["parts"] = begins_BT.cumsum(1)
    return batch


def which_see_which(parts_BT: Tensor) -> Tensor:
    """Whether a token, the second index, may look at another, the third; shape (B, T, T)."""
    own_BTT = parts_BT[:, :, None] == parts_BT[:, None, :]
    return (own_BTT | (parts_BT == 0)[:, None, :]).tril()


def seen(parts_BT: Tensor) -> dict[str, Tensor]:
    """What the model is told of such a batch: `attention_mask`, shape (B, 1, T, T), which token sees which, and
    `position_ids`, (B, T)."""
    import torch

    length = parts_BT.shape[1]
    at_T = torch.arange(length, device=parts_BT.device)
    prompt_B1 = (parts_BT == 0).sum(1, keepdim=True)
    begins_BT = torch.zeros_like(parts_BT)
    begins_BT[:, 1:] = torch.where(parts_BT[:, 1:] != parts_BT[:, :-1], at_T[1:], 0)
    since_BT = at_T - begins_BT.cummax(1).values
    return {
        "attention_mask": which_see_which(parts_BT)[:, None],
        "position_ids": torch.where(parts_BT == 0, at_T, prompt_B1 + since_BT),
    }
