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
        help="take the base of this model and give it new adapters (embedded, or a folder)",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="embedded (from scratch: an hour of one core), adapters (default with --model: minutes) or tiny",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the model folder; resumes there")


def run(args: argparse.Namespace) -> int:
    """Train, then leave a model folder that `collm-nas search --model DIR` takes."""
    from collm_nas.api import UserError
    from finetune import data
    from finetune.recipes import RECIPES

    recipe = args.recipe or ("adapters" if args.model else "embedded")
    if recipe not in RECIPES:
        raise UserError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    for dataset in args.dataset:
        data.read_manifest(dataset)
    from finetune.model_folder import build

    build(RECIPES[recipe], args.dataset, args.out, print, _folder(args.model))
    print(f"model folder {args.out}; search with it: collm-nas search --model {args.out}")
    return 0


def _folder(model: str | None) -> Path | None:
    if model is None:
        return None
    from collm_nas import api  # not the package: it leads to the composition roots

    embedded = Path(api.__file__).parent / "models" / "embedded"
    return embedded if model == "embedded" else Path(model).expanduser()
