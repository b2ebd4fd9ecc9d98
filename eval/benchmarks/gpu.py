"""What a CUDA card does for this project, in ten minutes: the CPU's answers, speeds, and its share of the peak.

`python -m eval.benchmarks.gpu [--data DIR] [--out FILE]` prints one JSON object and writes it, by default to
gpu-CARD.json. Its sections: `logits` and `language` (is it the CPU's answer?), `scoring` (subnets a second against a
plain loop, on digits; `scoring_data` on images of one's own), `tuning` and `vllm` (tokens a second). One that fails
says why in one line, and the others go on. `--device cpu` runs all of it small, to test the script itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from collm_nas.api import UserError

LAST_START = 420.0
"""Seconds after which no further section begins, so that ten minutes are kept."""
SECTIONS = {
    "logits": "_gpu_parity:logits",
    "scoring": "_gpu_scoring:scoring",
    "scoring_data": "_gpu_scoring:scoring",
    "language": "_gpu_parity:language",
    "tuning": "_gpu_tuning:tuning",
    "vllm": "_gpu_vllm:vllm",
}
"""Name -> module and function, called with the device, a folder to work in, and the arguments below; vLLM, which starts
processes of its own, comes last."""
_LITTLE = {"recipe": {"limit": 256, "valid": 200, "batch": 64}, "subnets": 1, "rounds": 1, "side": 128}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "cuda": {
        "logits": {"subnets": 3, "batch": 4},
        "scoring": {"space": "digits-mbconv", "recipe": {}, "subnets": 12, "rounds": 3, "side": 8192},
        "scoring_data": {
            "space": "cifar-mbconv", "recipe": {"batch": 128, "limit": 20_000}, "subnets": 4, "rounds": 2, "side": 8192,
        },
        "language": {"prompts": 8, "max_tokens": 64},
        "tuning": {"landscapes": 240, "steps": 15, "batch": None},
        "vllm": {"requests": 512, "prompts": 8, "max_tokens": 64},
    },
    "cpu": {
        "logits": {"subnets": 1, "batch": 1},
        "scoring": {"space": "digits-mbconv", **_LITTLE},
        "scoring_data": {"space": "cifar-mbconv", **_LITTLE},
        "language": {"prompts": 1, "max_tokens": 16},
        "tuning": {"landscapes": 2, "steps": 2, "batch": 4},
        "vllm": {"requests": 8, "prompts": 2, "max_tokens": 16},
    },
}  # fmt: skip


def run(device: str, data: str | None) -> dict[str, Any]:
    """Every section's figures and seconds, what they were measured on, and all seconds together."""
    began = time.monotonic()
    found = {"card": card(device), **_versions()}
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(sys.stderr):
        for name in SECTIONS:
            if time.monotonic() - began > LAST_START:
                found[name] = {"error": f"not begun: the others took more than {LAST_START:.0f} s"}
            elif name == "scoring_data" and data is None:
                found[name] = "no --data"
            else:
                given = {"data": data} if name == "scoring_data" else {}
                found[name] = attempt(name, device, Path(work) / name, **SIZES[device][name], **given)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def attempt(name: str, device: str, work: Path, **how: Any) -> dict[str, Any] | str:
    """What a section finds, or its error in one line; with its seconds."""
    began = time.monotonic()
    work.mkdir()
    try:
        module, _, function = SECTIONS[name].partition(":")
        found = getattr(import_module(f"eval.benchmarks.{module}"), function)(device, work, **how)
    except Exception as error:  # of any library here; it is what this section found, and the others go on
        found = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    return found if isinstance(found, str) else {**found, "seconds": round(time.monotonic() - began, 1)}


def card(device: str) -> str:
    """The name of the GPU, or how many cores a CPU has."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"cpu, {os.cpu_count()} cores"


def _versions() -> dict[str, Any]:
    import platform

    import torch

    return {"torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}


def one_device(device: str) -> None:
    """Let torch see this device alone: one GPU, or none; UserError where there is no GPU. Call it before torch is
    used."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible if device == "cuda" else ""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} sees no CUDA device on this machine; run this where there is one, with a torch "
            "built for CUDA, or give --device cpu to test the script itself"
        )


def target(out: Path | None, device: str) -> Path:
    """Where the JSON goes; UserError where nothing can be written there."""
    name = "cpu" if device == "cpu" else re.sub(r"[^0-9A-Za-z]+", "-", card(device)).strip("-")
    path = out or Path(f"gpu-{name}.json")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"--out {path} cannot be written; give a file in a folder that exists and is yours")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit status, 2 for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m eval.benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=tuple(SIZES), default="cuda", help="cpu tests the script itself")
    parser.add_argument("--data", metavar="DIR", help="32x32 images to score on, a folder a class or Parquet files")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: gpu-CARD.json here")
    args = parser.parse_args(argv)
    try:
        if args.data and not Path(args.data).exists():
            raise UserError(f"--data {args.data}: there is no such file or folder; give one, or leave it out")
        one_device(args.device)
        path = target(args.out, args.device)
    except UserError as error:
        print(f"eval.benchmarks.gpu: error: {error}", file=sys.stderr)
        return 2
    text = json.dumps(run(args.device, args.data), indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
