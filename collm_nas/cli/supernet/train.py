"""`collm-nas supernet train`: a supernet of ours on the user's images, resumable."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm_nas.cli.search import whole
from collm_nas.cli.supernet import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is trained, on what, how."""
    parser.add_argument("--space", default="digits-mbconv", metavar="S", help="a space with a supernet (digits-mbconv)")
    parser.add_argument("--supernet", metavar="MODULE:OBJECT", help="a supernet of your own, instead of --space")
    options.add_images(parser)
    parser.add_argument("--limit", type=whole, metavar="N", help="train on at most so many images")
    parser.add_argument("--side", type=whole, metavar="N", help="input size in pixels, for spaces of small images")
    parser.add_argument(
        "--rule", metavar="sandwich|single", help="architectures a step (default: as the space's authors did)"
    )
    parser.add_argument("--random-paths", type=whole, metavar="N", help="random ones of a sandwich (default 2)")
    parser.add_argument("--shrink", action="store_true", default=None, help="progressive shrinking, as OFA")
    options.add_training(parser)
    parser.add_argument("--tensorboard", action="store_true", help="log for TensorBoard too, in DIR/tensorboard")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (default: the space's name); resumes there")


def run(args: argparse.Namespace) -> int:
    """Train, save, and say how good its largest, smallest and a few random subnets are."""
    from collm_nas.supernets import session, tensorboard

    names = ("rule", "random_paths", "shrink", "epochs", "batch", "rate", "weight_decay", "seed")
    folder = args.out or Path(args.supernet.rpartition(":")[2] if args.supernet else args.space)
    logs = [options.show_epoch, *([tensorboard.logger(folder)] if args.tensorboard else [])]

    def show(line: Mapping[str, Any]) -> None:
        for log in logs:
            log(line)

    made = session.train(
        args.supernet or args.space,
        args.data,
        folder,
        valid=args.valid,
        limit=args.limit,
        side=args.side,
        device=args.device,
        progress=show,
        **options.chosen(args, names),
    )
    for name, score in made.items():
        print(f"{name:<10} {score.accuracy:.2f} ± {score.error:.2f} % of {score.images} valid images")
    print(
        f"supernet   {folder}; search it with: collm-nas search --supernet {folder}"
        + ("" if args.data in (None, "digits") else f" --data {args.data}")
    )
    return 0
