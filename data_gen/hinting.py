"""Hints as a user might give them: true, mistaken or without any use. A model learns from the mixture how far to trust
one, and that evidence against it counts more."""

from __future__ import annotations

import numpy as np

from collm_nas.api import Architecture
from collm_nas.prompts import Hint
from collm_nas.spaces.base import CategoricalSpace

RIGHT = {"right": 0.95, "useless": 0.5, "misleading": 0.1}
"""How often a variable's advice has the best choice in it, by the kind of hint."""
SHARES = (0.5, 0.25, 0.25)


def draw(space: CategoricalSpace, best: Architecture, rng: np.random.Generator, kind: str = "") -> Hint | None:
    """Advice on some active variables of the best architecture: each its set of choices, mostly a single one or all
    but one. `kind` of `RIGHT`; drawn where it is left out."""
    right = RIGHT[kind or str(rng.choice(list(RIGHT), p=SHARES))]
    on = [i for i, active in enumerate(space.active(best.choices)) if active and len(space.variables[i].choices) > 1]
    if not on:
        return None
    about = rng.permutation(on)[: max(1, round(len(on) * rng.random() ** 2))]
    narrow = rng.random() < 0.7
    hint = {}
    for i in sorted(int(i) for i in about):
        k = len(space.variables[i].choices)
        size = 1 if narrow else int(rng.integers(1, k))
        own, others = best.choices[i], [c for c in range(k) if c != best.choices[i]]
        fits = rng.random() < right
        rest = rng.permutation(others)[: size - 1 if fits else min(size, len(others))]
        hint[i] = frozenset([own, *map(int, rest)] if fits else map(int, rest))
    return hint
