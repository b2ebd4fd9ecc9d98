"""The rounds of a search as HTML: each strategy in plain words beside what was made of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from eval.page import card, table
from eval.rounds import Plan, Round, Told

FOLDED = 60
"""Words from which a strategy of a chat model opens at a click."""
MOST = 40
"""Rounds that are told."""


def rounds_card(told: Sequence[Round], digits: int) -> str:
    """All rounds, or of many those that matter."""
    if not told:
        return ""
    shown = chosen(told)
    intro = "What the Navigator wrote, in plain words, and what the Generator made of it. A strategy opens at a click."
    if len(shown) < len(told):
        intro += (
            f" {len(shown)} of {len(told)} rounds are told here: the first and the last ones, and those that found a "
            "new best. The journal has all."
        )
    body = "".join(_round(r, digits) for r in shown)
    return card("Strategies, round by round", f'<p class="soft">{intro}</p>{body}', "rounds")


def chosen(told: Sequence[Round]) -> list[Round]:
    """Of many rounds the first and last quarter of what is told, and between them the latest ones with a new best."""
    if len(told) <= MOST:
        return list(told)
    ends = MOST // 4
    inner = [r for r in told[ends:-ends] if any(c.better for p in r.plans for c in p.candidates)]
    return [*told[:ends], *inner[-(MOST - 2 * ends) :], *told[-ends:]]


def _round(r: Round, digits: int) -> str:
    parts = [f'<p class="soft">Not readable as a strategy; verbatim:</p><pre>{escape(text)}</pre>' for text in r.unread]
    rows = "".join(_plan(plan, digits) for plan in r.plans)
    if r.others:
        rows += _rows('<span class="soft">random, to fill the batch</span>', r.others, digits)
    if rows:
        parts.append(table(("strategy", "candidates", "fitness"), rows))
    return f'<article class="round"><h3>Round {r.number}</h3>{"".join(parts)}</article>'


def _plan(plan: Plan, digits: int) -> str:
    """Rows of a table; the strategy shows its reason and, opened, all of itself."""
    if plan.verbatim:
        words = len(plan.verbatim.split())
        told = f"<pre>{escape(plan.verbatim)}</pre>"
        shown = told if words < FOLDED else f"<details><summary>{words} words</summary>{told}</details>"
        return _rows(shown, plan.candidates, digits)
    anchors = "".join(f"<li><code>{escape(a)}</code></li>" for a in plan.anchors)
    directions = "".join(f"<li>{escape(d)}</li>" for d in plan.directions)
    opened = (
        f'<p class="soft">Like these, and {escape(plan.roam)}:</p><ul class="anchors">{anchors}</ul>'
        f'<ul class="directions">{directions}</ul>'
    )
    shown = f"<details><summary>{escape(plan.why)}</summary>{opened}</details>"
    return _rows(shown, plan.candidates, digits)


def _rows(strategy: str, candidates: Sequence[Told], digits: int) -> str:
    """A row for each candidate, text and what became of it, beside the one cell of their strategy."""
    if not candidates:
        return f'<tr><td class="plan">{strategy}</td><td></td><td></td></tr>'
    rows = []
    for i, c in enumerate(candidates):
        first = "" if i else f'<td class="plan" rowspan="{len(candidates)}">{strategy}</td>'
        style = " ".join(name for name, on in (("more", i > 0), ("better", c.better)) if on)
        rows.append(
            f'<tr class="{style}">{first}<td class="text"><code>{escape(c.text)}</code></td>'
            f"<td>{_outcome(c, digits)}</td></tr>"
        )
    return "".join(rows)


def _outcome(c: Told, digits: int) -> str:
    return escape(c.verdict) if c.fitness is None else f"{c.fitness:.{digits}f}"
