"""`collm-nas supernet evaluate`: architectures scored as a search would."""

from __future__ import annotations

import argparse

from collm_nas.cli.supernet import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The supernet, the images, the architectures."""
    parser.add_argument("archs", nargs="+", metavar="ARCH", help="architecture in the space's native encoding")
    parser.add_argument(
        "--supernet", required=True, metavar="F", help="checkpoint, folder of a training, MODULE:OBJECT"
    )
    parser.add_argument("--space", metavar="S", help="for files that do not name it")
    parser.add_argument("--protocol", default="fast", metavar="NAME", help="fast (default), ofa, spos, autoformer")
    parser.add_argument("--test", action="store_true", help="score on the test images too")
    options.add_images(parser)


def run(args: argparse.Namespace) -> int:
    """A line an architecture."""
    from collm_nas.evaluators import supernet

    evaluator = supernet.load(
        args.space, args.supernet, args.data, valid=args.valid, protocol=args.protocol, device=args.device
    )
    archs = [evaluator.space.parse(text) for text in args.archs]
    for arch in archs:
        score, costs = evaluator.score(arch), evaluator.space.cost(arch)
        shown = [f"valid {score.accuracy:.2f} ± {score.error:.2f}"]
        if args.test:
            shown += [f"{name} {value:.2f}" for name, value in evaluator.report(arch).items()]
        shown += [f"{name} {value:,.0f}" for name, value in costs.items()]
        print(f"{evaluator.space.format(arch)}: {', '.join(shown)}")
    return 0
