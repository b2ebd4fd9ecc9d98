"""The best-so-far curve of a run as inline SVG, by query or by seconds: the same bytes for the same history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from eval.chart import TOLD, Frame, axes, evenly, limits, steps, svg, ticks

PROPOSERS = ("start", "init", "model", "fallback")
"""Proposers with a class of their own; every other one (a baseline's name) is drawn as `other`."""

Row = Mapping[str, Any]


def proposer_class(name: str) -> str:
    """The style class of a proposer."""
    return name if name in PROPOSERS else "other"


def draw(history: Sequence[Row], *, width: int, height: int, name: str) -> str:
    """Evaluations as dots by proposer, the best so far as steps, by query."""
    low, high = limits([float(row["fitness"]) for row in history])
    last = len(history)
    frame = Frame(width=width, height=height, first=0.5, last=last + 0.5, low=low, high=high)
    wanted = ticks(1, max(2, last), 8 if width > 500 else 4)
    places = sorted({1.0, *(t for t in wanted if t == int(t) and last / 16 < t <= last)})
    parts = [
        *axes(frame, "query", "fitness", places, lambda query: f"{query:.0f}"),
        *dots(frame, history, [float(row["query"]) for row in history]),
        steps(frame, improvements(history, [float(row["query"]) for row in history])),
    ]
    return svg(name, f"curve {name}", frame, "Best fitness so far, by query", describe(history), parts)


def draw_seconds(history: Sequence[Row], seconds: Sequence[float], *, name: str) -> str:
    """The same by the seconds into the run at which each evaluation was known."""
    low, high = limits([float(row["fitness"]) for row in history])
    frame = Frame(width=420, height=270, first=0.0, last=max(seconds) or 1.0, low=low, high=high)
    unit, size = time_unit(frame.last)
    parts = [
        *axes(frame, unit, "fitness", [t * size for t in ticks(0, frame.last / size, 5)], lambda s: f"{s / size:g}"),
        *dots(frame, history, seconds),
        steps(frame, improvements(history, seconds)),
    ]
    reached = [(s, best) for s, best in improvements(history, seconds)]
    told = f"The last improvement came after {reached[-1][0] / size:.3g} {unit}." if reached else "No improvement."
    return svg(name, "curve", frame, f"Best fitness so far, by {unit}", told, parts)


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a time is read, and its seconds."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 3 * size:
            return unit, size
    return "seconds", 1.0


def describe(history: Sequence[Row]) -> str:
    """The curve in one sentence, for those who do not see it."""
    best = [row for row in history if row.get("best_so_far") is not None]
    if not best:
        return f"{len(history)} evaluations, none of them within the caps."
    first = next(row for row in best if row["best_so_far"] == best[-1]["best_so_far"])
    return (
        f"{len(history)} evaluations; the best so far goes from {best[0]['best_so_far']:.6g} "
        f"to {best[-1]['best_so_far']:.6g}, reached at query {first['query']}."
    )


def below_axis(history: Sequence[Row]) -> int:
    """How many evaluations lie below the axis and are drawn on its edge."""
    low, _ = limits([float(row["fitness"]) for row in history])
    return sum(float(row["fitness"]) < low for row in history)


def improvements(history: Sequence[Row], xs: Sequence[float]) -> list[tuple[float, float]]:
    """(x, best so far) where that changes."""
    found: list[tuple[float, float]] = []
    for row, x in zip(history, xs, strict=True):
        best = row.get("best_so_far")
        if best is not None and (not found or best != found[-1][1]):
            found.append((x, float(best)))
    return found


def drawn(history: Sequence[Row]) -> list[int]:
    """Positions of the evaluations that a chart shows: all, or an even selection with every new best."""
    changed = [i for i, row in enumerate(history) if row.get("best_so_far") == row["fitness"]]
    first = {history[i]["best_so_far"]: i for i in reversed(changed)}
    return evenly(len(history), list(first.values()))


def dots(frame: Frame, history: Sequence[Row], xs: Sequence[float]) -> list[str]:
    """The evaluations as dots at these places; those over a cap are hollow."""
    radius = 3.4 if len(history) <= TOLD else 2
    return [_dot(frame, history[i], xs[i], radius, told=len(history) <= TOLD) for i in drawn(history)]


def _dot(frame: Frame, row: Row, x: float, radius: float, told: bool) -> str:
    fitness, proposer = float(row["fitness"]), str(row.get("proposer", "?"))
    style = proposer_class(proposer) + (" low" if fitness < frame.low else "")
    style += "" if row.get("feasible", True) else " over"
    place = f'class="dot {style}" cx="{frame.x(x)}" cy="{frame.y(fitness)}" r="{radius}"'
    if not told:
        return f"<circle {place}/>"
    tip = escape(f"query {row['query']}: {fitness:.6g}, {proposer}, {row.get('arch', '')}")
    return f"<circle {place}><title>{tip}</title></circle>"
