"""A command in a process group of its own, which ends with it, at a time limit, or with us: children included."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

GRACE = 5.0
"""Seconds between the request to end and the kill."""
KEPT = 1 << 20
"""Bytes at the end of each output that are read."""
_GUARD = 'exec 3<&0; (read group <&3 && { read _ <&3 || kill -s KILL -- "-$group"; }) &'
"""Reads a group, then waits for a line, or for the end of its input, which comes however the process that writes it
ends: then it kills the group. In the background, so nobody's child: Ray kills the children of a worker that ends."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit status (negative: the signal that killed it), None where time ran out; the ends of
    what it wrote."""

    status: int | None
    out: str
    err: str


def run(
    arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, scratch: Path, timeout: float | None
) -> Ended:
    """Run it in `folder` for at most `timeout` seconds; its outputs go to files in `scratch`, since a pipe would be
    held open by a child that outlives the command.

    Raises OSError where it cannot be started.
    """
    out, err = scratch / "stdout", scratch / "stderr"
    with out.open("wb") as to_out, err.open("wb") as to_err, _guard() as watch:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            watch(process.pid)
            status: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    return Ended(status, _tail(out), _tail(err))


@contextmanager
def _guard() -> Iterator[Callable[[int], None]]:
    """Yields what puts a process group under guard: a kill of this process, which then runs no code of ours any more,
    kills the group too. It is there before the command is, so that hardly any time is left without it."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def watch(group: int) -> None:
        assert guard.stdin is not None
        guard.stdin.write(f"{group}\n".encode())
        guard.stdin.flush()

    try:
        yield watch
    finally:
        guard.communicate(b"\n\n")  # one more, where no group was named


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: politely while the command still runs, then for good."""
    try:
        if process.poll() is None:
            _signal(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
    finally:
        _signal(process.pid, signal.SIGKILL)
        process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - KEPT))
        return file.read().decode(errors="replace")
