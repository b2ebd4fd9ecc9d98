"""The best-so-far curve of a run as inline SVG: no library, no script, no request, the same bytes for the same history.

Colours and line styles are classes (`report.css`), so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

PROPOSERS = ("start", "init", "model", "fallback")
"""Proposers with a class of their own; every other one (a baseline's name) is drawn as `other`."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Where a drawing lies: its size and margins in SVG units, and what its axes show."""

    width: int
    height: int
    left: int
    bottom: int
    queries: int
    low: float
    high: float
    right: int = 14
    top: int = 14

    def x(self, query: float) -> str:
        """The horizontal position of a query (the first one stands half a step off the axis)."""
        inner = self.width - self.left - self.right
        return f"{self.left + inner * (query - 0.5) / self.queries:.1f}"

    def y(self, fitness: float) -> str:
        """The vertical position of a fitness; what is below the axis stands on it."""
        inner = self.height - self.top - self.bottom
        share = (max(fitness, self.low) - self.low) / (self.high - self.low)
        return f"{self.height - self.bottom - inner * share:.1f}"


def proposer_class(name: str) -> str:
    """The style class of a proposer."""
    return name if name in PROPOSERS else "other"


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers within [low, high], about as many as wanted; steps are 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """What the fitness axis shows: everything, unless a few bad ones would flatten the rest."""
    ordered = sorted(values)
    low, high, middle = ordered[0], ordered[-1], ordered[len(ordered) // 2]
    if high - low > 3 * (high - middle) > 0:
        low = middle - 2 * (high - middle)
    room = 0.06 * (high - low) or max(abs(high) * 0.01, 1e-6)
    return low - room, high + room


def draw(history: Sequence[Row], *, width: int, height: int, name: str) -> str:
    """The curve: evaluations as dots by proposer, the best so far as steps. `name` makes its ids unique on the page."""
    values = [float(row["fitness"]) for row in history]
    low, high = limits(values)
    frame = Frame(width=width, height=height, left=58, bottom=44, queries=len(history), low=low, high=high)
    parts = [
        f'<svg class="curve {name}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t {name}-d">',
        f'<title id="{name}-t">Best fitness so far, by query</title>',
        f'<desc id="{name}-d">{escape(describe(history))}</desc>',
        *_axes(frame),
        *(_dot(frame, row) for row in history),
        _steps(frame, history),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


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


def _axes(frame: Frame) -> list[str]:
    floor, end = frame.height - frame.bottom, frame.width - frame.right
    parts = []
    levels = ticks(frame.low, frame.high, 7)
    digits = max(0, -math.floor(math.log10(levels[1] - levels[0] if len(levels) > 1 else 1.0) + 1e-9))
    for value in levels:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{end}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="{frame.left - 8}" y="{y}" dy="4" text-anchor="end">{value:.{digits}f}</text>'
        )
    for query in sorted(
        {1, *(int(t) for t in ticks(1, max(2, frame.queries), 8 if frame.width > 500 else 4) if t >= 1)}
    ):
        if query <= frame.queries and (query == 1 or query > frame.queries / 16):
            parts.append(
                f'<text class="tick" x="{frame.x(query)}" y="{floor + 18}" text-anchor="middle">{query}</text>'
            )
    parts.append(f'<line class="axis" x1="{frame.left}" x2="{end}" y1="{floor}" y2="{floor}"/>')
    parts.append(
        f'<text class="label" x="{(frame.left + end) / 2}" y="{frame.height - 6}" text-anchor="middle">query</text>'
    )
    middle = (frame.top + floor) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 13 {middle})"'
    parts.append(f'<text class="label" x="13" y="{middle}" {turned}>fitness</text>')
    return parts


def _dot(frame: Frame, row: Row) -> str:
    fitness, proposer = float(row["fitness"]), str(row.get("proposer", "?"))
    style = proposer_class(proposer) + (" low" if fitness < frame.low else "")
    style += "" if row.get("feasible", True) else " over"
    tip = escape(f"query {row['query']}: {fitness:.6g}, {proposer}, {row.get('arch', '')}")
    radius = 3.4 if frame.queries <= 200 else 2
    place = f'cx="{frame.x(row["query"])}" cy="{frame.y(fitness)}" r="{radius}"'
    return f'<circle class="dot {style}" {place}><title>{tip}</title></circle>'


def _steps(frame: Frame, history: Sequence[Row]) -> str:
    path, last = "", None
    for row in history:
        best = row.get("best_so_far")
        if best is None or best == last:
            continue
        x, y = frame.x(row["query"]), frame.y(float(best))
        path += f"H{x}V{y}" if path else f"M{x} {y}"
        last = best
    return f'<path class="best" d="{path}H{frame.width - frame.right}"/>' if path else ""
