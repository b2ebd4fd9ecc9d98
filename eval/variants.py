"""Searches by the models with one part changed, for `ablate`: the Coordinator with the smallest possible change."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from collm_nas import prompts, strategy
from collm_nas.api import Architecture, Candidate, Completion, Engine, Problem, Request, Role, UserError
from collm_nas.coordinator import Coordinator, History
from collm_nas.spaces.base import CHOICE_CHARS, LETTERS, CategoricalSpace
from collm_nas.strategy import Strategy
from eval.hybrids import HYBRIDS
from eval.picking import NAME as PICKS
from eval.picking import PickOfTen

RECENT = 20
"""Evaluations that a short history keeps."""

MEMORY = 10
"""Answers that a stateful Generator remembers."""


# --- without the Navigator --------------------------------------------------------------------------------------------


class BestPoints(Coordinator):
    """No Navigator: the Generator is shown the best architectures so far, and no preference."""

    def navigate(self, count: int) -> list[Strategy]:
        """Always the same strategy."""
        return [prompts.empty_strategy(self.space, self._anchors())] * count

    def _anchors(self) -> list[Architecture]:
        best = self.history.best(strategy.ANCHORS)
        return best + self._random(strategy.ANCHORS - len(best))

    def _random(self, n: int) -> list[Architecture]:
        rng = random.Random(self.seed("anchors"))
        return [self.space.sample(rng) for _ in range(n)]


class Blind(BestPoints):
    """No Navigator and no history: the Generator is shown random architectures."""

    def _anchors(self) -> list[Architecture]:
        return self._random(strategy.ANCHORS)


# --- a Navigator that reads less --------------------------------------------------------------------------------------


class ShortHistory(Coordinator):
    """The digest covers the last evaluations only."""

    def shown(self) -> History:
        """The last ones."""
        return super().shown().last(RECENT)


class NoPast(Coordinator):
    """The digest says nothing of past strategies: the Navigator is stateless, too."""

    def past(self) -> Sequence[prompts.Tried]:
        """None."""
        return ()


class PermutedScores(Coordinator):
    """The digest holds the right scores beside the wrong architectures."""

    def shown(self) -> History:
        """In another order in every round."""
        told = super().shown()
        rng = random.Random(self.seed("permute", 0))
        return replace(told, values=rng.sample(told.values, len(told.values)))


# --- without the Generator --------------------------------------------------------------------------------------------


class Anchors(Coordinator):
    """Each strategy's first anchor is a candidate as it stands; the Generator makes what is missing, since those were
    visited."""

    def generate(self, n: int) -> list[Candidate]:
        """Anchors first."""
        candidates: list[Candidate] = []
        for plan in self.plans:
            arch = plan.anchors[0]
            if len(candidates) < n and self.usable(arch):
                candidates.append(Candidate(arch, "model", self.space.format(arch, self.encoding)))
                self.credit(arch, plan)
        return candidates + (super().generate(n - len(candidates)) if len(candidates) < n else [])


# --- strategies to choose from ----------------------------------------------------------------------------------------


class Fresh(Coordinator):
    """Three times as many strategies as are followed: first those whose first anchor is new, no two with the same."""

    def navigate(self, count: int) -> list[Strategy]:
        """The chosen ones."""
        plans = super().navigate(3 * count)
        first: dict[Architecture, Strategy] = {}
        for plan in plans:
            if self.usable(plan.anchors[0]):
                first.setdefault(plan.anchors[0], plan)
        return [*first.values(), *plans][:count]


class FreshAnchors(Fresh, Anchors):
    """Both."""


# --- a Generator that remembers ---------------------------------------------------------------------------------------


class StatefulGenerator(Coordinator):
    """The Generator reads its own earlier strategies and answers before the new one, as many as there is room for."""

    _told: tuple[str, ...] = ()

    def answers(self, role: Role, prompt: str, n: int) -> list[Completion]:
        """The Generator's with what it was told before."""
        if role == "navigator":
            return super().answers(role, prompt, n)
        found = super().answers(role, "".join(self._told) + prompt, n)
        self._told = (*self._told, *(prompt + answer.text for answer in found))[-MEMORY:]
        return found


