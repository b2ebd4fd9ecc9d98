"""The rounds of a search, told from its journal: each strategy in plain words, and what became of its candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from collm_nas.api import UserError

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
class Round:
    """A strategy taken apart into statements, or `verbatim` where it cannot be read, and its candidates."""

    number: int
    anchors: list[str] = field(default_factory=list)
    directions: list[str] = field(default_factory=list)
    roam: str = ""
    why: str = ""
    verbatim: str = ""
    candidates: list[Told] = field(default_factory=list)


def rounds(events: Sequence[Json], history: Sequence[Json]) -> list[Round]:
    """One round for each answer of the Navigator; candidates before the first one (`--init`) belong to none."""
    header = next((e for e in events if e.get("event") == "header"), {})
    space = _space(header.get("space"))
    by_arch = {str(row["arch"]): row for row in history}
    told: list[Round] = []
    for event in events:
        if event.get("event") == "completion" and event.get("role") == "navigator":
            told += [_read(text, space, len(told) + 1) for text in _texts(event)][:1]
        elif event.get("event") == "candidate" and told:
            told[-1].candidates.append(_candidate(event, by_arch))
    return told


def _space(spec: Any) -> CategoricalSpace | None:
    if not isinstance(spec, Mapping):
        return None
    from collm_nas import spaces

    try:
        return spaces.from_spec(dict(spec))
    except (UserError, KeyError, TypeError):
        return None  # a journal of a later version: its strategies are shown verbatim


def _texts(event: Json) -> Iterator[str]:
    yield from (str(text) for text in event.get("texts") or [event.get("text", "")])


def _read(text: str, space: CategoricalSpace | None, number: int) -> Round:
    from collm_nas.strategy import Strategy

    if space is None:
        return Round(number, verbatim=text)
    try:
        strategy = Strategy.parse(text, space)
        lines = strategy.words(space).splitlines()
    except ValueError:
        return Round(number, verbatim=text)
    anchors, body = lines[: len(strategy.anchors)], lines[len(strategy.anchors) :]
    return Round(
        number,
        anchors=[line.removeprefix("anchor: ") for line in anchors],
        directions=body[:-2],
        roam=body[-2].removeprefix("roam: "),
        why=body[-1].removeprefix("why: "),
    )


def _candidate(event: Json, by_arch: Mapping[str, Json]) -> Told:
    arch, verdict = event.get("arch"), str(event.get("verdict") or "")
    row = by_arch.get(str(arch)) if verdict in ("", "evaluated") else None
    text = str(arch) if arch else str(event.get("text", ""))
    if row is None:
        return Told(text, verdict or str(event.get("problem") or "not evaluated"), None, False)
    fitness = float(row["fitness"])
    earlier = [
        r["best_so_far"] for r in by_arch.values() if r["query"] < row["query"] and r.get("best_so_far") is not None
    ]
    better = row.get("best_so_far") == fitness and (not earlier or fitness > earlier[-1])
    return Told(text, verdict, fitness, better)
