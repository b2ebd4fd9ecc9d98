"""A run as other tools keep it: parameters, a row of metrics a query, and figures at its end. One tool a file.

A file has `EXTRA`, the package it needs, and `write(records, out)`, which puts runs into a folder and returns lines
that say where they are and what opens them. A run that is there already is replaced, told by its `Record.key`. No list
to edit.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from collm_nas.api import UserError

Json = Mapping[str, Any]
Value = str | float | bool


@dataclass(frozen=True, slots=True)
class Row:
    """What was known after a query; `seconds`: into the run."""

    query: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Record:
    """A run. Times are seconds since 1970; the journal counts from its beginning, `began` says when that was."""

    name: str
    key: str
    """Of the header it was begun with: the same when the run goes on, another one for another run of that name."""
    began: float
    seconds: float
    parameters: Mapping[str, Value]
    rows: Sequence[Row]
    final: Mapping[str, float]
    words: Mapping[str, str]
    """What came out and is no number."""
    files: Mapping[str, str]
    """Texts to keep beside, by file name."""

    @property
    def last(self) -> int:
        """The last query, at which the final figures stand."""
        return self.rows[-1].query if self.rows else 0

    @property
    def finished(self) -> bool:
        """Whether the search came to its end."""
        return self.words["ended"] not in ("interrupted", "open")


def names() -> list[str]:
    """The tools."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load(name: str) -> Any:
    """The module of a tool; UserError where its package is not installed."""
    tool = import_module(f"eval.trackers.{name}")
    if find_spec(tool.EXTRA) is None:
        raise UserError(
            f"--to {name} needs {tool.EXTRA}, which is not installed: "
            f"python -m pip install -c constraints.txt {tool.EXTRA} (the extra {tool.EXTRA!r})"
        )
    return tool


def record(
    name: str, result: Json, events: Sequence[Json], *, protocol: str, written: float, files: Mapping[str, str]
) -> Record:
    """The record of a run. `protocol`: it in one line; `written`: when its last event was, in seconds since 1970."""
    header = events[0]
    total = float(result["seconds"]["total"])
    return Record(
        name=name,
        key=hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:16],
        began=written - total,
        seconds=total,
        parameters=dict(_parameters(result, header, protocol)),
        rows=list(_rows(result, events)),
        final=dict(_final(result)),
        words={"ended": str(result["ended"]), "best": str((result["best"] or {}).get("arch", "none within the caps"))},
        files=files,
    )


def _parameters(result: Json, header: Json, protocol: str) -> Iterator[tuple[str, Value]]:
    """What the search was asked for; options come by their own names, what was not asked for is left out."""
    own = {
        "space": result["protocol"]["space"],
        "protocol": protocol,
        "seed": result["seed"],
        "budget": result["protocol"]["budget"],
        "seen": result["seen"],
    }
    yield from _flat(own)
    for name, value in _flat(header.get("options") or {}):
        if name not in own:
            yield name, value
    # An option names the model; what the engine says of it (hashes, backend) stands under a word of its own.
    yield from _flat({"engine": header.get("engine") or {}})
    yield from _flat({"version": result["versions"]})


def _flat(values: Json, prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}/")
        elif isinstance(value, list | tuple):
            if value:
                yield name, ", ".join(map(str, value))
        elif value is not None:
            yield name, value


def _rows(result: Json, events: Sequence[Json]) -> Iterator[Row]:
    """A row for each evaluation of this run; of those taken over from earlier runs only the best so far tells."""
    evaluations = (e for e in events if e["event"] == "evaluation")
    for row, event in zip(result["history"], evaluations, strict=True):
        metrics = {"fitness": row["fitness"], "best_so_far": row["best_so_far"], "feasible": row["feasible"]}
        metrics |= {"error": row.get("error"), **{f"cost/{name}": value for name, value in event["costs"].items()}}
        known = {name: float(value) for name, value in metrics.items() if value is not None}
        yield Row(row["query"], float(event.get("time", 0.0)), known)


def _final(result: Json) -> Iterator[tuple[str, float]]:
    best = result["best"]
    if best is not None:
        yield "best/fitness", float(best["fitness"])
        if "error" in best:
            yield "best/error", float(best["error"])
        yield from ((f"best/{name}", float(value)) for name, value in best["costs"].items())
        yield from ((f"report/{name}", float(value)) for name, value in best["report"].items())
    if "hypervolume" in result:
        yield "hypervolume", float(result["hypervolume"]["value"])
    for group in ("counts", "tokens", "seconds"):
        yield from ((f"{group}/{name}", float(value)) for name, value in result[group].items())
