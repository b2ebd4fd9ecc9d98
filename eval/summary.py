"""The bench's table: one line a row, means with bootstrap intervals, differences with p-values that hold together."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from eval.metrics import (
    Estimate,
    area,
    bootstrap,
    censored_median,
    holm,
    median_interval,
    paired,
    queries_text,
    queries_with_interval,
)
from eval.stacked import Column, stacked

Record = dict[str, Any]
SECONDS = ("llm", "evaluate", "total")
TOKENS = ("prompt", "completion")


def summarise(records: Sequence[Record], budget: int, reference: str | None = None) -> list[dict[str, Any]]:
    """One dict a row, in their order; `versus` compares normalised regret with the row `reference` (default: the
    first), seed by seed, and corrects the p-values for the number of rows."""
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record["row"], []).append(record)
    other = reference or next(iter(by_row), "")
    return corrected([_line(row, own, by_row[other], budget) for row, own in by_row.items()], other)


def corrected(lines: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """The lines, with the p-values of all rows that are held against the reference corrected together."""
    compared = [line["versus"] for line in lines if line["row"] != reference]
    for versus, p in zip(compared, holm([versus["p"] for versus in compared]), strict=True):
        versus["p_holm"] = p
    return lines


def _line(row: str, own: Sequence[Record], first: Sequence[Record], budget: int) -> dict[str, Any]:
    queries = [record["queries"] for record in own]
    median, longest = censored_median(queries), max(len(record["curve"]) for record in own)
    low, high = median_interval(queries)
    versus = paired(_by_seed(own), _by_seed(first))
    return {
        "row": row,
        "searches": len(own),
        "seen": own[0]["seen"],
        "final": interval(bootstrap([record["final"] for record in own])),
        "regret": interval(bootstrap([record["regret"] for record in own])),
        "normalised_regret": interval(bootstrap([record["normalised_regret"] for record in own])),
        "area": interval(bootstrap([area_of(record, budget) for record in own])),
        "found": fmean(record["found"] for record in own),
        "median_queries": queries_text(queries, longest),
        "median_queries_value": _finite(median),
        "median_queries_low": _finite(low),
        "median_queries_high": _finite(high),
        "queries_text": queries_with_interval(queries, longest),
        "report": {k: interval(bootstrap([r["report"][k] for r in own])) for k in own[0]["report"]},
        "fallback": fmean(record["by_proposer"].get("fallback", 0) for record in own),
        **{f"tokens_{name}": fmean(record["tokens"][name] for record in own) for name in TOKENS},
        **{f"seconds_{name}": fmean(record["seconds"][name] for record in own) for name in SECONDS},
        "versus": {
            "row": first[0]["row"],
            "normalised_regret": interval(versus.difference),
            "worse": versus.higher,
            "equal": versus.equal,
            "better": versus.lower,
            "decided": versus.decided,
            "p": versus.p,
            "p_holm": None,
        },
    }


def _finite(queries: float) -> float | None:
    return None if queries == float("inf") else queries


def area_of(record: Record, budget: int) -> float:
    """Of a search; one that was shorter than the budget counts as if it had stayed where it ended."""
    return area(record["curve"], record["best"], record["typical"], budget)


def _by_seed(records: Sequence[Record]) -> dict[Any, float]:
    return {record["seed"]: record["normalised_regret"] for record in records}


def interval(estimate: Estimate) -> dict[str, float]:
    """An estimate as JSON values."""
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def text(said: dict[str, float], digits: int = 3) -> str:
    """What `interval` made, as the tables show it."""
    return Estimate(said["mean"], said["low"], said["high"]).text(digits)


def spent(lines: Sequence[dict[str, Any]]) -> list[Column]:
    """What the rows cost a search."""
    tokens = [f"{one['tokens_prompt']:.0f}/{one['tokens_completion']:.0f}" for one in lines]
    seconds = ["/".join(f"{one[f'seconds_{name}']:.2f}" for name in SECONDS) for one in lines]
    return [("tokens in/out", tokens), ("LLM/evaluation/total s", seconds)]


def label(line: dict[str, Any]) -> str:
    """A row's name, and whether its model was trained on the table."""
    return line["row"] + (f" ({line['seen']})" if line["seen"] else "")


def table(lines: Sequence[dict[str, Any]], protocol: str, title: str, width: int) -> Any:
    """What `stacked` makes of the figures, but for the regret in units of fitness; the protocol stands under it."""
    first = lines[0]["versus"]["row"] if lines else ""
    reports = list(lines[0]["report"]) if lines else []
    columns = [
        ("final", [text(one["final"]) for one in lines]),
        *((name, [text(one["report"][name]) for one in lines]) for name in reports),
        ("found", [f"{100 * one['found']:.0f} %" for one in lines]),
        ("queries", [one["queries_text"] for one in lines]),
        ("normalised", [text(one["normalised_regret"]) for one in lines]),
        (
            f"normalised minus {first}: worse/equal/better, p (Holm)",
            [_held(one["versus"], one["row"]) for one in lines],
        ),
        ("area", [text(one["area"]) for one in lines]),
        *spent(lines),
    ]
    return stacked([label(one) for one in lines], columns, f"{title}means over seeds [95 % bootstrap]", protocol, width)


def _held(versus: dict[str, Any], row: str) -> str:
    """The difference to the reference, how often it was worse, equal and better, and the p-value."""
    if row == versus["row"]:
        return ""
    tally = f"{versus['worse']}/{versus['equal']}/{versus['better']}"
    return f"{text(versus['normalised_regret'])} {tally}, {_p(versus['p_holm'])}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
