from __future__ import annotations

import numpy as np
import pytest

from collm_nas import optimizers
from collm_nas.api import Architecture, Candidate, Caps, Evaluation, Observation, Problem, UserError, Variable
from collm_nas.optimizers import smac
from collm_nas.spaces.base import CategoricalSpace

pytest.importorskip("smac", reason="smac is not installed (extra smac)")


def conditional() -> CategoricalSpace:
    """A width that only the deeper half has."""
    deep = ((0, frozenset({2, 3})),)
    return CategoricalSpace(
        "s", [Variable("d", tuple("1234")), Variable("k", tuple("abc")), Variable("w", tuple("xyz"), deep)]
    )


def costs(arch: Architecture) -> dict[str, float]:
    return {"flops": float(sum(arch.choices))}


def made(caps: Caps | None = None, **options: object) -> tuple[smac.Smac, CategoricalSpace]:
    """One that was told three starting points."""
    space = conditional()
    optimizer = optimizers.create("smac", Problem(space, 0, 30, caps or Caps(), costs), **options)
    assert isinstance(optimizer, smac.Smac)
    tell(optimizer, [space.make((0, 0, 0)), space.make((3, 0, 0)), space.make((1, 2, 0))])
    return optimizer, space


def tell(optimizer: smac.Smac, archs: list[Architecture], better: float = 0.0) -> None:
    optimizer.tell(
        [Observation(Candidate(a, "x"), "evaluated", Evaluation(better + sum(a.choices)), True) for a in archs]
    )


def trials(optimizer: smac.Smac) -> list[tuple[dict[str, int], float, str]]:
    """What SMAC knows: choices, cost, status."""
    known = optimizer._facade.runhistory
    return [(dict(known.get_config(key.config_id)), value.cost, value.status.name) for key, value in known.items()]


def test_it_knows_the_conditions() -> None:
    space = smac.configuration_space(conditional())
    assert [one.child.name for one in space.conditions] == ["w"]
    assert space.conditions[0].parent.name == "d" and list(space.conditions[0].values) == [2, 3]


def test_it_hears_of_starts_with_active_variables_alone_and_of_newer_values() -> None:
    optimizer, space = made()
    heard = [({"d": 0, "k": 0}, 0.0), ({"d": 3, "k": 0, "w": 0}, -3.0), ({"d": 1, "k": 2}, -3.0)]
    assert trials(optimizer) == [(*one, "SUCCESS") for one in heard]
    tell(optimizer, [space.make((3, 0, 0))], better=4.0)
    assert trials(optimizer)[1] == (*heard[1][:1], -7.0, "SUCCESS") and len(trials(optimizer)) == 3


def test_what_is_over_a_cap_is_told_as_a_crash_and_never_asked() -> None:
    optimizer, _ = made(Caps({"flops": 3.0}))
    asked = [c.arch for c in optimizer.ask(6) if c.arch is not None]
    assert asked and all(sum(arch.choices) <= 3 for arch in asked)
    over = [trial for trial in trials(optimizer) if trial[2] == "CRASHED"]
    assert over, "none was drawn over the cap, which about half of the space is"
    assert all(sum(choices.values()) > 3 and cost == 0.0 for choices, cost, _ in over)


def test_the_smaller_forest_has_the_trees_of_the_facade() -> None:
    optimizer, _ = made()
    scenario = optimizer._facade.scenario
    rng = np.random.default_rng(0)
    rows, values = rng.integers(0, 3, (40, 3)).astype(float), rng.normal(size=(40, 1))
    ours, theirs = smac.forest(scenario), optimizer._facade.get_model(scenario)
    for one in (ours, theirs):
        one.train(rows, values)
    for own, other in zip(ours.predict(rows), theirs.predict(rows), strict=True):
        assert np.array_equal(own, other) and np.ptp(own) > 0


@pytest.mark.parametrize("retrain", [0, 2.5, "often"])
def test_a_wrong_interval_is_refused(retrain: object) -> None:
    with pytest.raises(UserError, match=f"^smac: retrain {retrain!r} must be a whole number of at least 1"):
        optimizers.create("smac", Problem(conditional(), 0, 10), retrain=retrain)
