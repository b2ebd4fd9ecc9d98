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
    parser.add_argument(
        "--model",
        metavar="DIR|NAME",
        help="give this model's base new adapters: embedded, smollm2, or a folder",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="embedded (from scratch: an hour of one core), adapters (default with --model: minutes), smollm2 (hours), "
        "tiny",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the model folder; resumes there")


def run(args: argparse.Namespace) -> int:
    """Train, then leave a model folder that `collm-nas search --model DIR` takes."""
    from collm_nas.api import UserError
    from finetune import data
    from finetune.recipes import RECIPES

    recipe = args.recipe or ("smollm2" if args.model == "smollm2" else "adapters" if args.model else "embedded")
    if recipe not in RECIPES:
        raise UserError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    for dataset in args.dataset:
        data.read_manifest(dataset)
    from finetune.model_folder import build

    model = None if args.model is None else args.locate(args.model)
    build(RECIPES[recipe], args.dataset, args.out, print, model, args.model or "")
    print(f"model folder {args.out}; search with it: collm-nas search --model {args.out}")
    return 0
