"""Fitness against cost as inline SVG: what was evaluated, the front, and the cap."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from eval.chart import Frame, axes, limits, steps, svg, ticks
from eval.curve import dots

Row = Mapping[str, Any]
KNOWN = ("flops", "params", "latency")


def shown_costs(costs: Sequence[Mapping[str, float]], wanted: Collection[str]) -> list[str]:
    """The costs to draw: those that are wanted (capped, or objectives), else the first one; every evaluation must have
    them, and not all the same."""
    names = [*dict.fromkeys([*KNOWN, *(name for row in costs for name in row)])]
    known = [n for n in names if costs and all(n in row for row in costs) and len({row[n] for row in costs}) > 1]
    return [name for name in known if name in wanted] or known[:1]


def front(history: Sequence[Row], costs: Sequence[float]) -> list[int]:
    """Positions of the feasible evaluations that no other one beats in both, cheapest first."""
    order = sorted(range(len(history)), key=lambda i: (costs[i], -history[i]["fitness"]))
    found: list[int] = []
    for i in order:
        if history[i].get("feasible", True) and (not found or history[i]["fitness"] > history[found[-1]]["fitness"]):
            found.append(i)
    return found


def draw(history: Sequence[Row], costs: Sequence[float], *, unit: str, cap: float | None, name: str) -> str:
    """Every evaluation at its cost, the front as steps, the cap as a line."""
    low, high = limits([float(row["fitness"]) for row in history])
    least, most = min(costs), max([*costs, *([cap] if cap is not None and cap < 2 * max(costs) else [])])
    room = 0.04 * (most - least) or 1.0
    frame = Frame(width=420, height=270, first=least - room, last=most + room, low=low, high=high)
    scale, prefix = next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if most >= s), (1.0, ""))
    best = front(history, costs)
    parts = [
        *axes(
            frame,
            f"{unit}, {prefix}" if prefix else unit,
            "fitness",
            [t * scale for t in ticks(frame.first / scale, frame.last / scale, 5)],
            lambda cost: f"{cost / scale:g}",
        ),
        *_cap(frame, cap),
        *dots(frame, history, costs),
        steps(frame, [(costs[i], float(history[i]["fitness"])) for i in best], "front"),
    ]
    told = f"{len(history)} evaluations; the front has {len(best)} of them."
    if cap is not None:
        told += f" The cap is {cap:g}."
    return svg(name, "curve", frame, f"Fitness against {unit}", told, parts)


def _cap(frame: Frame, cap: float | None) -> list[str]:
    if cap is None or not frame.first < cap < frame.last:
        return []
    x = frame.x(cap)
    anchor, shift = ("end", -5) if float(x) > (frame.left + frame.end) / 2 else ("start", 5)
    return [
        f'<line class="cap" x1="{x}" x2="{x}" y1="{frame.top}" y2="{frame.floor}"/>',
        f'<text class="label" x="{x}" y="{frame.floor - 6}" dx="{shift}" text-anchor="{anchor}">cap</text>',
    ]
