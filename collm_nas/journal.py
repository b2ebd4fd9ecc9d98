"""The journal: an append-only JSONL file, one fsynced line an event, from which all else derives.

A resumed search is executed again from its start: what the journal already holds is compared, not written, and answers
and evaluations are taken from it in order. So a run may be killed between any two lines. Where a search is asked from
outside, all lines of one `ask` (its own says how many follow) count as one: they are written at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from collm_nas.api import Architecture, Completion, Engine, Evaluation, Request, SearchSpace, UserError
from collm_nas.locked import open_locked, write_all

KINDS = (
    *("header", "ask", "prompt", "completion", "cost", "candidate"),
    *("evaluation", "failure", "retry", "forget", "end"),
)
IGNORED = frozenset({"time", "seconds", "versions", "lines"})
"""Keys that may differ when a run is executed again."""

Event = dict[str, Any]


def read(path: Path) -> tuple[list[Event], bytes]:
    """The events of a journal and its torn last line, or all lines of an `ask` that was not written whole (empty where
    the file is whole); the file is left as it is.

    Raises UserError that names the line where anything but the last line is broken.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; name a run folder that holds a journal"
        ) from None
    *lines, rest = data.split(b"\n")
    lines += [rest] if rest else []
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        event = _parse(line)
        if event is None:
            if number < len(lines):
                raise UserError(
                    f"{path} is damaged at line {number}: it is no journal event; restore the file from a copy"
                )
            break
        events.append(event)
    if events and events[0]["event"] != "header":
        raise UserError(f"{path} is damaged at line 1: a journal begins with its header; restore the file from a copy")
    whole = _whole(events)
    return events[:whole], data[sum(len(line) + 1 for line in lines[:whole]) :]


def _whole(events: list[Event]) -> int:
    """Number of events without an `ask` at their end of which lines are missing."""
    asked = next((i for i in reversed(range(len(events))) if events[i]["event"] == "ask"), None)
    return len(events) if asked is None or len(events) - asked > events[asked]["lines"] else asked


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("event") in KINDS else None


def plain(value: Any) -> Any:
    """A value as it comes back from JSON (tuples are lists, keys are text)."""
    return json.loads(json.dumps(value, allow_nan=False))


def evaluation_of(event: Mapping[str, Any]) -> Evaluation:
    """The evaluation that an event records; one without `error` is exact, or older than that key."""
    return Evaluation(event["fitness"], event["costs"], event["seconds"], event["source"], event.get("error"))


