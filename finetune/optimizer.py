"""Muon for the hidden matrices and AdamW for the rest, as one optimiser that the Trainer can schedule, save and resume.

On the embedded model's task Muon needs about half the examples that AdamW needs (docs/LOG.md). It orthogonalises the
momentum of a matrix, so it is for matrices between hidden states alone: embeddings and norms keep AdamW
(github.com/KellerJordan/Muon).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finetune.recipes import Training


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimisers behind one face; their parameter groups are the face's, so a schedule reaches both."""

    def __init__(self, model: PreTrainedModel, training: Training) -> None:
        assert training.muon_rate is not None
        hidden: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                (hidden if weight.ndim == 2 and "embed" not in name else rest).append(weight)
        self._parts = (
            torch.optim.Muon(hidden, lr=training.muon_rate, weight_decay=0.01),
            torch.optim.AdamW(rest, lr=training.learning_rate, betas=training.betas, weight_decay=0.0),
        )
        super().__init__([g for part in self._parts for g in part.param_groups], {})

    def _share_groups(self) -> None:
        self.param_groups = [g for part in self._parts for g in part.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        for part in self._parts:
            part.step(closure)

    def state_dict(self) -> dict[str, Any]:
        """The state of both, in order."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()` of an equal pair."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
