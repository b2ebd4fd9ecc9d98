"""Log-probabilities under the mask, against sums over the allowed ids alone."""

from __future__ import annotations

import math

import pytest
import torch

from finetune.masked import log_probabilities, padded

# A toy grammar over the ids 0..6: a sign (1 or 2), then a dot (3) that nothing else may be, then a digit (4 to 6).
SIGN, DOT, DIGIT = (1, 2), (3,), (4, 5, 6)


def by_hand(logits: torch.Tensor, token: int, allowed: tuple[int, ...]) -> float:
    return float(logits[token]) - math.log(sum(math.exp(float(logits[i])) for i in allowed))


@pytest.fixture()
def logits_BTV() -> torch.Tensor:
    return 3 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1))


def test_each_token_is_one_among_the_allowed(logits_BTV: torch.Tensor) -> None:
    tokens_BT = torch.tensor([[1, 3, 6], [2, 3, 0]])  # the second answer ends after two tokens
    allowed_BTK = padded([(SIGN, DOT, DIGIT), (SIGN, DOT)])
    logps_BT, entropies_BT = log_probabilities(logits_BTV, tokens_BT, allowed_BTK)
    wanted = [
        [by_hand(logits_BTV[b, t], int(tokens_BT[b, t]), ids) for t, ids in enumerate((SIGN, DOT, DIGIT))]
        for b in range(2)
    ]
    assert logps_BT[0].tolist() == pytest.approx(wanted[0], abs=1e-6)
    assert logps_BT[1, :2].tolist() == pytest.approx(wanted[1][:2], abs=1e-6)
    assert logps_BT[0, 1] == logps_BT[1, 1] == logps_BT[1, 2] == 0, "without a choice nothing is learnt"
    chances = [math.exp(by_hand(logits_BTV[0, 2], i, DIGIT)) for i in DIGIT]
    assert sum(chances) == pytest.approx(1)
    assert float(entropies_BT[0, 2]) == pytest.approx(-sum(p * math.log(p) for p in chances), abs=1e-6)


def test_what_the_grammar_forbids_gets_no_gradient(logits_BTV: torch.Tensor) -> None:
    logits_BTV.requires_grad_()
    allowed_BTK = padded([(SIGN, DOT, DIGIT), (SIGN, DOT)])
    log_probabilities(logits_BTV, torch.tensor([[1, 3, 6], [2, 3, 0]]), allowed_BTK)[0].sum().backward()
    assert logits_BTV.grad is not None and torch.isfinite(logits_BTV.grad).all()
    touched = logits_BTV.grad[0].abs() > 1e-9
    assert [row.nonzero()[:, 0].tolist() for row in touched] == [list(SIGN), [], list(DIGIT)]
