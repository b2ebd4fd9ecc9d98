"""Drafts from the model's law conditioned on what is allowed, exactly: `--sampling reweighted`, and `asap` near it.

Masking token by token draws x with chance prod p_t / Z_t, Z_t being the mass of the tokens allowed at step t; wanted is
prod p_t / P(allowed). Each request grows a tree of the texts it has read, with bounds from above on the allowed mass
below them. A draft goes down the tree by p_t times bound, and is kept with the chance (`trie.chance`) that makes all
answers equally likely against the model's law; then what the batch read lowers the bounds. So each kept draft follows
the conditional law whatever the tree knew, and the more it knows the more are kept: all of them once all is read.
The tree is that of ASAp (Park et al., arXiv 2405.21047), which takes every draft and reaches the law in the limit; the
coin, as in adaptive rejection, makes it exact from the first.

The law is on token sequences that grammar and mask allow and that end within the token limit. Where answers are
distinct (there is a mask), answer i follows the model's law conditioned on what is allowed and is none of the answers
before it. With a top-p below 1 `reweighted` draws from nuclei of this law, which it reads whole for that, and `asap`
from nuclei of the bounds (see `inference.nucleus`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch

from collm_nas.api import END, Request, TextMask, UserError
from inference.measure import Step, allows
from inference.nucleus import pick
from inference.processors import DeadEnd, Norms, Sampler
from inference.trie import Edge, Node, chance, grown, learn

if TYPE_CHECKING:
    from inference.vocabulary import Vocabulary

Reweighing = Literal["reweighted", "asap"]
_BATCH = (4, 32)  # fewest and most drafts at once
_AHEAD = 2  # drafts a missing completion
_EXPLORED = 128  # rows at once where all is read
READ = 4096
"""Most answers of a request that are read to draw one."""


class Drafts(Sampler):
    """Draws a batch of drafts down a request's tree and grows it; the rows do not hear of each other."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        norms: Norms,
        root: list[Node],
        random: torch.Generator,
        mask: TextMask | None,
        explore: bool = False,
        top_p: float = 1.0,
    ) -> None:
        """`root` holds the tree's first node once it is read; `explore` draws what was never read, evenly."""
        super().__init__(vocabulary, 0, norms.temperature, None, norms, 1.0 if explore else top_p)
        self._allowed_by = mask
        self._root = root
        self._random = random
        self._explore = explore
        self.paths: list[list[Edge]] = []

    @property
    def texts(self) -> list[str]:
        """The drafts; those that end with `END` are whole."""
        return self._rows

    def _advance(self, i: int, scores_V: torch.Tensor, ids: torch.Tensor, chance: float) -> None:
        if not self.paths:
            self.paths = [[] for _ in self._rows]
        node = self._node(i, scores_V, ids)
        position = pick(node.open_K if self._explore else node.weights_K, self._top_p, chance)
        if position < 0:  # the model gives what is allowed here a chance below 1e-308
            self.paths[i].append(Edge(node, -1))
            self._drawn[i] = self._eos
            return
        self.paths[i].append(Edge(node, position))
        self.steps[i].append(Step(node.ids, node.logps_K, node.ids[position]))
        self._append(i, node.ids[position])

    def _node(self, i: int, scores_V: torch.Tensor, ids: torch.Tensor) -> Node:
        """Where row i stands; read now if no draft was here."""
        if not self.paths[i]:
            if not self._root:
                self._root.append(self._read(i, scores_V, ids))
            return self._root[0]
        before, position = self.paths[i][-1]
        if position not in before.children:
            before.children[position] = self._read(i, scores_V, ids)
        return before.children[position]

    def _read(self, i: int, scores_V: torch.Tensor, ids: torch.Tensor) -> Node:
        text, last, mask = self._rows[i], self._drawn[i], self._allowed_by
        if mask is not None:
            ids = torch.tensor(
                [t for t in ids.tolist() if allows(mask, self._vocabulary, text, last, t)], dtype=torch.long
            )
        if not len(ids):
            raise DeadEnd(f"no token may follow {text[-80:]!r}: grammar and mask leave nothing")
        return grown(ids.tolist(), self._logps(i, scores_V[ids]))


