"""Which choices were favoured over time: a map of variables by rounds, as inline SVG.

Told by the strategies where there are readable ones, else by what was evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from collm_nas.strategy import SETTLED
from eval.rounds import Round

if TYPE_CHECKING:
    from collm_nas.spaces.base import CategoricalSpace

Row = Mapping[str, Any]
HUES, LEVELS = 6, 4
LINE, HEAD, GAP = 21, 24, 1.5
LETTER = 6.65
"""Height of a row and of the head, room between cells, width of a letter (of one width all, so that no text is cut), in
SVG units."""
NAME = 14
"""Letters of a variable's name that are shown."""
BATCH = 5
"""Evaluations in a column at least, where no strategies are told."""


@dataclass(frozen=True, slots=True)
class Favour:
    """What a variable's choice was in a column: position, and how clearly, 1 to 4."""

    choice: int
    level: int


@dataclass(frozen=True, slots=True)
class Map:
    """Columns by variables; `unit` says what `first` and `last` of a column count."""

    unit: str
    spans: tuple[tuple[int, int], ...]
    cells: tuple[tuple[Favour | None, ...], ...]


def of_strategies(told: Sequence[Round], space: CategoricalSpace, most: int) -> Map | None:
    """Choices that the strategies put first, in at most so many columns; None where no strategy was readable."""
    by_round = [(r.number, [p.strategy for p in r.plans if p.strategy is not None]) for r in told]
    by_round = [(number, strategies) for number, strategies in by_round if strategies]
    spans, cells = [], []
    for part in _parts(len(by_round), most):
        rows = by_round[part.start : part.stop]
        spans.append((rows[0][0], rows[-1][0]))
        weights: list[Counter[int]] = [Counter() for _ in space.variables]
        strategies = [strategy for _, some in rows for strategy in some]
        for strategy in strategies:
            for weight, d in zip(weights, strategy.directions, strict=True):
                weight[d.first] += (1 + d.settled) / (len(SETTLED) * len(strategies))  # type: ignore[assignment]
        cells.append(tuple(_favour(weight) for weight in weights))
    return Map("round", tuple(spans), tuple(cells)) if cells else None


def of_history(history: Sequence[Row], space: CategoricalSpace, most: int) -> Map | None:
    """Choices that most evaluated architectures had; None where the space cannot read them."""
    spans, cells = [], []
    for part in _parts(len(history), min(most, max(1, len(history) // BATCH))):
        weights: list[Counter[int]] = [Counter() for _ in space.variables]
        for row in history[part.start : part.stop]:
            try:
                arch = space.whole.parse(str(row["arch"]))
            except ValueError:
                return None
            for weight, choice, on in zip(weights, arch.choices, space.active(arch.choices), strict=True):
                weight[choice] += on / len(part)  # type: ignore[assignment]
        spans.append((part.start + 1, part.stop))
        cells.append(tuple(_favour(weight) for weight in weights))
    return Map("queries", tuple(spans), tuple(cells)) if cells else None


def _parts(n: int, most: int) -> list[range]:
    """0 to n - 1 in at most so many parts of nearly one size."""
    k = min(n, most)
    return [range(i * n // k, (i + 1) * n // k) for i in range(k)]


def _favour(weight: Counter[int]) -> Favour | None:
    choice = max(weight, key=lambda c: (weight[c], -c), default=0)
    return Favour(choice, min(LEVELS, 1 + int(LEVELS * weight[choice]))) if weight[choice] > 0 else None


def draw(found: Map, space: CategoricalSpace, *, width: int, name: str) -> str:
    """The map: hue by choice, paler where less clear, the choice written wherever it changes."""
    left = 10 + LETTER * min(NAME, max(len(found.unit), *(len(v.name) for v in space.variables)))
    step = (width - left) / len(found.spans)
    height = HEAD + LINE * len(space.variables) + 4
    parts = _head(found, left, step)
    for i, variable in enumerate(space.variables):
        y = HEAD + LINE * i
        parts.append(
            f'<text x="0" y="{y}" dy="15">{escape(_short(variable.name, NAME))}'
            f"<title>{escape(variable.name)}</title></text>"
        )
        column = [cells[i] for cells in found.cells]
        parts += _fills(column, left, step, y)
        parts += _words(column, variable.choices, left, step, y)
    last = ", ".join(
        f"{v.name} {v.choices[f.choice]}" for v, f in zip(space.variables, found.cells[-1], strict=True) if f
    )
    told = f"{len(space.variables)} variables in {len(found.spans)} columns. At the end: {last}."
    return (
        f'<svg class="curve favoured {name}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{name}-f {name}-g">\n<title id="{name}-f">Favoured choices by {found.unit}</title>\n'
        f'<desc id="{name}-g">{escape(told)}</desc>\n' + "\n".join(parts) + "\n</svg>"
    )


def _head(found: Map, left: float, step: float) -> list[str]:
    parts = [f'<text x="0" y="14">{found.unit}</text>']
    free = left
    for i, (first, last) in enumerate(found.spans):
        text, x = str(first) if first == last else f"{first}–{last}", left + step * i + 3
        if x >= free and x + LETTER * len(text) <= left + step * len(found.spans):
            parts.append(f'<text x="{x:.1f}" y="14">{text}</text>')
            free = x + LETTER * len(text) + 10
    return parts


def _fills(column: Sequence[Favour | None], left: float, step: float, y: int) -> list[str]:
    """One rectangle for each stretch of equal cells."""
    parts = []
    for i, j in _stretches(column):
        f = column[i]
        if f is not None:
            parts.append(
                f'<rect class="h{f.choice % HUES} l{f.level}" x="{left + step * i:.1f}" y="{y}" '
                f'width="{max(1.0, step * (j - i) - (GAP if j == len(column) or _other(column[j], f) else 0)):.1f}" '
                f'height="{LINE - 2}"/>'
            )
    return parts


def _other(cell: Favour | None, f: Favour) -> bool:
    return cell is None or cell.choice != f.choice


def _words(column: Sequence[Favour | None], choices: Sequence[str], left: float, step: float, y: int) -> list[str]:
    """The choice at the beginning of each stretch, as much of it as there is room for."""
    parts = []
    for i, j in _stretches([None if f is None else f.choice for f in column]):
        f = column[i]
        room = int((step * (j - i) - 6) / LETTER)
        if f is not None and room >= 1 and (short := _short(choices[f.choice], room)):
            parts.append(f'<text x="{left + step * i + 4:.1f}" y="{y}" dy="14">{escape(short)}</text>')
    return parts


def _stretches(values: Sequence[Any]) -> list[tuple[int, int]]:
    """(from, to) of equal neighbours."""
    ends = [i for i in range(1, len(values)) if values[i] != values[i - 1]]
    return list(zip([0, *ends], [*ends, len(values)], strict=True))


def _short(text: str, room: int) -> str:
    """A text in so many letters: without its middle, since names of choices differ at the end."""
    if len(text) <= room:
        return text
    if room < 4:
        return text[-room:] if text[-1:].isdigit() else text[:room]
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}…{text[-tail:]}"
