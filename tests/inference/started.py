"""A real model server as a process on loopback, for the time of some tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from collm_nas.api import UserError
from inference.engines import _address
from inference.engines._http import Client


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str], seconds: float) -> Iterator[str]:
    """The address of a server that is up; `--port` is added to its command. It must be within so many seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        client, end = Client(_address.read(address), waits=()), time.monotonic() + seconds
        while not _up(client):
            said = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None and time.monotonic() < end, f"the server is not up: {said}"
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _up(client: Client) -> bool:
    try:
        return bool(client.get("/v1/models")["data"])
    except UserError:
        return False
