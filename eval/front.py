"""The front of a search with several objectives, as a card of the report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from eval.page import UNITS, card, magnitude, places, table

Json = Mapping[str, Any]


def front_card(result: Json) -> str:
    """Every architecture that no other evaluated one beats, fittest first; empty for a search of fitness alone."""
    front, objectives = result.get("front"), result.get("objectives") or ()
    if not front:
        return ""
    costs = objectives[1:]
    digits = places(result["history"] or front)
    body = "".join(
        f"<tr><td><code>{escape(str(one['arch']))}</code></td><td>{one['fitness']:.{digits}f}</td>"
        + "".join(f"<td>{escape(magnitude(float(one['costs'][cost])))}</td>" for cost in costs)
        + "</tr>"
        for one in front
    )
    columns = ("architecture", "fitness", *(UNITS.get(cost, cost) for cost in costs))
    return card("The front", table(columns, body, "archs") + f'<p class="caption">{escape(_dominated(result))}</p>')


def _dominated(result: Json) -> str:
    volume, costs = result["hypervolume"], result["objectives"][1:]
    reference = [f"{name} {_shown(name, value)}" for name, value in volume["reference"].items()]
    n = len(result["front"])
    return (
        f"{n} architecture{'s' * (n != 1)}: no other one evaluated has at least the fitness and no more "
        f"{' and '.join(costs)}. Hypervolume {volume['value']:.6g}, up to {', '.join(reference)} (the worst of the "
        "random ones that it began with)."
    )


def _shown(name: str, value: float) -> str:
    return f"{value:.6g}" if name == "fitness" else magnitude(value)
