"""`collm-nas mine`: examples to learn from, as a folder of Parquet shards with a manifest and a page on their quality.

A source is a file `data_gen/mine_NAME.py` with `OPTIONS` and `create(form, given)`; no list to edit. The options are
read from the file's text: importing all sources would load heavy libraries for `--help`.
"""

from __future__ import annotations

import argparse
import ast
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from collm_nas.api import UserError

DEFAULT = "landscapes"


def sources() -> list[str]:
    """The sources there are, sorted."""
    return sorted(path.stem.removeprefix("mine_") for path in Path(__file__).parent.glob("mine_*.py"))


def _module(name: str) -> ModuleType:
    return import_module(f"data_gen.mine_{name}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `collm-nas mine`: common ones, and each source's own."""
    names = sources()
    parser.add_argument("--source", choices=names, default=DEFAULT, help=f"what to mine ({DEFAULT})")
    parser.add_argument("--targets", type=int, default=2, metavar="N", help="Generator examples a strategy (2)")
    parser.add_argument("--hinted", type=float, metavar="P", help="share of Navigator examples with a hint (0.25)")
    parser.add_argument("--digest-version", type=int, metavar="V", help="what the model is to read (the latest)")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="default: all cores; the dataset is the same for any number"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the dataset's folder; resumes there")
    owners: dict[str, set[str]] = {}
    for name in sorted(names, key=lambda one: one != DEFAULT):  # what several have is listed with the default
        group = parser.add_argument_group(f"--source {name}")
        for option, said in _options(name).items():
            owners.setdefault(option, set()).add(name)
            if len(owners[option]) > 1:  # listed once
                continue
            if "type" in said:
                said["type"] = {"int": int, "float": float}[said["type"]]
            group.add_argument(f"--{option.replace('_', '-')}", **said)
    parser.set_defaults(owners=owners)


def _options(name: str) -> dict[str, dict[str, Any]]:
    """The literal `OPTIONS` in the source's file."""
    text = (Path(__file__).parent / f"mine_{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "OPTIONS" for t in node.targets):
            found: dict[str, dict[str, Any]] = ast.literal_eval(node.value)
            return found
    return {}


def run(args: argparse.Namespace) -> int:
    """Mine, say what was written and how good it is."""
    from rich.progress import Progress

    from collm_nas.prompts import DIGEST_VERSION, DIGEST_VERSIONS
    from data_gen import quality
    from data_gen.examples import Form
    from data_gen.mine import mine

    for name in ("targets", "processes"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    version = DIGEST_VERSION if args.digest_version is None else args.digest_version
    if version not in DIGEST_VERSIONS:
        raise UserError(f"--digest-version {version} is unknown; legal: {', '.join(map(str, DIGEST_VERSIONS))}")
    hinted = (Form().hinted if version > 1 else 0.0) if args.hinted is None else args.hinted
    if not 0 <= hinted <= 1 or (hinted and version == 1):
        raise UserError(f"--hinted {hinted} must be a share, 0 to 1; digests of version 1 have no hints (0)")
    form = Form(targets=args.targets, digest_version=version, hinted=hinted)
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
    if "model" in given:  # read by a stage that this one may not import
        given |= {"model": args.locate(given["model"]), "load": args.load_engine}
    return given
