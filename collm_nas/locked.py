"""A file that one process at a time may write, on this machine or, in a shared folder, on others."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from collm_nas.api import UserError

_LOOK = 0.05
"""Seconds between two tries to lock a file."""


class InUse(UserError):
    """Another process has the file."""


class BegunElsewhere(UserError):
    """Another process has made the journal that this one was about to make."""


def open_locked(path: Path, *, new: bool, wait: float = 0.0) -> int:
    """The descriptor of a file to append to, locked; `new`: it and its folder are made. `wait`: at most so many seconds
    for another process that has it. Raises UserError where it can't be had."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags |= os.O_CREAT | os.O_EXCL
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError:
        raise _begun(path) from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another --out") from None
    try:
        _lock(descriptor, path, wait)
        if new and os.fstat(descriptor).st_size:
            raise _begun(path)  # between making and locking it
    except BaseException as error:
        os.close(descriptor)
        raise (_begun(path) if new and isinstance(error, InUse) else error) from None
    if new:
        _sync_folder(path.parent)
    return descriptor


def _begun(path: Path) -> BegunElsewhere:
    return BegunElsewhere(f"{path} was made by another process just now; choose another --out")


def _lock(descriptor: int, path: Path, wait: float) -> None:
    """Take the lock, also against other machines where the folder is shared (NFS has such locks by itself)."""
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                waited = f" and was for {wait:g} seconds" if wait else ""
                raise InUse(
                    f"{path} is in use by another process{waited}; wait for it to end, or choose another --out"
                ) from None
            time.sleep(_LOOK)
        except OSError as error:
            raise UserError(
                f"{path} can't be locked: {error.strerror or error}; put the run on a file system with locks (Lustre: "
                "mounted with flock)"
            ) from None


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only once its folder is synced too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes, path: Path) -> None:
    """Write and sync; UserError where that fails."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; mend that and run again with --resume"
        ) from None
