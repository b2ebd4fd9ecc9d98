"""Ray under `parallel`: a local cluster for one run, or a connection to one that is there. Imported on demand only.

Written against Ray 2.60. A local cluster listens on the loopback interface alone, needs no network, sends no usage
statistics, asks for a token of its own (else any user of the machine could run code in it), and leaves nothing behind.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

LOCAL = "127.0.0.1"
REACH_SECONDS = 10.0
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its name notwithstanding, this is what makes Ray keep to the loopback address it is given.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # ten lines on stdout, where `parallel` warns in one
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # today's behaviour without a warning about tomorrow's
}
_WAITING = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
"""Ray ends a process whose cluster is gone for so many seconds (60 by itself)."""
_LONGEST = 40  # characters of the folder of temporary files: a socket's path, further down in it, may have 107


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running Ray, at most `limit` workers of ours on it, and the options of each (`ray.remote(...).options`)."""

    ray: Any
    limit: int
    options: Mapping[str, Any]
    close: Callable[[], None]


def require(workers: int | str) -> None:
    """UserError with the command that installs Ray where it is missing; it is not imported."""
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            f"--workers {workers} needs Ray, which is not installed; leave --workers out, or run: "
            "python -m pip install -c constraints.txt 'ray[default]'"
        )


def lost(ray: Any) -> tuple[type[Exception], ...]:
    """What is raised where the cluster, not a worker, is gone."""
    return (ray.exceptions.RayError, ConnectionError)


def start(workers: int | str) -> Cluster:
    """A local cluster of so many workers (or so many in the Ray that this process is already in), or the one at an
    address. UserError where it cannot be reached or started."""
    with _environment(local=not isinstance(workers, str)):
        ray: Any = importlib.import_module("ray")
        logging.getLogger("ray").setLevel(logging.ERROR)
        if isinstance(workers, str):
            return _connected(ray, workers)
        close: Callable[[], None] = _nothing if ray.is_initialized() else _started(ray, workers)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # Several workers on one card share it evenly; a share never straddles two cards.
    share = 1 / -(-workers // gpus) if gpus else 0
    return _cluster(ray, workers, cpus=1, gpus=share, threads=_cores() // workers, close=close)


def _cluster(ray: Any, limit: int, *, cpus: int, gpus: float, threads: int, close: Callable[[], None]) -> Cluster:
    own = os.environ.get("OMP_NUM_THREADS", "")
    number = str(max(1, min(threads, int(own)) if own.isdigit() else threads))
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), number)
    options = {"num_cpus": cpus, "num_gpus": gpus, "runtime_env": {"env_vars": variables}}
    return Cluster(ray=ray, limit=limit, options=options, close=close)


def _nothing() -> None:
    pass


# --- here -------------------------------------------------------------------------------------------------------------


def _started(ray: Any, workers: int) -> Callable[[], None]:
    """Start Ray on this machine; returns what ends it."""
    folder = _short_folder()

    def close() -> None:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    for attempt in (1, 2):  # it gives its processes half a minute, which on a busy machine may be too little once
        try:
            _init(ray, workers, folder)
            return close
        except KeyboardInterrupt:
            close()
            raise
        except Exception as error:  # Ray raises any, the plain `Exception` too
            close()
            if attempt == 2:
                raise UserError(
                    f"--workers {workers}: Ray does not start here ({first_line(error)}); try again when less is "
                    "running, or leave --workers out"
                ) from error
    raise AssertionError


def _init(ray: Any, workers: int, folder: Path) -> None:
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address=LOCAL,
        _temp_dir=str(folder),
    )


def _short_folder() -> Path:
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="collm-ray-", dir=parent if len(parent) <= _LONGEST - 20 else "/tmp"))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _environment(*, local: bool) -> Iterator[None]:
    """Ray's settings while it starts; what the user has set is kept, and all is as before afterwards."""
    before = dict(os.environ)
    wanted = {**_WAITING, **(_ENVIRONMENT if local else {})}
    os.environ.update({name: value for name, value in wanted.items() if name not in before})
    if local and not any(name.startswith("RAY_AUTH") for name in before):
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):  # Ray adds some too, for Python's debugger among others
            del os.environ[name]


@functools.cache
def _token() -> str:
    """One a process: Ray remembers the first."""
    return secrets.token_hex(32)


# --- elsewhere --------------------------------------------------------------------------------------------------------


def _connected(ray: Any, address: str) -> Cluster:
    if ray.is_initialized():
        raise UserError(f"--workers {address}: this process is connected to Ray already; give a number of workers")
    _reach(address)
    for attempt in (1, 2):  # as at home: its server gives the process that serves us half a minute to start
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
            break
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            ray.shutdown()
            if attempt == 2:
                hint = "" if address.startswith("ray://") else "; from outside the cluster use ray://HOST:10001"
                raise UserError(f"--workers {address}: cannot connect ({first_line(error)}){hint}") from error
    limit, cpus, gpus = share([node["Resources"] for node in ray.nodes() if node["Alive"]])
    if not limit:
        ray.shutdown()
        raise UserError(f"--workers {address}: the cluster has no CPU for us; add a node to it")
    return _cluster(ray, limit, cpus=cpus, gpus=gpus, threads=cpus, close=ray.shutdown)


def _reach(address: str) -> None:
    """UserError within seconds where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"--workers {address}: nothing answers there ({error.strerror or error}); check the address, and that "
            "`ray start --head` runs on it"
        ) from None


def share(nodes: Sequence[Mapping[str, float]]) -> tuple[int, int, int]:
    """How many workers these nodes have room for, and the CPUs and GPUs of each: one a GPU, or one a CPU without."""
    kind = "GPU" if any(node.get("GPU", 0) >= 1 for node in nodes) else "CPU"
    able = [node for node in nodes if node.get(kind, 0) >= 1]
    cpus = min((int(node.get("CPU", 0) // int(node[kind])) for node in able), default=0)
    return sum(int(node[kind]) for node in able), cpus, int(kind == "GPU")


def first_line(error: BaseException) -> str:
    """What it says, in short."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
