"""The sampler: a logits processor of Outlines' kind that draws the tokens of all rows of a request together.

Shapes: B rows (completions of one prompt), L tokens so far, V logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from outlines.processors.base_logits_processor import OutlinesLogitsProcessor

from collm_nas.api import TextMask
from inference.chat import CLOSE
from inference.measure import Step, after
from inference.nucleus import nucleus
from inference.vocabulary import Vocabulary


class DeadEnd(RuntimeError):
    """No token is allowed: grammar and mask contradict each other. A defect of ours, never of the user's input."""


class Norms(OutlinesLogitsProcessor):
    """Runs first and keeps each row's normaliser, so that log-probabilities of the model itself are known later.

    Processors that follow leave the logits of allowed tokens as they are: minus the normaliser they are log p.
    """

    def __init__(self, vocabulary: Vocabulary, temperature: float) -> None:
        """At temperature 0, where the model's law is a single answer, that of temperature 1 is kept."""
        super().__init__("torch")
        self.temperature = temperature or 1.0
        self._bias_V = torch.zeros(vocabulary.size).masked_fill(~vocabulary.speakable, -torch.inf)
        self.rows: list[float] = []

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """The logits, (B, V), unchanged."""
        self.rows = self.read(logits)
        return logits

    def read(self, logits_BV: torch.Tensor) -> list[float]:
        """The normaliser of each row."""
        self._bias_V = self._bias_V.to(logits_BV.device)
        rows: list[float] = torch.logsumexp(logits_BV.float() / self.temperature + self._bias_V, -1).tolist()
        return rows


