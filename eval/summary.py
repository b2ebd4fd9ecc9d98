"""The bench's table: one line a row, means with bootstrap intervals, and every search as tidy CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.metrics import Estimate, bootstrap, censored_median, paired, queries_text

Record = dict[str, Any]


def summarise(records: Sequence[Record], budget: int) -> list[dict[str, Any]]:
    """One dict a row, in their order; `versus` compares normalised regret with the first row, seed by seed."""
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record["row"], []).append(record)
    first = next(iter(by_row), "")
    return [_line(row, own, by_row[first], budget) for row, own in by_row.items()]


def _line(row: str, own: Sequence[Record], first: Sequence[Record], budget: int) -> dict[str, Any]:
    queries = [record["queries"] for record in own]
    median = censored_median(queries)
    versus = paired(_by_seed(own), _by_seed(first))
    return {
        "row": row,
        "searches": len(own),
        "seen": own[0]["seen"],
        "final": _interval(bootstrap([record["final"] for record in own])),
        "regret": _interval(bootstrap([record["regret"] for record in own])),
        "normalised_regret": _interval(bootstrap([record["normalised_regret"] for record in own])),
        "found": sum(record["found"] for record in own) / len(own),
        "median_queries": queries_text(queries, budget),
        "median_queries_value": None if median == float("inf") else median,
        "report": {k: _interval(bootstrap([r["report"][k] for r in own])) for k in own[0]["report"]},
        "fallback": sum(record["by_proposer"].get("fallback", 0) for record in own) / len(own),
        "seconds_llm": sum(record["seconds"]["llm"] for record in own) / len(own),
        "seconds_total": sum(record["seconds"]["total"] for record in own) / len(own),
        "versus": {
            "row": first[0]["row"],
            "normalised_regret": _interval(versus.difference),
            "worse": versus.higher,
            "equal": versus.equal,
            "better": versus.lower,
            "decided": versus.decided,
        },
    }


def _by_seed(records: Sequence[Record]) -> dict[Any, float]:
    return {record["seed"]: record["normalised_regret"] for record in records}


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def _text(interval: dict[str, float], digits: int = 3) -> str:
    return Estimate(interval["mean"], interval["low"], interval["high"]).text(digits)


def table(lines: Sequence[dict[str, Any]], protocol: str) -> Any:
    """A rich Table; the protocol stands under it."""
    from rich.table import Table

    first = lines[0]["row"] if lines else ""
    reports = list(lines[0]["report"]) if lines else []
    titles = ["row", "final", "regret", "normalised", "found", "queries", *reports, "LLM s", "total s"]
    made = Table(caption=protocol, title="means over seeds [95 % bootstrap]")
    for title in titles:
        made.add_column(title, justify="left" if title == "row" else "right")
    made.add_column(f"normalised minus {first}: worse/equal/better", justify="right")
    for one in lines:
        versus = one["versus"]
        tally = f"{versus['worse']}/{versus['equal']}/{versus['better']}"
        made.add_row(
            one["row"] + (f" ({one['seen']})" if one["seen"] else ""),
            _text(one["final"]),
            _text(one["regret"]),
            _text(one["normalised_regret"]),
            f"{100 * one['found']:.0f} %",
            one["median_queries"],
            *(_text(one["report"][name]) for name in reports),
            f"{one['seconds_llm']:.2f}",
            f"{one['seconds_total']:.2f}",
            "" if one["row"] == first else f"{_text(versus['normalised_regret'])} {tally}",
        )
    return made


COLUMNS = ("row", "seed", "seen", "final", "regret", "normalised_regret", "found", "queries")


def write(folder: Path, records: Sequence[Record], lines: Sequence[dict[str, Any]], settings: dict[str, Any]) -> None:
    """`bench.csv` (a line a search; empty `queries`: not reached), and `bench.json` (summary and protocol)."""
    reports = list(records[0]["report"]) if records else []
    with (folder / "bench.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(f"report_{name}" for name in reports), "seconds_llm", "seconds_total"])
        for record in records:
            report = [record["report"][name] for name in reports]
            seconds = [record["seconds"]["llm"], record["seconds"]["total"]]
            writer.writerow([*(record[column] for column in COLUMNS), *report, *seconds])
    text = json.dumps({**settings, "rows_summary": list(lines)}, indent=1, ensure_ascii=False)
    (folder / "bench.json").write_text(text + "\n", encoding="utf-8")
