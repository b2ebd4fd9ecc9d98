"""`report.html`: one page about one run, written from its result and its journal alone.

Self-contained (no absolute URL, no script, no request), for light, dark, narrow screens and paper. The same result and
events give the same bytes: nothing here asks the clock or the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import favoured, network, scatter
from eval.chart import SIZES
from eval.curve import below_axis, draw, draw_seconds, drawn, proposer_class, time_unit
from eval.front import front_card
from eval.page import (
    UNITS,
    card,
    duration,
    fact,
    flat,
    key,
    magnitude,
    number,
    page,
    places,
    space_name,
    table,
)
from eval.rounds import Round, rounds, space_of
from eval.told import rounds_card

if TYPE_CHECKING:
    from collm_nas.spaces.base import CategoricalSpace

Json = Mapping[str, Any]

COLUMNS = {"wide": 36, "narrow": 8}
"""Columns of the map of choices, by the width of its drawing."""
MOST_REASONS = 20
"""Reasons of failures that are listed."""
_ENDINGS = {
    "budget": "The budget of evaluations was used up.",
    "target": "The target was reached.",
    "max-hours": "The time given was used up.",
    "exhausted": "No architecture was left to evaluate.",
    "failures": "Too many evaluations failed in a row; --resume goes on, once the evaluator is mended.",
    "interrupted": "It was interrupted; --resume goes on where it stopped.",
    "open": "It is open: its architectures are evaluated elsewhere, asked for and told.",
}


def write(result: Json, events: Sequence[Json], path: Path | str) -> None:
    """Write the page for a run's result (`result.json`) and events (`journal.jsonl`) to `path`."""
    Path(path).write_text(render(result, events), encoding="utf-8")


def render(result: Json, events: Sequence[Json]) -> str:
    """The page as text."""
    header = next((e for e in events if e.get("event") == "header"), {})
    history = result.get("history") or ()
    space, told = space_of(header.get("space")), rounds(events, history)
    title = f"Search on {space_name(result, header)}"
    parts = [
        _heading(title, result, header),
        _winner(result),
        _network(result, space),
        _curve(history),
        _pairs([_seconds(result, events), *_costs(result, events)]),
        front_card(result),
        _favoured(told, history, space),
        f'<div class="grid2">{_counts(result)}{_times(result)}</div>',
        _ending(result, events),
        _failures(result),
        _ten_best(result),
        rounds_card(told, places(history)),
        _protocol(result),
    ]
    return page(title, parts, "Written by collm-nas from result.json and journal.jsonl; the page loads nothing.")


# --- the winner -------------------------------------------------------------------------------------------------------


def _heading(title: str, result: Json, header: Json) -> str:
    options = header.get("options") or {}
    optimizer = str(header.get("optimizer") or options.get("optimizer") or "").strip()
    parts = [f"proposed by {escape(optimizer)}"] if optimizer else []
    parts.append(f"{number((result.get('counts') or {}).get('evaluated'))} architectures evaluated")
    if result.get("failures"):
        parts.append(f"{number(len(result['failures']))} evaluations failed")
    if result.get("reused"):
        parts.append(f"{number(result['reused'])} taken over from earlier runs")
    parts.append(f"seed {number(result.get('seed'))}")
    seen = str(result.get("seen") or "")
    badge = f' <span class="badge {escape(seen)}">{escape(seen)}</span>' if seen not in ("", "n/a") else ""
    return f"<header>\n<h1>{escape(title)}{badge}</h1>\n<p>{' · '.join(parts)}</p>\n</header>"


def _winner(result: Json) -> str:
    best = result.get("best")
    if not best or best.get("arch") is None:
        return card("Best architecture", "<p>None: nothing was evaluated within the caps.</p>")
    facts = [fact(number(value), f"{name} (read once)") for name, value in (best.get("report") or {}).items()]
    facts += [fact(magnitude(float(value)), UNITS.get(name, name)) for name, value in (best.get("costs") or {}).items()]
    query = next((row["query"] for row in result.get("history") or () if row["arch"] == best["arch"]), None)
    if query is not None:
        facts.append(fact(number(query), "found at query"))
    elif "run" in best:
        facts.append(fact(escape(str(best["run"])), "taken over from"))
    fitness = str((result.get("protocol") or {}).get("fitness") or "fitness")
    if fitness != "fitness":
        fitness = f"fitness ({fitness})"
    if "error" in best:
        fitness += f", standard error {best['error']:.2g}"
    return card(
        "Best architecture",
        f'<p class="arch">{escape(str(best["arch"]))}</p>\n'
        f'<div><p class="big">{number(best.get("fitness"))}</p><p class="caption">{escape(fitness)}</p></div>\n'
        f'<div class="facts">{"".join(facts)}</div>',
        "winner",
    )


