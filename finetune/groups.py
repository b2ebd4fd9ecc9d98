"""Groups of strategies at points of the models' own searches, and what each brings there.

The policy of the moment searches, so that it is trained where it gets to itself. Searches are numbered: landscape,
points and seeds are functions of the number, and so all that happens is one of the number and the model's weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from collm_nas import rollouts
from collm_nas.evaluators.landscape import LandscapeEvaluator
from collm_nas.evaluators.landscape_mix import Mix
from collm_nas.traces import Policy, Trace
from finetune.recipes import Reinforcement

FIRST_SEED = 700_000_000
"""Of the landscapes: below those that are held out, and far from those of mined datasets."""
OF_A_RUN = 10_000_000
"""Seeds kept for each seed of a recipe."""
TRIES = 50
"""Seeds kept for each search: where a landscape is exhausted too soon, the next one gives the points that lack."""

SPENT = ("search", "sampling", "rollouts")
"""What seconds go to: searching up to the points, sampling groups there, and following their strategies."""


@dataclass(frozen=True, slots=True)
class Group:
    """Strategies for one point, and what each brings."""

    traces: tuple[Trace, ...]
    outcomes: tuple[float, ...]


@dataclass(slots=True)
class Spent:
    """Seconds so far, by what they went to."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPENT, 0.0))
    _since: float = field(default_factory=time.perf_counter)

    def begin(self) -> None:
        """What came before does not count."""
        self._since = time.perf_counter()

    def add(self, what: str) -> None:
        """All since the last call was for this."""
        now = time.perf_counter()
        self.seconds[what] += now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """The seconds; counting begins anew."""
        taken, self.seconds = self.seconds, dict.fromkeys(SPENT, 0.0)
        return taken


def first_seed(stage: Reinforcement) -> int:
    """The seed of its first landscape."""
    return FIRST_SEED + stage.seed * OF_A_RUN


def landscape(seed: int, stage: Reinforcement) -> LandscapeEvaluator:
    """The landscape of this seed."""
    made = Mix(large=stage.large, huge=stage.huge, real=stage.real).draw(np.random.default_rng([seed, 0]))
    return LandscapeEvaluator(made, f"landscape-{seed}", seed)


def of_search(number: int, policy: Policy, stage: Reinforcement, spent: Spent) -> list[Group]:
    """The groups at the points of one search: `stage.points` of them."""
    groups: list[Group] = []
    spent.begin()
    for attempt in range(TRIES):
        seed = first_seed(stage) + number * TRIES + attempt
        ends = range(rollouts.START, stage.longest + 1, rollouts.BATCH)
        drawn = np.random.default_rng([seed, 3]).choice(ends, stage.points - len(groups), replace=False)
        for point in rollouts.points(landscape(seed, stage), policy, sorted(drawn.tolist()), seed):
            spent.add("search")
            groups.append(_group(point, policy, stage, seed + len(point.archs), spent))
        if len(groups) == stage.points:
            return groups
    raise AssertionError(f"{TRIES} landscapes in a row have no room for {stage.points} points")


def _group(point: rollouts.Point, policy: Policy, stage: Reinforcement, seed: int, spent: Spent) -> Group:
    traces = tuple(policy.trace(replace(point.navigator, n=stage.group, seed=seed)))
    spent.add("sampling")
    # Equal strategies are rolled out once, and all with the same seed, so that luck differs little within a group.
    texts = dict.fromkeys(one.text for one in traces)
    brought = {text: rollouts.mean_outcome(point, policy, text, seed, stage.batches) for text in texts}
    spent.add("rollouts")
    return Group(traces, tuple(brought[one.text] for one in traces))
