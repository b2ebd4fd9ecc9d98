"""Outlines' own backend: regular expressions and JSON schemas, as an automaton over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from outlines.backends.outlines_core import OutlinesCoreBackend, OutlinesCoreLogitsProcessor
from outlines_core import Guide, Index
from outlines_core import Vocabulary as CoreVocabulary
from outlines_core.json_schema import build_regex_from_schema

from collm_nas.api import END, Constraint, UserError
from inference.vocabulary import Vocabulary

_GRAMMARS = 64  # compiled constraints kept; a search uses two


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

    def __init__(self, pattern: str, backend: OutlinesCore) -> None:
        self.index = _index(pattern, backend.tokens)
        self._vocabulary = backend.vocabulary
        self._allowed: dict[tuple[int, int], torch.Tensor] = {}
        self._states: dict[int, tuple[int, ...]] = {}
        self._firsts: dict[int, frozenset[str]] = {}

    def allowed(self, guide: Guide, last: int) -> torch.Tensor:
        """Ids that may follow where the guide stands and `last` was the token before (-1: none)."""
        key = (guide.get_state(), last if self._vocabulary.merges else -1)
        if key not in self._allowed:
            self._allowed[key] = torch.tensor(self._list(*key), dtype=torch.long)
        return self._allowed[key]

    def _list(self, state: int, last: int) -> list[int]:
        tokens = self._tokens(state)
        if not self._vocabulary.merges:
            return list(tokens)
        return [t for t in self._canonical(tokens, last) if self._continues(state, t)]

    def _tokens(self, state: int) -> tuple[int, ...]:
        """What the automaton allows in this state, canonical or not."""
        if state not in self._states:
            self._states[state] = tuple(sorted(self.index.get_allowed_tokens(state) or []))
        return self._states[state]

    def _canonical(self, tokens: Sequence[int], last: int) -> list[int]:
        """Without those that, after `last`, spell a pair or a mark which the tokenizer writes as one token."""
        vocabulary = self._vocabulary
        marks = any(vocabulary.spells_mark(t) for t in tokens)
        kept = [t for t in tokens if last < 0 or not vocabulary.splits_pair(last, t)]
        return [t for t in kept if not (marks and vocabulary.texts[t] == "<")]

    def _continues(self, state: int, token: int) -> bool:
        """Whether a canonical token (or the end) may follow `token`: else only its pair may be written here."""
        if token == self._vocabulary.eos:
            return True
        after = self.index.get_next_state(state, token)
        return bool(self._first_characters(after) - {*self._vocabulary.tails(token)})

    def _first_characters(self, state: int) -> frozenset[str]:
        """With what the tokens allowed in this state begin (`END` for the end). A mark's `<` stands for itself."""
        if state not in self._firsts:
            texts = (self._vocabulary.texts[t] or END for t in self._tokens(state))
            self._firsts[state] = frozenset(text[0] for text in texts)
        return self._firsts[state]


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
            ids = self._grammar.allowed(self._guides[i], self._last[i]).to(logits.device)
            biased[i, ids] = logits[i, ids]
        return biased


class OutlinesCore:
    """The backend for one vocabulary; compiled constraints are kept by their text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        ids, texts = vocabulary.ids, vocabulary.texts
        self.tokens = OutlinesCoreBackend.create_outlines_core_vocabulary(
            ids,
            vocabulary.eos,
            vocabulary.tokenizer.eos_token,
            lambda token: str(texts[ids[token]]) if token in ids else token,
        )
        self._compile = lru_cache(_GRAMMARS)(self._compile_new)

    def processor(self, constraint: Constraint) -> GrammarProcessor:
        """A fresh processor for this constraint; UserError where it can't be compiled."""
        return GrammarProcessor(self._compile(constraint))

    def _compile_new(self, constraint: Constraint) -> Grammar:
        if constraint.kind not in ("regex", "json"):
            raise UserError(
                f"grammar backend 'outlines_core' takes constraints of kind regex or json, but got {constraint.kind!r}"
            )
        try:
            pattern = build_regex_from_schema(constraint.text, "") if constraint.kind == "json" else constraint.text
            return Grammar(pattern, self)
        except (ValueError, TypeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"grammar backend 'outlines_core' can't use the {constraint.kind} {constraint.text[:80]!r}: {reason}"
            ) from None


def create(vocabulary: Vocabulary) -> OutlinesCore:
    """The backend for this vocabulary."""
    return OutlinesCore(vocabulary)
