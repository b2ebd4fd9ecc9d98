"""The miner of synthetic landscapes: draw one, simulate a search on it, stop it at several points, and at each say
what a
Navigator should write and what a Generator should make of it. No names, no prior, no real benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from collm_nas import prompts
from collm_nas.evaluators.landscape import HELD_OUT, Family, Landscape, draw_landscape, space_of
from collm_nas.spaces.base import CategoricalSpace
from data_gen import full_knowledge
from data_gen.histories import LENGTHS, LONG_FROM, LONG_LENGTHS, History, simulate

SMALL = Family(variables=(4, 12), choices=(2, 10))
LARGE = Family(variables=(13, 24), choices=(2, 5))
HUGE = Family(variables=(25, 50), choices=(2, 4))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """What a run mines. `large` is the share of landscapes with 13 to 24 variables, `huge` of those with 25 to 50."""

    large: float = 0.25
    huge: float = 0.1
    digests: int = 3  # Navigator examples a landscape
    targets: int = 2  # Generator examples a strategy


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the dataset; `seed`, `variables` and `evaluations` are its provenance."""

    role: str
    prompt: str
    completion: str
    seed: int
    variables: int
    evaluations: int


def examples(seed: int, mix: Mix) -> Iterator[Example]:
    """All examples of the landscape of this seed (the same in every process); ValueError for a held-out seed."""
    if seed >= HELD_OUT:
        raise ValueError(f"seed {seed} is held out for measuring; training seeds are below {HELD_OUT}")
    rng = np.random.default_rng([seed, 0])
    size = rng.random()
    family = HUGE if size < mix.huge else LARGE if size < mix.huge + mix.large else SMALL
    if family is SMALL and rng.random() < 0.5:  # the sizes that most cell spaces have
        family = replace(family, variables=(5, 8))
    made = draw_landscape(rng, family)
    space = space_of(made, "s")
    optimum_V = full_knowledge.find_optimum(made, rng)
    lengths = LONG_LENGTHS if len(made.sizes) >= LONG_FROM else LENGTHS
    stops = sorted(rng.choice(lengths, mix.digests, replace=False).tolist())
    history = simulate(made, optimum_V, stops[-1], rng)
    if len(history.y_M):
        peaks_NV = made.climb(np.stack([optimum_V, history.x_MV[history.y_M.argmax()]]))
        optimum_V = peaks_NV[made.raw(peaks_NV).argmax()]
    known = full_knowledge.truth(made, optimum_V)
    press = _pressure(made, rng)
    for stop in stops:
        yield from _at(made, space, history.cut(stop), known, press, mix, seed, rng)


def _at(
    made: Landscape,
    space: CategoricalSpace,
    history: History,
    known: full_knowledge.Truth,
    press: prompts.Pressure | None,
    mix: Mix,
    seed: int,
    rng: np.random.Generator,
) -> Iterator[Example]:
    label = full_knowledge.strategy(made, space, known, history, rng)
    archs = [full_knowledge.architecture(space, x) for x in history.x_MV]
    past = _past(space, history)
    text = prompts.digest(space, archs, history.y_M.tolist(), past=past, pressure=press)
    where = (seed, len(made.sizes), len(archs))
    yield Example("navigator", text, label.compact(space), *where)
    for pick in rng.choice(len(known.x_BV), mix.targets, p=known.weight_B):
        target = space.format(full_knowledge.architecture(space, known.x_BV[pick]), "compact")
        yield Example("generator", prompts.generator_prompt(space, label), target, *where)


def _past(space: CategoricalSpace, history: History) -> list[prompts.Tried]:
    """The last rounds as the digest of a real search shows them."""
    tried = []
    deviation = float(history.y_M.std()) if len(history.y_M) else 0.0
    for round_ in history.rounds[-prompts.PAST :]:
        before, after = history.y_M[: round_.start].max(), history.y_M[: round_.end].max()
        batch_NV = history.x_MV[round_.start : round_.end]
        spread = float((batch_NV != round_.anchor_V).sum(1).mean()) / len(round_.anchor_V)
        gain = prompts.gain_level(float(before), float(after), deviation)
        tried.append(
            prompts.Tried(full_knowledge.architecture(space, round_.anchor_V), min(7, round(8 * spread)), gain)
        )
    return tried


def _pressure(made: Landscape, rng: np.random.Generator) -> prompts.Pressure | None:
    if made.cap is None:
        return None
    x_NV = made.canonical(rng.integers(0, made.sizes, size=(200, len(made.sizes))))
    return prompts.pressure_from(made.one_hot(x_NV), made.cost(x_NV), float(made.feasible(x_NV).mean()))
