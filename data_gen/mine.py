"""Writes a dataset: shards of examples in Parquet and a manifest that says what they were made of.

A source (one `data_gen/mine_NAME.py` each) consists of units: landscapes, searches, runs. Each shard holds the examples
of a fixed range of units, so the dataset is the same whatever the number of processes, and a mining run that was killed
goes on with the shards that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from collm_nas import worker
from collm_nas.api import UserError
from data_gen.examples import Example, Form

SHARD = 500
"""Units of a file, where they take little time."""
MANIFEST = "manifest.json"
_LEAST_ROOM = 64 * 2**20  # bytes free on disk before a shard is begun


class Source(Protocol):
    """What is mined; small and picklable, so that a worker makes its own examples."""

    name: str
    shard: int
    """Units of a file: what is made in one piece, and made again after a kill."""

    @property
    def labeller(self) -> str:
        """The module that says what is right."""

    @property
    def form(self) -> Form:
        """What is made at each point."""

    def units(self) -> int:
        """How many there are."""

    def sources(self) -> dict[str, str]:
        """SHA-256 of every table, supernet and log that the examples say something of, by name."""

    def settings(self) -> dict[str, Any]:
        """JSON values: what was asked for."""

    def examples(self, unit: int) -> Iterator[Example]:
        """All examples of one unit, the same in every process."""


def mine(
    source: Source, out: Path, processes: int = 1, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Mine what is missing under `out` and return the manifest. Raises UserError if another dataset is there, or no
    room is left."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(source)
    _check_same(out / MANIFEST, manifest)
    _write(out / MANIFEST, _json(manifest))
    starts = range(0, source.units(), source.shard)
    missing = [s for s in starts if not _shard(source, out, s).exists()]
    done = len(starts) - len(missing)
    with ProcessPoolExecutor(processes, get_context("spawn"), worker.begin) as pool:
        for future in as_completed([pool.submit(_mine_shard, source, out, start) for start in missing]):
            future.result()
            done += 1
            if progress:
                progress(done, len(starts))
    files = [_shard(source, out, start) for start in starts]
    manifest["shards"] = {path.name: _sha256(path) for path in files}
    _write(out / MANIFEST, _json(manifest))
    return manifest


def _manifest(source: Source) -> dict[str, Any]:
    return {
        "miner": source.name,
        "labeller": source.labeller,
        "settings": {**source.settings(), **asdict(source.form)},
        "digest_version": source.form.digest_version,
        "sources": source.sources(),
        "command": _command(source),
        "python": sys.version.split()[0],
    }


def _command(source: Source) -> str:
    words = ["collm-nas mine", f"--source {source.name}"]
    for name, value in {**source.settings(), **asdict(source.form)}.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words.append(f"--{name.replace('_', '-')} {one}")
    return " ".join([*words, "--out DIR"])


def _check_same(path: Path, manifest: dict[str, Any]) -> None:
    if not path.exists():
        if any(path.parent.iterdir()):
            raise UserError(f"{path.parent} is not empty and holds no dataset; give another --out")
        return
    try:
        old = json.loads(path.read_text())
    except json.JSONDecodeError:
        raise UserError(f"{path} is not readable as JSON; delete it or give another --out") from None
    for key in ("miner", "labeller", "settings", "digest_version", "sources"):
        if old.get(key) != json.loads(_json(manifest))[key]:
            raise UserError(f"{path.parent} holds a dataset with other {key} ({old.get(key)}); give another --out")


def _shard(source: Source, out: Path, start: int) -> Path:
    return out / f"part-{start // source.shard:05d}.parquet"


def _mine_shard(source: Source, out: Path, start: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    free = shutil.disk_usage(out).free
    if free < _LEAST_ROOM:
        raise UserError(f"only {free // 2**20} MiB are free in {out}; make room and run the same command, it resumes")
    stop = min(start + source.shard, source.units())
    rows = [_row(example) for unit in range(start, stop) for example in source.examples(unit)]
    path = _shard(source, out, start)
    part = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist(rows), part, compression="zstd", compression_level=19)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}; make room and run it again") from None


def _row(example: Example) -> dict[str, Any]:
    """The example as a chat of two messages, and where it is from."""
    rest = asdict(example)
    turns = [
        {"role": "user", "content": rest.pop("prompt")},
        {"role": "assistant", "content": rest.pop("completion")},
    ]
    return {"messages": turns, **rest}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(".tmp")
    part.write_bytes(content)
    os.replace(part, path)
