from __future__ import annotations

import itertools

import numpy as np
import pytest

from collm_nas import optimizers, spaces
from collm_nas.api import Architecture, Candidate, Caps, Evaluation, Observation, Problem, Variable
from collm_nas.optimizers import _cells, gp_exp, wl_gp
from collm_nas.optimizers._optuna import Studied
from collm_nas.spaces.base import CategoricalSpace
from eval.relabel import relabel, reorder

NASBENCH = spaces.load("nasbench201")


def conditional() -> CategoricalSpace:
    """A width that only the deeper half has."""
    deep = ((0, frozenset({2, 3})),)
    return CategoricalSpace(
        "s", [Variable("d", tuple("1234")), Variable("k", tuple("abc")), Variable("w", tuple("xyz"), deep)]
    )


def costs(arch: Architecture) -> dict[str, float]:
    return {"flops": float(sum(arch.choices))}


def tell(optimizer: object, archs: list[Architecture], proposer: str = "init") -> None:
    heard = [Observation(Candidate(a, proposer), "evaluated", Evaluation(float(sum(a.choices)))) for a in archs]
    optimizer.tell(heard)  # type: ignore[attr-defined]


def study(name: str, caps: Caps | None = None, **options: object) -> tuple[Studied, CategoricalSpace]:
    space = conditional()
    optimizer = optimizers.create(name, Problem(space, 0, 30, caps or Caps(), costs), **options)
    assert isinstance(optimizer, Studied)
    tell(optimizer, [space.make((0, 0, 0)), space.make((3, 0, 0)), space.make((1, 2, 0))])
    return optimizer, space


def trials(optimizer: Studied) -> list[object]:
    return optimizer._study.get_trials(deepcopy=False)  # type: ignore[no-any-return]


def test_tpe_hears_of_starts_and_knows_only_active_variables() -> None:
    optimizer, _ = study("tpe")
    assert [(t.params, t.value) for t in trials(optimizer)] == [  # type: ignore[attr-defined]
        ({"d": 0, "k": 0}, 0.0),
        ({"d": 3, "k": 0, "w": 0}, 3.0),
        ({"d": 1, "k": 2}, 3.0),
    ]


def test_nsga2_breeds_inactive_variables_too() -> None:
    optimizer, _ = study("nsga2")
    assert all(set(t.params) == {"d", "k", "w"} for t in trials(optimizer))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_what_is_over_a_cap_is_told_as_infeasible_and_never_asked(name: str) -> None:
    optimizer, space = study(name, Caps({"flops": 3.0}))
    asked = [c.arch for c in optimizer.ask(6) if c.arch is not None]
    assert all(sum(arch.choices) <= 3 for arch in asked)
    over = [t for t in trials(optimizer) if any(v > 0 for v in t.constraints.values())]  # type: ignore[attr-defined]
    assert over, "none was drawn over the cap, which about half of the space is"
    for t in over:
        arch = space.make([t.params.get(v.name, 0) for v in space.variables])  # type: ignore[attr-defined]
        assert t.constraints["cost"] == pytest.approx(sum(arch.choices) / 3 - 1)  # type: ignore[attr-defined]


def test_without_dedupe_repeats_stay_in_the_answer_and_are_told_again() -> None:
    optimizer, space = study("tpe", dedupe=0)
    known = set(space.all())
    tell(optimizer, sorted(known - set(optimizer._memory.values), key=lambda a: a.choices))
    before = len(trials(optimizer))
    answer = optimizer.ask(4)
    assert len(answer) == 4 and {c.arch for c in answer} <= known
    again = trials(optimizer)[before:]
    assert [t.value for t in again] == [sum(c.arch.choices) for c in answer if c.arch]  # type: ignore[attr-defined]
    assert study("tpe")[0].ask(1) and not _exhausted().ask(3), "with it, nothing is left to ask"


def _exhausted() -> Studied:
    optimizer, space = study("tpe")
    tell(optimizer, list(space.all()))
    return optimizer


def test_the_exponential_kernel_counts_matching_choices() -> None:
    a, b = np.array([[1.0, 0, 1, 0, 1, 0]]), np.array([[1.0, 0, 1, 0, 0, 1]])
    assert gp_exp.kernel(a, b, 0.4)[0, 0] == pytest.approx(np.exp((2 / 3 - 1) / 0.4))
    assert gp_exp.kernel(a, a, 0.4)[0, 0] == 1.0


def cell(text: str) -> Architecture:
    return NASBENCH.make(["ns13p".index(op) for op in text.split()])


def test_paths_of_a_cell_go_from_input_to_output() -> None:
    assert _cells.output(NASBENCH) == 3
    found = _cells.paths(_cells.cell(NASBENCH, cell("3 n 1 s n p")), 3)
    assert found == [("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"), ("skip_connect",)]


def test_a_space_says_itself_that_it_is_a_cell() -> None:
    """It was guessed from names of variables, so that a file's space was a cell by chance."""
    variables = [Variable(f"e{a}{b}", ("none", "conv")) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert CategoricalSpace("s", variables).edges is None
    for moved in (relabel(NASBENCH, 1), reorder(NASBENCH, 1)):
        for arch in itertools.islice(moved.all(), 0, None, 1000):
            assert sorted(_cells.cell(moved, arch)) == sorted(_cells.cell(NASBENCH, moved.to_original(arch)))


def test_the_graph_of_a_cell_and_of_any_other_architecture() -> None:
    labels, feeds = wl_gp.graph(NASBENCH, cell("3 n 1 s n p"))
    assert labels == ["input", "nor_conv_3x3", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "output"]
    assert feeds == [[], [0], [1], [0], [2], [3, 4]]
    assert wl_gp.graph(conditional(), conditional().make((1, 2, 0))) == (["d=2", "k=c"], [[], [0]])


def test_the_kernel_on_labels_is_their_cosine_and_does_not_see_the_names_of_nodes() -> None:
    labels = wl_gp.Labels()
    # One conv on the way through node 1 or through node 2: the same graph. The other differs in one operation.
    archs = [cell("3 n n n p n"), cell("n 3 n n n p"), cell("1 n n n p n")]
    rows = labels.rows(NASBENCH, archs)
    for level in wl_gp.LEVELS:
        gram = labels.kernel(rows, rows, level)
        assert np.allclose(np.diag(gram), 1.0) and gram[0, 1] == pytest.approx(1.0)
    # Four nodes: level 0 shares three labels; level 1 the input's alone and, fed by a pool, the output's.
    assert labels.kernel(rows, rows, 0)[0, 2] == pytest.approx(3 / 4)
    assert labels.kernel(rows, rows, 1)[0, 2] == pytest.approx((3 + 2) / 8)
    wider = labels.rows(NASBENCH, [cell("s s s s s s")])
    assert labels.kernel(rows, wider, 2).shape == (3, 1), "rows made before other labels were met still compare"
