"""LLGuidance: regular expressions, JSON schemas and grammars in Lark's notation, parsed as the text grows."""

from __future__ import annotations

from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, regex_to_lark
from outlines.backends.llguidance import LLGuidanceLogitsProcessor

from collm_nas.api import Constraint, UserError
from inference.backends._canonical import Bools, Canonical
from inference.backends._compiler import compiler
from inference.backends._masks import keep, only, unpack
from inference.vocabulary import Vocabulary

# Where the grammar leaves one text only, llguidance would allow but one way of splitting it into tokens.
_ALL_SPLITS = '%llguidance {"no_forcing": true}\n'


class LLGuidanceProcessor(LLGuidanceLogitsProcessor):
    """Outlines' processor, narrowed to canonical tokens, with the parser of a compiled grammar copied for each row.

    Outlines' own reads the tokens after a row's end as well, with a warning for each, and applies masks by a kernel
    under `torch.compile`.
    """

    def __init__(self, matcher: LLMatcher, canonical: Canonical) -> None:
        super().__init__("", None, "torch")
        self.is_first_token: bool = True
        self._matcher = matcher
        self._canonical = canonical
        self._last: list[int] = []
        self._done: list[bool] = []

    def _setup(self, batch_size: int) -> None:
        self.ll_matchers = [self._matcher.deep_copy() for _ in range(batch_size)]
        self._last = [-1] * batch_size
        self._done = [False] * batch_size

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """-inf where the grammar allows no token. `input_ids` is (B, L), `logits` is (B, V)."""
        if self.is_first_token:
            self._setup(len(input_ids))
            self.is_first_token = False
        else:
            self._last = input_ids[:, -1].tolist()
            for i, token in enumerate(self._last):
                self._done[i] = self._done[i] or token == self._canonical.vocabulary.eos
                if not self._done[i]:
                    self.ll_matchers[i].consume_token(token)
        return keep(logits, [self._allowed(i) for i in range(len(input_ids))])

    def _allowed(self, i: int) -> Bools:
        vocabulary, matcher = self._canonical.vocabulary, self.ll_matchers[i]
        if self._done[i]:
            return only(vocabulary.eos, vocabulary.size)

        def leads(token: int, wanted_V: Bools) -> bool:
            copy = matcher.deep_copy()
            copy.consume_token(token)
            return bool((self._read(copy) & wanted_V).any())

        return self._canonical.narrow(self._read(matcher), self._canonical.tails_of(self._last[i]), leads)

    def _read(self, matcher: LLMatcher) -> Bools:
        allowed_V = unpack(matcher.compute_bitmask(), self._canonical.vocabulary.size)
        if not matcher.is_error():
            return allowed_V
        reason = matcher.get_error().partition("\n")[0]
        if reason == "NoExtensionBias":  # no token fits; llguidance then offers the end, although the text is not whole
            return np.zeros_like(allowed_V)
        raise UserError(f"grammar backend 'llguidance' gave up ({reason}); use the grammar backend outlines_core")


class _Tokens:
    """A vocabulary as llguidance asks for it."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokenizer = vocabulary.tokenizer
        self.eos_token_id = vocabulary.eos
        self.tokens = [(text or "").encode() for text in vocabulary.texts]  # an empty one is never allowed
        self.special_token_ids = [vocabulary.eos]

    def __call__(self, text: str) -> list[int]:
        """The tokenizer's own split, for a grammar that asks for forced text by `%llguidance {"no_forcing": false}`."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


class LLGuidance:
    """The backend for one vocabulary; compiled constraints are kept by their text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._canonical = Canonical(vocabulary)
        self._tokens = LLTokenizer(TokenizerWrapper(_Tokens(vocabulary)), n_vocab=vocabulary.size, slices=[])
        self._compile = compiler("llguidance", {"regex": self._from_regex, "lark": self._from_lark})

    def processor(self, constraint: Constraint) -> LLGuidanceProcessor:
        """A fresh processor for this constraint; UserError where it can't be compiled."""
        return LLGuidanceProcessor(self._compile(constraint), self._canonical)

    def _from_regex(self, pattern: str) -> LLMatcher:
        return self._from_lark(f"start: /{regex_to_lark(pattern, '')}/")

    def _from_lark(self, text: str) -> LLMatcher:
        matcher = LLMatcher(self._tokens, _ALL_SPLITS + text, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher


def create(vocabulary: Vocabulary) -> LLGuidance:
    """The backend for this vocabulary."""
    return LLGuidance(vocabulary)