def _network(result: Json, space: CategoricalSpace | None) -> str:
    best = result.get("best")
    drawing = network.draw(space, str(best["arch"])) if space is not None and best else ""
    return card("The network", drawing) if drawing else ""


# --- charts -----------------------------------------------------------------------------------------------------------


def _curve(history: Sequence[Json]) -> str:
    if not history:
        return ""
    proposers = list(dict.fromkeys(str(row.get("proposer", "?")) for row in history))
    legend = "".join(key(f'<circle class="dot {proposer_class(p)}" cx="9" cy="5" r="4"/>', p) for p in proposers)
    line = key('<path class="best" d="M0 5H18"/>', "best so far")
    drawings = "".join(draw(history, width=w, height=h, name=name) for name, (w, h) in SIZES.items())
    notes = [(below_axis(history), "below the axis, drawn on its edge")]
    notes.append((sum(not row.get("feasible", True) for row in history), "over a cap, hollow"))
    said = "".join(f"<span>{n} {text}</span>" for n, text in notes if n)
    shown = len(drawn(history))
    if shown < len(history):
        said += f"<span>{shown:,} of {len(history):,} evaluations are drawn, evenly chosen, and every new best</span>"
    return card("Best fitness so far", f'{drawings}\n<div class="legend">{line}{legend}{said}</div>')


def _evaluations(result: Json, events: Sequence[Json]) -> list[Json]:
    """The evaluation events of the history, in its order; empty where one is missing."""
    found = [e for e in events if e.get("event") == "evaluation"]
    same = [e.get("query") for e in found] == [row["query"] for row in result.get("history") or ()]
    return found if same else []


def _seconds(result: Json, events: Sequence[Json]) -> str:
    times = [float(e["time"]) for e in _evaluations(result, events) if "time" in e]
    history = result.get("history") or ()
    if not times or len(times) != len(history):
        return ""
    unit, _ = time_unit(max(times))
    caption = '<p class="caption">All sessions of the run added up, the loading of models included.</p>'
    return card(f"The same by {unit}", draw_seconds(history, times, name="seconds") + caption)


def _costs(result: Json, events: Sequence[Json]) -> list[str]:
    """A chart for each cost with a cap or among the objectives, or for the first that is known."""
    history, found = result.get("history") or (), _evaluations(result, events)
    caps = (result.get("protocol") or {}).get("caps") or {}
    cards = []
    wanted = [*caps, *(result.get("objectives") or ())]
    for i, name in enumerate(scatter.shown_costs([e.get("costs") or {} for e in found], wanted)):
        unit, cap = UNITS.get(name, name), caps.get(name)
        costs = [float(e["costs"][name]) for e in found]
        drawing = scatter.draw(history, costs, unit=unit, cap=cap, name=f"cost{i}")
        legend = key('<path class="front" d="M0 5H18"/>', "front: nothing is cheaper and better")
        if cap is not None:
            legend += key('<path class="cap" d="M9 0V10"/>', f"cap at {magnitude(cap)}")
        cards.append(card(f"Fitness against {unit}", f'{drawing}\n<div class="legend">{legend}</div>'))
    return cards


def _pairs(cards: Sequence[str]) -> str:
    """Cards side by side where there is room."""
    shown = [c for c in cards if c]
    return f'<div class="grid2">{"".join(shown)}</div>' if shown else ""


def _favoured(told: Sequence[Round], history: Sequence[Json], space: CategoricalSpace | None) -> str:
    if space is None or not history:
        return ""
    drawings, words = "", ""
    for name, most in COLUMNS.items():
        found = favoured.of_strategies(told, space, most)
        words = (
            "Round by round, the choice that most strategies put first; the paler, the fewer or the less settled."
            if found
            else "The choice that most of the evaluated architectures had; the paler, the fewer of them."
        )
        found = found or favoured.of_history(history, space, most)
        if found is None:
            return ""
        drawings += favoured.draw(found, space, width=SIZES[name][0], name=name)
    return card("Favoured choices over time", f'{drawings}\n<p class="caption">{words}</p>')


