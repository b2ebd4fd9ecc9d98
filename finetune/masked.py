"""Log-probabilities under the mask of sampling: a token is one among those that the grammar left, and no others.

A constrained answer was drawn from the model's law renormalised over the allowed tokens. A trainer that takes the whole
softmax instead would credit the model for keeping to a grammar that it can't break, and learn next to nothing else.

Shapes: B rows, T tokens of an answer, K allowed ids (rows with fewer are filled up), V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from trl import GRPOTrainer

NONE = -1
"""Fills up rows of allowed ids."""


def padded(allowed: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """The allowed ids of each token of each answer, (B, T, K); past an answer's end it is one arbitrary id."""
    import torch

    length = max(len(answer) for answer in allowed)
    width = max(len(ids) for answer in allowed for ids in answer)
    ids_BTK = torch.full((len(allowed), length, width), NONE)
    ids_BTK[:, :, 0] = 0
    for b, answer in enumerate(allowed):
        for t, ids in enumerate(answer):
            ids_BTK[b, t, : len(ids)] = torch.tensor(ids)
    return ids_BTK


def log_probabilities(logits_BTV: Tensor, tokens_BT: Tensor, allowed_BTK: Tensor) -> tuple[Tensor, Tensor]:
    """Of each token among its allowed ids, and the entropy there, both (B, T); 0 where a single id is allowed."""
    outside_BTK = allowed_BTK == NONE
    logits_BTK = logits_BTV.gather(-1, allowed_BTK.clamp(min=0)).float()
    logps_BTK = logits_BTK.masked_fill(outside_BTK, float("-inf")).log_softmax(-1)
    logps_BT = logps_BTK.masked_fill(allowed_BTK != tokens_BT[:, :, None], 0.0).sum(-1)
    known_BTK = logps_BTK.detach().masked_fill(outside_BTK, 0.0)
    return logps_BT, -(logps_BTK.detach().exp() * known_BTK).sum(-1)


def trainer() -> type[GRPOTrainer]:
    """trl's GRPOTrainer, made to take log-probabilities under the mask. Its `rollout_func` gives the allowed ids of
    each token in the extra field `allowed`."""
    import torch
    from trl import GRPOTrainer

    class MaskedGRPOTrainer(GRPOTrainer):
        """Policy, sampling and reference alike are laws over the allowed ids; all else is trl's."""

        _allowed_BTK: Tensor

        def _generate(self, prompts: list[str]) -> Any:
            made = super()._generate(prompts)
            extra: dict[str, Any] = made[5]
            self._allowed_BTK = padded(extra.pop("allowed")).to(self.accelerator.device)
            return made

        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            made: dict[str, Any] = super()._generate_and_score_completions(inputs)
            return {**made, "allowed": self._allowed_BTK}

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            self._allowed_BTK = inputs["allowed"]
            return super()._compute_loss(model, inputs)

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: Tensor,
            attention_mask: Tensor,
            logits_to_keep: int,
            batch_size: int | None = None,
            **_: Any,
        ) -> tuple[Tensor, Tensor, None]:
            size = batch_size or len(input_ids)
            parts = []
            for ids_BL, mask_BL, allowed_BTK in zip(
                input_ids.split(size), attention_mask.split(size), self._allowed_BTK.split(size), strict=True
            ):
                with self.accelerator.autocast():
                    logits_BTV = model(
                        input_ids=ids_BL, attention_mask=mask_BL, logits_to_keep=logits_to_keep + 1, use_cache=False
                    ).logits[:, :-1]
                parts.append(log_probabilities(logits_BTV, ids_BL[:, -logits_to_keep:], allowed_BTK))
            logps, entropies = zip(*parts, strict=True)
            return torch.cat(logps), torch.cat(entropies), None

    return MaskedGRPOTrainer
