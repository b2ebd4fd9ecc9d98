"""Evaluations of earlier runs of the same space and protocol, for `search --reuse RUN`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collm_nas import journal
from collm_nas.api import SearchSpace, UserError
from collm_nas.journal import Event
from collm_nas.rundir import FREE, JOURNAL, flat

KEPT = ("arch", "fitness", "costs", "seconds", "source", "error")


def read(
    space: SearchSpace, protocol: Mapping[str, Any], needed: Mapping[str, str], runs: Sequence[Path]
) -> list[dict[str, Any]]:
    """What was evaluated in these runs (their own and what they took over), each architecture once, in order.

    A folder of runs (a family) stands for the runs in it. Each row has the keys of an evaluation in the journal and
    `run`, where it was made. `needed`: a cost that each must have -> the option that it is for. Raises UserError where
    a folder holds no run, or one of another space or protocol, or one that did not measure such a cost.
    """
    rows: dict[str, dict[str, Any]] = {}
    for run in [one for given in runs for one in members(given)]:
        events = journal.read(run / JOURNAL)[0]
        if events:
            _check(run, events[0], space, protocol)
        for row in _evaluations(events, str(run)):
            for cost, option in needed.items():
                if cost not in row["costs"]:
                    raise UserError(
                        f"--reuse {run}: its evaluations have no {cost}, which {option} needs; reuse runs that have"
                    )
            rows.setdefault(row["arch"], row)
    return list(rows.values())


def members(given: Path) -> list[Path]:
    """The folder itself, or the runs directly in it."""
    if (given / JOURNAL).is_file():
        return [given]
    inside = sorted(path.parent for path in given.glob(f"*/{JOURNAL}"))
    if not inside:
        raise UserError(f"--reuse {given} holds no {JOURNAL}; name the folder of a run")
    return inside


def _evaluations(events: Sequence[Event], run: str) -> Iterator[dict[str, Any]]:
    for event in events:
        if event["event"] == "evaluation":
            yield {key: event[key] for key in KEPT if key in event} | {"run": run}
        elif event["event"] == "header":
            yield from ({key: row[key] for key in (*KEPT, "run") if key in row} for row in event.get("reused", ()))


def _check(run: Path, header: Event, space: Any, protocol: Mapping[str, Any]) -> None:
    if header["space_sha256"] != space.digest():
        name = header["space"]["name"]
        held = f"is of the space {name!r}" if name != space.name else f"is of another definition of the space {name!r}"
        raise UserError(f"--reuse {run}: that run {held}, this search is of {space.name!r}; reuse runs of one space")
    old, new = flat(header["protocol"]), flat(protocol)
    for key in dict.fromkeys([*new, *old]):
        if key not in (*FREE, "report") and old.get(key) != new.get(key):
            raise UserError(
                f"--reuse {run}: its evaluations were made with {key} {_shown(old.get(key))}, those of this search are "
                f"made with {_shown(new.get(key))}; reuse runs of the same protocol"
            )


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
