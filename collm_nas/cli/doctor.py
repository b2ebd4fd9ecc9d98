"""`collm-nas doctor`: what this machine can run, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from collm_nas.api import UserError

NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "yaml": "pyyaml",
    "rich": "rich",
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "outlines": "outlines",
}
"""Import name -> distribution, of what a search needs."""


class Line(NamedTuple):
    """One finding: what was looked at, what was found, and the command that mends it (empty where nothing is wrong)."""

    name: str
    found: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", metavar="DIR", type=Path, help="also try this model folder")


def run(args: argparse.Namespace) -> int:
    """Print all findings; exit 2 where something that a search needs is missing."""
    missing = False
    for line in findings(args.model):
        missing |= bool(line.mend)
        print(f"{'MISSING' if line.mend else 'ok':<8}{line.name:<14}{line.found}")
        if line.mend:
            print(f"{'':<8}{'':<14}mend it with: {line.mend}")
    return 2 if missing else 0


def findings(model: Path | None = None) -> Iterator[Line]:
    """All findings, one after the other."""
    yield Line("python", platform.python_version())
    yield Line("cores", str(len(os.sched_getaffinity(0))))
    yield Line("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB")
    absent = [dist for name, dist in NEEDED.items() if importlib.util.find_spec(name) is None]
    for dist in NEEDED.values():
        if dist in absent:
            yield Line(dist, "not installed", f"python -m pip install -c constraints.txt {dist}")
        else:
            yield Line(dist, _version(dist))
    for name in ("data_gen", "finetune", "inference", "eval"):
        yield _try(name, lambda name=name: _stage(name), "python -m pip install --force-reinstall --no-deps .")  # type: ignore[misc]
    if "torch" not in absent:
        yield Line("device", _device())
    yield _try("table", _table, "python -m pip install --force-reinstall --no-deps .")
    if not {"torch", "transformers", "peft", "outlines"} & set(absent):
        from collm_nas.app import EMBEDDED

        for folder in [EMBEDDED, *([model] if model else [])]:
            yield _try("model", lambda folder=folder: _model(folder), "collm-nas finetune --help")  # type: ignore[misc]


def _try(name: str, look: Callable[[], str], mend: str) -> Line:
    try:
        return Line(name, look())
    except UserError as error:
        return Line(name, str(error), mend)


def _version(dist: str) -> str:
    try:
        return version(dist)
    except PackageNotFoundError:
        return "present"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    return "CPU alone (no CUDA device is visible)"


def _stage(name: str) -> str:
    from collm_nas.stages import stage

    return str(Path(stage(name).__file__).parent)


def _table() -> str:
    from collm_nas import spaces
    from collm_nas.evaluators import table

    loaded = table.load(spaces.load("digits-cells"), "digits-cells", "valid", ["test"])
    return f"digits-cells, {len(loaded.rows)} architectures"


def _model(folder: Path) -> str:
    from collm_nas.stages import stage

    described = stage("inference.engines").load("transformers", folder).describe()
    return f"{folder} loads ({described['encoding']} encoding, digest version {described['digest_version']})"
