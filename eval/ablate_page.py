"""The page of an ablation: each question with its answer, its cells in a table, and their best-so-far curves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from eval import ablate
from eval.ablations import REGRET, Question
from eval.chart import ticks
from eval.metrics import bootstrap

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 960, 300, 58, 40, 12, 14
COLOURS = ("--accent", "--fallback", "--start", "--other", "--init", "--warn")
"""Of the style sheet's, in the order of the cells; a seventh cell begins again."""
POINTS = 25
"""Queries at which a curve and its band are drawn."""
STYLE = """
.lines path { fill: none; stroke-width: 2; } .lines polygon { stroke: none; fill-opacity: .13; }
.answer { margin: 6px 0 12px; } .key i { display: inline-block; width: 18px; height: 3px; margin-right: 6px;
vertical-align: middle; } .scroll { overflow-x: auto; }
.scroll th, .scroll td { white-space: nowrap; }
@media (max-width: 640px) { .lines text { font-size: 26px; } } header p { overflow-wrap: anywhere; }
"""
Record = dict[str, Any]


def page(questions: Sequence[Question], found: dict[str, list[Record]], protocol: str, model: str) -> str:
    """The whole page, without script or request."""
    style = resources.files("eval").joinpath("report.css").read_text(encoding="utf-8") + STYLE
    cards = "\n".join(_card(question, found) for question in questions)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Ablation</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>Ablation: one factor at a time</h1>\n"
        f"<p>{escape(protocol)} | model {escape(model)}</p>\n</header>\n{cards}\n"
        "<footer>Brackets and bands: 95 % bootstrap intervals over seeds. Normalised regret: 0 is the best known, 1 a "
        "typical random point. Counts are of the models' candidates, before any repair.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _card(question: Question, found: dict[str, list[Record]]) -> str:
    lines = ablate.lines(question, found)
    rows = "\n".join(_row(line, shown=i > 0) for i, line in enumerate(lines))
    titles = (
        "",
        "regret",
        f"{'' if question.measure == REGRET else question.measure + ' '}minus {lines[0].label}",
        "attempted",
        "legal",
        "new",
        "evaluated",
        "random",
        "tokens",
        "ms",
        "grammar",
        "diversity",
    )
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    answer = escape(ablate.answer(lines, question.measure))
    return (
        f'<section class="card">\n<h2>{escape(question.text)}</h2>\n<p class="answer">{answer}</p>\n'
        f'{_curves(question, found)}\n<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n'
        '</tbody>\n</table></div>\n<p class="caption">Tokens and milliseconds of the models, and those of the '
        "grammar among them, are for each evaluated candidate. Diversity: the share of variables in which two of a "
        "search's candidates differ.</p>\n</section>"
    )


def _row(line: ablate.Line, shown: bool) -> str:
    """`shown`: whether its difference from the first cell is."""
    if line.regret is None:
        return f'<tr><td>{escape(line.label)}</td><td class="left" colspan="11">{escape(line.error)}</td></tr>'
    cells = [
        line.regret.text(),
        line.against.difference.text() if line.against and shown else "",
        f"{line.attempted:.1f}",
        f"{100 * line.valid:.1f} %",
        f"{100 * line.unique:.1f} %",
        f"{line.evaluated:.1f}",
        f"{line.fallback:.1f}",
        f"{line.tokens:.0f}",
        f"{line.milliseconds:.0f}",
        f"{line.mask:.1f}",
        "" if line.diversity is None else f"{line.diversity:.2f}",
    ]
    return f"<tr><td>{escape(line.label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


# --- curves -----------------------------------------------------------------------------------------------------------


def _curves(question: Question, found: dict[str, list[Record]]) -> str:
    """Mean normalised regret of the best so far, by query, with a band."""
    drawn = {cell.label: curves for cell in question.cells if (curves := _normalised(found[cell.label])) is not None}
    if not drawn:
        return ""
    queries = max(curves.shape[1] for curves in drawn.values())
    top = max(1e-6, *(float(curves.mean(0)[_points(curves.shape[1])[1:2]].max()) for curves in drawn.values()))
    parts = [f'<svg class="curve lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', *_axes(queries, top)]
    key = []
    for i, (label, curves) in enumerate(drawn.items()):
        colour = f"var({COLOURS[i % len(COLOURS)]})"
        parts += _line(curves, colour, queries, top)
        key.append(f'<span class="key"><i style="background:{colour}"></i>{escape(label)}</span>')
    return "\n".join([*parts, "</svg>", f'<p class="legend">{"".join(key)}</p>'])


def _normalised(records: Sequence[Record]) -> np.ndarray | None:
    """(searches, queries): normalised regret of the best so far, 1 before there is one."""
    good = [r for r in records if "error" not in r]
    if not good:
        return None
    shortest = min(len(r["curve"]) for r in good)
    rows = []
    for r in good:
        span = (r["best"] - r["typical"]) or 1.0
        rows.append([1.0 if v is None else (r["best"] - v) / span for v in r["curve"][:shortest]])
    return np.array(rows)


def _points(queries: int) -> list[int]:
    return sorted({round(x) for x in np.linspace(0, queries - 1, min(POINTS, queries))})


def _x(query: int, queries: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * query / max(1, queries - 1)


def _y(regret: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(regret / top, 0.0), 1.0))


def _line(curves: np.ndarray, colour: str, queries: int, top: float) -> list[str]:
    points = [(p, bootstrap(curves[:, p].tolist())) for p in _points(curves.shape[1])]
    upper = [f"{_x(p, queries):.1f},{_y(e.high, top):.1f}" for p, e in points]
    lower = [f"{_x(p, queries):.1f},{_y(e.low, top):.1f}" for p, e in reversed(points)]
    middle = " L".join(f"{_x(p, queries):.1f} {_y(e.mean, top):.1f}" for p, e in points)
    return [
        f'<polygon points="{" ".join(upper + lower)}" style="fill:{colour}"/>',
        f'<path d="M{middle}" style="stroke:{colour}"/>',
    ]


def _axes(queries: int, top: float) -> list[str]:
    floor, parts = HEIGHT - BOTTOM, []
    for value in ticks(0.0, top, 5):
        y = f"{_y(value, top):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{value:.3g}</text>')
    for query in {1, *(int(t) for t in ticks(1, max(2, queries), 8) if t > queries / 16)}:
        parts.append(f'<text x="{_x(query - 1, queries):.1f}" y="{floor + 18}" text-anchor="middle">{query}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">query</text>')
    return parts
