from __future__ import annotations

from collections.abc import Sequence

import pytest

from collm_nas import coordinator, optimizers, weighted
from collm_nas.api import Architecture, Candidate, Evaluation, Observation, Problem, UserError
from collm_nas.objectives import check, read
from collm_nas.weighted import Scale, Weighted, weights
from tests.unit.runs import SPACE, Scripted, ScriptedModel, score

TWO = Problem(SPACE, 0, 36, costs=SPACE.cost, objectives=("fitness", "flops"))


def heard(archs: Sequence[Architecture], feasible: bool = True) -> list[Observation]:
    return [
        Observation(Candidate(a, "init"), "evaluated", Evaluation(score(a), SPACE.cost(a), error=0.5), feasible)
        for a in archs
    ]


def archs(n: int) -> list[Architecture]:
    return list(SPACE.all())[:n]


# --- objectives -------------------------------------------------------------------------------------------------------


def test_objectives_come_in_their_own_order() -> None:
    assert read(["latency", "flops", "fitness"]) == ("fitness", "flops", "latency")
    assert read("fitness") == ("fitness",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["fitness", "flop"], r"'flop' is unknown; legal: fitness, flops, params, latency; did you mean 'flops'\?"),
        (["fitness", "flops", "flops"], "--objective flops is given 2 times"),
        (["flops"], "--objective flops leaves out fitness, which every search maximises; add"),
        ([], "leaves out fitness"),
        ([3], "--objective 3 is unknown"),
    ],
)
def test_wrong_objectives_are_named(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(given)


def test_a_cost_that_nobody_knows() -> None:
    check(TWO)
    message = "--objective latency: neither the space 'tiny' nor the table knows the cost 'latency'; known: flops"
    with pytest.raises(UserError, match=message):
        check(Problem(SPACE, 0, 9, costs=SPACE.cost, objectives=("fitness", "latency")))
    with pytest.raises(UserError, match="known: none"):
        check(Problem(SPACE, 0, 9, objectives=("fitness", "flops")))


# --- weights and values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_weights_lie_on_the_simplex_and_cover_it(objectives: int) -> None:
    drawn = [weights(7, number, objectives) for number in range(200)]
    assert all(len(w) == objectives and min(w) >= 0 and sum(w) == pytest.approx(1) for w in drawn)
    for column in zip(*drawn, strict=True):
        assert sum(column) / len(column) == pytest.approx(1 / objectives, abs=0.02)
    assert drawn == [weights(7, number, objectives) for number in range(200)] != [weights(8, n, 2) for n in range(200)]


def test_any_few_rounds_in_a_row_lean_to_every_part_of_the_front() -> None:
    for first in range(20):
        leanings = sorted(weights(3, first + i, 2)[0] for i in range(8))
        gaps = [b - a for a, b in zip([0.0, *leanings], [*leanings, 1.0], strict=True)]
        assert max(gaps) < 0.3


def test_the_value_follows_the_weights_and_prefers_what_is_better_elsewhere() -> None:
    scale = Scale.of([(-90.0, 100.0), (-80.0, 20.0), (-10.0, 500.0)])
    assert scale == Scale((-90.0, 20.0), (10.0, 80.0)), "what the front does not hold has no say"
    fit, cheap = (-90.0, 100.0), (-80.0, 20.0)
    assert scale.value(fit, (0.9, 0.1)) > scale.value(cheap, (0.9, 0.1))
    assert scale.value(fit, (0.1, 0.9)) < scale.value(cheap, (0.1, 0.9))
    assert scale.value((-85.0, 60.0), (0.5, 0.5)) > scale.value((-85.0, 61.0), (0.6, 0.4))
    assert scale.value((-90.0, 20.0), (0.3, 0.7)) == 0


def test_a_front_of_one_point_takes_the_range_of_all() -> None:
    assert Scale.of([(-9.0, 1.0), (-5.0, 3.0)]) == Scale((-9.0, 1.0), (4.0, 2.0))
    assert Scale.of([(-9.0, 1.0)]) == Scale((-9.0, 1.0), (1.0, 1.0))


# --- the wrapper ------------------------------------------------------------------------------------------------------


def test_everything_known_is_told_again_before_each_ask() -> None:
    inner = Scripted(archs(1), archs(1))
    search = Weighted(TWO, inner, each=False)
    refused = Observation(Candidate(None, "model"), "invalid")
    search.tell([*heard(archs(6)), refused])
    search.ask(1)
    search.ask(1)
    first, again, later = inner.heard
    assert [seen.candidate.arch for seen in again] == [seen.candidate.arch for seen in later] == archs(6)
    assert refused in first and refused not in later
    values = [[seen.evaluation.fitness for seen in told if seen.evaluation] for told in (again, later)]
    assert values[0] != values[1], "another draw of the weights"
    assert all(seen.evaluation is not None and seen.evaluation.error is None for seen in later)
    assert all(seen.evaluation is not None and seen.evaluation.costs for seen in later)


def test_each_candidate_has_its_weights_and_knows_of_those_before_it() -> None:
    made, batch = optimizers.create("gp", weighted.single(TWO)), Scripted(*[[arch] for arch in archs(8)[-2:]])
    for optimizer in (made, batch):
        search = Weighted(TWO, optimizer)
        search.tell(heard(archs(6)))
        asked = [candidate.arch for candidate in search.ask(4)]
        assert len(set(asked)) == len(asked) == (4 if optimizer is made else 2), "and ends where none is left"
    _, first, pending, second, also, _ = batch.heard
    assert [seen.verdict for seen in (*pending, *also)] == ["repeated", "repeated"]
    assert first != second and [seen.candidate for seen in first] == [seen.candidate for seen in second]


def test_what_is_told_after_an_ask_has_its_weights_and_scale() -> None:
    """Else the gain that the digest shows of a strategy would be that of another draw."""
    inner = Scripted([], [])
    search = Weighted(TWO, inner, each=False)
    search.tell(heard(archs(8)))
    search.ask(1)
    search.tell(heard(archs(9)[-1:]))
    search.tell(heard(archs(8)[:1]))
    before = inner.heard[1][0].evaluation
    same = inner.heard[-1][0].evaluation
    assert before is not None and same is not None and before.fitness == same.fitness


def test_points_over_a_cap_do_not_set_the_scale() -> None:
    within, over = archs(4), archs(30)[-1:]
    inner, alone = Scripted([]), Scripted([])
    for optimizer, told in ((inner, [*heard(within), *heard(over, feasible=False)]), (alone, heard(within))):
        search = Weighted(TWO, optimizer, each=False)
        search.tell(told)
        search.ask(1)
    assert inner.heard[-1][:4] == alone.heard[-1]


def test_the_coordinator_hears_a_newer_value_and_not_a_second_architecture() -> None:
    model = ScriptedModel()
    made = coordinator.create(weighted.single(TWO), model)
    search = Weighted(TWO, made, each=False)
    search.tell(heard(archs(5)))
    before = list(made._values)
    search.ask(2)
    assert made._archs == archs(5) and made._values != before and len(made._past) == 0
    search.tell(heard(archs(7)[-2:]))
    search.ask(2)
    assert len(made._archs) == len(made._values) == len(made._feasible) == 7 and len(made._past) == 1


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_optuna_has_a_direction_an_objective(name: str) -> None:
    optimizer = optimizers.create(name, TWO)
    assert not isinstance(optimizer, Weighted)
    optimizer.tell(heard(archs(12)))
    known = optimizer._study.get_trials(deepcopy=False)  # type: ignore[attr-defined]
    assert [t.values for t in known] == [[score(a), SPACE.cost(a)["flops"]] for a in archs(12)]
    front = optimizer._study.best_trials  # type: ignore[attr-defined]
    assert all(trial.values[0] > 0 or trial.values[1] == 10 for trial in front)
    assert len(optimizer.ask(3)) == 3
