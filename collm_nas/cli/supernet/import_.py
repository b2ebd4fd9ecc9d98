"""`collm-nas supernet import`: an official checkpoint, held against its structure, as a safetensors file."""

from __future__ import annotations

import argparse
from pathlib import Path

from collm_nas.api import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, its space, the new file."""
    parser.add_argument("checkpoint", metavar="F", help="checkpoint of an official code, or a state dict")
    parser.add_argument("--space", required=True, metavar="S", help="the space that it is the supernet of")
    parser.add_argument("--out", required=True, type=Path, metavar="F.safetensors", help="the file to write")


def run(args: argparse.Namespace) -> int:
    """Check every key and shape, then write."""
    from collm_nas import supernets
    from collm_nas.supernets import store

    if args.out.suffix != ".safetensors":
        raise UserError(f"--out {args.out} must end in .safetensors")
    if args.out.exists():
        raise UserError(f"--out {args.out} exists; name another file, or remove it")
    supernet = supernets.load(args.space, args.checkpoint)
    store.save(args.out, supernet.state, {"space": supernet.space.name})
    elements = sum(value.numel() for value in supernet.state.values())
    print(f"{args.out}: {len(supernet.state)} tensors, {elements:,} elements, sha256 {store.sha256(args.out)}")
    return 0
