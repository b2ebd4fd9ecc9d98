"""Outlines' own backend: regular expressions and JSON schemas, as an automaton over tokens."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from outlines.backends.outlines_core import OutlinesCoreBackend, OutlinesCoreLogitsProcessor
from outlines_core import Guide, Index
from outlines_core import Vocabulary as CoreVocabulary

from collm_nas.api import Constraint
from inference.backends._canonical import Bools, Canonical
from inference.backends._compiler import compiler
from inference.vocabulary import Vocabulary

_MASKS = 64  # masks of states kept while their neighbours are looked at


def _index(pattern: str, tokens: CoreVocabulary) -> Index:
    """The automaton of the whole pattern. outlines_core alone matches leftmost-first: `1|10` would never give `10`.

    The anchor mends that. With a pattern that also matches the empty text it is refused; that one is taken as it is.
    """
    try:
        return Index(f"(?:{pattern})$", tokens)
    except ValueError:
        return Index(pattern, tokens)


class Grammar:
    """A compiled constraint: which tokens each state of its automaton allows, looked up once a state."""

    def __init__(self, pattern: str, tokens: CoreVocabulary, canonical: Canonical) -> None:
        self.index = _index(pattern, tokens)
        self.canonical = canonical
        self._allowed: dict[tuple[int, str], torch.Tensor] = {}
        self._mask = lru_cache(_MASKS)(self._read_mask)

    def allowed(self, state: int, tails: str) -> torch.Tensor:
        """Ids that may follow in this state, where none may begin with one of `tails` (see `Canonical`)."""
        key = (state, tails)
        if key not in self._allowed:

            def leads(token: int, wanted_V: Bools) -> bool:
                return bool((self._mask(self.index.get_next_state(state, token)) & wanted_V).any())

            kept_V = self.canonical.narrow(self._mask(state), tails, leads)
            self._allowed[key] = torch.from_numpy(kept_V.nonzero()[0])
        return self._allowed[key]

    def _read_mask(self, state: int) -> Bools:
        """What the automaton allows in this state, canonical or not, of shape (V,)."""
        mask: Bools = np.zeros(self.canonical.vocabulary.size, np.bool_)
        mask[self.index.get_allowed_tokens(state) or []] = True
        return mask


class GrammarProcessor(OutlinesCoreLogitsProcessor):
    """Outlines' processor with the masks of a state kept as index lists.

    Outlines applies a bit mask by a kernel under `torch.compile`, which costs seconds at first use (a tenth of a whole
    search) and a C++ compiler; a kept list of ids costs a few microseconds a row and nothing at first.
    """

    def __init__(self, grammar: Grammar) -> None:
        super().__init__(grammar.index, "torch")
        self._grammar = grammar
        self._last: list[int] = []

    def _setup(self, batch_size: int, vocab_size: int) -> None:
        self._guides = [Guide(self.index) for _ in range(batch_size)]
        self._last = [-1] * batch_size
        self.bias_logits = self._keep_allowed

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """-inf where the grammar allows no token. `input_ids` is (B, L), `logits` is (B, V)."""
        if not self.is_first_token:
            self._last = input_ids[:, -1].tolist()
        return super().process_logits(input_ids, logits)

    def _keep_allowed(self, batch_size: int, logits: torch.Tensor) -> torch.Tensor:
        biased = torch.full_like(logits, -torch.inf)
        for i in range(batch_size):
            tails = self._grammar.canonical.tails_of(self._last[i])
            ids = self._grammar.allowed(self._guides[i].get_state(), tails).to(logits.device)
            biased[i, ids] = logits[i, ids]
        return biased


class OutlinesCore:
    """The backend for one vocabulary; compiled constraints are kept by their text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens, canonical = core_vocabulary(vocabulary), Canonical(vocabulary)
        self._compile = compiler("outlines_core", {"regex": lambda pattern: Grammar(pattern, tokens, canonical)})

    def processor(self, constraint: Constraint) -> GrammarProcessor:
        """A fresh processor for this constraint; UserError where it can't be compiled."""
        return GrammarProcessor(self._compile(constraint))


def core_vocabulary(vocabulary: Vocabulary) -> CoreVocabulary:
    """The vocabulary as outlines_core reads it."""
    ids, texts = vocabulary.ids, vocabulary.texts
    return OutlinesCoreBackend.create_outlines_core_vocabulary(
        ids,
        vocabulary.eos,
        vocabulary.tokenizer.eos_token,
        lambda token: str(texts[ids[token]]) if token in ids else token,
    )


def create(vocabulary: Vocabulary) -> OutlinesCore:
    """The backend for this vocabulary."""
    return OutlinesCore(vocabulary)
