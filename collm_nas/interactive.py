"""`--interactive`: the user reads each round's strategy and may change it before candidates are made from it.

It stands between the model and the journal, so that what the user made of an answer is what the journal keeps: a run
that is resumed asks about new rounds alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from collm_nas import hints
from collm_nas.api import Architecture, Completion, Engine, Request, UserError
from collm_nas.prompts import Hint
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import REASONS, SETTLED, Direction, Strategy

HELP = """Enter goes on. A line changes the strategy: clauses as of --hint ('prefer kernel 7 late; avoid skip'), or
'anchor' and an architecture, to search around."""


class Interactive:
    """An `api.Engine` whose Navigator's answers a user may change; at the end of the input it asks no more."""

    def __init__(
        self,
        engine: Engine,
        space: CategoricalSpace,
        ask: Callable[[str], str],
        say: Callable[[str], None],
    ) -> None:
        self._engine, self._space, self._ask, self._say = engine, space, ask, say
        self._asking = True
        self._rounds = 0

    def describe(self) -> dict[str, Any]:
        """What the model says of itself."""
        return self._engine.describe()

    def generate(self, request: Request) -> list[Completion]:
        """The model's answers, the Navigator's as the user wants them."""
        answers = self._engine.generate(request)
        return [self._shown(answer) for answer in answers] if request.role == "navigator" else answers

    def _shown(self, answer: Completion) -> Completion:
        try:
            plan = Strategy.parse(answer.text, self._space)
        except UserError:  # only where decoding is not constrained: there is nothing to change
            return answer
        if self._asking and not self._rounds:
            self._say(HELP)
        self._rounds += 1
        changed = plan
        while self._asking:
            self._say(summary(changed, self._space))
            try:
                line = self._ask("strategy> ").strip()
            except EOFError:
                self._asking = False
                break
            if not line:
                break
            changed = self._changed(changed, line)
        if changed == plan:
            return answer
        text = changed.compact(self._space)
        return replace(answer, text=text, logp=None, logp_masked=None, removed=(), exact=None)

    def _changed(self, plan: Strategy, line: str) -> Strategy:
        try:
            if line.startswith("anchor"):
                anchor = self._space.parse(line.removeprefix("anchor").removeprefix(":").strip())
                return replace(plan, anchors=(anchor, *plan.anchors[:-1]))
            return follow(plan, hints.read(line, self._space), self._space)
        except UserError as error:
            self._say(str(error).replace("--hint ", ""))
            return plan


def follow(plan: Strategy, hint: Hint, space: CategoricalSpace) -> Strategy:
    """The strategy with its anchors and directions within what the hint is for."""
    directions = tuple(_direction(d, hint[i]) if i in hint else d for i, d in enumerate(plan.directions))
    anchors = tuple(_anchor(arch, hint, directions, space) for arch in plan.anchors)
    return replace(plan, anchors=anchors, directions=directions)


def _direction(old: Direction, wanted: frozenset[int]) -> Direction:
    kept = [c for c in (old.first, old.second) if c in wanted]
    order = [*dict.fromkeys(kept), *sorted(wanted - set(kept))]
    settled = len(SETTLED) - 1 if len(order) == 1 else old.settled
    return Direction(order[0], order[min(1, len(order) - 1)], settled)


def _anchor(arch: Architecture, hint: Hint, directions: tuple[Direction, ...], space: CategoricalSpace) -> Architecture:
    choices = tuple(directions[i].first if i in hint and c not in hint[i] else c for i, c in enumerate(arch.choices))
    return arch if choices == arch.choices else space.whole.make(choices)


def summary(plan: Strategy, space: CategoricalSpace) -> str:
    """A strategy in a few lines: anchors, directions by how settled they are, and the reason."""
    lines = [f"  anchor: {space.format(arch)}" for arch in dict.fromkeys(plan.anchors)]
    for settled in range(len(SETTLED) - 1, -1, -1):
        told = [_told(space, i, d) for i, d in enumerate(plan.directions) if d.settled == settled]
        if told:
            lines.append(f"  {SETTLED[settled]}: {', '.join(told)}")
    return "\n".join([*lines, f"  why: {REASONS[plan.reason]}"])


def _told(space: CategoricalSpace, position: int, d: Direction) -> str:
    variable = space.variables[position]
    choices = dict.fromkeys((variable.choices[d.first], variable.choices[d.second]))
    return f"{variable.name} {' or '.join(choices)}"
