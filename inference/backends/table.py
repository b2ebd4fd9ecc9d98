"""Our own backend for small vocabularies: the automaton written out as a table, so that a step is two look-ups.

Shapes: B rows, S nodes of the table, K columns (tokens that any node allows), V logits.
"""

from __future__ import annotations

from typing import Any

import torch
from outlines.processors.base_logits_processor import OutlinesLogitsProcessor

from collm_nas.api import Constraint
from inference.backends._canonical import Canonical
from inference.backends._compiler import compiler
from inference.backends.outlines_core import Grammar, core_vocabulary
from inference.vocabulary import Vocabulary

_LARGEST = 50_000_000  # entries; one takes 5 bytes
_DONE, _START = 0, 1


class Table:
    """All nodes of a grammar: what each forbids, and where each token leads.

    A node is a state of the automaton and what the token before forbids (see `Canonical`). Node 0 is the end: whatever
    token follows, it stays there and allows the end token only.
    """

    def __init__(self, grammar: Grammar) -> None:
        """Raises ValueError where the table would be too large."""
        vocabulary = grammar.canonical.vocabulary
        rows = _explore(grammar)
        self.ids_K = torch.unique(torch.cat([torch.tensor([vocabulary.eos]), *(ids for ids, _ in rows)]))
        self.column_V = torch.zeros(vocabulary.size, dtype=torch.long)
        self.column_V[self.ids_K] = torch.arange(len(self.ids_K))
        self.forbidden_SK = torch.ones((len(rows) + 1, len(self.ids_K)), dtype=torch.bool)
        self.after_SK = torch.zeros((len(rows) + 1, len(self.ids_K)), dtype=torch.int32)
        self.forbidden_SK[_DONE, self.column_V[vocabulary.eos]] = False
        for node, (ids, targets) in enumerate(rows, start=_START):
            self.forbidden_SK[node, self.column_V[ids]] = False
            self.after_SK[node, self.column_V[ids]] = torch.tensor(targets, dtype=torch.int32)

    def to(self, device: torch.device) -> Table:
        """The table on this device, moved there once."""
        if self.ids_K.device != device:
            self.ids_K, self.column_V = self.ids_K.to(device), self.column_V.to(device)
            self.forbidden_SK, self.after_SK = self.forbidden_SK.to(device), self.after_SK.to(device)
        return self


def _explore(grammar: Grammar) -> list[tuple[torch.Tensor, list[int]]]:
    """For each node from the start on: the allowed ids and the nodes they lead to."""
    tails, eos = grammar.canonical.tails, grammar.canonical.vocabulary.eos
    nodes = {(grammar.index.get_initial_state(), ""): _START}
    waiting, used, rows = list(nodes), {eos}, []
    for state, forbidden in waiting:  # grows while it is read
        ids = grammar.allowed(state, forbidden)
        targets = []
        for token in ids.tolist():
            key = (grammar.index.get_next_state(state, token), tails[token]) if token != eos else None
            if key is not None and key not in nodes:
                nodes[key] = len(nodes) + _START
                waiting.append(key)
            targets.append(_DONE if key is None else nodes[key])
        rows.append((ids, targets))
        used.update(ids.tolist())
        if len(nodes) * len(used) > _LARGEST:
            raise ValueError(
                f"its table of {len(nodes)} or more states and {len(used)} or more tokens exceeds {_LARGEST} entries; "
                f"use the grammar backend outlines_core"
            )
    return rows


class TableProcessor(OutlinesLogitsProcessor):
    """Walks all rows through the table at once."""

    def __init__(self, table: Table) -> None:
        super().__init__("torch")
        self._table = table
        self._nodes_B: torch.Tensor | None = None

    def reset(self) -> None:
        """Begin new answers."""
        self._nodes_B = None

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """-inf where the grammar allows no token. `input_ids` is (B, L), `logits` is (B, V)."""
        table = self._table.to(logits.device)
        if self._nodes_B is None:
            self._nodes_B = torch.full((len(logits),), _START, device=logits.device)
        else:
            self._nodes_B = table.after_SK[self._nodes_B, table.column_V[input_ids[:, -1]]].long()
        kept = torch.full_like(logits, -torch.inf)
        kept[:, table.ids_K] = logits[:, table.ids_K].masked_fill(table.forbidden_SK[self._nodes_B], -torch.inf)
        return kept


class TableBackend:
    """The backend for one vocabulary; compiled constraints are kept by their text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens, canonical = core_vocabulary(vocabulary), Canonical(vocabulary)
        self._compile = compiler("table", {"regex": lambda pattern: Table(Grammar(pattern, tokens, canonical))})

    def processor(self, constraint: Constraint) -> TableProcessor:
        """A fresh processor for this constraint; UserError where it can't be compiled or is too large."""
        return TableProcessor(self._compile(constraint))


def create(vocabulary: Vocabulary) -> TableBackend:
    """The backend for this vocabulary."""
    return TableBackend(vocabulary)
