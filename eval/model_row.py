"""The optimiser of a row of a benchmark; of the row `collm`, its engine and the options of its search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from collm_nas import weighted
from collm_nas.api import Completion, Engine, Optimizer, Problem, Request, UserError
from collm_nas.journal import Journal, JournaledEngine
from collm_nas.presets import PRESETS, thinking
from collm_nas.prompts import Hint
from eval.problems import Instance
from eval.rows import Row

ENGINE, BACKEND = "transformers", "auto"


def optimizer(
    row: Row, problem: Problem, journal: Journal, instance: Instance
) -> tuple[Optimizer, dict[str, Any], dict[str, float]]:
    """The row's optimiser, what its engine says of itself, and the seconds it spends on grammars (empty without)."""
    if row.model is None:
        from collm_nas import optimizers

        return optimizers.create(row.name, problem, **dict(row.options)), {}, {}
    engine, options = engine_of(row)
    described, preset = engine.describe(), options.pop("preset", None)
    for name in ("init", "batch", "over_cap"):  # all rows share the protocol's
        options.pop(name, None)
    if "hint" in options:
        options["hint"] = _hint(str(options["hint"]), instance, problem.seed)
    if "advisor" in options:
        from collm_nas import optimizers

        options["advisor"] = optimizers.advisor(str(options["advisor"]), problem)
    asked = by_temperature(JournaledEngine(engine, journal), options)
    variant = options.pop("variant", None)
    make = partial(_create(preset, variant), engine=asked, **options)
    return weighted.around(problem, make, each=False), described, engine.spent


def engine_of(row: Row) -> tuple[Any, dict[str, Any]]:
    """The row's engine, and what is left of its options with those of its preset."""
    assert row.model is not None
    options = dict(row.options)
    for name in ("model", "tuned"):
        options.pop(name, None)
    preset = options.get("preset")
    options = {**PRESETS.get(str(preset), {}), **options}
    engine = _engine(
        row.model,
        options.pop("engine", ENGINE),
        sampling=options.pop("sampling", "rejection"),
        backend=options.pop("grammar_backend", BACKEND),
        tuned=row.tuned,
    )
    described = engine.describe()
    options.setdefault("encoding", described.get("encoding", "compact"))
    options["reasoning"] = thinking(options.get("reasoning", "off"), described)
    if preset == "paper":
        del options["encoding"]  # its own is the native one
        if "prompts" in options:
            options["prompts"] = Path(options["prompts"])
    return engine, options


def check(row: Row) -> None:
    """UserError where the model folder, the preset or the variant is none, or they do not go together."""
    from eval import paper_variants, variants
    from inference.folder import ModelFolder

    assert row.model is not None
    options = dict(row.options)
    preset, variant = options.get("preset"), options.get("variant")
    if preset is not None and preset not in PRESETS:
        raise UserError(f"--rows: preset {preset!r} of {row.label!r} is unknown; legal: {', '.join(PRESETS)}")
    for name in ("strategies", "hint", "advisor"):
        if preset == "paper" and name in options:
            raise UserError(f"--rows: {name} is for tuned models, and {row.label!r} has the preset paper; leave it out")
    legal = tuple(paper_variants.KINDS) if preset == "paper" else variants.NAMES
    if variant is not None and variant not in legal:
        way = "with the preset paper" if preset == "paper" else "of a tuned model"
        raise UserError(f"--rows: {row.label!r} has no variant {variant!r} {way}; legal there: {', '.join(legal)}")
    ModelFolder.open(row.model, tuned=row.tuned)


@lru_cache(maxsize=2)
def _engine(model: Path, engine: str, **options: Any) -> Any:
    """Loaded once in each process."""
    import torch

    from inference import engines

    torch.set_num_threads(1)
    return engines.load(engine, model, **options)


def _create(preset: str | None, variant: str | None) -> Callable[..., Optimizer]:
    """What makes the search."""
    from collm_nas import coordinator, paper
    from eval import paper_variants, variants

    if preset == "paper":
        return paper.create if variant is None else partial(paper_variants.create, variant)
    return coordinator.create if variant is None else partial(variants.create, variant)


def _hint(text: str, instance: Instance, seed: int) -> Hint | None:
    """Advice in words; or of a kind, made from the best point that the problem knows."""
    import numpy as np

    from collm_nas import hints
    from data_gen import hinting

    if text not in hinting.RIGHT:
        return hints.read(text, instance.space)
    best = getattr(instance.evaluator, "best", None)
    if best is None:
        raise UserError(f"--rows: hint={text} is for landscapes, whose best point is known; write the hint in words")
    return hinting.draw(instance.space, best, np.random.default_rng([seed, 3]), text)


# --- a temperature a role ---------------------------------------------------------------------------------------------


class Temperatures:
    """An engine that asks each role at a temperature of its own."""

    def __init__(self, engine: Engine, of: dict[str, float]) -> None:
        self._engine, self._of = engine, of

    def generate(self, request: Request) -> list[Completion]:
        """As the engine beneath."""
        return self._engine.generate(replace(request, temperature=self._of.get(request.role, request.temperature)))

    def describe(self) -> dict[str, Any]:
        """As the engine beneath, with the temperatures."""
        return {**self._engine.describe(), "temperatures": dict(self._of)}


def by_temperature(engine: Engine, options: dict[str, Any]) -> Engine:
    """The engine under `navigator_temperature` and `generator_temperature`, which are taken out of the options."""
    roles = [role for role in ("navigator", "generator") if f"{role}_temperature" in options]
    of = {role: options.pop(f"{role}_temperature") for role in roles}
    for role, temperature in of.items():
        if not isinstance(temperature, int | float) or not 0 <= temperature < float("inf"):
            raise UserError(f"--rows: {role}_temperature must be a number of at least 0, but is {temperature!r}")
    return Temperatures(engine, of) if of else engine
