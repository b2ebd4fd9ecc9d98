"""The canonical-tokens rule: of what a grammar allows, only what the tokenizer itself would have written.

Shapes: V logits. One rule for all backends, so that they allow the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from collm_nas.api import END, UserError
from inference.vocabulary import Vocabulary

Bools = npt.NDArray[np.bool_]


class Canonical:
    """Narrows masks to canonical tokens where the vocabulary merges pairs and marks, and to speakable ones always."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._speakable_V: Bools = vocabulary.speakable.numpy()
        self._marks_V: Bools = np.array([vocabulary.spells_mark(t) for t in range(vocabulary.size)])
        self._opens_V: Bools = np.array([text == "<" for text in vocabulary.texts])
        self.tails = ["".join(sorted(vocabulary.tails(t))) for t in range(vocabulary.size)]  # sorted: one key a set
        self._tailed_V: Bools = np.array([bool(tails) for tails in self.tails])
        self._begins: dict[str, Bools] = {}

    def tails_of(self, last: int) -> str:
        """The characters that may not follow where `last` was the token before (-1: none)."""
        return self.tails[last] if last >= 0 else ""

    def narrow(self, allowed_V: Bools, tails: str, leads: Callable[[int, Bools], bool]) -> Bools:
        """Which of the allowed tokens may be written where none may begin with one of `tails`.

        `leads(token, wanted_V)` says whether the grammar alone allows one of the wanted tokens after this one: a letter
        whose every continuation would have been merged with it is dropped, since only its pair may be written there.
        Raises UserError where nothing is left, as in a constraint with characters that no token spells.
        """
        kept_V = allowed_V & self._speakable_V
        if self.vocabulary.merges:
            if (kept_V & self._marks_V).any():
                kept_V &= ~self._opens_V
            kept_V &= ~self._begin(tails)
            for token in (kept_V & self._tailed_V).nonzero()[0].tolist():
                kept_V[token] = leads(token, self._speakable_V & ~self._begin(self.tails[token]))
        if not kept_V.any():
            raise UserError(
                "the constraint asks for text that no token of the model's tokenizer spells; use characters that the "
                "tokenizer has, or another model"
            )
        return kept_V

    def _begin(self, tails: str) -> Bools:
        """The tokens whose text begins with one of these characters."""
        if tails not in self._begins:
            firsts = {*tails}
            self._begins[tails] = np.array([(text or END)[0] in firsts for text in self.vocabulary.texts])
        return self._begins[tails]
