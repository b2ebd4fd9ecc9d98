"""What every miner makes: examples of what a Navigator should write at a point of a search, and a Generator of that.

A miner brings a stretch of evaluations and the best points it knows (its labeller says how); all else is done here, so
that examples of landscapes, tables and past runs are alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from collm_nas import prompts
from collm_nas.api import Architecture, Caps, UserError
from collm_nas.spaces.base import CategoricalSpace
from collm_nas.strategy import ANCHORS, ROAM_STEPS, Direction, Strategy
from data_gen import hinting

BATCH = 5
TEMPERATURE = 3.0  # ranks: member r of the best is taken with weight exp(-r / 3)
GENERATOR_TEMPERATURE = 1.0  # likewise for the Generator's answers beside the first anchor


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the dataset; what is behind `completion` is its provenance."""

    role: str
    prompt: str
    completion: str
    miner: str
    source: str
    """The landscape's seed, the table's name or the run's folder."""
    seed: int
    variables: int
    evaluations: int
    others: tuple[str, ...] = field(default=(), kw_only=True)
    """Further answers to the same prompt, as good as `completion`."""


@dataclass(frozen=True, slots=True)
class Pair(Example):
    """An example with an answer that is worse than its `completion`, and what following each of the two brought."""

    rejected: str
    outcome: float
    outcome_rejected: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A search up to some evaluation: distinct architectures in order and what they brought; `feasible`: within caps.

    `near_cap`: whether the best known point uses up the cap, so that the reason is the cap. `advice`: what an optimiser
    without a model would evaluate next."""

    archs: Sequence[Architecture]
    values: Sequence[float]
    feasible: Sequence[bool]
    past: Sequence[prompts.Tried] = ()
    pressure: prompts.Pressure | None = None
    near_cap: bool = False
    advice: Sequence[Architecture] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an example is from."""

    miner: str
    source: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What is made at each point, whatever the source: Generator's examples a strategy, the version of the digest, and
    the share of points at which the Navigator is given a hint."""

    targets: int = 2
    digest_version: int = prompts.DIGEST_VERSION
    hinted: float = 0.25


def stops(lengths: Sequence[int], digests: int, rng: np.random.Generator) -> list[int]:
    """At which numbers of evaluations a search is stopped: `digests` of these, in order."""
    return sorted(int(n) for n in rng.choice(lengths, digests, replace=False))


def check_digests(digests: int, lengths: Sequence[int]) -> None:
    """UserError where a search cannot be stopped so often."""
    if not 1 <= digests <= len(lengths):
        raise UserError(f"--digests {digests} must lie in 1..{len(lengths)}, the numbers of evaluations that there are")


def uses_up(caps: Caps, costs: Mapping[str, float]) -> bool:
    """Whether these costs are within 5 % of a cap."""
    return any(costs.get(name, 0.0) > 0.95 * limit for name, limit in caps.limits.items())


def weights(n: int, temperature: float = TEMPERATURE) -> np.ndarray:
    """How often each of the best `n` points is taken."""
    weight_N = np.exp(-np.arange(n) / temperature)
    return weight_N / weight_N.sum()


def examples(
    space: CategoricalSpace,
    stretch: Stretch,
    best: Sequence[Architecture],
    origin: Origin,
    form: Form,
    rng: np.random.Generator,
    others: Sequence[Sequence[Architecture]] = (),
) -> Iterator[Example]:
    """The Navigator's example at this point, and some of the Generator's; `best`: the best points, best first;
    `others`: what might as well be taken for these, each of which makes one more answer of the Navigator's. The
    first of the Generator's answers is the strategy's first anchor, so that what the Navigator means is tried; the
    others are near it in rank, so that several candidates of one strategy differ."""
    label = strategy(space, stretch, best, rng)
    hint = hinting.draw(space, best[0], rng) if rng.random() < form.hinted else None
    text = prompts.digest(
        space,
        stretch.archs,
        stretch.values,
        feasible=stretch.feasible,
        past=stretch.past,
        pressure=stretch.pressure,
        hint=hint,
        advice=stretch.advice,
        version=form.digest_version,
    )
    where = (origin.miner, origin.source, origin.seed, len(space.variables), len(stretch.archs))
    further = tuple(strategy(space, stretch, one, rng).compact(space) for one in others)
    yield Example("navigator", text, label.compact(space), *where, others=further)
    for pick in (0, *rng.choice(len(best), form.targets - 1, p=weights(len(best), GENERATOR_TEMPERATURE))):
        target = space.format(best[pick], "compact")
        yield Example("generator", prompts.generator_prompt(space, label), target, *where)


def strategy(
    space: CategoricalSpace, stretch: Stretch, best: Sequence[Architecture], rng: np.random.Generator
) -> Strategy:
    """The strategy that leads to the best points: the first and two more of them, the commonest choices, how far they
    spread, and why."""
    weight_B = weights(len(best))
    others = rng.permutation(np.arange(1, len(best)))  # fewer than wanted only in a tiny space
    if len(others) >= ANCHORS:
        others = rng.choice(others, ANCHORS - 1, replace=False, p=weight_B[others] / weight_B[others].sum())
    picks = [0, *sorted(others)[: ANCHORS - 1]]
    picks += [picks[-1]] * (ANCHORS - len(picks))
    x_BV = np.array([arch.choices for arch in best])
    distance_BA = (x_BV[:, None] != x_BV[picks][None]).sum(2)
    spread = float((distance_BA.min(1) * weight_B).sum()) / x_BV.shape[1]
    roam = min(ROAM_STEPS - 1, round(8 * spread))
    directions = _directions(space, x_BV, weight_B)
    return Strategy(tuple(best[i] for i in picks), directions, roam, _reason(stretch, best[0]))


def _directions(space: CategoricalSpace, x_BV: np.ndarray, weight_B: np.ndarray) -> tuple[Direction, ...]:
    on_BV = np.array([space.active(row) for row in x_BV.tolist()])
    directions = []
    for v, variable in enumerate(space.variables):
        weight_K = np.bincount(x_BV[on_BV[:, v], v], weights=weight_B[on_BV[:, v]], minlength=len(variable.choices))
        if weight_K.sum() == 0:  # switched off in all of the best: nothing to say
            directions.append(Direction(0, 0, 0))
            continue
        share_K = weight_K / weight_K.sum()
        order = np.argsort(-share_K, kind="stable")
        second = int(order[1]) if len(order) > 1 and share_K[order[1]] > 0 else int(order[0])
        settled = 3 - min(3, int(5 * (1 - share_K[order[0]]) + 1e-9))
        directions.append(Direction(int(order[0]), second, settled))
    return tuple(directions)


def _reason(stretch: Stretch, best: Architecture) -> int:
    """The number of the reason (`strategy.REASONS`): how far the best known point lies from the best one found."""
    found = [i for i, ok in enumerate(stretch.feasible) if ok]
    if len(stretch.archs) < BATCH or not found:
        return 0
    top = stretch.archs[max(found, key=lambda i: stretch.values[i])]
    distance = sum(a != b for a, b in zip(top.choices, best.choices, strict=True))
    if distance <= 1:
        return 3
    if stretch.near_cap:
        return 4
    return 2 if distance <= len(best.choices) / 2 else 1


def tried(archs: Sequence[Architecture], values: Sequence[float], starts: Sequence[int]) -> list[prompts.Tried]:
    """The last rounds as the digest of a real search shows them; round r begins at evaluation `starts[r]`, its best
    point stands for the strategy that made it."""
    deviation = float(np.std(values)) if len(values) else 0.0
    rounds = []
    for start, end in list(pairwise([*starts, len(archs)]))[-prompts.PAST :]:
        if start == 0:
            continue
        top = archs[max(range(start, end), key=lambda i: values[i])]
        changes = [sum(a != b for a, b in zip(arch.choices, top.choices, strict=True)) for arch in archs[start:end]]
        spread = sum(changes) / len(changes) / len(top.choices)
        gain = prompts.gain_level(max(values[:start]), max(values[:end]), deviation)
        rounds.append(prompts.Tried(top, min(ROAM_STEPS - 1, round(8 * spread)), gain))
    return rounds
