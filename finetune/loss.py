"""The loss, in nats a target token: cross entropy of the completion alone. The head is applied at its positions only.

trl 1.16 does so on a GPU; on a CPU its fused head scores every position, which takes twice the time here.

Shapes: B examples, T tokens, D width, N target positions, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune import packing, shared_prompt
from finetune.shared_prompt import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def causal(model: Any) -> Any:
    """The language model itself, under adapters or not."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def target_logits(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the model says where there is a target, and the targets, of a batch of `shared_prompt` or `packing`.

    No padding mask: batches are padded on the right, where causal attention never looks.
    """
    inner, ids_BT, labels_BT = causal(model), batch["input_ids"], batch["labels"]
    kept_BT = labels_BT[:, 1:] != IGNORED
    if "documents" in batch:
        told = packing.seen(batch)
    else:
        told = shared_prompt.seen(batch["parts"]) if "parts" in batch else {}
    hidden_BTD = inner.model(input_ids=ids_BT, use_cache=False, **told).last_hidden_state
    logits_NV = inner.lm_head(hidden_BTD[:, :-1][kept_BT])
    return logits_NV, labels_BT[:, 1:][kept_BT]


def weights(labels_BT: Tensor, marks: Sequence[int], first: float, parts_BT: Tensor | None = None) -> Tensor:
    """What each target counts, shape (N,), 1 on average: `first` times as much as others where a strategy's first
    anchor stands, between the first and the second of the tokens `marks` (an anchor's, and what follows anchors) of
    each answer."""
    import torch

    kept_BT = labels_BT[:, 1:] != IGNORED
    marked_BT = torch.isin(labels_BT[:, 1:], torch.tensor(marks, device=labels_BT.device)).cumsum(1)
    if parts_BT is not None:  # counted anew in each answer
        begins_BT = parts_BT[:, 1:] != parts_BT[:, :-1]
        marked_BT = marked_BT - torch.where(begins_BT, marked_BT, 0).cummax(1).values
    weight_N = torch.where(marked_BT == 1, first, 1.0)[kept_BT]
    return weight_N / weight_N.mean()


def mean_loss(model: Any, examples: Sequence[dict[str, list[int]]], batch: int) -> float:
    """Over all target tokens of the examples."""
    import torch
    from torch.nn.functional import cross_entropy

    total, count = 0.0, 0
    rows = sorted(examples, key=lambda row: len(row["input_ids"]))
    device = causal(model).get_input_embeddings().weight.device
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            told = shared_prompt.collate(rows[start : start + batch], 0)
            logits_NV, targets_N = target_logits(model, {name: part.to(device) for name, part in told.items()})
            total += float(cross_entropy(logits_NV.float(), targets_N, reduction="sum"))
            count += len(targets_N)
    return total / count
