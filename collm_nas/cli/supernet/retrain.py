"""`collm-nas supernet retrain RUN`: the winner of a search trained alone, resumable."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm_nas.cli.search import whole
from collm_nas.cli.supernet import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and how its winner is trained."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run that a supernet scored")
    parser.add_argument("--data", metavar="DIR", help="the run's images, where they are elsewhere now")
    parser.add_argument("--supernet", metavar="F", help="the run's supernet, where it is elsewhere now")
    parser.add_argument(
        "--from",
        dest="start",
        default="fresh",
        metavar="fresh|inherited",
        help="new weights (default) or the supernet's",
    )
    parser.add_argument("--limit", type=whole, metavar="N", help="train on at most so many images")
    options.add_training(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def run(args: argparse.Namespace) -> int:
    """Train, or go on, or find it finished; print the accuracies beside those of the supernet's weights."""
    from collm_nas import rundir
    from collm_nas.evaluators import winner

    result, _ = rundir.load(args.run)
    best = winner.reopen(args.run, result, data=args.data, supernet=args.supernet, device=args.device)
    folder = args.run / winner.FOLDER
    finished = (folder / winner.RESULT).is_file()
    recipe = options.chosen(args, ("epochs", "batch", "rate", "weight_decay", "seed"))
    made = winner.train(best, args.start, limit=args.limit, progress=options.show_epoch, **recipe)
    if finished:
        print(f"{folder} is finished already; nothing was changed")
    _show(made)
    print(f"weights    {folder / winner.MODEL}; export them with: collm-nas export {args.run} --weights retrained")
    return 0


def _show(made: Mapping[str, Any]) -> None:
    recipe = made["recipe"]
    print(f"network    {made['arch']}")
    print(
        f"trained    from {made['from']} weights, {recipe['epochs']} epochs, batch {recipe['batch']}, "
        f"rate {recipe['rate']:g}, seed {recipe['seed']}, {made['seconds']:.0f} s"
    )
    for name in dict.fromkeys(row["name"] for row in made["accuracies"]):
        rows = {row["weights"]: row for row in made["accuracies"] if row["name"] == name}
        figures = (f"{weights} {row['value']:.2f} ± {row['error']:.2f}" for weights, row in rows.items())
        print(f"{name:<10} {', '.join(figures)} % of {rows['retrained']['images']} images")