class Tree:
    """What one request's drafts have shown, batch by batch."""

    def __init__(self, vocabulary: Vocabulary, request: Request, n: int, limit: int, way: Reweighing) -> None:
        """`n` completions are wanted; after `limit` drafts for each, `reweighted` gives up and `asap` takes any."""
        if request.temperature == 0:
            raise UserError(
                f"sampling {way!r} needs a temperature above 0: at 0 the model's law is one answer, with nothing to "
                "reweigh; use sampling 'masked' for the likeliest allowed one"
            )
        self.norms = Norms(vocabulary, request.temperature)
        self._any = False  # over the limit `asap` takes any draft
        self._vocabulary = vocabulary
        self._request = request
        self._wanted = n
        self._limit = limit * n
        self._way = way
        self.root: list[Node] = []
        """The tree's first node, once it is read."""
        self._random = torch.Generator().manual_seed(request.seed)
        self._taken: set[str] = set()
        self._kept = 0
        self._drafted = 0

    @property
    def missing(self) -> int:
        """Completions still wanted."""
        return self._wanted - self._kept

    @property
    def exact(self) -> bool:
        """Whether what the last batch keeps follows the conditional law."""
        return not self._any and self._request.top_p == 1

    def batch(self) -> int:
        """How many drafts to draw next; UserError where too few are kept to go on."""
        self._any = self._drafted >= self._limit
        spent = self._drafted >= (self._limit if self._way == "reweighted" else 2 * self._limit)
        if spent or self._bound() <= 0:
            raise UserError(self._refusal())
        if self._any:
            return self.missing
        fewest, most = _BATCH
        return min(max(fewest, _AHEAD * self.missing), most, self._limit - self._drafted)

    def _bound(self) -> float:
        return self.root[0].bound if self.root else 1.0

    def _refusal(self) -> str:
        other = "asap (near the law), rejection or masked" if self._way == "reweighted" else "rejection or masked"
        return (
            f"sampling {self._way!r} kept {self._kept} of {self._drafted} drafts for the {self._request.role} and "
            f"{self._wanted} were wanted: too rarely does the model say what is allowed here (chance at most "
            f"{self._bound():.2g}); use --sampling {other}, or a higher temperature"
        )

    def drafts(self, explore: bool = False) -> Drafts:
        """The sampler of a batch."""
        return Drafts(
            self._vocabulary, self.norms, self.root, self._random, self._request.mask, explore, self._request.top_p
        )

    def settle(self, drafts: Drafts) -> list[int]:
        """Rows of the drafts to keep, in order; the tree learns from all."""
        coins = torch.rand(len(drafts.texts), generator=self._random, dtype=torch.float64).tolist()
        kept = []
        for i, (text, path, coin) in enumerate(zip(drafts.texts, drafts.paths, coins, strict=True)):
            new = text.endswith(END) and text not in self._taken
            if new and self.missing and (self._any or coin < chance(path)):
                kept.append(i)
                self._kept += 1
                if self._request.mask is not None:
                    self._taken.add(text)
        self._drafted += len(coins)
        self.learn(drafts)
        return kept

    def learn(self, drafts: Drafts) -> None:
        """Nothing is expected any more of what was taken or cut; then the bounds of what was read go up the tree."""
        for text, path in zip(drafts.texts, drafts.paths, strict=True):
            node, position = path[-1]
            if position >= 0:
                node.open_K[position] = 0.0
                if text in self._taken or not text.endswith(END):
                    node.bounds_K[position] = 0.0
        learn(drafts.paths)


def explore(
    vocabulary: Vocabulary,
    request: Request,
    most: int,
    sample: Callable[[int, Drafts, Norms], object],
    remedy: str = "use a smaller space",
) -> Node:
    """The whole tree of at most `most` allowed token sequences; `sample` draws so many rows with a sampler."""
    tree = Tree(vocabulary, request, 0, 0, "reweighted")
    while not tree.root or tree.root[0].open_K.any():
        drafts = tree.drafts(explore=True)
        sample(_EXPLORED, drafts, tree.norms)
        tree.learn(drafts)
        if _answers(tree.root[0]) > most or not all(text.endswith(END) for text in drafts.texts):
            raise UserError(
                f"the {request.role}'s request allows more than {most} answers, or some of more than "
                f"{request.max_tokens} tokens: too many to read each; {remedy}"
            )
    return tree.root[0]


def _answers(root: Node) -> int:
    """Token sequences that are known to be allowed: each continuation that was not read has one below it or more."""
    count, nodes = 0, [root]
    while nodes:
        node = nodes.pop()
        count += len(node.ids) - len(node.children)
        nodes += node.children.values()
    return count
