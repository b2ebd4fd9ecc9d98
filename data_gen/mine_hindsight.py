"""The miner of hindsight: pairs of strategies that a model's own Navigator wrote at one point of the models' search, of
which one brought more than the other.

Each strategy is followed on a landscape whose values are known (`collm_nas.rollouts`): no label is invented, both
answers are the model's own, and what it learns from such pairs is to write more of what helps its Generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from collm_nas import prompts, rollouts
from collm_nas.api import Engine, UserError
from collm_nas.evaluators.landscape import LandscapeEvaluator
from collm_nas.evaluators.landscape_mix import Mix
from data_gen.examples import Form, Pair, check_digests, stops
from data_gen.mine_landscapes import check_drawn

OPTIONS = {
    "model": {"metavar": "DIR|NAME", "help": "whose Navigator and Generator search: embedded, or a folder"},
    "strategies": {"type": "int", "metavar": "N", "help": "compared at a point (4)"},
    "batches": {"type": "int", "metavar": "N", "help": "of the Generator's from each, whose mean counts (2)"},
    "margin": {"type": "float", "metavar": "M", "help": "that best and worst must differ by, at least (0.05)"},
    "longest": {"type": "int", "metavar": "N", "help": "evaluations before a point, at most (60)"},
    "landscapes": {"type": "int", "metavar": "N", "help": "how many (2000; of hindsight 500)"},
    "first_seed": {"type": "int", "metavar": "S", "help": "seed of the first one (0; of hindsight 500000000)"},
    "large": {"type": "float", "metavar": "P", "help": "share with 13 to 24 variables (0.25)"},
    "huge": {"type": "float", "metavar": "P", "help": "share with 25 to 50 variables (0.1)"},
    "real": {"type": "float", "metavar": "P", "help": "share on the variables of published spaces (0.1)"},
    "digests": {"type": "int", "metavar": "N", "help": "of a landscape or table: Navigator examples a search (2)"},
}
"""The options of this source, as literals: `mine --help` reads them from the file's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hindsight:
    """The searches of `model`, which `load` makes an engine of, on the landscapes of these seeds; the shares are those
    of `mine_landscapes`. Of the form only the digest's version counts, which must be the model's."""

    model: Path
    load: Callable[[Path], Engine]
    strategies: int = 4
    batches: int = 2
    margin: float = 0.05
    longest: int = 60
    landscapes: int = 500
    first_seed: int = 500_000_000
    large: float = 0.25
    huge: float = 0.1
    real: float = 0.1
    digests: int = 2
    form: Form = field(default_factory=Form)

    name = "hindsight"
    labeller = "hindsight"
    shard = 5

    def __post_init__(self) -> None:
        """UserError for values that make no sense, or a model that reads other digests."""
        if self.strategies < 2:
            raise UserError(f"--strategies must be at least 2, since they are compared; got {self.strategies}")
        if self.batches < 1 or self.margin < 0:
            raise UserError(f"--batches {self.batches} must be at least 1, and --margin {self.margin} at least 0")
        check_digests(self.digests, self._lengths())
        check_drawn(self.landscapes, self.first_seed, self._mix())
        reads = _engine(self.load, self.model).describe().get("digest_version", prompts.DIGEST_VERSION)
        if reads != self.form.digest_version:
            wanted = self.form.digest_version
            raise UserError(f"the model reads digests of version {reads}, not {wanted}; say --digest-version {reads}")

    def _lengths(self) -> range:
        return range(rollouts.START, self.longest + 1, rollouts.BATCH)

    def _mix(self) -> Mix:
        return Mix(large=self.large, huge=self.huge, real=self.real)

    def units(self) -> int:
        """How many landscapes."""
        return self.landscapes

    def sources(self) -> dict[str, str]:
        """What the model has seen: its answers may tell of it."""
        return dict(_engine(self.load, self.model).describe().get("sources", {}))

    def settings(self) -> dict[str, Any]:
        """What the manifest says; the model by its hashes, wherever it lies."""
        parts = _engine(self.load, self.model).describe().get("model", {})
        names = [name for name in OPTIONS if name != "model"]
        model = ",".join(f"{part}:{sha[:16]}" for part, sha in parts.items())
        return {"model": model, **{name: getattr(self, name) for name in names}}

    def examples(self, unit: int) -> Iterator[Pair]:
        """The pairs of one landscape (the same in every process)."""
        seed = self.first_seed + unit
        made = self._mix().draw(np.random.default_rng([seed, 0]))
        rng = np.random.default_rng([seed, 6])
        ends = stops(self._lengths(), self.digests, rng)
        landscape = LandscapeEvaluator(made, f"landscape-{seed}", seed)
        for point in rollouts.points(landscape, _engine(self.load, self.model), ends, seed):
            yield from self._pair(point, seed, rng)

    def _pair(self, point: rollouts.Point, seed: int, rng: np.random.Generator) -> Iterator[Pair]:
        """The strategies that brought most and least there, unless they brought about the same."""
        engine = _engine(self.load, self.model)
        sampled, followed = (int(drawn) for drawn in rng.integers(2**31, size=2))
        asked = replace(point.navigator, n=self.strategies, seed=sampled, temperature=1.0)
        texts = dict.fromkeys(answer.text for answer in engine.generate(asked))
        # All are followed with the same seeds, so that luck differs little between them.
        brought = {text: rollouts.mean_outcome(point, engine, text, followed, self.batches) for text in texts}
        best, worst = max(brought, key=brought.__getitem__), min(brought, key=brought.__getitem__)
        if brought[best] - brought[worst] <= self.margin:
            return
        yield Pair(
            role="navigator",
            prompt=asked.prompt,
            completion=best,
            miner=self.name,
            source=str(seed),
            seed=seed,
            variables=len(point.landscape.space.variables),
            evaluations=len(point.archs),
            rejected=worst,
            outcome=brought[best],
            outcome_rejected=brought[worst],
        )


@lru_cache(maxsize=1)
def _engine(load: Callable[[Path], Engine], model: Path) -> Engine:
    """Loaded once in a process."""
    return load(model)


def create(form: Form, given: dict[str, Any]) -> Hindsight:
    """The source that the options describe; UserError where the model is missing."""
    if "model" not in given:
        raise UserError("--source hindsight needs --model DIR, whose own searches it looks at (or --model embedded)")
    return Hindsight(form=replace(form, hinted=0.0), **given)
