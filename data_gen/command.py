"""`collm-nas mine`: examples to learn from, as a folder of Parquet shards with a manifest and a page on their quality.

A source is a file `data_gen/mine_NAME.py` with `add_arguments(group)` and `create(args, given)`; no list to edit.
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from collm_nas.api import UserError
from collm_nas.prompts import DIGEST_VERSION, DIGEST_VERSIONS
from data_gen.examples import Form

DEFAULT = "landscapes"
MOST_DIGESTS = 8


def sources() -> list[str]:
    """The sources there are, sorted."""
    return sorted(path.stem.removeprefix("mine_") for path in Path(__file__).parent.glob("mine_*.py"))


def _module(name: str) -> ModuleType:
    return import_module(f"data_gen.mine_{name}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `collm-nas mine`: common ones, and each source's own."""
    names = sources()
    parser.add_argument("--source", choices=names, default=DEFAULT, help=f"what to mine ({DEFAULT})")
    parser.add_argument("--space", metavar="S", help="of a table or log: a name or a YAML file")
    parser.add_argument("--fitness", metavar="COL", help="of a table or log: the column, where it has several")
    parser.add_argument("--digests", type=int, default=2, metavar="N", help="Navigator examples a search (2)")
    parser.add_argument("--targets", type=int, default=2, metavar="N", help="Generator examples a strategy (2)")
    parser.add_argument(
        "--digest-version",
        type=int,
        choices=DIGEST_VERSIONS,
        default=DIGEST_VERSION,
        help=f"what the model to be trained reads ({DIGEST_VERSION})",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="default: all cores; the dataset is the same for any number"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the dataset's folder; resumes there")
    owners = {"space": {"table", "runs"}, "fitness": {"table", "runs"}}
    for name in names:
        group = parser.add_argument_group(f"--source {name}")
        before = {action.dest for action in parser._actions}
        _module(name).add_arguments(group)
        for action in parser._actions:
            if action.dest not in before:
                owners.setdefault(action.dest, set()).add(name)
    parser.set_defaults(owners=owners)


def run(args: argparse.Namespace) -> int:
    """Mine, say what was written and how good it is."""
    from rich.progress import Progress

    from data_gen import quality
    from data_gen.mine import mine

    for name in ("digests", "targets", "processes"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.digests > MOST_DIGESTS:
        raise UserError(f"--digests must be at most {MOST_DIGESTS} (the history lengths there are), got {args.digests}")
    form = Form(digests=args.digests, targets=args.targets, digest_version=args.digest_version)
    source = _module(args.source).create(form, _given(args))
    with Progress() as bar:
        task = bar.add_task("mining", total=None)
        manifest = mine(
            source,
            args.out,
            args.processes or os.cpu_count() or 1,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(quality.write(args.out, manifest))
    return 0


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given and belong to the source; UserError for one of another source."""
    given = {}
    for name, owners in args.owners.items():
        value = getattr(args, name)
        if value is None:
            continue
        if args.source not in owners:
            said = " or ".join(f"--source {owner}" for owner in sorted(owners))
            raise UserError(f"--{name.replace('_', '-')} is for {said}, not for --source {args.source}")
        given[name] = value
    return given