class Sampler(OutlinesLogitsProcessor):
    """Draws one token for every row with its own generator, and makes rows distinct where there is a mask.

    It runs after the grammar's processor and returns 0 at the drawn token, -inf elsewhere, so that greedy decoding
    emits just that token: the answer depends on the logits and the seed, not on torch's global state.

    Distinct without a retry: rows move one after the other, and row i may append t only if fewer other rows stand
    under the resulting text than `mask.count` allows, so at most count(p) rows stand under any text p. No dead end
    arises: a row's own text has room for all rows under it, hence one of its continuations has room for one more than
    stand there, and the grammar (which spells what the mask counts) offers the token of that continuation.

    Where all spellings split into tokens at the same places, as the compact encoding does, row i is drawn exactly as
    if rows 0..i-1 had been completed first and excluded: the same law as asking for one after the other.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        seed: int,
        temperature: float,
        mask: TextMask | None = None,
        norms: Norms | None = None,
        top_p: float = 1.0,
    ) -> None:
        """`temperature` 0 takes the likeliest allowed token; `top_p`: see `inference.nucleus`. With `norms` the rows'
        `steps` are kept."""
        super().__init__("torch")
        self._vocabulary = vocabulary
        self._eos = vocabulary.eos
        self._seed = seed
        self._temperature = temperature
        self._top_p = top_p
        self._mask = mask
        self._norms = norms
        self._speakable = vocabulary.speakable
        self.reset()

    def reset(self) -> None:
        """Begin a new answer to the same request."""
        self._random = torch.Generator().manual_seed(self._seed)
        self._chances: list[list[float]] = []
        self._rows: list[str] = []
        self._drawn: list[int] = []
        self._lengths: list[int] = []
        self.steps: list[list[Step]] = []
        """For each row what was drawn, and among which ids that the grammar allows."""

    def begin(self, n: int) -> None:
        """`n` rows, all empty."""
        self._rows = [""] * n
        self._drawn = [-1] * n
        self._lengths = [0] * n
        self.steps = [[] for _ in range(n)]

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """0 at each row's drawn token, -inf elsewhere. `input_ids` is (B, L), `logits` is (B, V)."""
        if not self._drawn:
            self.begin(len(logits))
        else:
            self._check(input_ids[:, -1].tolist())
        scores_BV = logits.detach().to("cpu", torch.float64)
        chosen = torch.full_like(logits, -torch.inf)
        for i in range(len(logits)):
            chosen[i, self.draw(i, scores_BV[i])] = 0.0
        return chosen

    def draw(self, i: int, scores_V: torch.Tensor) -> int:
        """Row i's next token, given its logits on the CPU in float64; the end again once it has ended.

        Rows need not be drawn in step: each has its own chances, and is distinct from the others wherever they stand.
        """
        if self._drawn[i] != self._eos:
            allowed_V = torch.isfinite(scores_V) & self._speakable
            chance = self._chance(i, self._lengths[i])
            self._lengths[i] += 1
            self._advance(i, scores_V, allowed_V.nonzero()[:, 0], chance)
        return self._drawn[i]

    def _chance(self, i: int, step: int) -> float:
        while len(self._chances) <= step:
            drawn = torch.rand(len(self._rows), generator=self._random, dtype=torch.float64)
            self._chances.append(drawn.tolist())
        return self._chances[step][i]

    def _check(self, last: list[int]) -> None:
        """Rows must stay what was drawn: beam search, or a second sampler, would break the count of rows by text."""
        if any(token != drawn != self._eos for token, drawn in zip(last, self._drawn, strict=True)):
            raise RuntimeError("the decoding loop did not emit the tokens that the sampler drew")

    def _advance(self, i: int, scores_V: torch.Tensor, ids: torch.Tensor, chance: float) -> None:
        """Draw row i's token among `ids` and append it."""
        grammatical = ids
        if self._mask is not None:
            ids = torch.tensor([t for t in ids.tolist() if self._has_room(i, t, self._mask)])
        if not len(ids):
            raise DeadEnd(f"no token may follow {self._rows[i][-80:]!r}: grammar and mask leave nothing")
        scores = scores_V[ids]
        if self._temperature > 0:
            chances = torch.softmax(scores / self._temperature, 0)
            if self._top_p < 1:
                kept = torch.from_numpy(nucleus(chances.numpy(), self._top_p))
                ids, chances = ids[kept], chances[kept]
            reached = chances.cumsum(0)
            position = int(torch.searchsorted(reached, chance * reached[-1].item(), right=True))
        else:
            position = int(scores.argmax())
        token = int(ids[min(position, len(ids) - 1)])
        if self._norms is not None:
            self.steps[i].append(Step(grammatical.tolist(), self._logps(i, scores_V[grammatical]), token))
        self._append(i, token)

    def _logps(self, i: int, scores: torch.Tensor) -> np.ndarray:
        """Log-probabilities of these tokens under the model, whatever grammar and mask removed."""
        assert self._norms is not None
        logps: np.ndarray = scores.numpy() / self._norms.temperature - self._norms.rows[i]
        return logps

    def _append(self, i: int, token: int) -> None:
        self._rows[i] = after(self._vocabulary, self._rows[i], token)
        self._drawn[i] = token

    def _has_room(self, i: int, token: int, mask: TextMask) -> bool:
        """Whether row i may append the token so that no text has more rows under it than strings.

        Where the tokenizer merges pairs, what follows a letter begins with none of the letter's tails; only such
        strings count then, and only rows on their way to them. And a longer token can leap over a text at which another
        row stands: the room there is checked as well. (Where no row stands there is room if the continuations have it.)
        """
        if self._drawn[i] >= 0 and self._vocabulary.splits_pair(self._drawn[i], token):
            return False
        text, tails = after(self._vocabulary, self._rows[i], token), self._vocabulary.tails(token)
        others = [row for j, row in enumerate(self._rows) if j != i]
        here = [row for row in others if row.startswith(text) and row[len(text) : len(text) + 1] not in {*tails}]
        if mask.count(text) - sum(mask.count(text + tail) for tail in tails) <= len(here):
            return False
        passed = {row for row in others if len(self._rows[i]) < len(row) < len(text) and text.startswith(row)}
        return all(mask.count(row) > sum(other.startswith(row) for other in others) for row in passed)


class Thought(Sampler):
    """Draws free text that ends with a block of thinking."""

    def _advance(self, i: int, scores_V: torch.Tensor, ids: torch.Tensor, chance: float) -> None:
        if self._rows[i].endswith(CLOSE):
            self._append(i, self._eos)
        else:
            super()._advance(i, scores_V, ids, chance)
