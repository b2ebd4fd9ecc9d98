"""Whether decoded images fit into memory, before the system finds out that they do not."""

from __future__ import annotations

from pathlib import Path

SHARE = 0.8
"""Of the memory that the system calls available: the part that images may take."""


def free_bytes() -> int:
    """Bytes that decoded images may take now (Linux)."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return int(SHARE * 1024 * kilobytes)
