"""A model folder whose Navigator went on learning: base and Generator are those of the model that it started from, and
so is all that they were trained on."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collm_nas.api import UserError
from collm_nas.traces import Policy
from finetune import bases, begun, manifests, processes, watch
from finetune.card import changes
from finetune.recipes import RECIPES, Further, Recipe
from finetune.trainer import checkpointing, last_checkpoint, name_base
from finetune.validation import SHOWN, Validation
from finetune.watch import Watch

TRAINED, REFERENCE = "navigator", "ref"
"""Adapters of the policy; trl knows the frozen copy by this name."""
ROLES = ("navigator", "generator")

Curve = list[dict[str, Any]]
"""The rows that were logged: those of the training, and those of validations."""


@dataclass(frozen=True, slots=True)
class Start:
    """The model that goes on learning: its engine, its folder, how the user called it, and its manifest."""

    policy: Policy
    folder: Path
    name: str
    manifest: dict[str, Any]


def load(folder: Path, name: str, engine: Callable[[Path], Policy]) -> Start:
    """The model in this folder; UserError where it has not both adapters."""
    policy = engine(folder)
    return Start(policy, folder, name, json.loads((folder / "manifest.json").read_text()))


def check(recipe: Recipe, part: str) -> None:
    """UserError where the recipe changes anything but this part of it, or there are several processes."""
    if recipe != replace(RECIPES[recipe.name], **{part: getattr(recipe, part)}):
        raise UserError(f"the recipe {recipe.name!r} has nothing to change but `{part}`, in a --config file")
    if processes.count() > 1:
        raise UserError(f"the recipe {recipe.name!r} runs in one process")


def begin(recipe: Recipe, out: Path, start: Start, mined: Sequence[dict[str, Any]] = ()) -> None:
    """Copy what stays as it is into `out`; UserError where that was begun with another recipe, model or dataset."""
    now = begun.describe(recipe, [*start.manifest.get("datasets", []), *mined], start.folder)
    now["model"] = hashlib.sha256(json.dumps([now["model"], start.policy.describe()["model"]]).encode()).hexdigest()
    begun.check(out, now)
    begun.note(out, now)
    for part in ("base", "tokenizer", "generator"):
        if (start.folder / part).is_dir():
            bases.copy(start.folder / part, out / part)


def train(
    start: Start,
    out: Path,
    say: Callable[[str], None],
    run: Callable[[Path, Watch], Curve],
    *,
    validate: bool,
    tensorboard: bool,
) -> None:
    """Unless it is there: `out/navigator`, whole or not at all. `run` trains the policy in a folder for checkpoints."""
    target, work = out / TRAINED, out / "work" / TRAINED
    if target.exists():
        return
    model, version = start.policy.model, start.manifest["digest_version"]
    validation = Validation([], start.policy.tokenizer, 1, version) if validate else None
    events = out / "work" / "tensorboard" / TRAINED if tensorboard else None
    curve = run(work, Watch(TRAINED, say, validation, events))
    part = out / "work" / "trained"
    model.save_pretrained(str(part), selected_adapters=[TRAINED])
    name_base(part / TRAINED, _base(start, out) or "../base")
    (part / TRAINED / "loss.json").write_text(json.dumps(curve))
    (part / TRAINED).rename(target)


def arguments(config: Any, stage: Further, work: Path, of_a_step: int, **own: Any) -> Any:
    """trl's arguments of this kind; `of_a_step`: answers, or pairs, that one step takes."""
    import torch

    micro = max(n for n in range(1, stage.micro_batch + 1) if of_a_step % n == 0)
    return config(
        output_dir=str(work),
        max_steps=stage.steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=of_a_step // micro,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup,
        max_grad_norm=stage.clip,
        logging_steps=min(stage.log_every, stage.steps),
        save_strategy="steps",
        save_steps=stage.save_every,
        save_total_limit=2,
        bf16=False,
        **{checkpointing(config): False},
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        seed=stage.seed,
        **own,
    )


def go(trainer: Any, stage: Further, work: Path, shown: Watch, lines: Any) -> None:
    """Train, from the last checkpoint under `work` if there is one; `lines`: the callback that says how far it is."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    for callback in watch.callbacks(shown, lines, stage.validate_every, stage.steps, trainer.log):
        trainer.add_callback(callback)
    with quietly():
        trainer.train(resume_from_checkpoint=last_checkpoint(work, stage.steps))


def curve(out: Path) -> Curve:
    """What was logged of the training of `out/navigator`."""
    rows: Curve = json.loads((out / TRAINED / "loss.json").read_text())
    return rows


def _base(start: Start, out: Path) -> str | None:
    """How the new folder names a base that is not in it: a name as it is, a path from where it lies now."""
    named: str | None = start.manifest.get("base")
    if named is None or not (start.folder / named).exists():
        return named
    return os.path.relpath((start.folder / named).resolve(), out.resolve())


def finish(
    recipe: Recipe, out: Path, start: Start, more: dict[str, Any], card: Callable[[dict[str, Any]], str]
) -> None:
    """Write the manifest, with `more` in it, and the card that tells of it."""
    manifest = _manifest(recipe, out, start) | more
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (out / "README.md").write_text(_card(manifest, start, card(manifest)))


def _manifest(recipe: Recipe, out: Path, start: Start) -> dict[str, Any]:
    """That of the model it started from, and what became of it: its sources and datasets are still what was seen."""
    base = _base(start, out)
    validated = [{name: row[name] for name in SHOWN if name in row} for row in curve(out) if "regret" in row]
    weights = [path for part in ("base", *ROLES) for path in sorted((out / part).glob("*.safetensors"))]
    return {
        **start.manifest,
        "name": recipe.name,
        **({} if base is None else {"base": base}),
        **manifests.of_recipe(recipe),
        "weights": manifests.hashes(out, weights),
        "loss": _others(start.manifest, "loss"),
        "validation": _others(start.manifest, "validation") | dict(zip([TRAINED], validated[-1:], strict=False)),
        "versions": manifests.versions(),
    }


def _others(start: dict[str, Any], key: str) -> dict[str, Any]:
    """What the manifest says under this key of the parts that stayed as they were."""
    return {part: said for part, said in start.get(key, {}).items() if part != TRAINED}


def ends(rows: Curve, name: str) -> dict[str, float]:
    """Means of the first and last five rows."""
    parts = {"first": rows[:5], "last": rows[-5:]}
    return {at: round(sum(row[name] for row in part) / len(part), 4) for at, part in parts.items()}


def _card(manifest: dict[str, Any], start: Start, told: str) -> str:
    """The text of its README.md, with that of the model it started from."""
    before = start.folder / "README.md"
    earlier = before.read_text().replace("# Model card", "## Model card", 1) if before.is_file() else ""
    hashes = ", ".join(f"{part} {sha[:12]}…" for part, sha in start.policy.describe()["model"].items())
    return f"""# Model card: {manifest["name"]}

The Navigator of {start.name}
({hashes}),
{told}{_config(manifest)}.

{earlier}"""


def _config(manifest: dict[str, Any]) -> str:
    said = changes(manifest["recipe"])
    return f", with --config FILE: {said}" if said else ""


@contextmanager
def quietly() -> Iterator[None]:
    """Without what the libraries say of each other's names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
