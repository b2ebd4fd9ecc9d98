"""The shell and the small parts of a page: no request, no script, and no clock, so that equal runs give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

Json = Mapping[str, Any]
UNITS = {"flops": "multiply-adds", "params": "parameters", "latency": "ms latency"}


def page(title: str, parts: Sequence[str], footer: str) -> str:
    """A whole page around its heading and cards."""
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
            *(part for part in parts if part),
            f"<footer>{escape(footer)}</footer>",
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def card(title: str, body: str, extra: str = "") -> str:
    """A section with its heading."""
    return f'<section class="card{" " + extra if extra else ""}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def table(columns: Sequence[str], rows: str, style: str = "") -> str:
    """A table with a heading for each column."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    return f'<table class="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def fact(value: str, name: str) -> str:
    """A figure over its name."""
    return f"<div><b>{value}</b><span>{escape(name)}</span></div>"


def key(mark: str, name: str) -> str:
    """An entry of a legend: a piece of SVG and what it stands for."""
    return f'<span><svg viewBox="0 0 18 10" aria-hidden="true">{mark}</svg>{escape(name)}</span>'


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


def space_name(result: Json, header: Json) -> str:
    """What the header, else the protocol calls the space."""
    for source in (header.get("space"), (result.get("protocol") or {}).get("space")):
        if isinstance(source, Mapping) and source.get("name"):
            return str(source["name"])
        if isinstance(source, str) and source:
            return source
    return "a space"


def flat(name: str, value: Any) -> list[tuple[str, str]]:
    """A value as lines: mappings one line a key, lists joined, long hashes and texts whole."""
    if isinstance(value, Mapping):
        return [line for key, inner in value.items() for line in flat(f"{name} {key}".strip(), inner)]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(str(v) for v in value) or "–")]
    return [(name, "–" if value is None else str(value))]
