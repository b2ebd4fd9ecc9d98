"""A family of caps on one pool of evaluations, as in the paper's Table 2: one search a cap, smallest first.

Each member is a run of its own, in a folder of its own, and takes over what the members before it evaluated
(`collm_nas.reuse`). Once all have ended, each takes over what the later ones found, so that the best of every member is
the best of the whole pool within its cap. So a member's folder can be reported, replayed and exported like any run.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from collm_nas import rundir, runner
from collm_nas.api import Architecture, Evaluator, UserError
from collm_nas.app import Result, at_work, search
from collm_nas.assemble import bind, load_space
from collm_nas.settings import COSTS, Options, Settings

FAMILY = "family.json"


@dataclass(frozen=True)
class Family:
    """What a family of caps brought."""

    cost: str
    members: Mapping[float, Result]
    """Cap -> result of its run, smallest cap first."""
    path: Path | None = None
    """The folder of the family, if there is one; `family.json` in it holds `data`."""

    @property
    def data(self) -> dict[str, Any]:
        """`cost`, `evaluated` (all members) and, for each member, `cap`, `run` (its folder), `best` (as in its
        `result.json`), `found` (the run in which that was evaluated), `evaluated`, `reused`, `ended`."""
        rows = [_row(self.cost, cap, result) for cap, result in self.members.items()]
        return {"cost": self.cost, "evaluated": sum(row["evaluated"] for row in rows), "members": rows}


def _row(cost: str, cap: float, result: Result) -> dict[str, Any]:
    own = member_name(cost, cap)
    found = None if result.best is None else Path(result.best["run"]).name if "run" in result.best else own
    figures = {"evaluated": result.counts["evaluated"], "reused": result["reused"], "ended": result.ended}
    return {"cap": cap, "run": own, "best": result.best, "found": found, **figures}


def search_family(
    space: Any,
    evaluator: Evaluator | Callable[[Architecture], Any],
    cost: str,
    caps: Sequence[float],
    *,
    start_from: object = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | runner.Progress = False,
    **options: Unpack[Options],
) -> Family:
    """Search once for each of several caps on one cost: `search_family(space, evaluator, "flops", [2e8, 3e8])`.

    The other arguments are those of `search`; budget, target and hours hold for each member. `out`: a folder that gets
    a run folder for each cap (`max-flops-200M`) and `family.json`. With `resume` the family goes on where it stopped,
    and may be given more caps. Raises UserError in one sentence for whatever is wrong with these.
    """
    caps = _checked(cost, caps, options)
    names = [member_name(cost, cap) for cap in caps]
    shared = Settings(
        reuse=options.pop("reuse", ()),
        workers=options.pop("workers", 1),
        evaluator_timeout=options.pop("evaluator_timeout", None),
    )
    space, evaluator = bind(load_space(space), evaluator)
    working = at_work(evaluator, shared.workers, start=False, timeout=shared.evaluator_timeout)
    with _folder(out, names, resume) as folder, working as scorer:
        runs = [folder / name for name in names]

        def member(i: int, others: Sequence[Path], resume: bool, progress: bool | runner.Progress) -> Result:
            given: Any = {**options, f"max_{cost}": caps[i], "reuse": [*shared.earlier, *others]}
            return search(space, scorer, start_from=start_from, out=runs[i], resume=resume, progress=progress, **given)

        for i, name in enumerate(names):
            last = member(i, runs[:i], resume, progress)
            if progress is True:
                found = "nothing within it" if last.best is None else f"best so far {last.best['fitness']:.6g}"
                print(f"{name} ({i + 1} of {len(names)}): {found}", file=sys.stderr)
        results = [*(member(i, [*runs[:i], *runs[i + 1 :]], True, False) for i in range(len(runs) - 1)), last]
        if out is None:
            results = [replace(result, path=None) for result in results]
        family = Family(cost, dict(zip(caps, results, strict=True)), None if out is None else folder)
        rundir.replace(folder / FAMILY, (json.dumps(family.data, indent=1, allow_nan=False) + "\n").encode())
    return family


def _checked(cost: str, caps: Sequence[float], options: Options) -> list[float]:
    """The caps, smallest first; UserError where they are no caps, or the cost has one more."""
    if cost not in COSTS:
        raise UserError(f"search_family: {cost!r} is no cost; legal: {', '.join(COSTS)}")
    if options.get(f"max_{cost}") is not None:
        raise UserError(f"search_family: the caps on {cost} are those of the family; leave max_{cost} out")
    for cap in caps:
        Settings(**{f"max_{cost}": cap})  # type: ignore[arg-type]
    if not caps or len(set(caps)) < len(caps):
        raise UserError(f"--max-{cost} needs one or several different caps, but got {list(caps)!r:.60}")
    return sorted(float(cap) for cap in caps)


def member_name(cost: str, cap: float) -> str:
    """The name of a member's folder: `max-flops-200M`."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        short = f"{cap / factor:.6g}"
        if cap >= factor and float(short) * factor == cap:
            return f"max-{cost}-{short}{prefix}"
    return f"max-{cost}-{cap!r}"


@contextmanager
def _folder(out: str | Path | None, names: Sequence[str], resume: bool) -> Iterator[Path]:
    """The family's folder (one for the time being where none is given), made once a run is recorded in it.

    Raises UserError where it holds anything else, or runs of other caps that are not among these.
    """
    if out is None:
        if resume:
            raise UserError("--resume needs --out RUN, the folder of the family to go on with")
        with tempfile.TemporaryDirectory(prefix="collm-") as temporary:
            yield Path(temporary)
        return
    folder = Path(out).expanduser()
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if held and not resume:
        raise UserError(f"--out {out} is not empty; add --resume to go on with the family in it, or choose another")
    for name in held:
        if name not in (*names, FAMILY):
            raise UserError(
                f"--out {out} holds {name!r}, which is none of the runs of this family ({', '.join(names)}); name all "
                "caps that it was begun with (more may be added), or choose another folder"
            )
    yield folder
