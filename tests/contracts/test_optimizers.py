"""Every optimiser keeps the contract of `api.Optimizer`; found by listing the folder: a new file is tested too."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Mapping

import pytest

from collm_nas import optimizers, spaces
from collm_nas.api import (
    Architecture,
    Candidate,
    Caps,
    Evaluation,
    Observation,
    Optimizer,
    Problem,
    UserError,
    Variable,
)
from collm_nas.spaces.base import CategoricalSpace

NAMES = [
    row
    for name in optimizers.names()
    for row in ([name, f"{name}:population=6"] if "population" in optimizers.options(name) else [name])
]
"""Every optimiser as it comes and, where it has a population, with one so small that it soon breeds from it."""
SHOULD_BEAT_RANDOM = [name for name in NAMES if name != "random"]


def create(row: str, problem: Problem) -> Optimizer:
    name, _, small = row.partition(":")
    if package := optimizers.missing(name):
        pytest.skip(f"{package} is not installed")
    return optimizers.create(name, problem, **({"population": 6} if small else {}))


def grid(variables: int = 5, choices: int = 4) -> CategoricalSpace:
    return CategoricalSpace("grid", [Variable(f"v{i}", tuple("abcdefgh"[:choices])) for i in range(variables)])


def conditional() -> CategoricalSpace:
    """A depth that switches layers on, one of which switches a width on: 3 + 3 * 6 = 21 points with their widths."""
    deep, deepest = ((0, frozenset({1, 2})),), ((0, frozenset({2})),)
    return CategoricalSpace(
        "conditional",
        [
            Variable("depth", ("1", "2", "3")),
            Variable("kernel", ("3", "5", "7"), deep),
            Variable("width", ("s", "m"), (*deepest, (1, frozenset({1, 2})))),
        ],
    )


def restricted() -> CategoricalSpace:
    """Rows so sparse that many have no neighbour."""
    space = grid()
    rng = random.Random(5)
    return space.restrict(sorted({space.sample(rng) for _ in range(40)}, key=lambda arch: arch.choices))


def additive(arch: Architecture) -> float:
    return sum(((7 * i + 3 * c) % 5) / (3 + i) for i, c in enumerate(arch.choices))


def flops(arch: Architecture) -> Mapping[str, float]:
    return {"flops": float(sum(arch.choices))}


def search(
    optimizer: Optimizer, problem: Problem, start: int = 6, batch: int = 4, cap: Caps | None = None
) -> list[Architecture]:
    """The ask -> evaluate -> tell loop in small: the proposals in order, until the budget or an empty answer."""
    caps = cap or problem.caps

    def seen(arch: Architecture, proposer: str) -> Observation:
        costs = flops(arch) if caps.limits else {}
        return Observation(Candidate(arch, proposer), "evaluated", Evaluation(additive(arch), costs), caps.allow(costs))

    rng = random.Random(problem.seed)
    allowed = (
        arch
        for arch in iter(lambda: problem.space.sample(rng), None)
        if caps.over == "evaluate" or caps.allow(flops(arch) if caps.limits else {})
    )
    first = list(dict.fromkeys(itertools.islice(allowed, start)))
    optimizer.tell([seen(arch, "init") for arch in first])
    proposed: list[Architecture] = []
    while len(proposed) + len(first) < problem.budget:
        answer = optimizer.ask(batch)
        if not answer:
            break
        assert len(answer) <= batch
        archs = [candidate.arch for candidate in answer if candidate.arch is not None]
        assert len(archs) == len(answer)
        assert all(problem.space.make(arch.choices) == arch for arch in archs)
        proposed += archs
        optimizer.tell([seen(arch, "optimizer") for arch in archs])
    assert len(set(proposed) | set(first)) == len(proposed) + len(first), "a visited architecture was proposed again"
    return first + proposed


def trace(name: str, seed: int) -> str:
    """What another process must say too."""
    problem = Problem(grid(), seed, 40)
    return " ".join(problem.space.format(arch, "compact") for arch in search(create(name, problem), problem))


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_proposals_here_and_in_another_process(name: str) -> None:
    code = (
        "import importlib.util as u, sys\n"
        f"spec = u.spec_from_file_location('contract', {__file__!r})\n"
        "module = u.module_from_spec(spec); sys.modules['contract'] = module; spec.loader.exec_module(module)\n"
        f"print(module.trace({name!r}, 3))"
    )
    here = trace(name, 3)
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert other.stdout.strip() == here == trace(name, 3)
    assert trace(name, 3) != trace(name, 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 7])
def test_batches_hold_at_most_n_new_points(name: str, batch: int) -> None:
    problem = Problem(grid(), 0, 60)
    assert len(search(create(name, problem), problem, batch=batch)) >= 60


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "make",
    [lambda: grid(3, 3), lambda: grid(2, 2), conditional, restricted],
    ids=["grid", "four", "conditional", "restricted"],
)
@pytest.mark.parametrize("start", [0, 6])
def test_exhausts_a_small_space_exactly(name: str, make: object, start: int) -> None:
    space = make()  # type: ignore[operator]
    problem = Problem(space, 1, 1000)
    found = search(create(name, problem), problem, start=start)
    assert sorted(arch.choices for arch in found) == sorted(arch.choices for arch in space.all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [3.0, 7.0])
def test_over_cap_points_are_never_proposed_and_the_affordable_ones_exhausted(name: str, limit: float) -> None:
    space = grid(4, 4)
    problem = Problem(space, 2, 1000, Caps({"flops": limit}), flops)
    found = search(create(name, problem), problem)
    assert set(found) == {arch for arch in space.all() if sum(arch.choices) <= limit}


@pytest.mark.parametrize("name", NAMES)
def test_a_tight_cap_in_a_large_space(name: str) -> None:
    """Random draws hit this cap once in 10^9: points must be walked to."""
    space = grid(24, 4)
    caps = Caps({"flops": 12.0})
    problem = Problem(space, 0, 30, caps, flops)
    optimizer = create(name, problem)
    for _ in range(4):
        answer = optimizer.ask(5)
        archs = [candidate.arch for candidate in answer if candidate.arch is not None]
        assert archs and all(caps.allow(flops(arch)) for arch in archs)
        optimizer.tell([Observation(Candidate(a, name), "evaluated", Evaluation(additive(a))) for a in archs])


@pytest.mark.parametrize("name", NAMES)
def test_a_published_space_with_conditions_under_a_cap(name: str) -> None:
    """Nothing is told before the first ask, which is for more than a small population: aging evolution once chose
    parents from an empty one."""
    space = spaces.load("ofa-mbv3")
    caps = Caps({"flops": 220e6})
    optimizer = create(name, Problem(space, 0, 40, caps, space.cost))
    for n in (12, 4):
        archs = [candidate.arch for candidate in optimizer.ask(n) if candidate.arch is not None]
        assert 0 < len(set(archs)) == len(archs) <= n
        assert all(space.make(arch.choices) == arch and caps.allow(space.cost(arch)) for arch in archs)
        optimizer.tell([Observation(Candidate(a, name), "evaluated", Evaluation(sum(a.choices))) for a in archs])


@pytest.mark.parametrize("name", NAMES)
def test_infeasible_points_are_never_the_best(name: str) -> None:
    """With `--over-cap evaluate` a search that only meets over-cap points goes on, and does not climb on them."""
    space = grid(4, 3)
    problem = Problem(space, 3, 81, Caps({"flops": 1.0}, "evaluate"), flops)
    assert set(search(create(name, problem), problem)) == set(space.all())


@pytest.mark.parametrize("name", NAMES)
def test_refused_candidates_are_heard_but_surplus_ones_may_return(name: str) -> None:
    space = grid(2, 2)
    problem = Problem(space, 0, 10)
    optimizer = create(name, problem)
    first = space.make((0, 0))
    optimizer.tell([Observation(Candidate(None, "model", "a9"), "invalid")])
    optimizer.tell([Observation(Candidate(first, "model"), "over-cap", feasible=False)])
    optimizer.tell([Observation(Candidate(space.make((1, 1)), "model"), "surplus")])
    found: list[Architecture | None] = []
    while answer := optimizer.ask(2):
        found += [candidate.arch for candidate in answer]
        optimizer.tell([Observation(c, "evaluated", Evaluation(1.0)) for c in answer])
    assert len(found) == 3 and first not in found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lucky", [frozenset[int](), frozenset({1, 2})], ids=["all", "some"])
def test_what_failed_is_not_asked_for_again_and_the_rest_is(name: str, lucky: frozenset[int]) -> None:
    """All fail, or those whose first choice is not a lucky one."""
    space = grid(3, 3)
    problem = Problem(space, 0, 100)
    optimizer = create(name, problem)
    told = [Candidate(space.make((0, 0, 0)), "init"), Candidate(space.make((1, 0, 0)), "init")]
    found: list[Architecture | None] = []
    while told:
        found += [candidate.arch for candidate in told]
        optimizer.tell(
            [
                Observation(c, "evaluated", Evaluation(additive(c.arch)))
                if c.arch is not None and c.arch.choices[0] in lucky
                else Observation(c, "failed")
                for c in told
            ]
        )
        told = optimizer.ask(4)
    assert len(found) == len(set(found)) == space.size


@pytest.mark.parametrize("name", SHOULD_BEAT_RANDOM)
def test_beats_random_on_an_additive_landscape(name: str) -> None:
    space = grid(8, 4)

    def mean_best(which: str) -> float:
        finals = []
        for seed in range(4):
            problem = Problem(space, seed, 100)
            finals.append(max(map(additive, search(create(which, problem), problem, batch=8))))
        return sum(finals) / len(finals)

    assert mean_best(name) > mean_best("random")


@pytest.mark.parametrize("name", NAMES)
def test_several_objectives(name: str) -> None:
    """By itself or by weights: the same seed gives the same search, new points alone, until none is left."""
    space = grid(3, 3)

    def found(seed: int) -> list[Architecture]:
        problem = Problem(space, seed, 1000, costs=flops, objectives=("fitness", "flops"))
        optimizer, archs = create(name, problem), [space.make((0, 1, 2)), space.make((2, 2, 2))]
        told = archs
        while told:
            seen = [Observation(Candidate(a, "x"), "evaluated", Evaluation(additive(a), flops(a))) for a in told]
            optimizer.tell(seen)
            told = [c.arch for c in optimizer.ask(4) if c.arch is not None]
            archs = [*archs, *told]
        return archs

    first = found(1)
    assert first == found(1) and len(first) == len(set(first)) == space.size


def test_unknown_names_and_options_are_refused_in_one_sentence() -> None:
    problem = Problem(grid(), 0, 10)
    with pytest.raises(UserError, match=r"did you mean 'aging-evolution'.*legal: .*local-search"):
        optimizers.create("aging-evolutoin", problem)
    with pytest.raises(UserError, match=r"no option 'size'; legal: population, tournament"):
        optimizers.create("aging-evolution", problem, size=3)
    for name, options in [
        ("aging-evolution", {"tournament": 50}),
        ("local-search", {"move": "up"}),
        ("digest-only", {"thompson": 2.0}),
        ("local-evidence", {"spread": 0.0}),
        ("nsga2", {"population": 1}),
        ("spos-evolution", {"mutate": 0.8}),
        ("spos-evolution", {"population": 1}),
        ("ofa-evolution", {"population": 20.5}),
        ("ofa-evolution", {"parents": 10}),
        ("autoformer-evolution", {"s_prob": "often"}),
    ]:
        with pytest.raises(UserError, match=f"^{name}: "):
            optimizers.create(name, problem, **options)


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "find_spec", lambda package: None)
    assert [name for name in optimizers.names() if optimizers.missing(name)] == ["nsga2", "smac", "tpe"]
    with pytest.raises(UserError, match=r"'tpe' needs the package optuna; .*: pip install 'collm-nas\[rivals\]'$"):
        optimizers.create("tpe", Problem(grid(), 0, 10))
    with pytest.raises(UserError, match=r"'smac' needs the package smac; .*: pip install 'collm-nas\[smac\]'$"):
        optimizers.create("smac", Problem(grid(), 0, 10))


def test_the_files_themselves_load_no_library() -> None:
    code = (
        "import sys\nfrom collm_nas import optimizers\n"
        "for name in optimizers.names(): optimizers.options(name)\n"
        "assert not {'optuna', 'smac', 'ConfigSpace', 'sklearn', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_local_search_moves_to_the_best_of_the_neighbourhood_if_asked() -> None:
    space = grid(4, 4)
    problem = Problem(space, 0, 40)
    optimizer = optimizers.create("local-search", problem, move="best")
    start = space.make((1, 1, 1, 1))
    optimizer.tell([Observation(Candidate(start, "init"), "evaluated", Evaluation(additive(start)))])
    around = set(space.neighbors(start))
    for _ in range(3):
        answer = optimizer.ask(4)
        assert {candidate.arch for candidate in answer} <= around
        optimizer.tell(
            [Observation(c, "evaluated", Evaluation(additive(c.arch))) for c in answer if c.arch is not None]
        )
    best = max(around, key=additive)
    assert {candidate.arch for candidate in optimizer.ask(4)} <= set(space.neighbors(best))
