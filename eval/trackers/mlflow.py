"""Runs for MLflow (extra `mlflow`): OUT/mlflow.db with the files of the runs beside it, no server.

A database in one file, because MLflow no longer writes its older store of plain files. What it is given stands in
arguments, so that nothing of the user's settings (a tracking server) is taken.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from eval.trackers import Record

EXTRA = "mlflow"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
EXPERIMENT = "collm-nas"
KEY, CONTENT = "collm_nas.key", "collm_nas.content"
"""Tags: which run this is, and a hash of all that was written of it."""
LONGEST = 500
"""Characters of a parameter or tag; older versions of MLflow take no more."""
METRICS, PARAMETERS = 1000, 100
"""Of one call, at most."""


def write(records: Sequence[Record], out: Path) -> list[str]:
    """Put the runs into the folder; the old ones are removed once all new ones are whole."""
    _check_database(out)
    client, errors = _client(out)
    made: list[str] = []
    whole = False
    try:
        experiment = _experiment(client, out)
        old: list[str] = []
        for record in records:
            found = _found(client, experiment, record)
            if list(found.values()) == [_content(record)]:
                continue  # a run that is deleted leaves its files behind until `mlflow gc`
            old += found
            made.append(_begin(client, experiment, record))
            _fill(client, made[-1], record)
        whole = True
        for run in old:
            client.delete_run(run)
    except errors as error:
        raise _cannot(out, error) from None
    finally:
        if not whole:  # after Ctrl-C as well: half a run looks like a whole one
            with suppress(*errors):
                for run in made:
                    client.delete_run(run)
    told = [f"{out / DATABASE}: {record.name}" for record in records]
    return [*told, f"open it by: mlflow ui --backend-store-uri {_uri(out)}"]


def _check_database(out: Path) -> None:
    if any(out.glob("*/meta.yaml")):
        raise UserError(
            f"--out {out} is a file store, which MLflow no longer writes; choose another folder, and take the old runs "
            "over by `mlflow migrate-filestore`"
        )
    path = out / DATABASE
    if path.exists() and (not path.is_file() or not _is_sqlite(path)):
        raise UserError(f"--out {out}: {path} is no SQLite database; remove it, or choose another --out")


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) in (b"", b"SQLite format 3\0")


def _uri(out: Path) -> str:
    return f"sqlite:///{(out / DATABASE).resolve()}"


def _client(out: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """The client of the folder's database, and what it may raise where that is broken, locked or of another version."""
    # Before its first import: it would report its use to its makers, over the network.
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    errors = (MlflowException, SQLAlchemyError, OSError)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=_uri(out)), errors
    except errors as error:
        raise _cannot(out, error) from None


def _cannot(out: Path, error: Exception) -> UserError:
    said = str(error).strip().partition("\n")[0]
    return UserError(f"cannot write {out / DATABASE}: {said}; mend that, or choose another --out")


def _experiment(client: Any, out: Path) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    # Else the files of runs would go to the current folder.
    return str(client.create_experiment(EXPERIMENT, artifact_location=(out / ARTIFACTS).resolve().as_uri()))


def _content(record: Record) -> str:
    return hashlib.sha256(repr(record).encode()).hexdigest()


def _found(client: Any, experiment: str, record: Record) -> dict[str, str | None]:
    """What earlier calls have made of the run: MLflow's name for it -> hash of its content."""
    runs = client.search_runs([experiment], filter_string=f"tags.`{KEY}` = '{record.key}'")
    return {run.info.run_id: run.data.tags.get(CONTENT) for run in runs}


def _begin(client: Any, experiment: str, record: Record) -> str:
    tags = {KEY: record.key, CONTENT: _content(record), **{name: _cut(text) for name, text in record.words.items()}}
    run = client.create_run(experiment, start_time=_ms(record.began), tags=tags, run_name=record.name)
    return str(run.info.run_id)


def _fill(client: Any, run: str, record: Record) -> None:
    from mlflow.entities import Param

    parameters = [Param(name, _cut(str(value))) for name, value in _legal(record.parameters).items()]
    for i in range(0, len(parameters), PARAMETERS):
        client.log_batch(run, params=parameters[i : i + PARAMETERS])
    metrics = list(_metrics(record))
    for i in range(0, len(metrics), METRICS):
        client.log_batch(run, metrics=metrics[i : i + METRICS])
    for name, text in record.files.items():
        client.log_text(run, text, name)
    end = _ms(record.began + record.seconds)
    client.set_terminated(run, status="FINISHED" if record.finished else "KILLED", end_time=end)


def _metrics(record: Record) -> Iterator[Any]:
    from mlflow.entities import Metric

    for row in record.rows:
        for name, value in _legal(row.metrics).items():
            yield Metric(name, value, _ms(record.began + row.seconds), row.query)
    for name, value in _legal(record.final).items():
        yield Metric(name, value, _ms(record.began + record.seconds), record.last)


def _legal(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under names that MLflow takes: a column of a table may be called anything."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        plain = re.sub(r"[^\w.\- /]", "_", name)
        while plain in made:
            plain += "_"
        made[plain] = value
    return made


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
