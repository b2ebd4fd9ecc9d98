"""The bench's table: one line a row, means with bootstrap intervals, and every search as tidy CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.metrics import Estimate, area, bootstrap, censored_median, paired, queries_text

Record = dict[str, Any]
SECONDS = ("llm", "evaluate", "total")


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
        "area": _interval(bootstrap([_area(record, budget) for record in own])),
        "found": _mean(record["found"] for record in own),
        "median_queries": queries_text(queries, budget),
        "median_queries_value": None if median == float("inf") else median,
        "report": {k: _interval(bootstrap([r["report"][k] for r in own])) for k in own[0]["report"]},
        "fallback": _mean(record["by_proposer"].get("fallback", 0) for record in own),
        "tokens_prompt": _mean(record["tokens"]["prompt"] for record in own),
        "tokens_completion": _mean(record["tokens"]["completion"] for record in own),
        **{f"seconds_{name}": _mean(record["seconds"][name] for record in own) for name in SECONDS},
        "versus": {
            "row": first[0]["row"],
            "normalised_regret": _interval(versus.difference),
            "worse": versus.higher,
            "equal": versus.equal,
            "better": versus.lower,
            "decided": versus.decided,
        },
    }


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _area(record: Record, budget: int) -> float:
    return area(record["curve"], record["best"], record["typical"], budget)


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
    titles = ["row", "final", "regret", "normalised", "area", "found", "queries", *reports]
    titles += ["tokens in/out", "LLM/evaluation/total s"]
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
            _text(one["area"]),
            f"{100 * one['found']:.0f} %",
            one["median_queries"],
            *(_text(one["report"][name]) for name in reports),
            f"{one['tokens_prompt']:.0f}/{one['tokens_completion']:.0f}",
            "/".join(f"{one[f'seconds_{name}']:.2f}" for name in SECONDS),
            "" if one["row"] == first else f"{_text(versus['normalised_regret'])} {tally}",
        )
    return made


COLUMNS = ("row", "seed", "seen", "final", "regret", "normalised_regret", "found", "queries")
TOKENS = ("prompt", "completion")


def write(folder: Path, records: Sequence[Record], lines: Sequence[dict[str, Any]], settings: dict[str, Any]) -> None:
    """`bench.csv` (a line a search; empty `queries`: not reached), and `bench.json` (summary and protocol)."""
    reports = list(records[0]["report"]) if records else []
    budget = settings["protocol"]["budget"]
    parts = {"report": reports, "tokens": TOKENS, "seconds": SECONDS}
    with (folder / "bench.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "area", *(f"{part}_{name}" for part, names in parts.items() for name in names)])
        for record in records:
            more = [record[part][name] for part, names in parts.items() for name in names]
            writer.writerow([*(record[column] for column in COLUMNS), _area(record, budget), *more])
    text = json.dumps({**settings, "rows_summary": list(lines)}, indent=1, ensure_ascii=False)
    (folder / "bench.json").write_text(text + "\n", encoding="utf-8")
