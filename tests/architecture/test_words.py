"""Nothing in the repository points at one machine or one registry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".css", ".csv", ".json", ""}
# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        "pypi" + r"\.org",
        "files" + r"\.python" + "hosted",
        "--find" + "-links",
        "--extra" + "-index-url",
        r"(?<![\w./-])/(work|home|root)" + r"/\w+",
        r"https?" + r"://(?!(www\.)?(apache\.org|arxiv\.org|github\.com|example\.))",
    )
]


def texts(repository: Path) -> list[Path]:
    """Files that git tracks or would track; those of the folder where it is no checkout (an unpacked archive)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip("this is no git checkout, so there is no list of the files that belong to it")
    files = [repository / name for name in done.stdout.splitlines()]
    return [f for f in files if f.suffix in TEXT and f.is_file() and f.stat().st_size < 500_000]


def test_no_place_of_one_machine(repository: Path) -> None:
    found = []
    for path in texts(repository):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found += [
                f"{path.relative_to(repository)}:{number}: {line.strip()[:90]}" for p in FORBIDDEN if p.search(line)
            ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ["see http" + "://localhost:8000", "cp /work" + "/main/x y", "pip --find" + "-links x"]
)
def test_it_would_be_found(line: str) -> None:
    assert any(p.search(line) for p in FORBIDDEN)
