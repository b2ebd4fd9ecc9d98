"""The evolutionary searches of OFA, SPOS and AutoFormer against slow references on the official encodings.

The references follow the description of the official codes and know nothing of variables or conditions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from statistics import fmean, variance
from string import ascii_letters
from typing import Any

import pytest

from collm_nas import optimizers, spaces
from collm_nas.api import Architecture, Candidate, Caps, Evaluation, Observation, Optimizer, Problem, Variable
from collm_nas.optimizers._population import Generations
from collm_nas.optimizers.autoformer_evolution import layer_entries
from collm_nas.optimizers.ofa_evolution import genes
from collm_nas.spaces.base import CategoricalSpace
from eval.rows import parse_row

# --- the references ---------------------------------------------------------------------------------------------------


class SPOS:
    """Lists of 20 integers."""

    name, space_name, population, parents, redraws = "spos-evolution", "spos-shufflenet", 50, 10, 1

    def random(self, rng: random.Random) -> Any:
        return [rng.randrange(4) for _ in range(20)]

    def mutant(self, rng: random.Random, a: Any) -> Any:
        return [rng.randrange(4) if rng.random() < 0.1 else x for x in a]

    def cross(self, rng: random.Random, a: Any, b: Any) -> Any:
        return [rng.choice([x, y]) for x, y in zip(a, b, strict=True)]

    def mates(self, a: Any, b: Any) -> bool:
        return True


class AutoFormer:
    """Flat lists (depth, ratios, heads, width) of the tiny space."""

    name, space_name, population, parents, redraws = "autoformer-evolution", "autoformer-tiny", 50, 10, 1
    ratios, heads, widths = (3.0, 3.5, 4.0), (3, 4), (192, 216, 240)

    def random(self, rng: random.Random) -> Any:
        n = rng.choice((12, 13, 14))
        return [n, *rng.choices(self.ratios, k=n), *rng.choices(self.heads, k=n), rng.choice(self.widths)]

    def mutant(self, rng: random.Random, a: Any) -> Any:
        n, width = a[0], a[-1]
        ratios, heads = a[1 : n + 1], a[n + 1 : -1]
        if rng.random() < 0.4:
            n = rng.choice((12, 13, 14))
            ratios, heads = ratios[:n], heads[:n]
            ratios += rng.choices(self.ratios, k=n - len(ratios))
            heads += rng.choices(self.heads, k=n - len(heads))
        ratios = [rng.choice(self.ratios) if rng.random() < 0.2 else x for x in ratios]
        heads = [rng.choice(self.heads) if rng.random() < 0.2 else x for x in heads]
        return [n, *ratios, *heads, rng.choice(self.widths) if rng.random() < 0.4 else width]

    def cross(self, rng: random.Random, a: Any, b: Any) -> Any:
        return [rng.choice([x, y]) for x, y in zip(a, b, strict=True)]

    def mates(self, a: Any, b: Any) -> bool:
        return len(a) == len(b)


class OFA:
    """Dicts of the tutorial, slots out of use included."""

    name, space_name, population, parents, redraws = "ofa-evolution", "ofa-mbv3", 100, 25, 100

    def random(self, rng: random.Random) -> Any:
        ks, e, d = rng.choices((3, 5, 7), k=20), rng.choices((3, 4, 6), k=20), rng.choices((2, 3, 4), k=5)
        return {"ks": ks, "e": e, "d": d, "r": [rng.choice(range(128, 225, 4))]}

    def mutant(self, rng: random.Random, a: Any) -> Any:
        child = {key: list(values) for key, values in a.items()}
        if rng.random() < 0.1:
            child["r"] = [rng.choice(range(128, 225, 4))]
        for i in range(20):
            if rng.random() < 0.1:
                child["ks"][i], child["e"][i] = rng.choice((3, 5, 7)), rng.choice((3, 4, 6))
        for i in range(5):
            if rng.random() < 0.1:
                child["d"][i] = rng.choice((2, 3, 4))
        return child

    def cross(self, rng: random.Random, a: Any, b: Any) -> Any:
        return {key: [rng.choice([x, y]) for x, y in zip(a[key], b[key], strict=True)] for key in a}

    def mates(self, a: Any, b: Any) -> bool:
        return True


REFERENCES = [SPOS(), AutoFormer(), OFA()]
Reference = SPOS | AutoFormer | OFA
by_name = pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: reference.name)


def mutants(reference: Reference, rng: random.Random, best: Sequence[Any]) -> Iterator[Any]:
    """A try at a mutant; OFA redraws it from the same parent."""
    a = rng.choice(best)
    for _ in range(reference.redraws):
        yield reference.mutant(rng, a)


def crossovers(reference: Reference, rng: random.Random, best: Sequence[Any]) -> Iterator[Any]:
    """A try at a crossover; OFA redraws it from the same parents."""
    a, b = rng.choice(best), rng.choice(best)
    while not reference.mates(a, b):
        a, b = rng.choice(best), rng.choice(best)
    for _ in range(reference.redraws):
        yield reference.cross(rng, a, b)


def bred(
    tries: Callable[[], Iterable[Any]],
    parse: Callable[[object], Architecture],
    n: int,
    known: Iterable[Architecture],
    legal: Callable[[Architecture], bool] = lambda arch: True,
) -> dict[Architecture, Any]:
    """Up to `n` new children with their encodings, in at most 10 tries for each."""
    found: dict[Architecture, Any] = {}
    refused = set(known)
    for _ in range(10 * n):
        for child in tries() if len(found) < n else ():
            arch = parse(child)
            if arch not in refused and arch not in found and legal(arch):
                found[arch] = child
                break
    return found


def reference_search(
    reference: Reference,
    space: CategoricalSpace,
    seed: int,
    value: Callable[[Architecture], float],
    legal: Callable[[Architecture], bool],
) -> float:
    """The best value of 100 in five generations, the best five of everything being the parents."""
    rng = random.Random(seed)
    found: dict[Architecture, Any] = {}
    for generation in range(5):
        best = [found[arch] for arch in sorted(found, key=value, reverse=True)[:5]]
        for rule in (mutants, crossovers) if best else ():
            found |= bred(partial(rule, reference, rng, best), space.parse, 10, found, legal)
        missing = 20 * (generation + 1) - len(found)
        found |= bred(lambda: [reference.random(rng)], space.parse, missing, found, legal)
    return max(map(value, found))


# --- ours -------------------------------------------------------------------------------------------------------------


def tell(optimizer: Optimizer, archs: Sequence[Architecture], values: Iterable[float]) -> None:
    pairs = zip(archs, values, strict=True)
    optimizer.tell([Observation(Candidate(arch, "x"), "evaluated", Evaluation(v)) for arch, v in pairs])


def ask(optimizer: Optimizer, n: int) -> list[Architecture]:
    return [candidate.arch for candidate in optimizer.ask(n) if candidate.arch is not None]


def one_generation(reference: Reference, best: Sequence[Any], n: int, **options: Any) -> list[Architecture]:
    """`n` mutants and `n` crossovers whose parents are `best`, told with worse random ones."""
    space = spaces.load(reference.space_name)
    options |= {"population": 2 * n, "parents": len(best) / (2 * n)}
    optimizer = optimizers.create(reference.name, Problem(space, 0, 4 * n), **options)
    rng = random.Random(1)
    others = {space.sample(rng) for _ in range(3 * n)}
    told = list(dict.fromkeys([*map(space.parse, best), *sorted(others, key=lambda arch: arch.choices)]))[: 2 * n]
    tell(optimizer, told, range(len(told), 0, -1))
    children = ask(optimizer, 2 * n)
    assert len(children) == 2 * n
    return children


# --- one generation: the same distribution ----------------------------------------------------------------------------


def facts(children: Sequence[Architecture], parents: Sequence[Architecture]) -> Counter[Any]:
    """How many children have this choice, these two neighbouring ones, more than so many changes to the nearest parent,
    and more than so many changes of two neighbours at once."""
    counted: Counter[Any] = Counter()
    for child in children:
        nearest = min(parents, key=lambda parent: distance(parent, child))
        changed = [a != b for a, b in zip(nearest.choices, child.choices, strict=True)]
        counted.update(enumerate(child.choices))
        counted.update(enumerate(pairwise(child.choices)))
        counted.update(("changes", k) for k in range(sum(changed)))
        counted.update(("at once", k) for k in range(sum(map(all, pairwise(changed)))))
    return counted


def distance(a: Architecture, b: Architecture) -> int:
    return sum(x != y for x, y in zip(a.choices, b.choices, strict=True))


def discord(ours: Counter[Any], theirs: Counter[Any], n: int) -> float:
    """The largest difference of two frequencies, in standard errors."""

    def z(fact: Any) -> float:
        share = (ours[fact] + theirs[fact]) / (2 * n)
        return abs(ours[fact] - theirs[fact]) / n / (share * (1 - share) * 2 / n + 1e-9) ** 0.5

    return max(map(z, ours | theirs))


@by_name
def test_one_generation_is_distributed_as_the_official_one(reference: Reference) -> None:
    n, rng = 700, random.Random(2)
    space = spaces.load(reference.space_name)
    encoded = [reference.random(rng) for _ in range(6)]
    if isinstance(reference, OFA):
        encoded = [{**parent, "d": [4, 4, 4, 4, 4]} for parent in encoded]  # all slots of the parents can be seen
    parents = [space.parse(parent) for parent in encoded]
    ours = one_generation(reference, encoded, n)
    more = one_generation(reference, encoded, n, m_prob=0.32 if isinstance(reference, AutoFormer) else 0.16)

    def apart(found: Sequence[Architecture], rule: Callable[..., Iterator[Any]]) -> float:
        theirs = bred(partial(rule, reference, rng, encoded), space.parse, n, parents)
        return discord(facts(found, parents), facts(list(theirs), parents), n)

    assert apart(ours[:n], mutants) < 4.5
    assert apart(ours[n:], crossovers) < 4.5
    assert apart(more[:n], mutants) > 6, "the test could not tell another probability"
    assert apart(ours[n:], mutants) > 6, "the test could not tell mutants from crossovers"


@pytest.mark.parametrize(
    ("name", "numbered", "plain"),
    [("ofa-evolution", 0.09, 0.09), ("spos-evolution", 0.09, 0.09), ("autoformer-evolution", 0.18, 0.36)],
)
def test_the_share_of_changed_entries(name: str, numbered: float, plain: float) -> None:
    """Redrawn with the official probability, one time in ten to the same choice."""
    names = [f"layer{i}" for i in range(60)] + [f"width{a}" for a in ascii_letters]
    space = CategoricalSpace("large", [Variable(name, tuple("0123456789")) for name in names])
    optimizer = optimizers.create(name, Problem(space, 0, 1000), population=200, parents=0.0)
    archs = [space.sample(random.Random(seed)) for seed in range(200)]
    tell(optimizer, archs, range(200, 0, -1))
    changed = [[a != b for a, b in zip(child.choices, archs[0].choices, strict=True)] for child in ask(optimizer, 100)]
    for part, share in ((slice(60), numbered), (slice(60, None), plain)):
        flags = [flag for row in changed for flag in row[part]]
        assert abs(fmean(flags) - share) < 4 * (share * (1 - share) / len(flags)) ** 0.5


# --- whole searches ---------------------------------------------------------------------------------------------------


def landscape(space: CategoricalSpace) -> Callable[[Architecture], float]:
    """A random effect of each choice; deeper is mostly better."""
    rng = random.Random(7)
    effects = [[rng.gauss(0.2, 1.0) for _ in variable.choices] for variable in space.variables]

    def value(arch: Architecture) -> float:
        active = space.active(arch.choices)
        return sum(row[c] for row, c, on in zip(effects, arch.choices, active, strict=True) if on)

    return value


@by_name
def test_searches_within_a_cap_end_as_high_as_the_official_ones(reference: Reference) -> None:
    space, cost = spaces.load(reference.space_name), "params" if isinstance(reference, AutoFormer) else "flops"
    rng = random.Random(3)
    limit = sorted(space.cost(space.sample(rng))[cost] for _ in range(101))[40]
    caps, value = Caps({cost: limit}), landscape(space)
    ours, theirs, blind = [], [], []
    for seed in range(12):
        for name, options, bests in (
            (reference.name, {"population": 20, "parents": 0.25}, ours),
            ("random", {}, blind),
        ):
            problem = Problem(space, seed, 100, caps, space.cost)
            optimizer = optimizers.create(name, problem, **options)
            seen: list[float] = []
            while len(seen) < 100:
                archs = ask(optimizer, 10)
                assert all(space.cost(arch)[cost] <= limit for arch in archs)
                tell(optimizer, archs, map(value, archs))
                seen += map(value, archs)
            bests.append(max(seen))
        theirs.append(reference_search(reference, space, seed, value, lambda a: space.cost(a)[cost] <= limit))
    assert abs(t_statistic(ours, theirs)) < 3
    assert t_statistic(ours, blind) > 4


def t_statistic(a: Sequence[float], b: Sequence[float]) -> float:
    return (fmean(a) - fmean(b)) / ((variance(a) + variance(b)) / len(a)) ** 0.5


# --- single rules -----------------------------------------------------------------------------------------------------


@by_name
def test_generations_have_the_official_size_and_what_others_evaluated_belongs_to_the_first(
    reference: Reference,
) -> None:
    space, n = spaces.load(reference.space_name), reference.population
    optimizer = optimizers.create(reference.name, Problem(space, 0, 1000))
    start = [space.parse(reference.random(random.Random(seed))) for seed in range(8)]
    tell(optimizer, start, range(8))
    sizes = []
    for size in (n - 8, n, n):
        found: list[Architecture] = []
        while len(found) < size:
            archs = ask(optimizer, 7)
            tell(optimizer, archs, [sum(arch.choices) for arch in archs])
            found += archs
        sizes.append(len(found))
    assert sizes == [n - 8, n, n], "a batch reached into the next generation"


@by_name
def test_crossovers_hold_entries_of_two_of_the_best_of_everything(reference: Reference) -> None:
    space = spaces.load(reference.space_name)
    no_mutants = {"mutate": 0.0, "population": 30, "parents": 0.2}
    optimizer = optimizers.create(
        reference.name,
        Problem(space, 0, 1000),
        **no_mutants | ({} if isinstance(reference, OFA) else {"crossover": 1.0}),
    )
    rng = random.Random(0)
    values = {space.parse(reference.random(rng)): rng.random() for _ in range(30)}
    tell(optimizer, list(values), values.values())
    for _ in range(3):
        best = sorted(values, key=lambda arch: -values[arch])[:6]
        children = ask(optimizer, 30)
        assert all(any(child_of(space, child, a, b) for a in best for b in best) for child in children)
        children_values = [rng.random() for _ in children]
        tell(optimizer, children, children_values)
        values |= dict(zip(children, children_values, strict=True))


def child_of(space: CategoricalSpace, child: Architecture, a: Architecture, b: Architecture) -> bool:
    """Whether each entry that a parent shows is one of theirs; for AutoFormer, of two parents as deep as the child."""
    masks = [space.active(arch.choices) for arch in (child, a, b)]
    if space.name.startswith("autoformer") and len(set(masks)) > 1:
        return False
    return all(
        c in (x, y) or not (on and in_a and in_b)
        for c, x, y, on, in_a, in_b in zip(child.choices, a.choices, b.choices, *masks, strict=True)
    )


def test_a_deeper_mutant_of_autoformer_gets_a_random_tail_and_a_shallower_one_is_cut() -> None:
    space = spaces.load("autoformer-tiny")
    parent = [13, *[4.0] * 13, *[3] * 13, 216]
    children = [space.config(c) for c in one_generation(AutoFormer(), [parent], 300, m_prob=0.0, s_prob=1.0)[:300]]
    bred_ones = [c for c in children if c.mlp_ratios[:12] == (4.0,) * 12 and c.heads[:12] == (3,) * 12]
    # Without changes to layers there are 3 x (1 + 1 + 6) networks, the parent one of them; random ones fill the rest.
    assert len(bred_ones) == 23
    assert {(c.mlp_ratios[12:], c.heads[12:]) for c in bred_ones} == {
        ((), ()),
        ((4.0,), (3,)),
        *(((4.0, ratio), (3, heads)) for ratio in (3.0, 3.5, 4.0) for heads in (3, 4)),
    }


def test_slots_out_of_use_are_kept_by_ofa() -> None:
    """A block that a mutant's depth hides comes back as it was in the parent, not as a new random one."""
    space = spaces.load("ofa-mbv3")
    optimizer = optimizers.create("ofa-evolution", Problem(space, 0, 3000), population=200, parents=1 / 200)
    parent = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "r": [224]}
    rng = random.Random(0)
    told = [space.parse(parent), *(space.sample(rng) for _ in range(199))]
    tell(optimizer, told, range(200, 0, -1))
    children = ask(optimizer, 200)[:100]
    shallow = next(arch for arch in children if min(space.official(arch)["d"]) == 2)
    stage = space.official(shallow)["d"].index(2)
    hidden = [4 * stage + 2, 4 * stage + 3]
    tell(optimizer, children, [300 if arch == shallow else 0 for arch in children])
    back = [o for o in map(space.official, ask(optimizer, 100)) if o["d"][stage] == 4]
    kept = [o["ks"][slot] == 7 and o["e"][slot] == 6 for o in back for slot in hidden]
    assert len(kept) >= 4
    assert fmean(kept) > 0.6, "one in nine would be chance"


