"""Searches by the models with one part changed, for `ablate`: the Coordinator with the smallest possible change."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

from collm_nas import prompts, strategy
from collm_nas.api import Architecture, Candidate, Completion, Engine, Problem, Request, Role, UserError
from collm_nas.coordinator import Coordinator
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

    def _navigate(self, count: int) -> list[Strategy]:
        return [prompts.empty_strategy(self._space, self._anchors()) for _ in range(count)]

    def _anchors(self) -> list[Architecture]:
        ranked = sorted(zip(self._values, range(len(self._values)), strict=True), reverse=True)
        best = [self._archs[i] for _, i in ranked[: strategy.ANCHORS]]
        return best + self._random(strategy.ANCHORS - len(best))

    def _random(self, n: int) -> list[Architecture]:
        rng = random.Random(self._seed("anchors", self._calls))
        return [self._space.sample(rng) for _ in range(n)]


class Blind(BestPoints):
    """No Navigator and no history: the Generator is shown random architectures."""

    def _anchors(self) -> list[Architecture]:
        return self._random(strategy.ANCHORS)


# --- a Navigator that reads less --------------------------------------------------------------------------------------


class ShortHistory(Coordinator):
    """The digest covers the last evaluations only."""

    def _navigate(self, count: int) -> list[Strategy]:
        kept = self._archs, self._values, self._feasible
        self._archs, self._values, self._feasible = ([*part[-RECENT:]] for part in kept)
        try:
            return super()._navigate(count)
        finally:
            self._archs, self._values, self._feasible = kept


class NoPast(Coordinator):
    """The digest says nothing of past strategies: the Navigator is stateless, too."""

    def _navigate(self, count: int) -> list[Strategy]:
        self._past = []
        return super()._navigate(count)


class PermutedScores(Coordinator):
    """The digest holds the right scores beside the wrong architectures."""

    def _navigate(self, count: int) -> list[Strategy]:
        kept = self._values
        self._values = random.Random(self._seed("permute", 0)).sample(kept, len(kept))
        try:
            return super()._navigate(count)
        finally:
            self._values = kept


# --- without the Generator --------------------------------------------------------------------------------------------


class Anchors(Coordinator):
    """Each strategy's first anchor is a candidate as it stands; the Generator makes what is missing, since those were
    visited."""

    def _generate(self, n: int) -> list[Candidate]:
        candidates: list[Candidate] = []
        for plan in self._plans:
            arch = plan.anchors[0]
            if len(candidates) < n and self._allowed.usable(arch):
                candidates.append(Candidate(arch, "model", self._space.format(arch, self._encoding)))
                self._plan_of[arch] = plan
                self._allowed.exclude(arch)
        return candidates + (super()._generate(n - len(candidates)) if len(candidates) < n else [])


# --- strategies to choose from ----------------------------------------------------------------------------------------


class Fresh(Coordinator):
    """Three times as many strategies as are followed: first those whose first anchor is new, no two with the same."""

    def _navigate(self, count: int) -> list[Strategy]:
        plans = super()._navigate(3 * count)
        first: dict[Architecture, Strategy] = {}
        for plan in plans:
            if self._allowed.usable(plan.anchors[0]):
                first.setdefault(plan.anchors[0], plan)
        return [*first.values(), *plans][:count]


class FreshAnchors(Fresh, Anchors):
    """Both."""


# --- a Generator that remembers ---------------------------------------------------------------------------------------


class StatefulGenerator(Coordinator):
    """The Generator reads its own earlier strategies and answers before the new one, as many as there is room for."""

    _told: tuple[str, ...] = ()

    def _call(self, role: Role, prompt: str, n: int) -> list[Completion]:
        if role == "navigator":
            return super()._call(role, prompt, n)
        answers = super()._call(role, "".join(self._told) + prompt, n)
        self._told = (*self._told, *(prompt + answer.text for answer in answers))[-MEMORY:]
        return answers


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

    def _generate(self, n: int) -> list[Candidate]:
        candidates = []
        for candidate in super()._generate(n):
            candidates.append(candidate)
            if candidate.arch is None:
                candidates.append(self._repaired(candidate.text))
        return candidates

    def _repaired(self, text: str) -> Candidate:
        arch = repaired(self._space, text, random.Random(self._seed("repair", self._calls)))
        plan = self._plans[0] if self._plans else None
        if self._allowed.usable(arch) and plan is not None:
            self._plan_of[arch] = plan
        self._allowed.exclude(arch)
        return Candidate(arch, "repair", self._space.format(arch, self._encoding))


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
