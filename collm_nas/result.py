"""`result.json` from the journal's events alone: the same events give the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collm_nas import pareto
from collm_nas.api import UserError
from collm_nas.objectives import losses

Event = Mapping[str, Any]
COUNTS = ("attempted", "valid", "unique", "evaluated")
PROPOSERS = ("init", "model", "fallback")
"""Always among `counts_by_proposer`, also where they proposed nothing."""


def derive(events: Sequence[Event]) -> dict[str, Any]:
    """The content of `result.json`; figures are unrounded, `best` is None where nothing feasible was evaluated.

    A run without an end event is `interrupted`, or `open` where it is asked from outside: its winner is not chosen yet,
    so its report columns are not read. Raises UserError where there is no header.
    """
    headers = _of(events, "header")
    if not headers:
        raise UserError("the journal holds no header: nothing was searched in this run; begin it again")
    evaluations, completions, failures = (_of(events, kind) for kind in ("evaluation", "completion", "failure"))
    reused = [row for header in headers for row in header.get("reused", ())]
    end = next((e for e in reversed(events) if e["event"] in ("end", "header")), {})
    first, last = headers[0], headers[-1]
    return {
        "best": _best(_known(events), end.get("report", {})),
        **_front(events, first.get("options", {}).get("objective", ())),
        "counts": _counts(_of(events, "candidate"), evaluations, failures),
        "counts_by_proposer": _by_proposer(_of(events, "candidate"), evaluations, failures),
        "history": _history(_known(events)),
        **({"failures": [_failure(e) for e in failures]} if failures else {}),
        "reused": len(reused),
        "tokens": {
            "prompt": sum(sum(e["prompt_tokens"]) for e in completions),
            "completion": sum(sum(e["tokens"]) for e in completions),
            "thinking": sum(sum(e.get("thinking_tokens", ())) for e in completions),
        },
        "seconds": {
            "llm": sum(sum(e["seconds"]) for e in completions),
            "evaluate": sum(e["seconds"] for e in (*evaluations, *failures)),
            "total": max(e.get("time", 0.0) for e in events),
        },
        "ended": end.get("reason", "open" if asked(events) else "interrupted"),
        **({"pending": pending(events)} if asked(events) else {}),
        "warnings": _warnings(events, end.get("reason")),
        "strategies": sum(e["role"] == "navigator" for e in completions),
        "decoding": first.get("options", {}).get("decoding"),
        "protocol": {**_protocol(first, last), **_reused_from(reused)},
        "seen": first.get("seen", "n/a"),
        "seed": first["seed"],
        "versions": first.get("versions", {}),
    }


def asked(events: Sequence[Event]) -> bool:
    """Whether it is a run that is asked for architectures and told their values, from outside."""
    return any(e["event"] == "ask" for e in events)


def pending(events: Sequence[Event]) -> list[str]:
    """Of such a run, what was asked for and is neither evaluated nor given up, in the order it was asked for."""
    accepted = [e["arch"] for e in _of(events, "candidate") if e["verdict"] == "evaluated"]
    done = {e["arch"] for e in events if e["event"] in ("evaluation", "forget")}
    return [arch for arch in accepted if arch not in done]


def dumps(result: Mapping[str, Any]) -> str:
    """The text of `result.json`."""
    return json.dumps(result, indent=1, allow_nan=False) + "\n"


def _of(events: Iterable[Event], kind: str) -> list[Event]:
    return [e for e in events if e["event"] == kind]


def _known(events: Iterable[Event]) -> list[Event]:
    """Evaluations and those taken over from earlier runs (in headers; these have `run` and no `query`), in order."""
    known: list[Event] = []
    for event in events:
        known += [event] if event["event"] == "evaluation" else event.get("reused", ())
    return known


def _reused_from(reused: Sequence[Event]) -> dict[str, Any]:
    return {"reused": dict(Counter(row["run"] for row in reused))} if reused else {}


def _best(evaluations: Sequence[Event], report: Mapping[str, float]) -> dict[str, Any] | None:
    """The first of the best feasible evaluations."""
    feasible = [e for e in evaluations if e["feasible"]]
    if not feasible:
        return None
    best = max(feasible, key=lambda e: float(e["fitness"]))
    row = {"arch": best["arch"], "fitness": best["fitness"], "report": dict(report), "costs": dict(best["costs"])}
    return {**row, **_error(best), **({"run": best["run"]} if "run" in best else {})}


def _front(events: Sequence[Event], objectives: Sequence[str]) -> dict[str, Any]:
    """Of a search with several objectives: what no other feasible evaluation beats, fittest first, and its hypervolume.

    The reference point is the worst that each objective has among the feasible random ones of the beginning, which runs
    of one seed share; among all feasible ones where fewer than two of those are.
    """
    if len(objectives) < 2:
        return {}
    feasible = [e for e in _known(events) if e["feasible"]]
    points = [losses(e["fitness"], e["costs"], objectives) for e in feasible]
    front = sorted(pareto.front(points), key=lambda i: points[i])
    random = [p for p, e in zip(points, feasible, strict=True) if e.get("proposer") == "init"]
    reference = tuple(map(max, zip(*(random if len(random) > 1 else points), strict=True)))
    return {
        "objectives": list(objectives),
        "front": [_member(feasible[i]) for i in front],
        "hypervolume": {
            "value": pareto.hypervolume([points[i] for i in front], reference) if front else 0.0,
            "reference": {
                name: -worst if name == objectives[0] else worst
                for name, worst in zip(objectives, reference, strict=False)
            },
        },
    }


def _member(e: Event) -> dict[str, Any]:
    row = {"arch": e["arch"], "fitness": e["fitness"], "costs": dict(e["costs"])}
    return {**row, **_error(e), **({"run": e["run"]} if "run" in e else {"query": e["query"]})}


def _error(evaluation: Event) -> dict[str, float]:
    """The standard error of the fitness, where the evaluator knew one."""
    return {"error": evaluation["error"]} if "error" in evaluation else {}


def _history(evaluations: Sequence[Event]) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    best: float | None = None
    for event in evaluations:
        if event["feasible"] and (best is None or event["fitness"] > best):
            best = event["fitness"]
        if "query" not in event:
            continue
        row = {key: event[key] for key in ("query", "arch", "fitness")}
        row |= {"best_so_far": best, "proposer": event["proposer"], "feasible": event["feasible"]}
        history.append({**row, **_error(event)})
    return history


def _failure(event: Event) -> dict[str, Any]:
    return {key: event[key] for key in ("arch", "reason", "seconds", "proposer")}


def _counts(candidates: Sequence[Event], evaluations: Sequence[Event], failures: Sequence[Event]) -> dict[str, int]:
    """`failed`, the evaluations that failed, is there where some did."""
    legal = sum(e["arch"] is not None for e in candidates)
    unique = sum(bool(e["unique"]) for e in candidates)
    counts = dict(zip(COUNTS, (len(candidates), legal, unique, len(evaluations)), strict=True))
    return counts | ({"failed": len(failures)} if failures else {})


def _by_proposer(
    candidates: Sequence[Event], evaluations: Sequence[Event], failures: Sequence[Event]
) -> dict[str, dict[str, int]]:
    names = dict.fromkeys([*PROPOSERS, *(e["proposer"] for e in candidates)])
    kinds = (candidates, evaluations, failures)
    return {name: _counts(*([e for e in kind if e["proposer"] == name] for kind in kinds)) for name in names}


def _warnings(events: Sequence[Event], reason: str | None) -> list[str]:
    found = []
    candidates, completions = _of(events, "candidate"), _of(events, "completion")
    fallbacks = sum(e["proposer"] == "fallback" for e in candidates)
    if fallbacks:
        found.append(
            f"{fallbacks} candidates were drawn at random, because nothing new was proposed (proposer fallback)"
        )
    cut = sum(not finished for e in completions for finished in e["finished"])
    if cut:
        found.append(f"{cut} answers of the language models were cut at their token limit")
    forgetful = sum(max(e.get("forgotten", (0,)), default=0) > 0 for e in completions)
    if forgetful:
        found.append(
            f"{forgetful} calls left out the oldest turns of the chat: the model's context had no room for them"
        )
    reasons = Counter(e["reason"] for e in _of(events, "failure")).most_common()
    if reasons:
        more = f", and {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
        times = f" ({reasons[0][1]} times)" if more else ""
        found.append(f"{sum(n for _, n in reasons)} evaluations failed: {reasons[0][0]}{times}{more}")
    problem = next((e["problem"] for e in reversed(events) if "problem" in e and e["event"] == "end"), None)
    if problem is not None:
        found.append(f"the report columns of the winner could not be read: {problem}")
    if reason == "exhausted":
        found.append("the search ended before its budget: no architecture was left to evaluate")
    if not any(e["feasible"] for e in _known(events)):
        found.append("nothing was evaluated within the caps, so there is no best architecture")
    return found


def _protocol(first: Event, last: Event) -> dict[str, Any]:
    """What the figures stand for: space, table or supernet with its hash, fitness, report, budget, seeds."""
    space, options = first["space"], first.get("options", {})
    shown = ("init", "batch", "caps", "over_cap", "optimizer", "decoding", "encoding", "temperature", "top_p", "target")
    return {
        "space": space["name"] if isinstance(space, Mapping) else space,
        **({"space_sha256": first["space_sha256"]} if "space_sha256" in first else {}),
        **first.get("protocol", {}),
        "budget": last["budget"],
        "seeds": [first["seed"]],
        **{key: options[key] for key in (*shown, "objective") if key in options},
        **({"model": first["engine"]} if first.get("engine") else {}),
    }
