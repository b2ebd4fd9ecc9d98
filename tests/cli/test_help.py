"""Help is light: the commands' modules load their heavy libraries when they run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from collm_nas.cli import COMMANDS

HEAVY = {
    "numpy",
    "pandas",
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "pyarrow",
    "outlines",
    "peft",
    "trl",
    "datasets",
    "rich",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    code = f"""
import sys
from collm_nas.cli import main
try:
    main([{command!r}, "--help"])
except SystemExit as end:
    assert end.code == 0, end.code
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *shown, modules = done.stdout.splitlines()
    assert shown[0].startswith(f"usage: collm-nas {command}")
    assert not HEAVY & set(modules.split())
