"""Which landscapes models learn from: many small ones, some large, some on the variables of published spaces."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from collm_nas import spaces
from collm_nas.evaluators.landscape import Family, Landscape, draw_landscape
from collm_nas.evaluators.landscape_on import draw_on_space

SMALL = Family(variables=(4, 12), choices=(2, 10))
LARGE = Family(variables=(13, 24), choices=(2, 5))
HUGE = Family(variables=(25, 50), choices=(2, 4))
REAL = ("ofa-mbv3", "spos-shufflenet", "autoformer-tiny", "autoformer-small")
"""Spaces whose variables, conditions and (additively) costs some landscapes have; their fitness is invented."""
REAL_FAMILY = Family(capped=0.6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Shares: `large` of the landscapes have 13 to 24 variables, `huge` 25 to 50, `real` those of the spaces `REAL`,
    mostly under a cap; the others are small."""

    large: float = 0.25
    huge: float = 0.1
    real: float = 0.1

    def draw(self, rng: np.random.Generator) -> Landscape:
        """One landscape."""
        kind = rng.random()
        if kind < self.real:
            return draw_on_space(spaces.load(REAL[int(rng.integers(len(REAL)))]), rng, REAL_FAMILY)
        kind -= self.real
        family = HUGE if kind < self.huge else LARGE if kind < self.huge + self.large else SMALL
        if family is SMALL and rng.random() < 0.5:  # the sizes that most cell spaces have
            family = replace(family, variables=(5, 8))
        return draw_landscape(rng, family)
