"""Past searches, whoever made them, as evaluations in order: our journals, CSV or Parquet logs, Optuna studies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collm_nas import journal, spaces
from collm_nas.api import Architecture, Caps, UserError
from collm_nas.evaluators import table as tables
from collm_nas.evaluators import table_file
from collm_nas.spaces.base import CategoricalSpace

_JOURNAL = "journal.jsonl"
_NAMES = ("report", "table", "supernet", "source", "name")
"""Keys of a protocol that don't decide whether fitness may be compared: hashes say what the files are."""


@dataclass(frozen=True, slots=True)
class Log:
    """One search: distinct architectures in order, their fitness (higher is better) and costs.

    `task`: equal for searches whose fitness may be compared. `sources`: hashes of what the fitness came from, by name.
    """

    name: str
    task: str
    space: CategoricalSpace
    archs: tuple[Architecture, ...]
    values: tuple[float, ...]
    costs: tuple[Mapping[str, float], ...]
    caps: Caps = field(default_factory=Caps)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def feasible(self) -> list[bool]:
        """Which of them are within the caps."""
        return [_within(self.caps, costs) for costs in self.costs]


def from_folder(folder: Path) -> list[Log]:
    """The run in this folder, or those directly in it; UserError where there is none, or its journal is damaged."""
    runs = [folder] if (folder / _JOURNAL).is_file() else sorted(path.parent for path in folder.glob(f"*/{_JOURNAL}"))
    if not runs:
        raise UserError(f"--run {folder} holds no {_JOURNAL}; name the folder of a run, or a folder of runs")
    return [log for run in runs if (log := _from_journal(run)) is not None]


def _from_journal(run: Path) -> Log | None:
    """None for a run that evaluated nothing."""
    events = journal.read(run / _JOURNAL)[0]
    rows = [event for event in events if event["event"] == "evaluation"]
    if not rows:
        return None
    header = events[0]
    protocol = header["protocol"]
    hashes = dict.fromkeys(sha for sha in (protocol.get("sha256"), *(protocol.get("source_hashes") or ())) if sha)
    label = str(protocol.get("table") or protocol.get("supernet") or protocol.get("source"))
    space = spaces.from_spec(header["space"])
    return Log(
        name=str(run),
        task=_sha256(json.dumps([header["space_sha256"], _comparable(protocol)], sort_keys=True)),
        space=space,
        archs=tuple(space.parse(row["arch"]) for row in rows),
        values=tuple(float(row["fitness"]) for row in rows),
        costs=tuple(row["costs"] for row in rows),
        caps=Caps(header["options"].get("caps") or {}),
        sources={f"{label} {i}" if i else label: sha for i, sha in enumerate(hashes)},
    )


def _comparable(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _comparable(value) if isinstance(value, Mapping) else value
        for key, value in protocol.items()
        if key not in _NAMES
    }


def from_table(path: Path, space: CategoricalSpace, fitness: str | None, run_column: str | None) -> list[Log]:
    """A CSV(.gz) or Parquet file with a row an evaluation, in order; `run_column` tells several searches apart.

    Rows without a fitness (failed evaluations) and repeats within a search are left out. UserError names the row of an
    architecture that is none of the space.
    """
    file = table_file.read(path)
    archs = list(tables.architectures(space, file))
    names = {variable.name for variable in space.variables}
    known = [c for c in file.columns if c not in names and c not in ("arch", run_column)]
    if run_column is not None and run_column not in file.columns:
        raise UserError(f"{file.name} has no column {run_column!r} (--run-column); it has {', '.join(file.columns)}")
    column = tables.the_fitness(file, known, fitness)
    cells = [table_file.number(cell) for cell in file.columns[column]]
    groups = [str(cell) for cell in file.columns[run_column]] if run_column else [""] * len(archs)
    found: dict[str, dict[Architecture, float]] = {}
    for row, (arch, cell, group) in enumerate(zip(archs, cells, groups, strict=True)):
        if cell is None:
            said = str(file.columns[column][row])[:40]
            raise UserError(f"{file.where(row)}: column {column!r} holds {said!r}, which is no number")
        if math.isfinite(cell):
            found.setdefault(group, {}).setdefault(arch, float(cell))
    return [
        _plain(f"{file.name} {group}".strip(), f"{file.sha256} {column}", space, values, {file.name: file.sha256})
        for group, values in found.items()
        if values
    ]


def from_optuna(storage: str, study: str | None, space: CategoricalSpace) -> list[Log]:
    """The finished trials of a study (of all, where none is named), in order; parameters are the space's variables by
    name, one that a trial lacks is inactive. Raises UserError where Optuna is missing, the study is unknown or has
    several objectives, or a parameter's value is none of the space's."""
    try:
        import optuna
    except ImportError:
        raise UserError("--optuna needs the package optuna; install it with: pip install 'collm-nas[rivals]'") from None
    if "://" not in storage:
        if not Path(storage).is_file():
            raise UserError(f"--optuna {storage}: there is no such file; give an SQLite file or a storage URL")
        storage = f"sqlite:///{storage}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = optuna.get_all_study_names(storage)
    if study is not None and study not in names:
        raise UserError(f"--study {study!r} is not in {storage}; it holds {', '.join(names) or 'none'}")
    logs = []
    for name in names if study is None else [study]:
        loaded = optuna.load_study(study_name=name, storage=storage)
        if len(loaded.directions) > 1:
            raise UserError(f"the study {name!r} has {len(loaded.directions)} objectives; mine one with a single one")
        sign = 1.0 if loaded.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        values: dict[Architecture, float] = {}
        for trial in loaded.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
            arch = _of_trial(space, trial.params, f"study {name!r}, trial {trial.number}")
            if trial.value is not None:
                values.setdefault(arch, sign * trial.value)
        text = json.dumps([[space.format(arch), value] for arch, value in values.items()])
        if values:
            logs.append(_plain(f"study {name}", f"{name} {space.digest()}", space, values, {name: _sha256(text)}))
    return logs


def _of_trial(space: CategoricalSpace, params: Mapping[str, Any], where: str) -> Architecture:
    names = [variable.name for variable in space.variables]
    foreign = [name for name in params if name not in names]
    if foreign:
        raise UserError(f"{where}: parameter {foreign[0]!r} is none of the space's variables ({', '.join(names)})")
    try:
        return space.parse({name: str(value) for name, value in params.items()})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _plain(
    name: str, task: str, space: CategoricalSpace, values: Mapping[Architecture, float], sources: Mapping[str, str]
) -> Log:
    costs = tuple(space.cost(arch) for arch in values)
    return Log(name, task, space, tuple(values), tuple(values.values()), costs, sources=dict(sources))


def by_task(logs: Sequence[Log]) -> Iterator[tuple[Log, dict[Architecture, float]]]:
    """Each log with everything within its caps that any of them evaluated on its task."""
    pools: dict[str, dict[Architecture, tuple[float, Mapping[str, float]]]] = {}
    for log in logs:
        pool = pools.setdefault(log.task, {})
        for arch, value, costs in zip(log.archs, log.values, log.costs, strict=True):
            pool.setdefault(arch, (value, costs))
    for log in logs:
        found = pools[log.task].items()
        yield log, {arch: value for arch, (value, costs) in found if _within(log.caps, costs)}


def _within(caps: Caps, costs: Mapping[str, float]) -> bool:
    """As far as the costs are known."""
    return all(costs.get(name, 0.0) <= limit for name, limit in caps.limits.items())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
