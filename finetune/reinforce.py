"""A model folder whose Navigator went on learning by reinforcement: base and Generator are those of the model that it
started from, and so is all that they were trained on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from collm_nas.evaluators.landscape import HELD_OUT
from collm_nas.rollouts import BATCH, START
from collm_nas.traces import Policy
from finetune import bases, begun, groups, grpo, processes
from finetune.recipes import RECIPES, Recipe, Reinforcement
from finetune.trainer import name_base
from finetune.validation import SHOWN, Validation
from finetune.watch import Watch

ROLES = ("navigator", "generator")


def check(recipe: Recipe) -> Reinforcement:
    """The recipe's stage; UserError where its values don't go together, or the recipe changes what it doesn't use."""
    stage = recipe.reinforcement
    assert stage is not None
    if recipe != replace(RECIPES[recipe.name], reinforcement=stage):
        raise UserError(f"the recipe {recipe.name!r} has nothing to change but `reinforcement`, in a --config file")
    if stage.group < 2:
        raise UserError(f"`reinforcement.group` must be at least 2, since strategies are compared; got {stage.group}")
    room = (stage.longest - START) // BATCH + 1
    if stage.points > room:
        raise UserError(
            f"`reinforcement.longest` {stage.longest} has room for {max(0, room)} points of a search ({BATCH} "
            f"evaluations apart, from {START} on), not for {stage.points}"
        )
    if stage.large + stage.huge + stage.real > 1:
        raise UserError("`reinforcement.large`, `huge` and `real` are shares, together at most 1")
    needed = stage.steps * stage.searches * groups.TRIES
    if needed > groups.OF_A_RUN or groups.first_seed(stage) + groups.OF_A_RUN > HELD_OUT:
        raise UserError(
            f"`reinforcement` takes at most {groups.OF_A_RUN // groups.TRIES} searches in all, and a seed of at most "
            f"{(HELD_OUT - groups.FIRST_SEED) // groups.OF_A_RUN - 1}: other landscapes are kept for measuring"
        )
    if processes.count() > 1:
        raise UserError(f"the recipe {recipe.name!r} runs in one process")
    return stage


def build(
    recipe: Recipe,
    out: Path,
    model: Path,
    name: str,
    load: Callable[[Path], Policy],
    say: Callable[[str], None] = print,
    *,
    tensorboard: bool = False,
) -> Path:
    """Train the Navigator of `model`, called `name` by the user, into the folder `out`; a killed run goes on where its
    last checkpoint was. `load`: gives the engine of a model folder.

    Raises UserError where `model` has not both adapters, or `out` was begun with another recipe or model.
    """
    stage = check(recipe)
    policy = load(model)
    start = json.loads((model / "manifest.json").read_text())
    now = begun.describe(recipe, start.get("datasets", []), model)
    now["model"] = hashlib.sha256(json.dumps([now["model"], policy.describe()["model"]]).encode()).hexdigest()
    begun.check(out, now)
    begun.note(out, now)
    for part in ("base", "tokenizer", "generator"):
        if (model / part).is_dir():
            bases.copy(model / part, out / part)
    base = _base(model, start, out)
    _train(policy, model, stage, out, say, base, tensorboard, start["digest_version"])
    manifest = _manifest(recipe, stage, start, policy, out, base)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (out / "README.md").write_text(_card(manifest, name, model))
    return out


def _base(model: Path, start: dict[str, Any], out: Path) -> str | None:
    """How the new folder names a base that is not in it: a name as it is, a path from where it lies now."""
    named: str | None = start.get("base")
    if named is None or not (model / named).exists():
        return named
    return os.path.relpath((model / named).resolve(), out.resolve())