class ForgetfulNavigator(StatefulGenerator, NoPast):
    """The Generator remembers and the Navigator does not."""


# --- other adapters ---------------------------------------------------------------------------------------------------


class OtherAdapters:
    """An engine that answers each role with the adapter of another."""

    def __init__(self, engine: Engine, adapters: dict[Role, Role]) -> None:
        self._engine, self._adapters = engine, adapters

    def generate(self, request: Request) -> list[Completion]:
        """As the engine beneath."""
        return self._engine.generate(replace(request, role=self._adapters[request.role]))

    def describe(self) -> dict[str, Any]:
        """As the engine beneath, with the adapters."""
        return {**self._engine.describe(), "adapters": dict(self._adapters)}


# --- repair -----------------------------------------------------------------------------------------------------------


class Repair(Coordinator):
    """An illegal answer counts as such, and is followed by the nearest legal architecture that it can be read as."""

    def generate(self, n: int) -> list[Candidate]:
        """With repaired ones."""
        candidates = []
        for candidate in super().generate(n):
            candidates.append(candidate)
            if candidate.arch is None:
                candidates.append(self._repaired(candidate.text))
        return candidates

    def _repaired(self, text: str) -> Candidate:
        arch = repaired(self.space, text, random.Random(self.seed("repair")))
        self.credit(arch, self.plans[0])
        return Candidate(arch, "repair", self.space.format(arch, self.encoding))


def repaired(space: CategoricalSpace, text: str, rng: random.Random) -> Architecture:
    """The architecture whose choices are those that the text names, as pairs (`a0`), where they are legal; a random
    architecture's elsewhere."""
    base = space.sample(rng)
    choices = list(base.choices)
    for letter, choice in re.findall(r"([a-zA-Z])([0-9a-z])", text):
        position = LETTERS.index(letter)
        if position < len(choices) and CHOICE_CHARS.index(choice) < len(space.variables[position].choices):
            choices[position] = CHOICE_CHARS.index(choice)
    try:
        return space.make(choices)
    except UserError:  # not a row of the table
        return base


# --- by name ----------------------------------------------------------------------------------------------------------

COORDINATORS: dict[str, type[Coordinator]] = {
    "best-points": BestPoints,
    "blind": Blind,
    "anchors": Anchors,
    "fresh": Fresh,
    "fresh-anchors": FreshAnchors,
    "short-history": ShortHistory,
    "no-past": NoPast,
    "permuted-scores": PermutedScores,
    "stateful-generator": StatefulGenerator,
    "forgetful-navigator": ForgetfulNavigator,
    "repair": Repair,
    PICKS: PickOfTen,
}
ADAPTERS: dict[str, dict[Role, Role]] = {
    "navigator-for-both": {"navigator": "navigator", "generator": "navigator"},
    "generator-for-both": {"navigator": "generator", "generator": "generator"},
    "roles-exchanged": {"navigator": "generator", "generator": "navigator"},
}
NAMES = (*COORDINATORS, *ADAPTERS, *HYBRIDS)


def create(name: str, problem: Problem, engine: Engine, **options: Any) -> Any:
    """The search with the changed part (an `api.Optimizer`); `options` are those of `collm_nas.coordinator.create`."""
    from collm_nas import coordinator

    if name in ADAPTERS:
        return coordinator.create(problem, engine=OtherAdapters(engine, ADAPTERS[name]), **options)
    if name in HYBRIDS:
        return HYBRIDS[name](problem, coordinator.create(problem, engine=engine, **options))
    if name not in COORDINATORS:
        raise UserError(f"variant {name!r} is unknown; legal: {', '.join(NAMES)}")
    kind = COORDINATORS[name]
    return coordinator.create(problem, engine=engine, kind=kind, **options)
