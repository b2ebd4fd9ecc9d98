"""Writes a dataset: shards of examples in Parquet and a manifest that says what they were made of.

Each shard holds the examples of a fixed range of seeds, so the dataset is the same whatever the number of processes,
and
a mining run that was killed goes on with the shards that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from collm_nas.api import UserError

SHARD = 500  # landscapes
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class MineConfig:
    """What to mine: landscapes of seeds `first_seed .. first_seed + landscapes - 1`."""

    out: Path
    landscapes: int
    first_seed: int = 0
    large: float = 0.25
    huge: float = 0.1
    digests: int = 2
    targets: int = 2
    processes: int = 1


def mine(config: MineConfig, progress: Callable[[int, int], None] | None = None) -> dict[str, object]:
    """Mine what is missing under `config.out` and return the manifest. Raises UserError if another dataset is there."""
    config.out.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(config)
    _check_same(config.out / MANIFEST, manifest)
    _write(config.out / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
    starts = range(0, config.landscapes, SHARD)
    missing = [s for s in starts if not _shard(config, s).exists()]
    done = len(starts) - len(missing)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(config.processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_mine_shard, config, start) for start in missing]):
            future.result()
            done += 1
            if progress:
                progress(done, len(starts))
    manifest["shards"] = {_shard(config, s).name: _sha256(_shard(config, s)) for s in starts}
    _write(config.out / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
    return manifest


def _manifest(config: MineConfig) -> dict[str, object]:
    from collm_nas.prompts import DIGEST_VERSION

    settings = {k: v for k, v in asdict(config).items() if k not in ("out", "processes")}
    return {
        "miner": "landscapes",
        "labeller": "full_knowledge",
        "settings": settings,
        "digest_version": DIGEST_VERSION,
        "sources": {},  # SHA-256 of every table or supernet read: none, landscapes are drawn from their seeds
        "command": "collm-nas mine "
        + " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
        + " --out DIR",
        "python": sys.version.split()[0],
    }


def _check_same(path: Path, manifest: dict[str, object]) -> None:
    if not path.exists():
        if any(path.parent.iterdir()):
            raise UserError(f"{path.parent} is not empty and holds no dataset; give another --out")
        return
    try:
        old = json.loads(path.read_text())
    except json.JSONDecodeError:
        raise UserError(f"{path} is not readable as JSON; delete it or give another --out") from None
    for key in ("miner", "labeller", "settings", "digest_version"):
        if old.get(key) != manifest[key]:
            raise UserError(f"{path.parent} holds a dataset with other {key} ({old.get(key)}); give another --out")


def _shard(config: MineConfig, start: int) -> Path:
    return config.out / f"part-{start // SHARD:05d}.parquet"


def _mine_shard(config: MineConfig, start: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_gen.landscapes import Mix, examples

    mix = Mix(large=config.large, huge=config.huge, digests=config.digests, targets=config.targets)
    stop = min(start + SHARD, config.landscapes)
    rows = [asdict(e) for i in range(start, stop) for e in examples(config.first_seed + i, mix)]
    path = _shard(config, start)
    part = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist(rows), part, compression="zstd")
    os.replace(part, path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(".tmp")
    part.write_bytes(content)
    os.replace(part, path)
