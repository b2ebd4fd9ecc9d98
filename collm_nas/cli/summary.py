"""A result as a short table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from collm_nas.rundir import evaluator_name

if TYPE_CHECKING:
    from collm_nas.app import Result
    from collm_nas.family import Family

ENDINGS = {
    "budget": "the budget is used up",
    "target": "the target is reached",
    "exhausted": "no architecture is left to evaluate",
    "max-hours": "the time is used up",
    "failures": "too many evaluations failed in a row",
    "interrupted": "interrupted",
    "open": "no, it is open: asked for and told from outside",
}


def show(result: Result) -> None:
    """Print winner, counts, tokens, seconds, protocol and where the report is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows(result.data):
        table.add_row(name, Text(value))
    if result.path is not None:
        table.add_row("report", Text(str(result.path / "report.html")))
    Console(highlight=False, soft_wrap=False).print(table)


def show_family(family: Family) -> None:
    """Print the best within each cap, wherever it was found: a table, then the architectures, which may be long."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "fitness", "read once", family.cost, "evaluated", "found under"):
        table.add_column(name, overflow="fold")
    for member in family.data["members"]:
        table.add_row(*(Text(cell) for cell in _member(family.cost, member)))
    console = Console(highlight=False, soft_wrap=False)
    console.print(table)
    for member in family.data["members"]:
        console.print(Text(f"{member['run']}: {member['best']['arch'] if member['best'] else 'none within the cap'}"))
    if family.path is not None:
        console.print(Text(f"reports {family.path / '*' / 'report.html'}"))


def _member(cost: str, member: Mapping[str, Any]) -> tuple[str, ...]:
    best, evaluated = member["best"], str(member["evaluated"])
    if best is None:
        return (member["run"], "–", "–", "–", evaluated, "–")
    report = ", ".join(f"{name} {value:.6g}" for name, value in best["report"].items()) or "–"
    spent = f"{best['costs'][cost]:,.6g}" if cost in best["costs"] else "–"
    return (member["run"], _fitness(best), report, spent, evaluated, member["found"])


def rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of the table."""
    counts, tokens, seconds = data["counts"], data["tokens"], data["seconds"]
    lines = [*_best(data), *_front(data), ("ended", ENDINGS.get(data["ended"], data["ended"]))]
    lines.append(("counts", ", ".join(f"{value} {name}" for name, value in counts.items())))
    for run, n in data["protocol"].get("reused", {}).items():
        lines.append(("reused", f"{n} evaluations of {run}"))
    if data.get("pending"):
        lines.append(("out", f"{len(data['pending'])} asked for, and not yet told"))
    if tokens["completion"]:
        thinking = f", {tokens['thinking']} thinking" if tokens.get("thinking") else ""
        lines.append(("tokens", f"{tokens['prompt']} prompt, {tokens['completion']} completion{thinking}"))
    lines.append(("seconds", ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())))
    lines += [("protocol", protocol(data)), ("table", data["seen"])]
    return lines + [("warning", text) for text in data["warnings"]]


def _best(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    best = data["best"]
    if best is None:
        return [("best", "none within the caps")]
    found = f"   (taken over from {best['run']})" if "run" in best else ""
    lines = [("best", best["arch"] + found), ("fitness", _fitness(best) + _column(data))]
    if best["report"]:
        lines.append(("read once", ", ".join(f"{name} {value:.6g}" for name, value in best["report"].items())))
    if best["costs"]:
        lines.append(("costs", ", ".join(f"{name} {value:,.6g}" for name, value in best["costs"].items())))
    return lines


FRONT = 20
"""Architectures of a front that are printed, at most; `result.json` has all."""


def _front(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of a search with several objectives, the front (an even selection of a long one) and what it dominates."""
    if "front" not in data:
        return []
    members, costs = data["front"], data["objectives"][1:]
    shown = members
    if len(members) > FRONT:
        shown = [members[round(i * (len(members) - 1) / (FRONT - 1))] for i in range(FRONT)]
    told = [[_fitness(one), *(f"{one['costs'][cost]:,.6g}" for cost in costs), one["arch"]] for one in shown]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)] if told else []
    cells = ["  ".join(cell.rjust(w) for cell, w in zip(row[:-1], widths, strict=False)) for row in told]
    lines = [("front", f"{len(members)} architectures: {', '.join(data['objectives'])}")]
    lines += [("", f"{cell}  {row[-1]}") for cell, row in zip(cells, told, strict=True)]
    if len(shown) < len(members):
        lines.append(("", f"an even selection of {FRONT}; result.json has all of them"))
    volume = data["hypervolume"]
    reference = ", ".join(f"{name} {value:,.6g}" for name, value in volume["reference"].items())
    return [*lines, ("dominated", f"hypervolume {volume['value']:.6g} up to {reference or 'nothing'}")]


def _fitness(best: Mapping[str, Any]) -> str:
    return f"{best['fitness']:.6g}" + (f" ± {best['error']:.2g}" if "error" in best else "")


def _column(data: Mapping[str, Any]) -> str:
    column = data["protocol"].get("fitness")
    return f" ({column})" if column and column != "value" else ""


def protocol(data: Mapping[str, Any]) -> str:
    """Space, measurement with its hash, fitness, report, budget and seeds in one line."""
    p = data["protocol"]
    sha = f" sha256 {p['sha256'][:12]}" if p.get("sha256") else ""
    report = ", ".join(p.get("report") or []) or "none"
    seeds = ", ".join(map(str, p["seeds"]))
    measured = f"{evaluator_name(p)}{sha} | fitness {p.get('fitness')} | report {report}"
    return f"{p['space']} | {measured} | budget {p['budget']} | seed {seeds}"
