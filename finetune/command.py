"""`collm-nas finetune`: a dataset, or landscapes, become a model folder (base and two adapters), resumable."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.recipes import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `collm-nas finetune`."""
    parser.add_argument(
        "--dataset",
        type=Path,
        action="append",
        metavar="DIR",
        help="a folder made by collm-nas mine; repeat it for a recipe with one a phase (dpo: with pairs, of --source "
        "hindsight; grpo: none)",
    )
    parser.add_argument(
        "--model",
        metavar="DIR|NAME",
        help="give this model's base new adapters: embedded, smollm2, or a folder",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="embedded (from scratch: minutes of a GPU, hours without), adapters (default with --model: minutes), "
        "smollm2 (hours), tiny; grpo (the Navigator of --model goes on learning by what its strategies bring), dpo (by "
        "pairs of them)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML that changes the recipe, e.g. navigator: {steps: 50}"
    )
    parser.add_argument(
        "--quantize", metavar="nf4", help="keep the base in 4 bits under the adapters (QLoRA; extra qlora)"
    )
    parser.add_argument("--merge", action="store_true", help="also write each adapter with its base as one model")
    parser.add_argument("--tensorboard", action="store_true", help="log for TensorBoard too, beside the checkpoints")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the model folder; resumes there")


def run(args: argparse.Namespace) -> int:
    """Train, then leave a model folder that `collm-nas search --model DIR` takes."""
    from finetune import data, pairs, processes

    recipe = _recipe(args)
    _check_given(args, recipe)
    for dataset in args.dataset or ():
        data.read_manifest(dataset)
        pairs.check_kind(dataset, recipe)
    if args.tensorboard:
        from finetune import watch

        watch.check_tensorboard()
    from transformers.utils import logging

    from finetune.model_folder import build

    logging.disable_progress_bar()  # of loading and saving; the training has lines of its own
    say = partial(print, flush=True)
    if recipe.reinforcement is not None:
        from finetune import further, reinforce

        start = further.load(args.locate(args.model), args.model, args.load_engine)
        reinforce.build(recipe, args.out, start, say, tensorboard=args.tensorboard)
    elif recipe.preference is not None:
        from finetune import further, prefer

        start = further.load(args.locate(args.model), args.model, args.load_engine)
        prefer.build(recipe, args.dataset, args.out, start, say, tensorboard=args.tensorboard)
    else:
        model = None if args.model is None else args.locate(args.model)
        how = {"tensorboard": args.tensorboard, "merged": args.merge}
        build(recipe, args.dataset, args.out, say, model, args.model or "", **how)
    if processes.first():
        say(f"model folder {args.out}; search with it: collm-nas search --model {args.out}")
    return 0


def _check_given(args: argparse.Namespace, recipe: Recipe) -> None:
    """UserError where the recipe needs other options."""
    from collm_nas.api import UserError

    if recipe.reinforcement is None and not args.dataset:
        raise UserError(f"the recipe {recipe.name!r} learns from a dataset; say which: --dataset DIR")
    if recipe.reinforcement is None and recipe.preference is None:
        return
    if not args.model:
        raise UserError(
            f"the recipe {recipe.name!r} goes on with a model that has both adapters; say which: --model DIR"
        )
    refused = {"--quantize": args.quantize, "--merge": args.merge}
    if recipe.reinforcement is not None:
        refused["--dataset"] = args.dataset
    for option in [name for name, value in refused.items() if value]:
        raise UserError(f"the recipe {recipe.name!r} takes no {option}; leave it out")


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe by name, with the changes of the file, then of the option."""
    from collm_nas.api import UserError
    from finetune import config, quantized
    from finetune.recipes import RECIPES

    name = args.recipe or ("smollm2" if args.model == "smollm2" else "adapters" if args.model else "embedded")
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name] if args.config is None else config.read(args.config, RECIPES[name])
    if args.quantize is not None:
        recipe = replace(recipe, quantize=args.quantize)
    quantized.check(recipe.quantize)
    return recipe
