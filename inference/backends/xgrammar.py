"""XGrammar: regular expressions, JSON schemas and grammars in its own notation (GBNF), as a pushdown automaton.

Its regular expressions know no look-around and no back reference; `.` also takes a line break, and `\\d`, `\\w`, `\\s`
mean ASCII. The expressions that spaces and strategies write are read alike by all backends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import xgrammar
from outlines.backends.xgrammar import XGrammarLogitsProcessor

from collm_nas.api import Constraint
from inference.backends._canonical import Bools, Canonical
from inference.backends._compiler import compiler
from inference.backends._masks import keep, only, unpack
from inference.vocabulary import Vocabulary

_WHERE = re.compile(r"^\[[0-9:]+\] \S+: ")  # time and line of source at the head of each of its errors


class XGrammarProcessor(XGrammarLogitsProcessor):
    """Outlines' processor, narrowed to canonical tokens; masks are applied by torch alone (no triton on a GPU)."""

    def __init__(self, compiled: xgrammar.CompiledGrammar, canonical: Canonical) -> None:
        super().__init__(compiled, "torch")
        self._canonical = canonical
        self._last: list[int] = []
        self._witness = canonical.vocabulary.eos

    def _setup(self, batch_size: int, vocab_size: int) -> None:
        super()._setup(batch_size, vocab_size)
        self._last = [-1] * batch_size
        self._bias_logits = self._keep_allowed

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """-inf where the grammar allows no token. `input_ids` is (B, L), `logits` is (B, V)."""
        if not self.is_first_token:
            self._last = input_ids[:, -1].tolist()
        return super().process_logits(input_ids, logits)

    def _keep_allowed(self, input_ids: Any, logits: torch.Tensor) -> torch.Tensor:
        return keep(logits, [self._allowed(*row) for row in zip(self._matchers, self._last, strict=True)])

    def _allowed(self, matcher: xgrammar.GrammarMatcher, last: int) -> Bools:
        if matcher.is_terminated():
            return only(self._canonical.vocabulary.eos, self._canonical.vocabulary.size)

        def leads(token: int, wanted_V: Bools) -> bool:
            matcher.accept_token(token)
            found = self._any_follows(matcher, wanted_V)
            matcher.rollback(1)
            return found

        return self._canonical.narrow(self._read(matcher), self._canonical.tails_of(last), leads)

    def _any_follows(self, matcher: xgrammar.GrammarMatcher, wanted_V: Bools) -> bool:
        """Whether the grammar allows a wanted token here. In free text the one found last does, and a mask is slow."""
        if wanted_V[self._witness] and matcher.accept_token(self._witness):
            matcher.rollback(1)
            return True
        found = (self._read(matcher) & wanted_V).nonzero()[0]
        self._witness = int(found[0]) if len(found) else self._witness
        return len(found) > 0

    def _read(self, matcher: xgrammar.GrammarMatcher) -> Bools:
        matcher.fill_next_token_bitmask(self._bitmask, 0)
        return unpack(self._bitmask[0].numpy(), self._canonical.vocabulary.size)


class XGrammar:
    """The backend for one vocabulary; compiled constraints are kept by their text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._canonical = Canonical(vocabulary)
        texts = [(text or "").encode() for text in vocabulary.texts]  # an empty one is never allowed
        tokens = xgrammar.TokenizerInfo(texts, vocab_size=vocabulary.size, stop_token_ids=[vocabulary.eos])
        self._library = xgrammar.GrammarCompiler(tokens, max_threads=1, cache_enabled=False)
        self._compile = compiler("xgrammar", {"regex": self._from_regex, "gbnf": self._from_gbnf})

    def processor(self, constraint: Constraint) -> XGrammarProcessor:
        """A fresh processor for this constraint; UserError where it can't be compiled."""
        return XGrammarProcessor(self._compile(constraint), self._canonical)

    def _from_regex(self, pattern: str) -> xgrammar.CompiledGrammar:
        with _plain_errors():
            return self._library.compile_regex(pattern)

    def _from_gbnf(self, text: str) -> xgrammar.CompiledGrammar:
        with _plain_errors():
            return self._library.compile_grammar(text)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors that say the same at any time of the day."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(_WHERE.sub("", str(error))) from None


def create(vocabulary: Vocabulary) -> XGrammar:
    """The backend for this vocabulary."""
    return XGrammar(vocabulary)
