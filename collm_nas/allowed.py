"""What a decoding mode lets a Generator write: the constraint as text, and the mask of what text cannot say.

Shared by the searches that ask language models: `collm_nas.coordinator` and `collm_nas.paper`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from collm_nas.api import Architecture, Constraint, DecodingMode, Encoding, Problem, TextMask
from collm_nas.constraints.affordable import maskable
from collm_nas.constraints.remaining import Remaining, Repeatable, within
from collm_nas.journal import JournaledCosts
from collm_nas.spaces.base import CategoricalSpace


class Allowed:
    """What is allowed in one search, as it goes on."""

    def __init__(self, problem: Problem, decoding: DecodingMode, encoding: Encoding) -> None:
        """Nothing is visited at first."""
        self._space: CategoricalSpace = problem.space  # type: ignore[assignment]
        self._problem = problem
        self._encoding = encoding
        self._limits = self._maskable_limits()
        self._remaining = self._within_limits()
        self._visited: set[Architecture] = set()
        self.mask = self._mask(decoding)
        """Beside the constraint; None where there is nothing to add to it."""

    @property
    def constraint(self) -> Constraint:
        """Exactly the canonical spellings of the space."""
        return Constraint("regex", self._space.regex(self._encoding))

    def any_left(self, room: int) -> bool:
        """Whether an architecture is left, within the caps that a mask can hold; `room` are asked for at once."""
        self._remaining.room = max(self._remaining.room, room)
        return self._remaining.count("") > 0

    def usable(self, arch: Architecture) -> bool:
        """New and, where over-cap candidates are rejected, within the caps."""
        caps = self._problem.caps
        allowed = not caps.limits or caps.over == "evaluate" or caps.allow(self._problem.costs(arch))
        return arch not in self._visited and allowed

    def exclude(self, arch: Architecture) -> None:
        """Take it for visited."""
        if arch not in self._visited:
            self._visited.add(arch)
            self._remaining.exclude(arch)

    def _maskable_limits(self) -> dict[str, float]:
        """The caps that a mask can hold: those that reject, on costs that need no measurement."""
        caps, costs = self._problem.caps, self._problem.costs
        limits = maskable(self._space, caps.limits) if caps.over == "reject" else {}
        known: Mapping[str, float] = self._known() if isinstance(costs, JournaledCosts) else limits
        return {name: limit for name, limit in limits.items() if name in known}

    def _known(self) -> dict[str, float]:
        """Costs that the space knows."""
        return self._space.cost(next(self._space.all()))

    def _within_limits(self) -> Remaining:
        """A mask of the architectures within these caps."""
        known = self._known() if self._limits else {}
        own = all(name in known for name in self._limits)
        costs: Callable[[Architecture], Mapping[str, float]] = self._space.cost if own else self._problem.costs
        return within(self._space, self._encoding, self._limits, costs)

    def _mask(self, decoding: DecodingMode) -> TextMask | None:
        if decoding == "new":
            return self._remaining
        return Repeatable(self._within_limits()) if decoding == "affordable" and self._limits else None
