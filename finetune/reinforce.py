"""A model folder whose Navigator went on learning by reinforcement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from collm_nas.evaluators.landscape import HELD_OUT
from collm_nas.rollouts import BATCH, START
from finetune import further, groups, grpo
from finetune.further import TRAINED, Start
from finetune.recipes import Recipe, Reinforcement
from finetune.watch import Watch


def check(recipe: Recipe) -> Reinforcement:
    """The recipe's stage; UserError where its values don't go together, or the recipe changes what it doesn't use."""
    stage = recipe.reinforcement
    assert stage is not None
    further.check(recipe, "reinforcement")
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
    return stage


def build(
    recipe: Recipe, out: Path, start: Start, say: Callable[[str], None] = print, *, tensorboard: bool = False
) -> Path:
    """Train the Navigator into the folder `out`; a killed run goes on where its last checkpoint was.

    Raises UserError where `out` was begun with another recipe or model.
    """
    stage = check(recipe)
    further.begin(recipe, out, start)
    say(f"adapter {TRAINED}: {stage.steps} steps of {stage.searches * stage.points} points of {stage.group} strategies")

    def run(work: Path, shown: Watch) -> further.Curve:
        return grpo.curve(grpo.run(start.policy, start.folder / TRAINED, stage, work, shown))

    further.train(start, out, say, run, validate=bool(stage.validate_every), tensorboard=tensorboard)
    rewards = [row for row in further.curve(out) if "reward" in row]
    done = {
        "from": start.policy.describe()["model"],
        "landscape_seeds": [groups.first_seed(stage), stage.steps * stage.searches * groups.TRIES],
        "reward": further.ends(rewards, "reward"),
        "reward_std": further.ends(rewards, "reward_std"),
    }
    further.finish(recipe, out, start, {"reinforced": done}, _told)
    return out


def _told(manifest: dict[str, Any]) -> str:
    """What the card says of it."""
    done, stage = manifest["reinforced"], manifest["recipe"]["reinforcement"]
    first, count = done["landscape_seeds"]
    return f"""reinforced by GRPO; base and Generator are as they were.

- Reward: what the Generator's batch from a strategy brings over the best known point, without noise, in units of the
  way from a random point to the optimum, on synthetic landscapes of seeds from {first} to {first + count - 1} (some
  of them); {stage["steps"]} steps of {stage["searches"] * stage["points"]} points with {stage["group"]} strategies.
- Mean reward and spread at the beginning: {done["reward"]["first"]}, {done["reward_std"]["first"]}; at the end:
  {done["reward"]["last"]}, {done["reward_std"]["last"]} (means of the first and last five logged rows; each step has
  landscapes of its own).
- No table, supernet or log was read beyond what the model it started from had seen.
- Made by: `collm-nas finetune --recipe grpo --model MODEL --out DIR`"""
