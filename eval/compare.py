"""One page about several runs: their curves overlaid, their results in a table, and what their protocols differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from eval.chart import SIZES, Frame, axes, limits, steps, svg, ticks
from eval.curve import improvements, time_unit
from eval.page import UNITS, card, duration, flat, key, magnitude, number, page, places, space_name

Json = Mapping[str, Any]
HUES, DASHES = 6, ("", "7 4", "2 3")
"""Colours of lines, and their dashes from the seventh line on; a nineteenth begins again."""
MEASURE = ("space", "space_sha256", "sha256", "fitness", "table", "function", "command", "source", "supernet")
"""Keys of a protocol without which two fitnesses are not comparable."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is called here, its result and its events."""

    name: str
    result: Json
    events: Sequence[Json]

    @property
    def history(self) -> Sequence[Json]:
        """Its evaluations."""
        return self.result.get("history") or ()

    @property
    def header(self) -> Json:
        """Its first event."""
        return next((e for e in self.events if e.get("event") == "header"), {})

    @property
    def optimizer(self) -> str:
        """Who proposed."""
        return str((self.header.get("options") or {}).get("optimizer") or "–")

    def times(self) -> list[float]:
        """Seconds into the run at which each evaluation was known; empty where that is not known of all."""
        times = [float(e["time"]) for e in self.events if e.get("event") == "evaluation" and "time" in e]
        return times if len(times) == len(self.history) else []

    def reached(self) -> int | None:
        """The query at which its best was found."""
        found = improvements(self.history, [float(row["query"]) for row in self.history])
        return int(found[-1][0]) if found else None


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    names = sorted({space_name(run.result, run.header) for run in runs})
    lines = {
        run.name: improvements(run.history, [float(row["query"]) for row in run.history]) for run in runs if run.history
    }
    ends = {run.name: float(len(run.history)) for run in runs}
    times = {run.name: known for run in runs if (known := run.times())}
    timed = {run.name: improvements(run.history, times[run.name]) for run in runs if run.name in times}
    last = {name: known[-1] for name, known in times.items()}
    keys = "".join(key(f'<path class="{_style(i)}"{_dash(i)} d="M0 5H18"/>', run.name) for i, run in enumerate(runs))
    legend = f'<div class="legend">{keys}</div>'
    parts = [
        f"<header>\n<h1>Comparison of {len(runs)} runs</h1>\n<p>{escape(', '.join(names))}</p>\n</header>",
        _warning(runs),
        _lines_card("Best fitness so far", runs, lines, ends, "query", legend),
        _lines_card("The same by time", runs, timed, last, "", legend),
        _results(runs),
        _winners(runs),
        _protocols(runs),
    ]
    return page(f"Comparison of {len(runs)} runs", parts, "Written by collm-nas from journals; the page loads nothing.")


def _style(i: int) -> str:
    return f"run r{i % HUES}"


