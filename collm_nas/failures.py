"""What failed in one run: how often in a row, and whether it is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from collm_nas.api import Architecture, UserError
from collm_nas.journal import Journal

MOST = 10
"""Failures in a row after which a search stops."""


class Failures:
    """Architectures whose evaluation failed, with their reasons; what the journal still holds decides before all else.

    `retry`: once recording is live, they are to be evaluated again."""

    def __init__(self, journal: Journal, most: int = MOST, retry: bool = False) -> None:
        self.reasons: dict[Architecture, str] = {}
        self.retry = retry
        self._journal, self._most = journal, most
        self._in_a_row = 0

    def add(self, arch: Architecture, native: str, reason: str) -> None:
        """One more; the user is told, unless the journal has it already."""
        if not self._journal.replaying:
            logging.getLogger("collm_nas").warning("%s could not be evaluated: %s", native, reason)
        self.reasons[arch] = reason
        self._in_a_row += 1

    def succeeded(self, arch: Architecture) -> None:
        """An evaluation brought a fitness, maybe of what had failed before."""
        self.reasons.pop(arch, None)
        self._in_a_row = 0

    def begin(self) -> None:
        """A stretch of the run begins: whatever was wrong before is taken to be mended."""
        self._in_a_row = 0

    def too_many(self) -> bool:
        """Whether the search stops; as the journal says, where it has more."""
        event = self._journal.ahead()
        if event is not None:
            return bool(event["event"] == "end" and event["reason"] == "failures")
        return self._in_a_row >= self._most

    def again(self, spell: Callable[[Architecture], str], room: bool) -> list[Architecture]:
        """What is to be evaluated again, here in the journal or now, if there is `room`; from then on it has not
        failed."""
        event = self._journal.ahead()
        if (event["event"] != "retry") if event is not None else not (room and self.retry and self.reasons):
            return []
        archs = list(self.reasons)
        self._journal.record({"event": "retry", "archs": [spell(arch) for arch in archs]})
        self.reasons.clear()
        self.retry = self.retry and event is not None
        return archs

    @staticmethod
    def at_first(native: str, reason: str) -> UserError:
        """What the user is told where the first evaluation of all meets what every other would meet."""
        return UserError(
            f"the first evaluation failed, and others would too: {reason} (architecture {native!r}); mend that, "
            "then go on with --resume"
        )

    def stopped(self) -> UserError:
        """What the user is told where these were too many."""
        return UserError(
            f"the search stopped after {self._in_a_row} failures in a row, the last one: "
            f"{list(self.reasons.values())[-1]}; mend the evaluator, then go on with --resume (and --retry-failed, to "
            "try again what failed)"
        )
