"""`collm-nas finetune`: a dataset becomes a model folder (base and two adapters), resumable."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `collm-nas finetune`."""
    parser.add_argument(
        "--dataset",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="a folder made by collm-nas mine; repeat it for a recipe with one a phase",
    )
    parser.add_argument("--recipe", default="embedded", metavar="NAME", help="embedded (an hour of one core) or tiny")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the model folder; resumes there")


def run(args: argparse.Namespace) -> int:
    """Train, then leave a model folder that `collm-nas search --model DIR` takes."""
    from collm_nas.api import UserError
    from finetune import data
    from finetune.recipes import RECIPES

    if args.recipe not in RECIPES:
        raise UserError(f"unknown recipe {args.recipe!r}; there are {', '.join(RECIPES)}")
    for dataset in args.dataset:
        data.read_manifest(dataset)
    from finetune.model_folder import build

    build(RECIPES[args.recipe], args.dataset, args.out, print)
    print(f"model folder {args.out}; search with it: collm-nas search --model {args.out}")
    return 0