def _dash(i: int) -> str:
    pattern = DASHES[i // HUES % len(DASHES)]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


# --- curves -----------------------------------------------------------------------------------------------------------

Lines = Mapping[str, Sequence[tuple[float, float]]]


def _lines_card(
    title: str, runs: Sequence[Run], lines: Lines, ends: Mapping[str, float], unit: str, legend: str
) -> str:
    if not any(lines.values()):
        return ""
    drawings = "".join(
        _overlay(runs, lines, ends, unit, width, height, style) for style, (width, height) in SIZES.items()
    )
    low, _ = limits([best for line in lines.values() for _, best in line])
    below = any(best < low for line in lines.values() for _, best in line)
    said = '<p class="caption">What lies below the axis is drawn on its edge.</p>' if below else ""
    return card(title, f"{drawings}\n{legend}{said}")


def _overlay(
    runs: Sequence[Run], lines: Lines, ends: Mapping[str, float], unit: str, width: int, height: int, style: str
) -> str:
    low, high = limits([best for line in lines.values() for _, best in line])
    last = max(ends.values()) or 1.0
    first, name = (0.5, f"{style}-query") if unit else (0.0, f"{style}-time")
    unit, size = (unit, 1.0) if unit else time_unit(last)
    frame = Frame(width=width, height=height, first=first, last=last + first, low=low, high=high)
    marks = [t * size for t in ticks(0, last / size, 8 if width > 500 else 4) if t * size >= 2 * first]
    parts = axes(frame, unit, "best fitness so far", marks, lambda value: f"{value / size:g}")
    for i, run in enumerate(runs):
        line = lines.get(run.name) or ()
        if line:
            drawn = steps(frame, line, _style(i)).replace(f"H{frame.end}", f"H{frame.x(ends[run.name])}")
            parts.append(drawn.replace("/>", f"{_dash(i)}><title>{escape(run.name)}</title></path>"))
    told = "; ".join(f"{name}: {line[-1][1]:.6g} at {line[-1][0] / size:.4g}" for name, line in lines.items() if line)
    return svg(name, f"curve {style}", frame, f"Best fitness so far of each run, by {unit}", f"{told}.", parts)


# --- tables -----------------------------------------------------------------------------------------------------------


def _results(runs: Sequence[Run]) -> str:
    digits = places([row for run in runs for row in run.history])
    cells = [_cells(run, digits) for run in runs]
    names = list(dict.fromkeys(name for row in cells for name in row))
    head = "".join(f'<th scope="col" role="columnheader">{escape(name)}</th>' for name in ("run", *names))
    body = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{escape(run.name)}</th>'
        + "".join(f'<td role="cell" data-name="{escape(n)}">{row.get(n, "–")}</td>' for n in names)
        + "</tr>"
        for run, row in zip(runs, cells, strict=True)
    )
    # The roles repeat what a table is, for on narrow screens its rows are laid out as blocks.
    table = (
        f'<table class="results" role="table"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )
    return card("Results", table)


def _cells(run: Run, digits: int) -> dict[str, str]:
    """What the table tells of a run, by column."""
    best, result = run.result.get("best") or {}, run.result
    seconds, tokens = result.get("seconds") or {}, result.get("tokens") or {}
    reached = run.reached()
    cells = {"optimizer": escape(run.optimizer), "seed": number(result.get("seed"))}
    cells["best fitness"] = f"{best['fitness']:.{digits}f}" if best else "–"
    cells |= {f"{name} (read once)": number(value) for name, value in (best.get("report") or {}).items()}
    cells |= {UNITS.get(name, name): magnitude(float(v)) for name, v in (best.get("costs") or {}).items()}
    cells["at query"] = number(reached)
    cells["evaluated"] = number((result.get("counts") or {}).get("evaluated"))
    cells["tokens"] = number(tokens.get("prompt", 0) + tokens.get("completion", 0))
    cells["time"] = duration(seconds.get("total"))
    cells["seen"] = escape(str(result.get("seen") or "–"))
    return cells


def _winners(runs: Sequence[Run]) -> str:
    found = [(run.name, str((run.result.get("best") or {}).get("arch", "–"))) for run in runs]
    rows = "".join(f"<dt>{escape(name)}</dt><dd><code>{escape(arch)}</code></dd>" for name, arch in found)
    return card("Best architectures", f"<dl>{rows}</dl>")


def protocols(run: Run) -> dict[str, str]:
    """All that the figures of a run stand for, as lines."""
    result = run.result
    rows = {**(result.get("protocol") or {}), "seen": result.get("seen"), "versions": result.get("versions") or {}}
    rows.pop("seeds", None)
    return dict(flat("", {**rows, "seed": result.get("seed")}))


def differences(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """Key of the protocol -> value -> the runs that have it, where they do not all have the same."""
    rows = {run.name: protocols(run) for run in runs}
    found: dict[str, dict[str, list[str]]] = {}
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        values: dict[str, list[str]] = {}
        for run, row in rows.items():
            values.setdefault(row.get(name, "–"), []).append(run)
        if len(values) > 1:
            found[name] = values
    return found


def _warning(runs: Sequence[Run]) -> str:
    wrong = [name for name in differences(runs) if name in MEASURE]
    if not wrong:
        return ""
    told = f"These runs did not measure the same thing, so their fitness is not comparable: {', '.join(wrong)} differ."
    return card("Mind", f'<p class="warnings">{escape(told)}</p>')


def _protocols(runs: Sequence[Run]) -> str:
    found = differences(runs)
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>"
        + "".join(
            f'<div><code>{escape(value)}</code> <span class="soft">{escape(", ".join(who))}</span></div>'
            for value, who in values.items()
        )
        + "</dd>"
        for name, values in found.items()
    )
    same = {name: value for name, value in protocols(runs[0]).items() if name not in found}
    equal = "".join(f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in same.items())
    differ = f"<dl>{rows}</dl>" if rows else "<p>In nothing.</p>"
    return card(
        "What the protocols differ in",
        f"{differ}\n<details><summary>What is the same in all of them</summary><dl>{equal}</dl></details>",
    )
