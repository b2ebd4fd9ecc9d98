"""How many architectures are left under each prefix of their spelling: the mask behind `new`, with caps or without.

`within` makes the mask that a search needs; `Repeatable` is for rows that may repeat: `affordable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from collm_nas.api import END, Architecture, Encoding, TextMask, UserError, Variable
from collm_nas.constraints.affordable import Affordable, Costing, affordable_rows
from collm_nas.spaces.base import CategoricalSpace

Node = tuple[int, ...]
"""The choices of the first variables: a node of the tree whose leaves are the architectures."""

ROOM = 8
"""How many architectures beyond the excluded ones are counted in a large space with caps, where not all count."""

_CACHED = 1 << 16  # nodes and texts remembered; a batch touches a few hundred


class SpelledSpace(Protocol):
    """What the mask asks of a space: `api.SearchSpace`'s counts and, symbol by symbol, its spelling."""

    name: str
    variables: tuple[Variable, ...]

    def active(self, choices: Sequence[int]) -> tuple[bool, ...]:
        """Which variables are active under these choices."""

    def legal_next(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Choices that the next variable may take."""

    def count(self, prefix: Sequence[int]) -> int:
        """Number of legal architectures that begin with these choices."""

    def symbol(self, position: int, choice: int, encoding: Encoding, active: bool = True) -> str:
        """The text that a choice contributes to the spelling."""

    def speller(self, encoding: Encoding) -> SpelledSpace:
        """The space whose variables stand in the order of this spelling."""

    def as_spelled(self, arch: Architecture) -> Architecture:
        """The architecture in the variable order of `speller("native")`."""


class Remaining:
    """The legal architectures not excluded so far, counted by prefix of their canonical spelling (`api.TextMask`).

    Live: an `exclude` shows in the next `count`. Counting asks the space for sizes and subtracts the excluded ones, of
    which only nodes on their paths are stored, so neither the space's size nor the history's length costs time.

    With `affordable`, only what it counts is legal, and counting stops where there is enough: 0 and small counts are
    exact, a large one is at least `room` and at most the true one. That is all that a sampler of up to `room` rows
    compares. It also subtracts from a text's count those of its continuations, so counts between two choices are summed
    up from those of the next choice.
    """

    def __init__(self, space: SpelledSpace, encoding: Encoding, affordable: Affordable | None = None) -> None:
        """Nothing is excluded at first. `affordable`: of the same space and encoding."""
        self.space = space.speller(encoding)
        self._reordered = space.as_spelled if encoding == "native" else None
        self.encoding: Encoding = encoding
        self._gone: dict[Node, int] = {}
        self._node_of: dict[str, Node] = {"": ()}
        self._children = lru_cache(_CACHED)(self._list_children)
        self._size = lru_cache(_CACHED)(self.space.count)
        self._affordable = affordable
        self.room = ROOM

    def exclude(self, arch: Architecture) -> None:
        """Count this architecture no more; again or outside the space's legal set is the same as not at all."""
        if arch.space != self.space.name:
            raise UserError(f"the architecture belongs to space {arch.space!r}, not to {self.space.name!r}")
        choices = arch.choices if self._reordered is None else self._reordered(arch).choices
        if choices in self._gone or not self._total(choices):
            return
        for end in range(len(choices) + 1):
            node = choices[:end]
            self._gone[node] = self._gone.get(node, 0) + 1

    def count(self, prefix: str) -> int:
        """Number of allowed spellings, each ended by `api.END`, that begin with `prefix`."""
        known, node = self._furthest(prefix)
        rest = prefix[known:]
        while rest:
            for symbol, child in self._children(node):
                if rest.startswith(symbol):
                    node, rest = child, rest[len(symbol) :]
                    self._remember(prefix[: len(prefix) - len(rest)], node)
                    break
            else:
                return sum(self._left(child) for symbol, child in self._children(node) if symbol.startswith(rest))
        if self._affordable is None or len(node) == len(self.space.variables):
            return self._left(node)
        return sum(self._left(child) for _, child in self._children(node))

    def strings(self, most: int) -> list[str] | None:
        """All allowed spellings; None where there are more than `most`."""
        if self.count("") > most:
            return None
        found: list[str] = []
        ahead: list[tuple[str, Node]] = [("", ())]
        while ahead and len(found) <= most:
            text, node = ahead.pop()
            if len(node) == len(self.space.variables):
                found.append(text.removesuffix(END))
            below = [(text + symbol, child) for symbol, child in self._children(node) if self._left(child)]
            ahead += reversed(below)
        return found if len(found) <= most else None

    def _furthest(self, prefix: str) -> tuple[int, Node]:
        """The longest part of `prefix` that was read before, and where it led."""
        for end in range(len(prefix), -1, -1):
            node = self._node_of.get(prefix[:end])
            if node is not None:
                return end, node
        raise AssertionError("the empty text leads to the root")

    def _remember(self, text: str, node: Node) -> None:
        if len(self._node_of) >= _CACHED:
            self._node_of = {"": ()}
        self._node_of[text] = node

    def _left(self, node: Node) -> int:
        return self._total(node) - self._gone.get(node, 0)

    def _total(self, node: Node) -> int:
        """Number of architectures under a node, excluded ones included, or enough of them."""
        if self._affordable is None:
            return self._size(node)
        enough = self._gone.get(node, 0) + self.room
        return self._affordable.count(
            node, 1 << (enough - 1).bit_length()
        )  # in steps: each more excluded costs no new count

    def _list_children(self, node: Node) -> tuple[tuple[str, Node], ...]:
        """Every legal child with the text that leads to it; the last variable's ends with `api.END`.

        No text begins another (spaces are prefix-free; an inactive variable has one child), so reading is unambiguous.
        """
        position = len(node)
        if position == len(self.space.variables):
            return ()
        end = END if position + 1 == len(self.space.variables) else ""
        children = []
        for choice in self.space.legal_next(node):
            child = (*node, choice)
            on = self.space.active(child)[-1]
            children.append((self.space.symbol(position, choice, self.encoding, on) + end, child))
        return tuple(children)


def within(space: CategoricalSpace, encoding: Encoding, limits: Mapping[str, float], costs: Costing) -> Remaining:
    """The mask of the architectures within these limits, which must be `maskable`; of all of them without a limit."""
    if not limits:
        return Remaining(space, encoding)
    if not space.restricted and all(space.terms(name) is not None for name in limits):
        return Remaining(space, encoding, Affordable(space, encoding, limits))
    return Remaining(affordable_rows(space, limits, costs), encoding)


class Repeatable:
    """A mask's strings for rows that may repeat: as many of each as anyone asks for (`api.TextMask`)."""

    def __init__(self, mask: TextMask) -> None:
        self._mask = mask

    def count(self, prefix: str) -> int:
        """Number of allowed strings that begin with `prefix`, times more than there are rows."""
        return self._mask.count(prefix) << 40

    def strings(self, most: int) -> list[str] | None:
        """All allowed strings, each once; None where there are more than `most`."""
        return self._mask.strings(most)
