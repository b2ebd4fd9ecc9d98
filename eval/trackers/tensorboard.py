"""Event files for TensorBoard (extra `tensorboard`): OUT/RUN/events.out.tfevents.KEY, one file a run.

Scalars by query, the parameters for its HParams page, the winner as text. The key of the run in the file's name is all
that tells runs apart, so that a run is replaced wherever it lies in OUT.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from collm_nas.api import UserError
from eval.trackers import Record

EXTRA = "tensorboard"
FILE = "events.out.tfevents.collm-nas.{key}"
"""TensorBoard reads what has `tfevents` in its name."""


def write(records: Sequence[Record], out: Path) -> list[str]:
    """Put the runs into the folder; nothing is changed before all of them are written."""
    for record in records:
        _check_free(record, out)
    fresh = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=".collm-nas.", dir=out))
        try:
            files = [_events(record, beside / str(i)) for i, record in enumerate(records)]
            for record, file in zip(records, files, strict=True):
                _place(record, file, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            if fresh and not any(out.iterdir()):
                out.rmdir()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}; mend that, or choose another --out") from None
    return [*(str(out / record.name) for record in records), f"open it by: tensorboard --logdir {out}"]


def _check_free(record: Record, out: Path) -> None:
    """UserError where the run's name is taken by another run, or by anything that is no folder."""
    folder = out / record.name
    taken = next((p for p in (folder, *folder.parents) if p.is_file()), None)
    if taken is not None:
        raise UserError(f"--out {out}: {taken} is a file where the folder of a run should be; choose another --out")
    other = [p for p in folder.glob("*tfevents*") if p.name != FILE.format(key=record.key)]
    if other:
        raise UserError(
            f"--out {out}: {folder} holds the curves of another run of that name; remove it, or choose another --out"
        )


def _events(record: Record, folder: Path) -> Path:
    """The event file of a run, in a folder of its own."""
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    end = record.began + record.seconds
    with SummaryWriter(folder) as writer:
        # Without the description of an experiment TensorBoard gathers the parameters of all runs that it finds.
        _, start, stop = hparams(dict(record.parameters), {})
        assert writer.file_writer is not None
        for summary, when in ((start, record.began), (stop, end)):
            writer.file_writer.add_summary(summary, walltime=when)
        for row in record.rows:
            for name, value in row.metrics.items():
                writer.add_scalar(name, value, row.query, record.began + row.seconds)
        for name, value in record.final.items():
            writer.add_scalar(name, value, record.last, end)
        for name, text in {"protocol": str(record.parameters["protocol"]), **record.words}.items():
            # As code: Markdown would take marks of an architecture for its own.
            writer.add_text(name, f"    {text}", record.last, end)
    [file] = folder.iterdir()
    return file


def _place(record: Record, file: Path, out: Path) -> None:
    name, folder = FILE.format(key=record.key), out / record.name
    for old in list(out.rglob(name)):
        if old.parent != folder:  # the run under another name: it was moved, or named from another folder
            old.unlink()
            if not any(old.parent.iterdir()):
                old.parent.rmdir()
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(file, folder / name)
