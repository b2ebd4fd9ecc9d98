"""The miner of synthetic landscapes: draw one, simulate a search on it, stop it at several points, and at each say what
a Navigator should write and what a Generator should make of it. No names, no prior, no real benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from collm_nas import prompts
from collm_nas.api import Architecture, UserError
from collm_nas.evaluators.landscape import HELD_OUT, Ints, Landscape, space_of
from collm_nas.evaluators.landscape_mix import Mix
from collm_nas.spaces.base import CategoricalSpace
from data_gen import full_knowledge
from data_gen.advising import advise
from data_gen.best_of_draws import best_of_draws
from data_gen.examples import Example, Form, Origin, Stretch, check_digests, examples, stops, tried
from data_gen.histories import LENGTHS, LONG_FROM, LONG_LENGTHS, simulate
from data_gen.mine import SHARD

LEAST = 5
"""New draws that a label takes; with fewer (all near ones were evaluated, or the cap is tight) it is the optimum."""

OPTIONS = {
    "landscapes": {"type": "int", "metavar": "N", "help": "how many (2000; of hindsight 500)"},
    "first_seed": {"type": "int", "metavar": "S", "help": "seed of the first one (0; of hindsight 500000000)"},
    "large": {"type": "float", "metavar": "P", "help": "share with 13 to 24 variables (0.25)"},
    "huge": {"type": "float", "metavar": "P", "help": "share with 25 to 50 variables (0.1)"},
    "real": {"type": "float", "metavar": "P", "help": "share on the variables of published spaces (0.1)"},
    "digests": {"type": "int", "metavar": "N", "help": "of a landscape or table: Navigator examples a search (2)"},
    "draws": {"type": "int", "metavar": "K", "help": "label: the best of K draws from the evidence (0: the optimum)"},
    "advised": {
        "type": "float",
        "metavar": "P",
        "help": "share of --draws digests with a Gaussian process's advice (0)",
    },
    "taught": {
        "type": "float",
        "metavar": "P",
        "help": "share of --draws digests whose label may be such advice, shown or not (0)",
    },
    "optimal": {
        "type": "float",
        "metavar": "P",
        "help": "share of --draws answers that lead to the optimum all the same (0)",
    },
    "answers": {"type": "int", "metavar": "N", "help": "of the Navigator's at a point, each from its own --draws (1)"},
}
"""The options of this source, as literals: `mine --help` reads them from the file's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Landscapes:
    """Landscapes of seeds `first_seed .. first_seed + landscapes - 1`. Shares: `large` of them have 13 to 24 variables,
    `huge` 25 to 50, `real` those of published spaces (see `landscape_mix`)."""

    landscapes: int = 2000
    first_seed: int = 0
    large: float = 0.25
    huge: float = 0.1
    real: float = 0.1
    digests: int = 2
    draws: int = 0
    answers: int = 1
    advised: float = 0.0
    taught: float = 0.0
    optimal: float = 0.0
    form: Form = field(default_factory=Form)

    name = "landscapes"
    shard = SHARD

    @property
    def labeller(self) -> str:
        """The module that says what is right."""
        return "best_of_draws" if self.draws else "full_knowledge"

    def __post_init__(self) -> None:
        """UserError for counts, shares or seeds that make no sense."""
        check_digests(self.digests, LENGTHS)
        if self.draws != 0 and self.draws < LEAST:
            raise UserError(f"--draws {self.draws} must be 0 (the optimum is the label) or at least {LEAST}")
        if self.answers < 1 or (self.answers > 1 and self.draws == 0):
            raise UserError(f"--answers {self.answers} must be at least 1, and more than 1 only with --draws")
        if not 0 <= self.advised <= 1 or (self.advised and (self.draws == 0 or self.form.digest_version < 2)):
            raise UserError(
                f"--advised {self.advised} must be a share, 0 to 1, and needs --draws and digests of version 2 or 3"
            )
        if not 0 <= self.taught <= 1 or (self.taught and self.draws == 0):
            raise UserError(f"--taught {self.taught} must be a share, 0 to 1, and needs --draws")
        if not 0 <= self.optimal <= 1 or (self.optimal and self.draws == 0):
            raise UserError(f"--optimal {self.optimal} must be a share, 0 to 1, and needs --draws (without, it is 1)")
        check_drawn(self.landscapes, self.first_seed, Mix(large=self.large, huge=self.huge, real=self.real))

    def units(self) -> int:
        """How many landscapes."""
        return self.landscapes

    def sources(self) -> dict[str, str]:
        """None: landscapes are drawn from their seeds."""
        return {}

    def settings(self) -> dict[str, Any]:
        """What the manifest says."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "form"}

    def examples(self, unit: int) -> Iterator[Example]:
        """All examples of one landscape (the same in every process)."""
        seed = self.first_seed + unit
        rng = np.random.default_rng([seed, 0])
        made = Mix(large=self.large, huge=self.huge, real=self.real).draw(rng)
        space = space_of(made, "s")
        optimum_V = full_knowledge.find_optimum(made, rng)
        lengths = LONG_LENGTHS if len(made.sizes) >= LONG_FROM else LENGTHS
        ends = stops(lengths, self.digests, rng)
        history = simulate(made, optimum_V, ends[-1], rng)
        if len(history.y_M):
            peaks_NV = made.climb(np.stack([optimum_V, history.x_MV[history.y_M.argmax()]]))
            optimum_V = peaks_NV[made.raw(peaks_NV).argmax()]
        best_BV = full_knowledge.best_of_landscape(made, optimum_V)
        pressure = _pressure(made, rng)
        for stop in ends:
            part = history.cut(stop)
            archs = [architecture(space, x) for x in part.x_MV]
            values = part.y_M.tolist()
            past = tried(archs, values, part.starts)
            shown, taught = rng.random() < self.advised, rng.random() < self.taught
            advice_AV = advise(made, part, prompts.shown_advice(space), rng) if shown or taught else None
            drawn = best_of_draws(made, part, self.draws, rng, self.answers, advice_AV) if self.draws else []
            drawn = [x_BV for x_BV in drawn if len(x_BV) >= LEAST] or [best_BV]
            if self.optimal:  # no draw from the generator otherwise: datasets of earlier commands stay the same
                drawn = [best_BV if rng.random() < self.optimal else x_BV for x_BV in drawn]
            best, *others = [[architecture(space, x) for x in x_BV] for x_BV in drawn]
            near_cap = made.cap is not None and bool(made.cost(drawn[0][:1])[0] > 0.95 * made.cap)
            advice = [architecture(space, x) for x in advice_AV] if shown and advice_AV is not None else []
            stretch = Stretch(archs, values, [True] * len(archs), past, pressure, near_cap, advice)
            origin = Origin(self.name, str(seed), seed)
            yield from examples(space, stretch, best, origin, self.form, rng, others)


def check_drawn(landscapes: int, first_seed: int, mix: Mix) -> None:
    """UserError for a count, seeds or shares of landscapes that make no sense."""
    if landscapes < 1:
        raise UserError(f"--landscapes must be at least 1, got {landscapes}")
    if min(mix.large, mix.huge, mix.real) < 0 or mix.large + mix.huge + mix.real > 1:
        raise UserError(
            f"--large {mix.large}, --huge {mix.huge} and --real {mix.real} are shares: at least 0, together at most 1"
        )
    if first_seed < 0 or first_seed + landscapes > HELD_OUT:
        raise UserError(f"seeds must lie in 0..{HELD_OUT - 1}; those from {HELD_OUT} on are held out for measuring")


def architecture(space: CategoricalSpace, x_V: Ints) -> Architecture:
    """A canonical row of choices as an `Architecture`."""
    return Architecture(space.name, tuple(x_V.tolist()))


def _pressure(made: Landscape, rng: np.random.Generator) -> prompts.Pressure | None:
    if made.cap is None:
        return None
    x_NV = made.canonical(rng.integers(0, made.sizes, size=(200, len(made.sizes))))
    return prompts.pressure_from(made.one_hot(x_NV), made.cost(x_NV), float(made.feasible(x_NV).mean()))


def create(form: Form, given: dict[str, Any]) -> Landscapes:
    """The source that the options describe."""
    return Landscapes(form=form, **given)
