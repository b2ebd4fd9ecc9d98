from __future__ import annotations

import random

from collm_nas.api import Architecture, Candidate, Caps, Evaluation, Observation, Problem, Variable
from collm_nas.memory import Memory, stable_seed
from collm_nas.spaces.base import CategoricalSpace


def grid() -> CategoricalSpace:
    return CategoricalSpace("grid", [Variable(f"v{i}", tuple("abcd")) for i in range(6)])


def flops(arch: Architecture) -> dict[str, float]:
    return {"flops": float(sum(arch.choices))}


def test_seeds_are_pinned() -> None:
    """Other numbers here would change every recorded search."""
    assert (stable_seed("random", 0), stable_seed("random", 1), stable_seed("gp", 0)) == (
        4015326869,
        2555524611,
        3884019767,
    )


def test_best_leaves_out_what_is_over_a_cap() -> None:
    space = grid()
    memory = Memory(Problem(space, 0, 10), "x")
    low, high, over = (space.make((c, 0, 0, 0, 0, 0)) for c in range(3))
    for arch, fitness, feasible in ((low, 1.0, True), (over, 9.0, False), (high, 2.0, True)):
        memory.tell([Observation(Candidate(arch, "init"), "evaluated", Evaluation(fitness), feasible)])
    assert memory.best(2) == [high, low]
    assert memory.value(over) < memory.value(low)


def test_a_point_is_brought_within_the_caps_at_least_loss() -> None:
    """With a score, the cheapest way under the cap is to give up the variable that matters least for what it saves."""
    space = grid()
    memory = Memory(Problem(space, 0, 10, Caps({"flops": 15.0}), flops), "x")
    worth = (9.0, 9.0, 9.0, 9.0, 9.0, 0.1)
    full = space.make((3,) * 6)
    found = memory.within_caps(full, lambda arch: sum(w * c for w, c in zip(worth, arch.choices, strict=True)))
    assert found.choices[:5] == (3,) * 5 and sum(found.choices) <= 15
    assert memory.excess(full) > 0 and memory.affordable(memory.within_caps(full))


def test_a_mutation_changes_exactly_one_variable_and_what_it_switches_on_is_drawn() -> None:
    on = ((0, frozenset({1})),)
    space = CategoricalSpace(
        "s", [Variable("d", ("1", "2")), Variable("k", tuple("abcd"), on), Variable("e", ("x", "y"))]
    )
    memory = Memory(Problem(space, 0, 10), "x")
    start = space.make((0, 0, 1))
    children = {memory.mutate(start) for _ in range(200)}
    assert children == {space.make((0, 0, 0)), *(space.make((1, k, 1)) for k in range(4))}


def test_new_points_of_a_space_too_large_to_enumerate_end_where_caps_leave_none() -> None:
    space = CategoricalSpace("large", [Variable(f"v{i}", tuple("abcdefgh")) for i in range(12)])
    memory = Memory(Problem(space, 0, 10, Caps({"flops": -1.0}), flops), "x")
    assert memory.new_random() is None
    rng = random.Random(0)
    assert not memory.is_new(space.sample(rng))
