"""`collm-nas doctor`: what this machine can run, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
import importlib.util
import json
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


ACTIVATIONS = 4 << 30
"""Bytes that scoring a batch of ImageNet's images takes beside a supernet's weights. An estimate, on the safe side."""


class Line(NamedTuple):
    """One finding: what was looked at, what was found, and the command that mends it (empty where nothing is wrong)."""

    name: str
    found: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", metavar="DIR", type=Path, help="also try this model folder (or smollm2)")
    parser.add_argument(
        "--supernet", metavar="F", type=Path, help="a supernet that shall lie in memory beside the model"
    )
    parser.add_argument("--server", metavar="HOST:PORT", help="also try this server, for --engine server")
    parser.add_argument("--allow-remote", action="store_true", help="it may be outside private networks")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list, for scripts")


def run(args: argparse.Namespace) -> int:
    """Print all findings; exit 2 where something that a search needs is missing."""
    lines = list(findings(args.model, args.supernet))
    if args.server:
        lines.append(_try("server", lambda: _server(args.server, args.allow_remote), "vllm serve --help"))
    if args.json:
        print(json.dumps([{"ok": not line.mend, **line._asdict()} for line in lines], indent=1))
    else:
        _print(lines)
    return 2 if any(line.mend for line in lines) else 0


def _print(lines: list[Line]) -> None:
    for line in lines:
        print(f"{'MISSING' if line.mend else 'ok':<8}{line.name:<14}{line.found}")
        if line.mend:
            print(f"{'':<8}{'':<14}mend it with: {line.mend}")


def findings(model: Path | None = None, supernet: Path | None = None) -> Iterator[Line]:
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
    yield Line(
        "vllm", _version("vllm") if importlib.util.find_spec("vllm") else "not installed (for --engine vllm alone)"
    )
    if not {"torch", "transformers", "peft", "outlines"} & set(absent):
        from collm_nas.app import EMBEDDED

        for folder in [EMBEDDED, *([model] if model else [])]:
            # First what it takes, from its files alone: a model that doesn't fit is not loaded.
            fits = _try("memory", lambda folder=folder: _fit(folder, supernet), "use a smaller model")  # type: ignore[misc]
            yield fits
            if not fits.mend:
                yield _try("model", lambda folder=folder: _model(folder), "collm-nas finetune --help")  # type: ignore[misc]


def _server(address: str, allow_remote: bool) -> str:
    """What a server has and can; UserError where there is none, or none that takes constraints."""
    from collm_nas.stages import stage

    names, able = stage("inference.engines.server").probe(address, allow_remote)
    told = f"{address} serves {', '.join(names)}: {able.rows} answers at once"
    told += f", {'keeps' if able.seeds else 'does not keep'} to seeds, {'tells' if able.logprobs else 'hides'} logprobs"
    if able.dialect is None:
        raise UserError(f"{told}, takes no constraint (search with --decoding free, or use vLLM or llama.cpp)")
    return f"{told}, takes constraints as {able.dialect.name}"


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


def _memory() -> tuple[int, str, int]:
    """Bytes of the device that models run on, its name, and the bits of a number there."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory, "the GPU", 16
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine", 32


def _fit(model: Path, supernet: Path | None) -> str:
    """What the model takes beside the supernet; UserError where that is more than there is."""
    from collm_nas.stages import stage

    there, where, bits = _memory()
    need = stage("inference.memory").folder_need(model, bits)
    weights, cache, room = (size / 2**30 for size in (need.weights, need.cache, need.room))
    parts = f"{model}: weights {weights:.2f}, cache {cache:.2f} (of {need.rows} answers), room {room:.0f} GiB"
    total = need.total
    if supernet is not None:
        beside = _supernet_size(supernet)
        parts += f", supernet {beside / 2**30:.2f} GiB"
        total += beside
    told = f"{parts}: {total / 2**30:.1f} of {there / 2**30:.1f} GiB"
    if total > there:
        raise UserError(f"{told} of {where}, which is more than there is")
    return told


def _supernet_size(path: Path) -> int:
    """Bytes of its weights, and as much as ACTIVATIONS for a batch on its way; UserError where there is none."""
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.pt"), *path.glob("*.pth")]
    if not files:
        raise UserError(f"--supernet {path} holds no weights; give the file, or the folder of a training")
    return max(file.stat().st_size for file in files) + ACTIVATIONS


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

    tuned = all((folder / role).is_dir() for role in ("navigator", "generator"))
    described = stage("inference.engines").load("transformers", folder, tuned=tuned).describe()
    if not tuned:
        return f"{folder} loads, without adapters (for --preset paper alone)"
    return f"{folder} loads ({described['encoding']} encoding, digest version {described['digest_version']})"