class Journal:
    """The events of one run, on disk or (path None) in memory.

    While `replaying`, `record` compares with the next recorded event; afterwards it appends. Holds a lock on the file,
    so that two processes cannot write one run.
    """

    def __init__(self, path: Path | None = None, *, began: float | None = None, wait: float = 0.0) -> None:
        """Opens `path` if it exists; else the first event creates it and its folder, so that a usage error leaves none.

        `began` (`time.monotonic`): when a new run's clock started. `wait`: seconds to wait for another process that has
        the file. Raises UserError where the file is in use by another process, damaged or cannot be written.
        """
        self.path = path
        self.events: list[Event] = []
        self.torn = False
        self._file: int | None = None
        self._next = 0
        self._unwritten: list[Event] | None = None
        if path is not None and path.exists():
            self._file = open_locked(path, new=False, wait=wait)
            self.events = self._take_over(path)
        self._clock = began if began is not None and not self.events else None
        self._before = max((float(e.get("time", 0.0)) for e in self.events), default=0.0)

    def _take_over(self, path: Path) -> list[Event]:
        """The events on disk; a torn last line is cut off, a missing last line end is added."""
        try:
            events, torn = read(path)
        except UserError:
            self.close()
            raise
        size = os.path.getsize(path)
        if torn:
            self.torn = True
            message = (
                "%s: its last line is torn (the run was killed while writing it) and dropped with the step that it is "
                "part of, which is done again"
            )
            logging.getLogger("collm_nas").warning(message, path)
            os.ftruncate(self._descriptor(), size - len(torn))
        elif size and not path.read_bytes().endswith(b"\n"):
            write_all(self._descriptor(), b"\n", path)
        return events

    def _descriptor(self) -> int:
        assert self._file is not None
        return self._file

    @property
    def replaying(self) -> bool:
        """Whether recorded events are still ahead."""
        return self._next < len(self.events)

    @property
    def begun(self) -> bool:
        """Whether an event was recorded, or passed."""
        return self._next > 0

    @property
    def elapsed(self) -> float:
        """Seconds this run took so far, all sessions added up."""
        if self.replaying:
            return float(self.events[self._next - 1].get("time", 0.0)) if self._next else 0.0
        if self._clock is None:
            self._clock = time.monotonic()
        return self._before + time.monotonic() - self._clock

    def ahead(self) -> Event | None:
        """The next recorded event, whatever its kind; None where recording is live."""
        return self.events[self._next] if self.replaying else None

    def coming(self, *kinds: str) -> list[Event]:
        """The recorded events of these kinds that come next, up to one of another kind; none is passed."""
        return list(takewhile(lambda event: event["event"] in kinds, self.events[self._next :]))

    def skip(self, *kinds: str) -> None:
        """Pass the recorded events of these kinds that come next."""
        while (event := self.ahead()) is not None and event["event"] in kinds:
            self._next += 1

    def recorded(self, *kinds: str) -> Event | None:
        """The next recorded event, not yet passed; None where recording is live; UserError if it is of another kind."""
        event = self.ahead()
        if event is not None and event["event"] not in kinds:
            raise self._differs(f"it holds {event['event']!r} where this search comes to {kinds[0]!r}")
        return event

    def record(self, event: Mapping[str, Any]) -> None:
        """Append the event (with `time`, seconds into the run), or pass the recorded one; UserError if that differs."""
        fresh = plain(event)
        old = self.ahead()
        if old is not None:
            self._compare(fresh, old)
        else:
            fresh["time"] = self.elapsed
            self._append(fresh)
        self._next += 1

    @contextmanager
    def together(self, event: Mapping[str, Any]) -> Iterator[None]:
        """Record the event and all that is recorded inside in one piece, or nothing of it where an error ends that."""
        if self.replaying:
            self.record(event)
            yield
            return
        before, self._unwritten = self._next, []
        try:
            self.record(event)
            yield
        except BaseException:
            self._next, self._unwritten = before, None
            del self.events[before:]
            raise
        unwritten, self._unwritten = self._unwritten, None
        unwritten[0]["lines"] = len(unwritten) - 1
        self._write(unwritten)

    def _append(self, event: Event) -> None:
        if self._unwritten is None:
            self._write([event])
        else:
            self._unwritten.append(event)
        self.events.append(event)

    def _write(self, events: list[Event]) -> None:
        if self.path is None:
            return
        if self._file is None:
            self._file = open_locked(self.path, new=True)
        write_all(self._file, "".join(json.dumps(event) + "\n" for event in events).encode(), self.path)

    def _compare(self, fresh: Event, old: Event) -> None:
        for key in [*fresh, *old]:
            if key not in IGNORED and fresh.get(key) != old.get(key):
                raise self._differs(
                    f"its {old['event']!r} has {key} {old.get(key)!r:.60}, this search {fresh.get(key)!r:.60}"
                )

    def _differs(self, how: str) -> UserError:
        return UserError(
            f"the journal {self.path or 'in memory'} differs at line {self._next + 1}: {how} (a changed version or "
            "option); resume it with what it was begun with, or begin a new run"
        )

    def close(self) -> None:
        """Give the file and its lock back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class JournaledEngine:
    """An `api.Engine` that writes every prompt and its completions to the journal, or takes them from it.

    A factory is called only when an answer is not in the journal: a finished run is resumed without loading a model.
    """

    def __init__(
        self,
        engine: Engine | Callable[[], Engine] | None,
        journal: Journal,
        *,
        described: Mapping[str, Any] | None = None,
    ) -> None:
        """`described`: what the header of a resumed run says of its model; an engine that says otherwise is refused."""
        self._source = engine
        self._journal = journal
        self._described = None if described is None else dict(described)
        self._engine: Engine | None = None

    def _real(self) -> Engine:
        if self._engine is None:
            if self._source is None:
                raise UserError("this run needs a language model that was not given; name one with --model")
            self._engine = self._source() if callable(self._source) else self._source
            said = plain(self._engine.describe())
            if self._described is not None and said != self._described:
                key = next(k for k in [*said, *self._described] if said.get(k) != self._described.get(k))
                raise UserError(
                    f"--model: the model has changed since the run began ({key} was {self._described.get(key)!r:.70}, "
                    f"is {said.get(key)!r:.70}); resume with the model it began with"
                )
        return self._engine

    def describe(self) -> dict[str, Any]:
        """What the engine says of itself; from the header where a run is resumed."""
        return dict(self._described) if self._described is not None else self._real().describe()

    def generate(self, request: Request) -> list[Completion]:
        """The recorded completions, or fresh ones, recorded."""
        self._journal.record(
            {
                "event": "prompt",
                "role": request.role,
                "prompt": request.prompt,
                "n": request.n,
                "seed": request.seed,
                "temperature": request.temperature,
                "max_tokens": request.max_tokens,
                **_beyond(request),
            }
        )
        event = self._journal.recorded("completion")
        completions = self._real().generate(request) if event is None else _completions(event)
        self._journal.record(_completion_event(request.role, completions))
        return completions


class JournaledCosts:
    """Costs that are measured (latency): each architecture's once in a run, then taken from the journal or memory.

    Who asks for costs is the same when a run is executed again, in the same order; what is measured is not.
    """

    def __init__(
        self,
        measure: Callable[[Architecture], dict[str, float]],
        journal: Journal,
        space: SearchSpace,
        known: Mapping[str, dict[str, float]],
    ) -> None:
        """`known`: native spelling -> costs, what was measured before the header of a resumed run."""
        self._measure, self._journal, self._space = measure, journal, space
        self.known = dict(known)
        """Native spelling -> costs. What is here before the header is recorded belongs in it."""

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """The costs of an architecture; a new measurement is recorded."""
        text = self._space.format(arch)
        if text not in self.known:
            self.known[text] = self._recorded(arch, text) if self._journal.begun else self._measure(arch)
        return self.known[text]

    def _recorded(self, arch: Architecture, text: str) -> dict[str, float]:
        event = self._journal.recorded("cost")
        costs: dict[str, float] = self._measure(arch) if event is None else event["costs"]
        self._journal.record({"event": "cost", "arch": text, "costs": costs})
        return costs


CHANCES = ("logp", "logp_masked", "removed", "exact")
BESIDE = ("thinking", "thinking_tokens", "forgotten")
"""Fields of a constrained completion that older journals, and free completions, lack."""


def _beyond(request: Request) -> dict[str, Any]:
    """What some requests have: top-p, thinking, a chat before the prompt (its turns stand in earlier events)."""
    told = "".join(f"{who}\0{text}\0" for who, text in request.history)
    chat = {"turns": len(request.history), "chat_sha256": hashlib.sha256(told.encode()).hexdigest()}
    return {
        **({} if request.top_p == 1 else {"top_p": request.top_p}),
        **(chat if request.history else {}),
        **({"reasoning": request.reasoning} if request.reasoning else {}),
    }


def _completion_event(role: str, completions: list[Completion]) -> Event:
    chances = {key: [getattr(c, key) for c in completions] for key in CHANCES}
    return {
        "event": "completion",
        "role": role,
        "texts": [c.text for c in completions],
        "tokens": [c.tokens for c in completions],
        "prompt_tokens": [c.prompt_tokens for c in completions],
        "seconds": [c.seconds for c in completions],
        "finished": [c.finished for c in completions],
        **(chances if any(c.logp is not None for c in completions) else {}),
        **{key: values for key in BESIDE if any(values := [getattr(c, key) for c in completions])},
    }


def _completions(event: Event) -> list[Completion]:
    columns = (event[key] for key in ("texts", "tokens", "prompt_tokens", "seconds", "finished"))
    rows = [Completion(*row) for row in zip(*columns, strict=True)]
    known = [key for key in (*CHANCES, *BESIDE) if key in event]
    return [replace(row, **{key: _frozen(event[key][i]) for key in known}) for i, row in enumerate(rows)]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
