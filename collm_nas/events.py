"""What the journal says of candidates and of what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collm_nas.api import Candidate, Evaluation, Failure, Outcome
from collm_nas.journal import Event, evaluation_of


def candidate(emitted: Candidate, native: str | None, verdict: str, *, unique: bool, room: int) -> Event:
    """One was emitted; `native`: its spelling if it is legal, `unique`: it is the first of its kind in the run."""
    return {
        "event": "candidate",
        "proposer": emitted.proposer,
        "text": emitted.text,
        "arch": native,
        "verdict": verdict,
        "problem": emitted.problem,
        "unique": unique,
        "room": room,
    }


def evaluation(measured: Evaluation, native: str, query: int, feasible: bool, proposer: str) -> Event:
    """One was evaluated, as the query of this number."""
    return {
        "event": "evaluation",
        "query": query,
        "arch": native,
        "fitness": float(measured.fitness),
        "costs": {name: float(value) for name, value in measured.costs.items()},
        "feasible": feasible,
        "seconds": float(measured.seconds),
        "source": measured.source,
        "proposer": proposer,
        **({} if measured.error is None else {"error": float(measured.error)}),
    }


def failure(failed: Failure, native: str, proposer: str) -> Event:
    """The evaluation of one failed."""
    told = {"arch": native, "reason": failed.reason, "seconds": float(failed.seconds), "proposer": proposer}
    return {"event": "failure", **told}


def outcome_of(event: Mapping[str, Any]) -> Outcome:
    """What an evaluation came to, by the event that records it."""
    return Failure(event["reason"], event["seconds"]) if event["event"] == "failure" else evaluation_of(event)


def read_once(end: Mapping[str, Any]) -> dict[str, Any]:
    """What an end says of the winner (`evaluators.read_report`)."""
    return {key: end[key] for key in ("report", "problem") if key in end}
