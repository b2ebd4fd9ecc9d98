"""A model folder whose Navigator went on learning from pairs of strategies, of which one brought more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from finetune import data, dpo, further, manifests, pairs
from finetune.further import TRAINED, Start
from finetune.recipes import Preference, Recipe
from finetune.watch import PAIRS, Watch


def check(recipe: Recipe) -> Preference:
    """The recipe's stage; UserError where nothing can be learnt by it, or the recipe changes what it doesn't use."""
    stage = recipe.preference
    assert stage is not None
    further.check(recipe, "preference")
    if not stage.beta:
        raise UserError("`preference.beta` must be more than 0: it weighs what the pairs say")
    return stage


def build(
    recipe: Recipe,
    datasets: Sequence[Path],
    out: Path,
    start: Start,
    say: Callable[[str], None] = print,
    *,
    tensorboard: bool = False,
) -> Path:
    """Train the Navigator into the folder `out`; a killed run goes on where its last checkpoint was.

    Raises UserError where `out` was begun with another recipe, model or dataset, or the model reads other digests.
    """
    stage = check(recipe)
    mined = [data.read_manifest(dataset) for dataset in datasets]
    _check_version(start, mined)
    further.begin(recipe, out, start, mined)
    columns = pairs.load(datasets, start.policy.tokenizer)
    count = len(columns["prompt_ids"])
    say(f"adapter {TRAINED}: {stage.steps} steps of at most {stage.batch} of {count:,} pairs")

    def run(work: Path, shown: Watch) -> further.Curve:
        return dpo.run(start.policy, start.folder / TRAINED, stage, columns, work, shown)

    further.train(start, out, say, run, validate=bool(stage.validate_every), tensorboard=tensorboard)
    rows = [row for row in further.curve(out) if "loss" in row]
    done = {
        "from": start.policy.describe()["model"],
        "pairs": count,
        **{name: further.ends(rows, name) for name in ("loss", *PAIRS.values())},
    }
    seen = manifests.of_datasets(mined)
    more = {
        "preferred": done,
        "sources": start.manifest["sources"] | {name: sha for one in mined for name, sha in one["sources"].items()},
        "datasets": [*start.manifest.get("datasets", []), *seen],
    }
    further.finish(recipe, out, start, more, lambda manifest: _told(manifest, seen))
    return out


def _check_version(start: Start, mined: Sequence[dict[str, Any]]) -> None:
    reads = start.manifest["digest_version"]
    for version in {one["digest_version"] for one in mined} - {reads}:
        raise UserError(
            f"--model {start.name} reads digests of version {reads}, the dataset has version {version}; pairs are "
            "mined with the model that learns from them"
        )


def _told(manifest: dict[str, Any], mined: Sequence[dict[str, Any]]) -> str:
    """What the card says of it."""
    done, stage = manifest["preferred"], manifest["recipe"]["preference"]
    commands = "`, `".join(one["command"] for one in mined)
    first, last = (
        ", ".join(f"{name} {done[name][at]}" for name in ("loss", *PAIRS.values())) for at in ("first", "last")
    )
    given = " ".join("--dataset DIR" for _ in mined)
    return f"""went on by DPO; base and Generator are as they were.

- Learnt from: {done["pairs"]} pairs of strategies on synthetic landscapes, of which one brought more than the other
  when it was followed; {stage["steps"]} steps of at most {stage["batch"]}.
- At the beginning: {first};
  at the end: {last}
  (means of the first and last five logged rows; margin: by how much more than before the better strategy is likelier
  than the worse one, times beta {stage["beta"]}; accuracy: where it is more; chosen: how much likelier the better one
  became, times beta; all on the pairs that it learns from).
- No table, supernet or log was read beyond what the models had seen that it started from, and that wrote the pairs.
- Made by: `{commands}`,
  then `collm-nas finetune --recipe dpo --model MODEL {given} --out DIR`"""