# --- tables -----------------------------------------------------------------------------------------------------------


def _counts(result: Json) -> str:
    columns = ["attempted", "valid", "unique", "evaluated"]
    columns += ["failed"] if (result.get("counts") or {}).get("failed") else []
    rows = [
        (str(name), counts, "")
        for name, counts in (result.get("counts_by_proposer") or {}).items()
        if any(counts.values())
    ]
    rows.append(("all", result.get("counts") or {}, "sum"))
    body = "".join(
        f'<tr class="{style}"><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{number(counts.get(c, 0))}</td>" for c in columns)
        + "</tr>"
        for name, counts, style in rows
    )
    return card("Candidates", table(("proposer", *columns), body, "counts"))


def _times(result: Json) -> str:
    seconds, tokens = result.get("seconds") or {}, result.get("tokens") or {}
    names = {"llm": "language models", "evaluate": "evaluation", "total": "total"}
    rows = [(names.get(name, name), duration(value)) for name, value in seconds.items()]
    rows += [(f"{name} tokens", number(value)) for name, value in tokens.items() if value]
    proposed = ((result.get("counts_by_proposer") or {}).get("model") or {}).get("attempted", 0)
    if proposed and tokens.get("completion"):
        rows.append(("completion tokens a candidate", f"{tokens['completion'] / proposed:.1f}"))
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)
    return card("Time and tokens", f"<table><tbody>{body}</tbody></table>")


def _ending(result: Json, events: Sequence[Json]) -> str:
    end = next((e for e in reversed(events) if e.get("event") == "end"), {})
    reason = str(result.get("ended") or end.get("reason") or "interrupted")
    out = [f"Out, and not yet told: {arch}" for arch in result.get("pending") or ()]
    listed = "".join(f"<li>{escape(str(w))}</li>" for w in [*(result.get("warnings") or ()), *out])
    body = f"<p>{escape(_ENDINGS.get(reason, reason))}</p>"
    return card("How it ended", body + (f'<ul class="warnings">{listed}</ul>' if listed else ""))


def _failures(result: Json) -> str:
    """Why evaluations failed, the commonest reason first, each with its first architecture."""
    first: dict[str, Json] = {}
    for row in result.get("failures") or ():
        first.setdefault(str(row["reason"]), row)
    if not first:
        return ""
    times = Counter(str(row["reason"]) for row in result["failures"])
    body = "".join(
        f"<tr><td>{escape(reason)}</td><td>{n}</td><td><code>{escape(str(first[reason]['arch']))}</code></td></tr>"
        for reason, n in times.most_common(MOST_REASONS)
    )
    shown = table(("reason", "times", "first architecture"), body, "archs")
    left = len(times) - MOST_REASONS
    return card(
        "Evaluations that failed", shown + (f"<p>{left} more reasons are in result.json.</p>" if left > 0 else "")
    )


def _ten_best(result: Json) -> str:
    history = [row for row in result.get("history") or () if row.get("feasible", True)]
    best = sorted(history, key=lambda row: (-row["fitness"], row["query"]))[:10]
    if not best:
        return ""
    digits = places(result["history"])
    errors = any("error" in row for row in best)
    body = "".join(
        f"<tr><td><code>{escape(str(row['arch']))}</code></td><td>{escape(str(row.get('proposer', '')))}</td>"
        f"<td>{row['query']}</td><td>{row['fitness']:.{digits}f}</td>"
        + (f"<td>{_error(row)}</td>" if errors else "")
        + "</tr>"
        for row in best
    )
    title = "The ten best" if len(best) == 10 else "The best"
    columns = ("architecture", "proposer", "query", "fitness", *(["standard error"] if errors else []))
    return card(title, table(columns, body, "archs"))


def _error(row: Json) -> str:
    return f"{row['error']:.2g}" if "error" in row else "–"


def _protocol(result: Json) -> str:
    rows: list[tuple[str, str]] = []
    for name, value in [
        *(result.get("protocol") or {}).items(),
        ("seen", result.get("seen")),
        ("seed", result.get("seed")),
    ]:
        rows += flat(str(name), value)
    rows += flat("versions", result.get("versions") or {})
    body = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in dict(rows).items()
    )
    return card("Protocol", f'<dl class="facts-list">{body}</dl>')
