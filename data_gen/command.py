"""`collm-nas mine`: examples to learn from, as a folder of Parquet shards with a manifest."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `collm-nas mine`."""
    parser.add_argument("--source", choices=["landscapes"], default="landscapes", help="what to mine (landscapes)")
    parser.add_argument("--landscapes", type=int, default=2000, metavar="N", help="synthetic landscapes (2000)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="seed of the first one (0)")
    parser.add_argument("--large", type=float, default=0.25, metavar="P", help="share with 13 to 24 variables (0.25)")
    parser.add_argument("--huge", type=float, default=0.1, metavar="P", help="share with 25 to 50 variables (0.1)")
    parser.add_argument("--digests", type=int, default=2, metavar="N", help="Navigator examples a landscape (2)")
    parser.add_argument("--targets", type=int, default=2, metavar="N", help="Generator examples a strategy (2)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes (1); the dataset is the same")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the dataset's folder; resumes there")


def run(args: argparse.Namespace) -> int:
    """Mine and say what was written."""
    from rich.progress import Progress

    from collm_nas.api import UserError
    from collm_nas.evaluators.landscape import HELD_OUT
    from data_gen.mine import MineConfig, mine

    for name in ("landscapes", "digests", "targets", "processes"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.digests > 8:
        raise UserError(f"--digests must be at most 8 (the history lengths there are), got {args.digests}")
    if not (args.large >= 0 and args.huge >= 0 and args.large + args.huge <= 1):
        raise UserError(f"--large {args.large} and --huge {args.huge} are shares: at least 0, together at most 1")
    if args.first_seed < 0 or args.first_seed + args.landscapes > HELD_OUT:
        raise UserError(f"seeds must lie in 0..{HELD_OUT - 1}; those from {HELD_OUT} on are held out for measuring")
    names = ("out", "landscapes", "first_seed", "large", "huge", "digests", "targets", "processes")
    config = MineConfig(**{name: getattr(args, name) for name in names})
    with Progress() as bar:
        task = bar.add_task("mining", total=None)
        mine(config, lambda done, total: bar.update(task, completed=done, total=total))
    print(f"mined {args.landscapes} landscapes into {args.out}")
    return 0
