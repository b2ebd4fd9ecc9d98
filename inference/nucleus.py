"""Top-p: at every token the least likely ones are left out, up to a share of 1 - P, and what stays is drawn from.

The nucleus of a law of the next token is the smallest set of tokens, by falling probability (of equal ones the lower
id first), whose mass reaches P of the whole. Temperature comes first. Of which law depends on the way of sampling:

- free text: the model's own, over the tokens that an answer may hold.
- `masked`: the model's among the tokens that grammar and mask allow, renormalised. One always stays: no dead end.
- `rejection`: drafts are drawn like that under the grammar alone, and those that the mask allows are kept, so a draft
  has the law of asking again, with top-p, until something new comes; the mask then fills what is missing, as `masked`.
- `reweighted`: of the model's law conditioned on all that is allowed. With p(x) the model's chance of token x, and A(x)
  its chance that what follows x is allowed, the next token's law is q(x) = p(x) A(x) / sum p A, and its nucleus is what
  is drawn from. Whether x is in depends on A exactly, and no number of drafts tells a mass from one just below it: so
  each allowed answer is read first (`exact.explore`), and a request that allows too many is refused.
- `asap`: as `reweighted`, with the bounds of A that its drafts have shown in place of A: near that law, never exact.

Rejection and reweighted, the same at P = 1 but for the grammar, are two laws below it: cutting before what is not
allowed is thrown away is not cutting after. Cut before, nothing new may be left where the visited hold the mass P, so
that it is no definition for a way that must always answer; cut after, it can't be had by asking again.

Answers that are distinct: answer i is cut on the law conditioned on none of those before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from collm_nas.api import Request, UserError
from inference.measure import Step, after
from inference.trie import Edge, Node, learn

if TYPE_CHECKING:
    from inference.vocabulary import Vocabulary

_ROUNDING = 1e-9  # seven tokens of a tenth each reach 0.7, whatever their sum in floating point


def nucleus(weights_K: np.ndarray, top_p: float) -> np.ndarray:
    """Positions of the nucleus, ascending; at least one. The weights, by ascending id, need not sum to 1."""
    order = np.argsort(-weights_K, kind="stable")
    reached = weights_K[order].cumsum()
    before = np.concatenate(([0.0], reached[:-1]))
    count = int((before < top_p * (1 - _ROUNDING) * reached[-1]).sum())
    return np.sort(order[: max(1, count)])


def pick(weights_K: np.ndarray, top_p: float, chance: float) -> int:
    """A position of the nucleus, drawn by its weights with an even `chance` in [0, 1); -1 where all weights are 0."""
    kept = np.arange(len(weights_K)) if top_p == 1 else nucleus(weights_K, top_p)
    reached = weights_K[kept].cumsum()
    if reached[-1] <= 0:
        return -1
    return int(kept[min(int(np.searchsorted(reached, chance * reached[-1], "right")), len(kept) - 1)])


class Whole:
    """A tree that was read whole (`exact.explore`), and answers drawn from the nuclei of its conditional law."""

    def __init__(self, vocabulary: Vocabulary, request: Request, root: Node) -> None:
        self._vocabulary = vocabulary
        self._request = request
        self._root = root
        self._random = torch.Generator().manual_seed(request.seed)

    def draw(self) -> list[Step]:
        """One answer, token by token, with its end; where the request has a mask it never comes again."""
        node: Node | None = self._root
        text, steps = "", []
        while node is not None:
            chance = float(torch.rand((), generator=self._random, dtype=torch.float64))
            position = pick(node.weights_K, self._request.top_p, chance)
            if position < 0:
                raise UserError(
                    f"the model gives all that the {self._request.role}'s request allows a chance of 0, so that "
                    "sampling 'reweighted' has no law to draw from; use --sampling masked, or a higher temperature"
                )
            steps.append(Step(node.ids, node.logps_K, node.ids[position]))
            text = after(self._vocabulary, text, node.ids[position])
            node = node.children.get(position)
        if self._request.mask is not None:
            self._remove(text)
        return steps

    def _remove(self, text: str) -> None:
        """Nothing is expected any more of the token sequences that spell it."""
        paths = list(_spellings(self._vocabulary, self._root, text))
        for path in paths:
            node, position = path[-1]
            node.bounds_K[position] = 0.0
        learn(paths)


def _spellings(vocabulary: Vocabulary, node: Node, text: str, before: str = "") -> Iterator[list[Edge]]:
    """Every path below a node, where `before` was said, to the end of `text`."""
    for position, token in enumerate(node.ids):
        longer, child = after(vocabulary, before, token), node.children.get(position)
        if child is None and longer == text:
            yield [Edge(node, position)]
        elif child is not None and text.startswith(longer):
            for rest in _spellings(vocabulary, child, text, longer):
                yield [Edge(node, position), *rest]
