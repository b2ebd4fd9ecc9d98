"""What all tests share: no network, one thread a process, and the folder with files too large for the repository."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

# Before any test imports torch or a Hugging Face library: both read these once.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "NO_COLOR": "1",
}.items():
    os.environ.setdefault(_name, _value)

# A shell's job in the background ignores interrupts, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that COLLM_NAS_SHARED names; tests that need it are skipped without it."""
    folder = os.environ.get("COLLM_NAS_SHARED", "")
    if not folder:
        pytest.skip("COLLM_NAS_SHARED names no folder: the tables this test compares with are not in the repository")
    path = Path(folder)
    assert path.is_dir(), f"COLLM_NAS_SHARED={folder} is no folder"
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skip", action="store_true", help="a skipped test fails: all that it needs should be here")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skip forbids: {report.longrepr}"
    return report
