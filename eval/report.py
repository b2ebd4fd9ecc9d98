"""`report.html`: one page about one run, written from its result and its journal alone.

Self-contained (no absolute URL, no script, no request), for light, dark, narrow screens and paper. The same result and
events give the same bytes: nothing here asks the clock or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from eval.curve import below_axis, draw, proposer_class
from eval.rounds import Plan, Round, Told, rounds

Json = Mapping[str, Any]

FOLDED = 60
"""Words from which a strategy of a chat model opens at a click."""
_UNITS = {"flops": "multiply-adds", "params": "parameters", "latency": "ms latency"}

_ENDINGS = {
    "budget": "The budget of evaluations was used up.",
    "target": "The target was reached.",
    "max-hours": "The time given was used up.",
    "exhausted": "No architecture was left to evaluate.",
    "interrupted": "It was interrupted; --resume goes on where it stopped.",
}


def write(result: Json, events: Sequence[Json], path: Path | str) -> None:
    """Write the page for a run's result (`result.json`) and events (`journal.jsonl`) to `path`."""
    Path(path).write_text(render(result, events), encoding="utf-8")


def render(result: Json, events: Sequence[Json]) -> str:
    """The page as text."""
    header = next((e for e in events if e.get("event") == "header"), {})
    title = f"Search on {_space_name(result, header)}"
    cards = [
        _winner(result),
        _curve(result),
        f'<div class="grid2">{_counts(result)}{_times(result)}</div>',
        _ending(result, events),
        _ten_best(result),
        _rounds(rounds(events, result.get("history") or ()), places(result.get("history") or ())),
        _protocol(result),
    ]
    style = resources.files("eval").joinpath("report.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            _heading(title, result, header),
            *(card for card in cards if card),
            "<footer>Written by collm-nas from result.json and journal.jsonl; the page loads nothing.</footer>",
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


# --- values -----------------------------------------------------------------------------------------------------------


def number(value: Any) -> str:
    """Six significant digits; a dash where there is no value."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def places(history: Sequence[Json]) -> int:
    """Decimals that show six significant digits of the largest fitness, so that a column of them lines up."""
    largest = max((abs(float(row["fitness"])) for row in history), default=1.0)
    return min(6, max(0, 6 - len(str(int(largest)))))


def magnitude(value: float) -> str:
    """A cost with its unit prefix: `1.2 M`."""
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{prefix}"
    return f"{value:.4g}"


def duration(seconds: Any) -> str:
    """Seconds as people read them: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 07 min`."""
    value = float(seconds or 0)
    if value < 60:
        return f"{value:.3g} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"


def _space_name(result: Json, header: Json) -> str:
    for source in (header.get("space"), (result.get("protocol") or {}).get("space")):
        if isinstance(source, Mapping) and source.get("name"):
            return str(source["name"])
        if isinstance(source, str) and source:
            return source
    return "a space"


def _card(title: str, body: str, extra: str = "") -> str:
    return f'<section class="card{" " + extra if extra else ""}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def _table(columns: Sequence[str], rows: str, style: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    return f'<table class="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _fact(value: str, name: str) -> str:
    return f"<div><b>{value}</b><span>{escape(name)}</span></div>"


# --- the cards --------------------------------------------------------------------------------------------------------


def _heading(title: str, result: Json, header: Json) -> str:
    options = header.get("options") or {}
    optimizer = str(header.get("optimizer") or options.get("optimizer") or "").strip()
    parts = [f"proposed by {escape(optimizer)}"] if optimizer else []
    parts.append(f"{number((result.get('counts') or {}).get('evaluated'))} architectures evaluated")
    if result.get("reused"):
        parts.append(f"{number(result['reused'])} taken over from earlier runs")
    parts.append(f"seed {number(result.get('seed'))}")
    seen = str(result.get("seen") or "")
    badge = f' <span class="badge {escape(seen)}">{escape(seen)}</span>' if seen not in ("", "n/a") else ""
    return f"<header>\n<h1>{escape(title)}{badge}</h1>\n<p>{' · '.join(parts)}</p>\n</header>"


def _winner(result: Json) -> str:
    best = result.get("best")
    if not best or best.get("arch") is None:
        return _card("Best architecture", "<p>None: nothing was evaluated within the caps.</p>")
    facts = [_fact(number(value), f"{name} (read once)") for name, value in (best.get("report") or {}).items()]
    facts += [
        _fact(magnitude(float(value)), _UNITS.get(name, name)) for name, value in (best.get("costs") or {}).items()
    ]
    query = next((row["query"] for row in result.get("history") or () if row["arch"] == best["arch"]), None)
    if query is not None:
        facts.append(_fact(number(query), "found at query"))
    elif "run" in best:
        facts.append(_fact(escape(str(best["run"])), "taken over from"))
    fitness = str((result.get("protocol") or {}).get("fitness") or "fitness")
    if fitness != "fitness":
        fitness = f"fitness ({fitness})"
    if "error" in best:
        fitness += f", standard error {best['error']:.2g}"
    return _card(
        "Best architecture",
        f'<p class="arch">{escape(str(best["arch"]))}</p>\n'
        f'<div><p class="big">{number(best.get("fitness"))}</p><p class="caption">{escape(fitness)}</p></div>\n'
        f'<div class="facts">{"".join(facts)}</div>',
        "winner",
    )


def _curve(result: Json) -> str:
    history = result.get("history") or ()
    if not history:
        return ""
    proposers = list(dict.fromkeys(str(row.get("proposer", "?")) for row in history))
    legend = "".join(_key(f'<circle class="dot {proposer_class(p)}" cx="9" cy="5" r="4"/>', p) for p in proposers)
    line = _key('<path class="best" d="M0 5H18"/>', "best so far")
    drawings = draw(history, width=960, height=340, name="wide") + draw(history, width=400, height=290, name="narrow")
    notes = [(below_axis(history), "below the axis, drawn on its edge")]
    notes.append((sum(not row.get("feasible", True) for row in history), "over a cap, hollow"))
    said = "".join(f"<span>{n} {text}</span>" for n, text in notes if n)
    return _card("Best fitness so far", f'{drawings}\n<div class="legend">{line}{legend}{said}</div>')


def _key(mark: str, name: str) -> str:
    return f'<span><svg viewBox="0 0 18 10" aria-hidden="true">{mark}</svg>{escape(name)}</span>'


def _counts(result: Json) -> str:
    columns = ("attempted", "valid", "unique", "evaluated")
    rows = [
        (str(name), counts, "")
        for name, counts in (result.get("counts_by_proposer") or {}).items()
        if any(counts.values())
    ]
    rows.append(("all", result.get("counts") or {}, "sum"))
    body = "".join(
        f'<tr class="{style}"><td>{escape(name)}</td>'
        + "".join(f"<td>{number(counts.get(c, 0))}</td>" for c in columns)
        + "</tr>"
        for name, counts, style in rows
    )
    return _card("Candidates", _table(("proposer", *columns), body, "counts"))


def _times(result: Json) -> str:
    seconds, tokens = result.get("seconds") or {}, result.get("tokens") or {}
    names = {"llm": "language models", "evaluate": "evaluation", "total": "total"}
    rows = [(names.get(name, name), duration(value)) for name, value in seconds.items()]
    rows += [(f"{name} tokens", number(value)) for name, value in tokens.items() if value]
    proposed = ((result.get("counts_by_proposer") or {}).get("model") or {}).get("attempted", 0)
    if proposed and tokens.get("completion"):
        rows.append(("completion tokens a candidate", f"{tokens['completion'] / proposed:.1f}"))
    body = "".join(f"<tr><td>{escape(name)}</td><td>{value}</td></tr>" for name, value in rows)
    return _card("Time and tokens", f"<table><tbody>{body}</tbody></table>")


def _ending(result: Json, events: Sequence[Json]) -> str:
    end = next((e for e in reversed(events) if e.get("event") == "end"), {})
    reason = str(result.get("ended") or end.get("reason") or "interrupted")
    listed = "".join(f"<li>{escape(str(w))}</li>" for w in result.get("warnings") or ())
    body = f"<p>{escape(_ENDINGS.get(reason, reason))}</p>"
    return _card("How it ended", body + (f'<ul class="warnings">{listed}</ul>' if listed else ""))


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
    return _card(title, _table(columns, body))


def _error(row: Json) -> str:
    return f"{row['error']:.2g}" if "error" in row else "–"


def _rounds(told: Sequence[Round], digits: int) -> str:
    if not told:
        return ""
    intro = (
        '<p class="soft">What the Navigator wrote, in plain words, and what the Generator made of it. '
        "A strategy opens at a click.</p>"
    )
    return _card("Strategies, round by round", intro + "".join(_round(r, digits) for r in told), "rounds")


def _round(r: Round, digits: int) -> str:
    parts = [f'<p class="soft">Not readable as a strategy; verbatim:</p><pre>{escape(text)}</pre>' for text in r.unread]
    rows = "".join(_plan(plan, digits) for plan in r.plans)
    if r.others:
        rows += f'<tr><td class="soft">random, to fill the batch</td>{_candidates(r.others, digits)}</tr>'
    if rows:
        parts.append(_table(("strategy", "candidates", "fitness"), rows))
    return f'<article class="round"><h3>Round {r.number}</h3>{"".join(parts)}</article>'


def _plan(plan: Plan, digits: int) -> str:
    """A table row; the strategy shows its reason and, opened, all of itself."""
    if plan.verbatim:
        words = len(plan.verbatim.split())
        told = f"<pre>{escape(plan.verbatim)}</pre>"
        shown = told if words < FOLDED else f"<details><summary>{words} words</summary>{told}</details>"
        return f"<tr><td>{shown}</td>{_candidates(plan.candidates, digits)}</tr>"
    anchors = "".join(f"<li><code>{escape(a)}</code></li>" for a in plan.anchors)
    directions = "".join(f"<li>{escape(d)}</li>" for d in plan.directions)
    opened = (
        f'<p class="soft">Like these, and {escape(plan.roam)}:</p><ul class="anchors">{anchors}</ul>'
        f'<ul class="directions">{directions}</ul>'
    )
    return (
        f"<tr><td><details><summary>{escape(plan.why)}</summary>{opened}</details></td>"
        f"{_candidates(plan.candidates, digits)}</tr>"
    )


def _candidates(candidates: Sequence[Told], digits: int) -> str:
    """Two cells: texts, and what became of each on the same line."""
    texts, outcomes = "", ""
    for c in candidates:
        shown = "better" if c.better else ""
        texts += f'<div class="{shown}"><code>{escape(c.text)}</code></div>'
        outcomes += f'<div class="{shown}">{_outcome(c, digits)}</div>'
    return f"<td>{texts}</td><td>{outcomes}</td>"


def _outcome(c: Told, digits: int) -> str:
    return escape(c.verdict) if c.fitness is None else f"{c.fitness:.{digits}f}"


def _protocol(result: Json) -> str:
    rows: list[tuple[str, str]] = []
    for name, value in [
        *(result.get("protocol") or {}).items(),
        ("seen", result.get("seen")),
        ("seed", result.get("seed")),
    ]:
        rows += _flat(str(name), value)
    rows += _flat("versions", result.get("versions") or {})
    body = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in dict(rows).items()
    )
    return _card("Protocol", f"<dl>{body}</dl>")


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """A value as lines: mappings one line a key, lists joined, long hashes and texts whole."""
    if isinstance(value, Mapping):
        return [line for key, inner in value.items() for line in _flat(f"{name} {key}", inner)]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(str(v) for v in value) or "–")]
    return [(name, "–" if value is None else str(value))]
