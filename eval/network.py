"""The winner as a picture: a cell as a graph (SVG), a staged network as blocks, any other one as a list of choices."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from collm_nas.spaces.drawing import Block, Cell, Edge, Stage, Stages

if TYPE_CHECKING:
    from collm_nas.api import Architecture
    from collm_nas.spaces.base import CategoricalSpace

RADIUS, LABEL = 30, 13
"""Of a node; half the height of an operation."""
WIDE, NARROW = (560, 330), (330, 470)
"""Width and height of a cell from left to right and, for narrow screens, from top to bottom."""


def draw(space: CategoricalSpace, text: str) -> str:
    """The network that `text` (native) spells, as HTML; empty where this space cannot read it."""
    try:
        arch = space.whole.parse(text)
    except ValueError:
        return ""
    drawing = space.whole.drawing(arch)
    if isinstance(drawing, Cell):
        return _cell(drawing)
    return _choices(space.whole, arch) if drawing is None else _stages(drawing)


# --- staged networks --------------------------------------------------------------------------------------------------


def _stages(drawing: Stages) -> str:
    rows = "".join(_stage(stage) for stage in drawing.stages)
    around = f'<p class="caption">{escape(drawing.around)}.</p>' if drawing.around else ""
    return f'<ol class="network">{rows}</ol>\n<p class="caption">{escape(drawing.key)}</p>{around}'


def _stage(stage: Stage) -> str:
    blocks = "".join(_block(block) for block in stage.blocks)
    return (
        f'<li><p><b>{escape(stage.name)}</b><span>{escape(stage.note)}</span></p><ol class="blocks">{blocks}</ol></li>'
    )


def _block(block: Block) -> str:
    note = f"<span>{escape(block.note)}</span>" if block.note else ""
    return (
        f'<li class="h{block.shade % 6}" style="min-height:{1.9 + 2.6 * block.height:.2f}em">'
        f"<b>{escape(block.label)}</b>{note}</li>"
    )


# --- cells ------------------------------------------------------------------------------------------------------------


def _cell(cell: Cell) -> str:
    drawings = _graph(cell, WIDE, "wide") + _graph(cell, NARROW, "narrow")
    return f'{drawings}<p class="caption">{escape(cell.caption)}</p>'


def _graph(cell: Cell, size: tuple[int, int], style: str) -> str:
    places = [_place(i, len(cell.nodes), size) for i in range(len(cell.nodes))]
    told = "; ".join(f"{cell.nodes[e.source]} to {cell.nodes[e.target]}: {e.operation}" for e in cell.edges)
    lines = "".join(_edge(edge, places) for edge in cell.edges)
    labels = "".join(_label(edge, places) for edge in cell.edges)
    nodes = "".join(
        f'<circle class="node" cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS}"/>'
        f'<text x="{x:.0f}" y="{y:.0f}" dy="5" text-anchor="middle">{escape(name)}</text>'
        for name, (x, y) in zip(cell.nodes, places, strict=True)
    )
    return (
        f'<svg class="cell {style}" viewBox="0 0 {size[0]} {size[1]}" role="img" '
        f'aria-labelledby="{style}-cell-t {style}-cell-d">\n<title id="{style}-cell-t">The best cell</title>\n'
        f'<desc id="{style}-cell-d">{escape(told)}</desc>\n{lines}{labels}{nodes}\n</svg>\n'
    )


def _place(i: int, n: int, size: tuple[int, int]) -> tuple[float, float]:
    """Nodes stand along the longer side; the inner ones alternate beside its middle, so that no edge hides another."""
    width, height = size
    along = RADIUS + 4 + (max(size) - 2 * RADIUS - 8) * i / max(1, n - 1)
    beside = 0.0 if i in (0, n - 1) else (0.32 if i % 2 else -0.32) * min(size)
    return (along, height / 2 + beside) if width > height else (width / 2 - beside, along)


def _edge(edge: Edge, places: list[tuple[float, float]]) -> str:
    (x0, y0), (x1, y1) = places[edge.source], places[edge.target]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    x0, y0 = x0 + ux * RADIUS, y0 + uy * RADIUS
    x1, y1 = x1 - ux * RADIUS, y1 - uy * RADIUS
    style = "edge empty" if edge.empty else "edge"
    line = f'<path class="{style}" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>'
    if edge.empty:
        return line
    bx, by = x1 - 11 * ux, y1 - 11 * uy
    corners = f"{x1:.1f},{y1:.1f} {bx - 5 * uy:.1f},{by + 5 * ux:.1f} {bx + 5 * uy:.1f},{by - 5 * ux:.1f}"
    return line + f'<polygon class="arrow" points="{corners}"/>'


def _label(edge: Edge, places: list[tuple[float, float]]) -> str:
    """The operation on its edge: halfway, but on the one over all of the cell before it crosses another."""
    (x0, y0), (x1, y1) = places[edge.source], places[edge.target]
    at = 0.25 if edge.target - edge.source == len(places) - 1 else 0.5
    x, y = x0 + at * (x1 - x0), y0 + at * (y1 - y0)
    width = 7.4 * len(edge.operation) + 14
    style = "empty" if edge.empty else f"h{edge.shade % 6}"
    return (
        f'<rect class="operation {style}" x="{x - width / 2:.1f}" y="{y - LABEL:.1f}" width="{width:.1f}" '
        f'height="{2 * LABEL}" rx="6"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" dy="4.5" text-anchor="middle">{escape(edge.operation)}</text>'
    )


# --- any other --------------------------------------------------------------------------------------------------------


def _choices(space: CategoricalSpace, arch: Architecture) -> str:
    active = space.active(arch.choices)
    rows = "".join(
        f"<div><dt>{escape(variable.name)}</dt><dd>{_of(variable.choices, c) if on else '<i>out of use</i>'}</dd></div>"
        for variable, c, on in zip(space.variables, arch.choices, active, strict=True)
    )
    return f'<dl class="choices">{rows}</dl>\n<p class="caption">The choice taken among those of each variable.</p>'


def _of(choices: tuple[str, ...], taken: int) -> str:
    """The taken choice among the others; of many only its neighbours are named."""
    first = max(0, min(taken - 2, len(choices) - 5))
    shown = range(first, min(len(choices), first + 5)) if len(choices) > 6 else range(len(choices))
    names = [f"<b>{escape(choices[i])}</b>" if i == taken else f"<span>{escape(choices[i])}</span>" for i in shown]
    before, after = ["…"] if shown[0] else [], ["…"] if shown[-1] < len(choices) - 1 else []
    return " ".join([*before, *names, *after])
