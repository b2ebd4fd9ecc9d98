"""The bench with several objectives: how much of the best known front's hypervolume each search's front dominates.

A search hands over the front of what it measured; where fitness is noisy, that front is judged by the true values. The
reference point is the worst that each objective has among the random architectures with which all rows of a seed begin.
The best known front is that of all rows of a table within the caps, else that of the fronts of all rows of the bench on
this seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any

from collm_nas import objectives, pareto
from collm_nas.api import Problem, UserError
from collm_nas.pareto import Point
from eval.metrics import bootstrap, paired
from eval.problems import LANDSCAPES, PACKAGED, Instance, ProblemSpec, load
from eval.stacked import stacked
from eval.summary import SECONDS, TOKENS, Record, interval, label, spent, text


def check(spec: ProblemSpec, problem: Problem, init: int) -> None:
    """UserError where the problem has not all of these costs, or the searches begin with too little for a reference."""
    if len(problem.objectives) < 2:
        return
    if spec.kind in LANDSCAPES and not spec.space:
        raise UserError(
            f"--objective {problem.objectives[1]} is for landscapes on a --space, such as ofa-mbv3, whose costs they "
            "take over; those without one have costs only where they have a cap"
        )
    if init < 2:
        raise UserError(
            f"--init {init} is too few for several objectives: the worst of at least 2 random ones is the reference "
            "point of the hypervolume; give more"
        )
    objectives.check(problem)


def measure(spec: ProblemSpec, seed: int, instance: Instance, outcome: dict[str, Any]) -> Record:
    """`front`: the true losses of a search's front; `reference`; `known`: the volume of the known front, or None."""
    names = outcome["objectives"]

    def true(row: dict[str, Any]) -> Point:
        arch = instance.space.parse(row["arch"])
        return objectives.losses(instance.value(arch, row["fitness"]), instance.costs(arch), names)

    begun = [true(row) for row in outcome["history"] if row["proposer"] == "init" and row["feasible"]]
    reference = tuple(map(max, zip(*begun, strict=True)))
    known = None if _draws_or_trains(spec) else pareto.hypervolume(_table_front(spec, seed, tuple(names)), reference)
    return {"front": [true(row) for row in outcome["front"]], "reference": reference, "known": known}


def _draws_or_trains(spec: ProblemSpec) -> bool:
    return spec.kind != "table" and spec.kind not in PACKAGED


@lru_cache(maxsize=4)
def _table_front(spec: ProblemSpec, seed: int, names: tuple[str, ...]) -> list[Point]:
    """The front of all rows within the caps."""
    instance = load(spec, seed)
    archs = [arch for arch in instance.space.all() if instance.caps.allow(instance.costs(arch))]
    points = [
        objectives.losses(evaluation.fitness, instance.costs(arch), names)
        for arch, evaluation in zip(archs, instance.evaluator.evaluate(archs), strict=True)
    ]
    return [points[i] for i in pareto.front(points)]


# --- all rows ---------------------------------------------------------------------------------------------------------


def summarise(records: Sequence[Record], reference: str) -> list[dict[str, Any]]:
    """One dict a row, in their order; `versus` compares shares of the hypervolume with the row `reference`, seed by
    seed."""
    by_row: dict[str, list[Record]] = {}
    for record in scored(records):
        by_row.setdefault(record["row"], []).append(record)
    return [_line(row, own, by_row[reference]) for row, own in by_row.items()]


def scored(records: Sequence[Record]) -> list[Record]:
    """The records with `hypervolume` and `share`, of what is the best known on their seed."""
    whole: dict[Any, float] = {}
    for record in records:
        if record["seed"] not in whole:
            union = [tuple(p) for other in records if other["seed"] == record["seed"] for p in other["front"]]
            known = record["known"]
            whole[record["seed"]] = pareto.hypervolume(union, tuple(record["reference"])) if known is None else known
    found = []
    for record in records:
        volume = pareto.hypervolume([tuple(p) for p in record["front"]], tuple(record["reference"]))
        best = whole[record["seed"]]
        found.append({**record, "hypervolume": volume, "share": volume / best if best > 0 else 1.0})
    return found


def _line(row: str, own: Sequence[Record], first: Sequence[Record]) -> dict[str, Any]:
    versus = paired({r["seed"]: r["share"] for r in own}, {r["seed"]: r["share"] for r in first})
    return {
        "row": row,
        "searches": len(own),
        "seen": own[0]["seen"],
        "share": interval(bootstrap([record["share"] for record in own])),
        "normalised_to": "the fronts of all rows" if own[0]["known"] is None else "the table's front",
        "final": interval(bootstrap([record["final"] for record in own])),
        "front_size": fmean(len(record["front"]) for record in own),
        "fallback": fmean(record["by_proposer"].get("fallback", 0) for record in own),
        **{f"tokens_{name}": fmean(record["tokens"][name] for record in own) for name in TOKENS},
        **{f"seconds_{name}": fmean(record["seconds"][name] for record in own) for name in SECONDS},
        "versus": {
            "row": first[0]["row"],
            "share": interval(versus.difference),
            "worse": versus.lower,
            "equal": versus.equal,
            "better": versus.higher,
            "decided": versus.decided,
        },
    }


def table(lines: Sequence[dict[str, Any]], protocol: str, title: str, width: int) -> Any:
    """What `stacked` makes of all figures; the protocol stands under it, with what the hypervolume is a share of."""
    first, whole = (lines[0]["versus"]["row"], lines[0]["normalised_to"]) if lines else ("", "")
    columns = [
        ("hypervolume", [text(one["share"]) for one in lines]),
        (f"minus {first}: worse/equal/better", [_held(one["versus"], one["row"]) for one in lines]),
        ("size of front", [f"{one['front_size']:.1f}" for one in lines]),
        ("best fitness", [text(one["final"]) for one in lines]),
        *spent(lines),
    ]
    caption = f"{protocol} | hypervolume as a share of that of {whole}"
    return stacked([label(one) for one in lines], columns, f"{title}means over seeds [95 %]", caption, width)


def _held(versus: dict[str, Any], row: str) -> str:
    tally = f"{versus['worse']}/{versus['equal']}/{versus['better']}"
    return "" if row == versus["row"] else f"{text(versus['share'])} {tally}"
