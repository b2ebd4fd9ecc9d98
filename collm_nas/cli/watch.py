"""`collm-nas watch RUN`: a running search in the terminal, followed by its journal. It reads, and writes nothing."""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

EVERY = 1.0
"""Seconds between two looks at the journal."""
LINES_EVERY = 10.0
"""Seconds between two lines, at least, where stdout is no terminal."""
QUIET = 5.0
"""Seconds without an event after which it is asked whether a process still holds the run."""
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Characters of the curve."""
INTERRUPTED = "the search goes on; watch it again with the same command"

Event = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--once", action="store_true", help="print once how it stands, and end")


def run(args: argparse.Namespace) -> int:
    """Show how the run stands until it ends; on a terminal in place, elsewhere a line now and then."""
    from collm_nas.rundir import JOURNAL

    journal = Follower(args.run / JOURNAL)
    state = State(str(args.run))
    state.add(journal.fresh())
    if not args.once and state.running:
        (_on_terminal if sys.stdout.isatty() else _in_lines)(journal, state)
    print("\n".join(f"{name:<10}{value}" for name, value in state.rows()))
    return 0


class Follower:
    """The events of a journal as they come; a line that is still being written waits for its rest."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where there is no journal."""
        if not path.is_file():
            raise UserError(
                f"{path.parent} holds no {path.name}; name the folder of a run (what `collm-nas search` printed)"
            )
        self.path = path
        self._read = 0

    def fresh(self) -> list[Event]:
        """Events since the last call; lines that are none (a later version's) are left out."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}; is the run still there?") from None
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [event for line in whole.splitlines() if (event := _event(line)) is not None]

    def held(self) -> bool:
        """Whether a process has the run open to write it."""
        with self.path.open("rb") as file:
            try:
                # Given back at once: a search that begins in this very moment would find the run in use.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            fcntl.flock(file, fcntl.LOCK_UN)
            return False


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


class State:
    """How a run stands, added up from its events."""

    def __init__(self, name: str) -> None:
        self.name, self.ended = name, ""
        self.header: Event = {}
        self.best: Event | None = None
        self.curve: list[float] = []
        self.queries, self.seconds = 0, 0.0
        self.spent = {"prompt": 0, "completion": 0}
        self.models = self.evaluating = 0.0
        self.strategy = ""
        self.failed, self.failure = 0, ""
        self.open = False
        """Whether it is asked for architectures from outside, so that mostly no process is at it."""
        self.out: dict[Any, None] = {}

    @property
    def running(self) -> bool:
        """Whether no end was recorded, and none was noticed."""
        return not self.ended

    @property
    def budget(self) -> int:
        """Of the last session."""
        return int(self.header.get("budget", 0))

    def add(self, events: list[Event]) -> None:
        """Take further events into account."""
        for event in events:
            self.seconds = max(self.seconds, float(event.get("time", 0.0)))
            kind = event["event"]
            if kind == "header":  # also of a run that is resumed after its end
                self.header, self.ended = event, ""
                for row in event.get("reused", ()):
                    self._known(row)
            elif kind == "evaluation":
                self.queries += 1
                self.evaluating += float(event["seconds"])
                self._known(event)
                self.out.pop(event.get("arch"), None)
            elif kind == "failure":
                self.evaluating += float(event["seconds"])
                self.failed += 1
                self.failure = str(event["reason"])
                self.out.pop(event.get("arch"), None)
            elif kind == "completion":
                self._completion(event)
            elif kind == "ask":
                self.open = True
            elif kind == "candidate" and event.get("verdict") == "evaluated":
                self.out[event["arch"]] = None
            elif kind == "forget":
                self.out.pop(event.get("arch"), None)
            elif kind == "end":
                self.ended = str(event.get("reason", "ended"))

    def _known(self, event: Event) -> None:
        if event["feasible"] and (self.best is None or event["fitness"] > self.best["fitness"]):
            self.best = event
        if self.best is not None:
            self.curve.append(float(self.best["fitness"]))

    def _completion(self, event: Event) -> None:
        self.spent["prompt"] += sum(event["prompt_tokens"])
        self.spent["completion"] += sum(event["tokens"])
        self.models += sum(event["seconds"])
        if event.get("role") == "navigator" and event["texts"]:
            self.strategy = str(event["texts"][-1])

    def line(self) -> str:
        """The state in one line."""
        best = "none within the caps" if self.best is None else f"{self.best['fitness']:.6g}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.queries} of {self.budget} evaluations{failed}, best so far {best}"

    def rows(self) -> Iterator[tuple[str, str]]:
        """The state as (name, text), without characters that a terminal would obey."""
        from collm_nas.cli.summary import ENDINGS

        options, space = self.header.get("options") or {}, self.header.get("space")
        named = space.get("name") if isinstance(space, Mapping) else space
        rows = [("run", f"{self.name}: {named} by {options.get('optimizer', '?')}, seed {self.header.get('seed')}")]
        if self.best is None:
            rows.append(("best", "none within the caps so far"))
        else:
            found = f"query {self.best['query']}" if "query" in self.best else f"from {self.best.get('run')}"
            rows.append(("best", f"{self.best['fitness']:.6g} ({found}): {self.best['arch']}"))
        rows.append(("queries", f"{self.queries} of {self.budget}  {sparkline(self.curve)}"))
        if self.failed:
            rows.append(("failed", f"{self.failed} evaluations, the last one: {self.failure}"))
        if self.spent["completion"]:
            rows.append(("tokens", ", ".join(f"{n:,} {name}" for name, n in self.spent.items())))
        spent = f"{self.seconds:.1f}: models {self.models:.1f}, evaluation {self.evaluating:.1f}"
        rows.append(("seconds", spent))
        if self.strategy:
            rows.append(("strategy", in_words(self.strategy, space)))
        going = f"open, {len(self.out)} out" if self.open else "running"
        rows.append(("state", ENDINGS.get(self.ended, self.ended) if self.ended else going))
        for name, text in rows:
            yield name, "".join(c if c.isprintable() else " " for c in text)


def in_words(text: str, space: Any) -> str:
    """A strategy: its reason and its directions; the beginning of a text that is none."""
    from collm_nas import spaces
    from collm_nas.strategy import Strategy

    try:
        known = spaces.from_spec(space)
        *directions, _, why = Strategy.parse(text, known).words(known).splitlines()
    except (ValueError, KeyError, TypeError):
        return text if len(text) <= 300 else text[:299] + "…"
    settled = [d for d in directions if not d.startswith("anchor: ")]
    shown = "; ".join(settled[:8]) + (f"; and {len(settled) - 8} more" if len(settled) > 8 else "")
    return f"{why.removeprefix('why: ')}. {shown}"


def sparkline(values: list[float]) -> str:
    """The values as bars, at most `WIDTH` of them."""
    n = min(WIDTH, len(values))
    shown = [values[(i + 1) * len(values) // n - 1] for i in range(n)]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    return "".join(BARS[int((len(BARS) - 1) * (v - low) / ((high - low) or 1.0))] for v in shown)


# --- following --------------------------------------------------------------------------------------------------------


def _follow(journal: Follower, state: State) -> Iterator[None]:
    """One step a look, until the run has ended or nobody writes it any more."""
    last = time.monotonic()
    while state.running:
        yield
        time.sleep(EVERY)
        fresh = journal.fresh()
        state.add(fresh)
        if fresh:
            last = time.monotonic()
        elif not state.open and time.monotonic() - last > QUIET and not journal.held():
            state.add(journal.fresh())
            state.ended = state.ended or "interrupted"


def _in_lines(journal: Follower, state: State) -> None:
    said, when = "", -LINES_EVERY
    for _ in _follow(journal, state):
        line = state.line()
        if line != said and time.monotonic() - when >= LINES_EVERY:
            said, when = line, time.monotonic()
            print(line, flush=True)


def _on_terminal(journal: Follower, state: State) -> None:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def shown() -> Table:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, value in state.rows():
            table.add_row(name, Text(value))
        return table

    with Live(shown(), auto_refresh=False, transient=True) as live:
        for _ in _follow(journal, state):
            live.update(shown(), refresh=True)
