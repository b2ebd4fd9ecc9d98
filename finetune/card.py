"""The card of a model folder: what it is, what it learnt from, how it was made."""

from __future__ import annotations

from typing import Any

from finetune import begun
from finetune.recipes import RECIPES, Recipe
from finetune.validation import SHOWN


def card(recipe: Recipe, manifest: dict[str, Any], about: str) -> str:
    """The text of its README.md; `about`: what its base is."""
    loss = manifest["loss"]
    trained = "\n".join(_trained_on(one) for one in manifest["datasets"])
    commands = "`, `".join(one["command"] for one in manifest["datasets"])
    given = " ".join("--dataset DIR" for _ in manifest["datasets"])
    named = "" if recipe.base else " --model MODEL"
    named += f" --quantize {recipe.quantize}" if recipe.quantize else ""
    changed = changes(manifest["recipe"])
    named += " --config FILE" if changed else ""
    told = f"\n  FILE changes the recipe: {changed}." if changed else ""
    losses = ", ".join(f"{name} {value}" for name, value in loss.items())
    return f"""# Model card: {recipe.name}

{about} and two LoRA adapters on it: Navigator (digest to strategy) and Generator (strategy to architecture). It
optimises *in context*, from what it is shown of a search.

- Adapters trained on:
{trained}
- Tables, supernets and logs read, by the base as well: {_read(manifest["sources"])}
- Made by: `{commands}`,
  then `collm-nas finetune{named} --recipe {recipe.name} {given} --out DIR`.{told}
- Loss at the end, nats a target token: {losses}.{_validation(manifest)}
- Digest version {manifest["digest_version"]}, encoding {manifest["encoding"]}.
  Hashes of weights, tokenizer and data: manifest.json.
- Limits: spaces of at most 52 variables with 36 choices.
- Licence: Apache-2.0; that of a base by others is theirs.
"""


def changes(recipe: dict[str, Any]) -> str:
    """What a --config file changed in this recipe, which is told as in a manifest."""
    usual = begun.plain(RECIPES[recipe["name"]]) if recipe["name"] in RECIPES else recipe
    found = begun.differences(usual, recipe)
    return ", ".join(f"{key} {value}" for key, _, value in found if key != "quantize")


def _validation(manifest: dict[str, Any]) -> str:
    """What was measured last on what no stage was trained on."""
    rows = [
        f"{stage}: " + ", ".join(f"{words} {found[name]}" for name, words in SHOWN.items() if name in found)
        for stage, found in manifest["validation"].items()
    ]
    if not rows:
        return ""
    return (
        f"\n- Validation at the end, on {manifest['held_out']} landscapes, searches or runs that were held out, and by "
        "proposals on\n  landscapes of reserved seeds (regret: 0 at the optimum, 1 for a random point). "
        + "; ".join(rows)
        + "."
    )


def _trained_on(mined: dict[str, Any]) -> str:
    settings = mined["settings"]
    if mined["miner"] != "landscapes":
        of = ", ".join(sorted(mined["sources"]))
        return f"  - `{mined['miner']}` of {of}; labels by `{mined['labeller']}`"
    first, count = settings["first_seed"], settings["landscapes"]
    large = f"{settings['large']:.0%} of them with 13 to 24 variables, {settings['huge']:.0%} with 25 to 50"
    large += f", {settings['real']:.0%} on the variables and costs of published spaces, with invented fitness"
    return f"  - synthetic landscapes, seeds {first} to {first + count - 1}, {large}; labels by `{mined['labeller']}`"


def _read(sources: dict[str, str]) -> str:
    if not sources:
        return "none. No result of any NAS benchmark was seen, directly or by choice of recipe."
    listed = ", ".join(f"{name} (sha256 {sha[:12]}…)" for name, sha in sorted(sources.items()))
    return f"{listed}: a search of them says `seen`."
