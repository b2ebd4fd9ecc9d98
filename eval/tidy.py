"""A bench's files: a row a search, a row a query, a row a checkpoint (CSV and Parquet), and `bench.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval import bench, fronts, ranking
from eval.measured import Measured
from eval.metrics import normalised_regret
from eval.summary import SECONDS, TOKENS, area_of

COLUMNS = ("row", "seed", "seen", "final", "regret", "normalised_regret", "found", "queries")
Row = dict[str, Any]


def write(folder: Path, measured: Sequence[Measured]) -> list[str]:
    """Writes them; the names of the files. An empty cell: `queries` not reached, or a column of other cases."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "bench": [row for one in measured for row in _searches(one)],
        "curves": [row for one in measured for row in _curves(one)],
        "checkpoints": [row for one in measured for row in _checkpoints(one)],
    }
    written = []
    for name, rows in tables.items():
        if rows:
            written += [_csv(folder / f"{name}.csv", rows), _parquet(folder / f"{name}.parquet", rows)]
    whole = {one.case: _said(one) for one in measured}
    said = whole[""] if list(whole) == [""] else {"cases": whole}
    (folder / "bench.json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*written, "bench.json"]


def _said(one: Measured) -> dict[str, Any]:
    return {**bench.settings(one.protocol, [row for row, _ in one.rows]), "rows_summary": one.lines}


def _case(one: Measured) -> Row:
    return {"case": one.case} if one.case else {}


def _searches(one: Measured) -> Iterator[Row]:
    several = len(one.protocol.objective) > 1
    for record in fronts.scored(one.records) if several else one.records:
        if one.kind == "ranking":
            yield {**_case(one), **{column: record[column] for column in ranking.COLUMNS}}
            continue
        row = {**_case(one), **{column: record[column] for column in COLUMNS}}
        row["area"] = area_of(record, one.protocol.budget)
        if several:
            row |= {"hypervolume": record["hypervolume"], "share": record["share"], "front_size": len(record["front"])}
        parts = {"report": record["report"], "tokens": TOKENS, "seconds": SECONDS}
        yield row | {f"{part}_{name}": record[part][name] for part, names in parts.items() for name in names}


def _curves(one: Measured) -> Iterator[Row]:
    """The best so far after every query; regret in units of a typical random point, empty before the first."""
    for record in one.records:
        for query, best in enumerate(record.get("curve", ()), start=1):
            left = None if best is None else normalised_regret(record["best"], record["typical"], best)
            yield {
                **_case(one),
                "row": record["row"],
                "seed": record["seed"],
                "query": query,
                "best": best,
                "normalised_regret": left,
            }


def _checkpoints(one: Measured) -> Iterator[Row]:
    for record in one.records:
        for queries, values in record.get("checkpoints", {}).items():
            for measure, value in values.items():
                yield {
                    **_case(one),
                    "row": record["row"],
                    "seed": record["seed"],
                    "queries": int(queries),
                    "measure": measure,
                    "value": value,
                }


def _csv(path: Path, rows: Sequence[Row]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        writer.writeheader()
        writer.writerows(rows)
    return path.name


def _parquet(path: Path, rows: Sequence[Row]) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    columns = dict.fromkeys(key for row in rows for key in row)
    parquet.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), path)
    return path.name
