"""`collm-nas supernet cost`: what architectures cost, without any weights."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The space and the architectures."""
    parser.add_argument("archs", nargs="+", metavar="ARCH", help="architecture in the space's native encoding")
    parser.add_argument("--space", required=True, metavar="S", help="a space with costs")


def run(args: argparse.Namespace) -> int:
    """A line an architecture."""
    from collm_nas import spaces

    space = spaces.load(args.space)
    for arch in [space.parse(text) for text in args.archs]:
        costs = dict(space.cost(arch))
        if space.name == "ofa-mbv3-w1.2":
            costs["flops by the tutorial's table"] = space.tutorial_flops(arch)  # type: ignore[attr-defined]
        print(f"{space.format(arch)}: {', '.join(f'{name} {value:,.0f}' for name, value in costs.items())}")
    return 0
