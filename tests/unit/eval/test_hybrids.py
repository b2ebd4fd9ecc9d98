"""The models together with a classical optimiser."""

import random
from typing import Any

import pytest

from collm_nas import spaces, surrogate
from collm_nas.api import Architecture, Candidate, Evaluation, Observation, Problem
from collm_nas.optimizers import gp, gp_exp
from collm_nas.surrogate import Kernel
from eval.hybrids import HYBRIDS, OFFERS, Seeding

SPACE = spaces.load("digits-cells")


class Models:
    """Proposes new random architectures, and remembers what it was told."""

    def __init__(self) -> None:
        self.rng = random.Random(0)
        self.given: dict[Architecture, None] = {}
        self.told: list[Observation] = []

    def ask(self, n: int) -> list[Candidate]:
        fresh: dict[Architecture, None] = {}
        while len(fresh) < n:
            arch = SPACE.sample(self.rng)
            if arch not in self.given:
                fresh[arch] = None
        self.given |= fresh
        return [Candidate(arch, "model", SPACE.format(arch)) for arch in fresh]

    def tell(self, observations: list[Observation]) -> None:
        self.told += observations


def seen(candidates: list[Candidate]) -> list[Observation]:
    """Evaluations that like the first choice of every variable."""
    return [
        Observation(c, "evaluated", Evaluation(-float(sum(c.arch.choices)), {}), True) for c in candidates if c.arch
    ]


@pytest.mark.parametrize("name", ["screened", "screened-exp"])
def test_a_process_screens_the_proposals_and_forgets_none(name: str) -> None:
    models = Models()
    search = HYBRIDS[name](Problem(SPACE, 0, 60), models)
    search.tell(seen(models.ask(20)))
    before = set(models.given)
    taken: list[Architecture] = []
    for _ in range(4):
        candidates = search.ask(5)
        assert len(candidates) == 5 and {c.proposer for c in candidates} == {"model"}
        taken += [c.arch for c in candidates if c.arch]
        search.tell(seen(candidates))
    offered = set(models.given) - before
    assert len(offered) == 4 * 5 * OFFERS and len(set(taken)) == 20 and set(taken) <= offered
    mean = sum(sum(arch.choices) for arch in taken) / len(taken)
    assert mean < sum(sum(arch.choices) for arch in offered) / len(offered) - 1  # it takes the better ones
    assert len(models.told) == 40


def test_another_process_screens_by_another_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Kernel] = []

    def likeliest(kernel: Kernel, *fitted: Any) -> surrogate.Fit:
        used.append(kernel)
        return surrogate.likeliest(kernel, *fitted)

    monkeypatch.setattr(gp, "likeliest", likeliest)
    for name in ("screened", "screened-exp"):
        models = Models()
        search = HYBRIDS[name](Problem(SPACE, 0, 60), models)
        search.tell(seen(models.ask(4)))
        assert len(search.ask(2)) == 2
    assert used == [surrogate.kernel, gp_exp.kernel]


def test_models_seed_local_search_once() -> None:
    models = Models()
    search = Seeding(Problem(SPACE, 0, 60), models)
    search.tell(seen(models.ask(10)))
    first = search.ask(5)
    assert {c.proposer for c in first} == {"model"} and len(models.told) == 10
    observed = [*seen(first)]
    search.tell(observed)
    best = max(observed, key=lambda o: o.evaluation.fitness if o.evaluation else 0.0).candidate.arch
    assert best is not None
    near = {arch for start in models.given for arch in SPACE.neighbors(start)}
    following = search.ask(5)
    assert len(models.told) == 10 and all(c.arch in near for c in following)
    assert {c.proposer for c in following} == {"local-search"}