def _train(
    policy: Policy,
    model: Path,
    stage: Reinforcement,
    out: Path,
    say: Callable[[str], None],
    base: str | None,
    tensorboard: bool,
    digest_version: int,
) -> None:
    """Unless it is there: `out/navigator`, whole or not at all."""
    target, work = out / grpo.TRAINED, out / "work" / grpo.TRAINED
    if target.exists():
        return
    strategies = f"{stage.searches * stage.points} points of {stage.group} strategies"
    say(f"adapter {grpo.TRAINED}: {stage.steps} steps of {strategies}")
    validation = Validation([], policy.tokenizer, 1, digest_version) if stage.validate_every else None
    events = out / "work" / "tensorboard" / grpo.TRAINED if tensorboard else None
    shown = Watch(grpo.TRAINED, say, validation, events)
    trainer = grpo.run(policy, model / grpo.TRAINED, stage, work, shown)
    part = out / "work" / "trained"
    policy.model.save_pretrained(str(part), selected_adapters=[grpo.TRAINED])
    name_base(part / grpo.TRAINED, base or "../base")
    (part / grpo.TRAINED / "loss.json").write_text(json.dumps(grpo.curve(trainer)))
    (part / grpo.TRAINED).rename(target)


def _manifest(
    recipe: Recipe, stage: Reinforcement, start: dict[str, Any], policy: Policy, out: Path, base: str | None
) -> dict[str, Any]:
    """That of the model it started from, and what became of it: its sources and datasets are still what was seen."""
    import peft
    import torch
    import transformers
    import trl

    curve = json.loads((out / grpo.TRAINED / "loss.json").read_text())
    rewards = [row for row in curve if "reward" in row]
    validated = [{name: row[name] for name in SHOWN if name in row} for row in curve if "regret" in row]
    weights = [path for part in ("base", *ROLES) for path in sorted((out / part).glob("*.safetensors"))]
    return {
        **start,
        "name": recipe.name,
        **({} if base is None else {"base": base}),
        "recipe": begun.plain(recipe),
        "recipe_hash": hashlib.sha256(json.dumps(begun.plain(recipe), sort_keys=True).encode()).hexdigest(),
        "weights": {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in weights},
        "loss": _others(start, "loss"),
        "validation": _others(start, "validation") | dict(zip([grpo.TRAINED], validated[-1:], strict=False)),
        "reinforced": {
            "from": policy.describe()["model"],
            "landscape_seeds": [groups.first_seed(stage), stage.steps * stage.searches * groups.TRIES],
            "reward": {"first": _mean(rewards[:5], "reward"), "last": _mean(rewards[-5:], "reward")},
            "reward_std": {"first": _mean(rewards[:5], "reward_std"), "last": _mean(rewards[-5:], "reward_std")},
        },
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl, peft)},
    }


def _others(start: dict[str, Any], key: str) -> dict[str, Any]:
    """What the manifest says under this key of the parts that stayed as they were."""
    return {part: said for part, said in start.get(key, {}).items() if part != grpo.TRAINED}


def _mean(rows: list[dict[str, float]], name: str) -> float:
    return round(sum(row[name] for row in rows) / len(rows), 4)


def _card(manifest: dict[str, Any], name: str, model: Path) -> str:
    """The text of its README.md, with that of the model it started from."""
    done, stage = manifest["reinforced"], manifest["recipe"]["reinforcement"]
    first, count = done["landscape_seeds"]
    before = model / "README.md"
    earlier = before.read_text().replace("# Model card", "## Model card", 1) if before.is_file() else ""
    hashes = ", ".join(f"{part} {sha[:12]}…" for part, sha in done["from"].items())
    return f"""# Model card: {manifest["name"]}

The Navigator of {name}
({hashes}),
reinforced by GRPO; base and Generator are as they were.

- Reward: what the Generator's batch from a strategy brings over the best known point, without noise, in units of the
  way from a random point to the optimum, on synthetic landscapes of seeds from {first} to {first + count - 1} (some
  of them); {stage["steps"]} steps of {stage["searches"] * stage["points"]} points with {stage["group"]} strategies.
- Mean reward and spread at the beginning: {done["reward"]["first"]}, {done["reward_std"]["first"]}; at the end:
  {done["reward"]["last"]}, {done["reward_std"]["last"]} (means of the first and last five logged rows; each step has
  landscapes of its own).
- No table, supernet or log was read beyond what the model it started from had seen.
- Made by: `collm-nas finetune --recipe grpo --model MODEL --out DIR`{_changes(manifest)}.

{earlier}"""


def _changes(manifest: dict[str, Any]) -> str:
    """What a --config file changed."""
    found = begun.differences(begun.plain(RECIPES[manifest["name"]]), manifest["recipe"])
    said = ", ".join(f"{key} {value}" for key, _, value in found)
    return f", with --config FILE: {said}" if said else ""
