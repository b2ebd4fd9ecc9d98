"""Files that one process at a time may write: who makes one may not be the first to lock it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from collm_nas import locked


@pytest.mark.parametrize("gone", [False, True], ids=["still at it", "has written and gone"])
def test_another_process_may_lock_a_new_file_first(gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lock, others = tmp_path / "r" / "journal.jsonl", locked._lock, []

    def late(*given: Any) -> None:
        other = os.open(path, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        os.write(other, b"header")
        if gone:
            os.close(other)
        else:
            others.append(other)
        lock(*given)

    monkeypatch.setattr(locked, "_lock", late)
    with pytest.raises(locked.BegunElsewhere, match="was made by another process just now"):
        locked.open_locked(path, new=True)
    assert path.read_bytes() == b"header"
    for other in others:
        os.close(other)
    monkeypatch.undo()
    os.close(locked.open_locked(path, new=False))


def test_a_locked_file_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    held = locked.open_locked(path, new=True)
    with pytest.raises(locked.InUse, match=r"in use by another process and was for 0\.1 seconds"):
        locked.open_locked(path, new=False, wait=0.1)
    os.close(held)
