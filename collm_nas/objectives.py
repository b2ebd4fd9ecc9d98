"""What a search is after: fitness, which is maximised, and any costs beside it, which are minimised."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from collm_nas.api import Problem, UserError
from collm_nas.pareto import Point

FITNESS = "fitness"
LEGAL = (FITNESS, "flops", "params", "latency")


def read(given: Sequence[str] | str) -> tuple[str, ...]:
    """The objectives in their own order; UserError where one is unknown or named twice, or fitness is missing."""
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in LEGAL:
            near = difflib.get_close_matches(str(name), LEGAL, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"--objective {name!r} is unknown; legal: {', '.join(LEGAL)}{hint}")
        if names.count(name) > 1:
            raise UserError(f"--objective {name} is given {names.count(name)} times; name each objective once")
    if FITNESS not in names:
        raise UserError(
            f"--objective {' and '.join(names) or 'nothing'} leaves out fitness, which every search maximises; add "
            "--objective fitness"
        )
    return tuple(name for name in LEGAL if name in names)


def check(problem: Problem) -> None:
    """UserError where an objective is a cost that neither space nor table knows."""
    costs = problem.objectives[1:]
    known = problem.costs(next(iter(problem.space.all()))) if costs and problem.costs is not None else {}
    for cost in costs:
        if cost not in known:
            raise UserError(
                f"--objective {cost}: neither the space {problem.space.name!r} nor the table knows the cost {cost!r}; "
                f"known: {', '.join(name for name in LEGAL if name in known) or 'none'}"
            )


def losses(fitness: float, costs: Mapping[str, float], objectives: Sequence[str]) -> Point:
    """An evaluation as a point of `collm_nas.pareto`: fitness with its sign turned, then the costs."""
    return (-float(fitness), *(float(costs[name]) for name in objectives[1:]))
