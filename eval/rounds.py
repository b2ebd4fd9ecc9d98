"""The rounds of a search, told from its journal: strategies in plain words, and what became of their candidates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError
from collm_nas.prompts import GENERATOR_TOKEN
from collm_nas.strategy import Strategy

if TYPE_CHECKING:
    from collm_nas.spaces.base import CategoricalSpace

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """A candidate: its native form (or the raw text), its fitness if evaluated, whether that was a new best."""

    text: str
    verdict: str
    fitness: float | None
    better: bool


@dataclass(slots=True)
class Plan:
    """A strategy that the Generator was given, taken apart into statements, and the candidates it made of it."""

    anchors: list[str] = field(default_factory=list)
    directions: list[str] = field(default_factory=list)
    roam: str = ""
    why: str = ""
    verbatim: str = ""
    strategy: Strategy | None = None
    candidates: list[Told] = field(default_factory=list)


@dataclass(slots=True)
class Round:
    """One call of the Navigator: its strategies, the answers that could not be read as one, and candidates that the
    models did not propose."""

    number: int
    plans: list[Plan] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    others: list[Told] = field(default_factory=list)


def rounds(events: Sequence[Json], history: Sequence[Json]) -> list[Round]:
    """The rounds in order; candidates before the first one (`--init`) belong to none."""
    header = next((e for e in events if e.get("event") == "header"), {})
    space = space_of(header.get("space"))
    by_arch = {str(row["arch"]): row for row in history}
    failed = {str(e["arch"]) for e in events if e.get("event") == "failure"} - by_arch.keys()
    better = _improvements(history)
    told: list[Round] = []
    plans: dict[str, Plan] = {}  # of the round, by the Generator's prompt
    owners: deque[Plan] = deque()  # of the Generator's answers whose verdict is still to come
    owner: Plan | None = None  # of the last one; a chat model's answer holds several candidates
    chats = bool(header.get("options", {}).get("preset"))  # strategies in words, shown as they are
    for event in events:
        kind, role = event.get("event"), event.get("role")
        if kind == "completion" and role == "navigator":
            plans, owner = {}, None
            unread = [] if chats else [t for t in _texts(event) if _strategy(t, space) is None]
            told.append(Round(len(told) + 1, unread=unread))
            if chats:
                owner = Plan(verbatim=next(_texts(event)))
                told[-1].plans.append(owner)
        elif chats and kind in ("prompt", "completion"):
            continue
        elif kind == "prompt" and role == "generator" and told:
            prompt = str(event.get("prompt"))
            if prompt not in plans:
                plans[prompt] = _read(prompt.removesuffix(GENERATOR_TOKEN), space)
                told[-1].plans.append(plans[prompt])
        elif kind == "completion" and role == "generator" and plans:
            owners.extend([plans[prompt]] * len(list(_texts(event))))
        elif kind == "candidate" and told:
            owner = owners.popleft() if owners and event.get("proposer") == "model" else owner
            own = owner is not None and event.get("proposer") == "model"
            (owner.candidates if own and owner else told[-1].others).append(_candidate(event, by_arch, better, failed))
    return told


def space_of(spec: Any) -> CategoricalSpace | None:
    """The space that a header's `space` describes; None where it cannot be made."""
    if not isinstance(spec, Mapping):
        return None
    from collm_nas import spaces

    try:
        return spaces.from_spec(dict(spec))
    except (UserError, KeyError, TypeError):
        return None  # a journal of a later version: its strategies are shown verbatim


def _texts(event: Json) -> Iterator[str]:
    yield from (str(text) for text in event.get("texts") or [event.get("text", "")])


@lru_cache(maxsize=64)  # the Generator is given what the Navigator wrote
def _strategy(text: str, space: CategoricalSpace | None) -> Strategy | None:
    try:
        return None if space is None else Strategy.parse(text, space)
    except ValueError:
        return None


def _read(text: str, space: CategoricalSpace | None) -> Plan:
    strategy = _strategy(text, space)
    if space is None or strategy is None:
        return Plan(verbatim=text)
    lines = strategy.words(space).splitlines()
    anchors, body = lines[: len(strategy.anchors)], lines[len(strategy.anchors) :]
    return Plan(
        anchors=[line.removeprefix("anchor: ") for line in anchors],
        directions=body[:-2],
        roam=body[-2].removeprefix("roam: "),
        why=body[-1].removeprefix("why: "),
        strategy=strategy,
    )


def _improvements(history: Sequence[Json]) -> set[int]:
    """Queries that brought a new best, the first one included."""
    found: dict[float, int] = {}
    for row in history:
        if row.get("best_so_far") is not None and row["best_so_far"] == row["fitness"]:
            found.setdefault(float(row["fitness"]), row["query"])
    return set(found.values())


def _candidate(event: Json, by_arch: Mapping[str, Json], better: set[int], failed: set[str]) -> Told:
    arch, verdict = event.get("arch"), str(event.get("verdict") or "")
    if verdict == "evaluated" and str(arch) in failed:
        return Told(str(arch), "failed", None, False)
    row = by_arch.get(str(arch)) if verdict in ("", "evaluated") else None
    text = str(arch) if arch else str(event.get("text", ""))
    if row is None:
        verdict = "not evaluated" if verdict == "evaluated" else verdict
        return Told(text, verdict or str(event.get("problem") or "not evaluated"), None, False)
    return Told(text, verdict, float(row["fitness"]), row["query"] in better)