# --- other spaces, options --------------------------------------------------------------------------------------------


def test_entries_of_the_official_spaces() -> None:
    ofa = spaces.load("ofa-mbv3").variables
    found = genes(ofa, 0.1, 0.5)
    named = {tuple(ofa[i].name for i in positions): p for positions, p in found}
    assert len(named) == 1 + 5 + 20
    assert named[("r",)] == 0.5 and named[("d3",)] == 0.1 and named[("ks7", "e7")] == 0.1
    former = spaces.load("autoformer-base").variables
    assert [v.name for v, of_layer in zip(former, layer_entries(former), strict=True) if not of_layer] == [
        "depth",
        "embed_dim",
    ]


def test_entries_of_other_spaces() -> None:
    on = ((0, frozenset({1})),)
    variables = [
        Variable("d1", ("2", "3")),
        Variable("ks1", ("3", "5"), on),
        Variable("key1", ("a", "b")),
        Variable("e", ("3", "6")),
        Variable("activation", ("relu", "gelu"), on),
    ]
    assert genes(variables, 0.1, 0.1) == [((i,), 0.1) for i in range(5)]
    assert layer_entries(variables) == [False, True, True, False, True]


def test_rows_of_a_benchmark_take_their_options() -> None:
    row = parse_row("autoformer-evolution:population=20:parents=0.1:m_prob=0.5")
    assert dict(row.options) == {"population": 20, "parents": 0.1, "m_prob": 0.5}
    optimizer = optimizers.create(row.name, Problem(spaces.load("spos-shufflenet"), 0, 9), **dict(row.options))
    assert isinstance(optimizer, Generations)
    assert len(optimizer.ask(30)) == 20
