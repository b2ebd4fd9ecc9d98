"""What all charts share: a frame with axes as inline SVG, without library, script or request.

Colours and line styles are classes (`report.css`), so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

SIZES = {"wide": (960, 340), "narrow": (330, 260)}
"""Width and height of drawings that have a page's whole width, on desks and on screens of 400 pixels, where a unit is
at least a pixel, so that text is as large as it says."""
MOST = 600
"""Points that a chart draws; of more an even selection, which its caption says."""
TOLD = 200
"""Points up to which each one names its architecture when pointed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Where a drawing lies: its size and margins in SVG units, and what its axes show."""

    width: int
    height: int
    first: float
    last: float
    low: float
    high: float
    left: int = 58
    bottom: int = 44
    right: int = 14
    top: int = 14

    @property
    def floor(self) -> int:
        """Vertical position of the horizontal axis."""
        return self.height - self.bottom

    @property
    def end(self) -> int:
        """Horizontal position of the right edge."""
        return self.width - self.right

    def x(self, value: float) -> str:
        """The horizontal position of a value."""
        inner = self.width - self.left - self.right
        return f"{self.left + inner * (value - self.first) / ((self.last - self.first) or 1.0):.1f}"

    def y(self, fitness: float) -> str:
        """The vertical position of a fitness; what is below the axis stands on it."""
        inner = self.height - self.top - self.bottom
        return f"{self.floor - inner * (max(fitness, self.low) - self.low) / (self.high - self.low):.1f}"


def svg(name: str, style: str, frame: Frame, title: str, told: str, parts: Sequence[str]) -> str:
    """A drawing with its title and, for those who do not see it, its description; `name` makes its ids unique."""
    return "\n".join(
        [
            f'<svg class="{style}" viewBox="0 0 {frame.width} {frame.height}" role="img" '
            f'aria-labelledby="{name}-t {name}-d">',
            f'<title id="{name}-t">{escape(title)}</title>',
            f'<desc id="{name}-d">{escape(told)}</desc>',
            *(part for part in parts if part),
            "</svg>",
        ]
    )


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


def evenly(n: int, always: Sequence[int] = (), most: int = MOST) -> list[int]:
    """Positions 0 to n - 1, or of more than `most` an even selection and those in `always`, in order."""
    if n <= most:
        return list(range(n))
    return sorted({*(i * n // most for i in range(most)), *always})


def axes(frame: Frame, x: str, y: str, places: Sequence[float], spell: Callable[[float], str]) -> list[str]:
    """Grid, ticks and names of both axes; `places`: the horizontal ticks, spelled by `spell`."""
    parts = []
    levels = ticks(frame.low, frame.high, 7 if frame.height > 300 else 5)
    digits = max(0, -math.floor(math.log10(levels[1] - levels[0] if len(levels) > 1 else 1.0) + 1e-9))
    for value in levels:
        at = frame.y(value)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{frame.end}" y1="{at}" y2="{at}"/>')
        parts.append(
            f'<text class="tick" x="{frame.left - 8}" y="{at}" dy="4" text-anchor="end">{value:.{digits}f}</text>'
        )
    for place in places:
        parts.append(
            f'<text class="tick" x="{frame.x(place)}" y="{frame.floor + 18}" text-anchor="middle">'
            f"{escape(spell(place))}</text>"
        )
    parts.append(f'<line class="axis" x1="{frame.left}" x2="{frame.end}" y1="{frame.floor}" y2="{frame.floor}"/>')
    middle = (frame.left + frame.end) / 2
    parts.append(f'<text class="label" x="{middle}" y="{frame.height - 6}" text-anchor="middle">{escape(x)}</text>')
    middle = (frame.top + frame.floor) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 13 {middle})"'
    parts.append(f'<text class="label" x="13" y="{middle}" {turned}>{escape(y)}</text>')
    return parts


def steps(frame: Frame, points: Sequence[tuple[float, float]], style: str = "best") -> str:
    """A line that stays level until the next point, and to the right edge."""
    path = "".join(
        f"H{frame.x(x)}V{frame.y(y)}" if i else f"M{frame.x(x)} {frame.y(y)}" for i, (x, y) in enumerate(points)
    )
    return f'<path class="{style}" d="{path}H{frame.end}"/>' if path else ""
