"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas import result, rundir
from collm_nas.assemble import Run


@dataclass(frozen=True)
class Result:
    """What a search brought: the content of `result.json`, by attribute or by key."""

    data: Mapping[str, Any]
    path: Path | None = None
    """The run folder, if there is one."""

    @property
    def best(self) -> dict[str, Any] | None:
        """`arch` (native), `fitness`, `report`, `costs`, `error` (the standard error of the fitness) where known, `run`
        where it was taken over from an earlier one; None where nothing feasible is known."""
        best: dict[str, Any] | None = self.data["best"]
        return best

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluated architectures, in order."""
        history: list[dict[str, Any]] = self.data["history"]
        return history

    @property
    def counts(self) -> dict[str, int]:
        """`attempted`, `valid`, `unique`, `evaluated`, and `failed` where evaluations did."""
        counts: dict[str, int] = self.data["counts"]
        return counts

    @property
    def ended(self) -> str:
        """`budget`, `target`, `exhausted`, `max-hours`, `failures`, `interrupted`, or `open` where it is asked from
        outside."""
        return str(self.data["ended"])

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def to_dict(self) -> dict[str, Any]:
        """The content of `result.json`."""
        return dict(self.data)


def write(run: Run) -> Result:
    """The result of a run so far; `result.json` and `report.html` are written where it has a folder."""
    if run.out is not None and run.journal.events:
        rundir.write(run.out)
    return Result(result.derive(run.journal.events), run.out)
