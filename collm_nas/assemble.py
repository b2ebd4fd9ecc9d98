"""Putting a run together: everything is checked, and table and model are loaded, before the run folder is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import collm_nas
from collm_nas import objectives, reuse, rundir, weighted
from collm_nas.api import Architecture, DecodingMode, Encoding, Engine, Evaluator, Optimizer, Problem, UserError
from collm_nas.journal import Journal, JournaledCosts, JournaledEngine, plain
from collm_nas.presets import thinking
from collm_nas.settings import SERVER, Settings, check_caps, read_starts
from collm_nas.stages import stage

EMBEDDED = Path(__file__).parent / "models" / "embedded"
"""The model that comes with the package."""

NOT_KEPT = ("event", "time", "budget", "reused")
"""What each header of a run has of its own; all else is as in the first."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A search ready to begin or go on. `problem.budget`: what it was begun with; `final`: the budget to reach."""

    settings: Settings
    problem: Problem
    evaluator: Evaluator
    optimizer: Optimizer
    journal: Journal
    header: dict[str, Any]
    starts: list[Architecture]
    init: int
    final: int
    out: Path | None
    pool: list[dict[str, Any]]
    """Evaluations of earlier runs (`reuse`)."""

    @property
    def finished(self) -> bool:
        """Whether its journal holds its end already, at this budget."""
        events = self.journal.events
        budgets = [event["budget"] for event in events if event["event"] == "header"]
        return bool(events) and events[-1]["event"] == "end" and budgets[-1] >= self.final


def load_space(space: Any) -> Any:
    """A space, or the one of this name or YAML path."""
    from collm_nas import spaces

    return spaces.load(space) if isinstance(space, str | Path) else space


def bind(space: Any, evaluator: Any) -> tuple[Any, Evaluator]:
    """The space as the evaluator restricts it, and the evaluator; a function is wrapped."""
    if not hasattr(evaluator, "evaluate"):
        from collm_nas.evaluators import function

        evaluator = function.create(space, evaluator)
    own = getattr(evaluator, "space", space)
    if own.name != space.name:
        raise UserError(f"--space: the evaluator is for space {own.name!r}, not for {space.name!r}")
    return own, evaluator


def costs_of(space: Any, evaluator: Evaluator) -> Callable[[Architecture], dict[str, float]] | None:
    """Costs of the space, else of the table's columns; None where neither knows any."""

    def costs(arch: Architecture) -> dict[str, float]:
        return {**evaluator.costs(arch), **space.cost(arch)}

    return costs if costs(next(iter(space.all()))) else None


def prepare(
    space: Any,
    evaluator: Any,
    settings: Settings,
    start_from: object,
    out: Path | None,
    resume: bool,
    began: float,
    wait: float = 0.0,
) -> Run:
    """Check everything and load what is needed; UserError, with nothing made, where something is wrong. `wait`: seconds
    to wait for another process that has the run."""
    if settings.retry_failed and not resume:
        raise UserError("--retry-failed is for --resume: it evaluates again what failed in the run to go on with")
    space, evaluator = bind(load_space(space), evaluator)
    starts = read_starts(space, start_from)
    costs = costs_of(space, evaluator)
    check_optimizer("optimizer", settings.optimizer, "collm")
    if settings.advisor is not None:
        check_optimizer("advisor", settings.advisor)
    whole = Problem(space, settings.seed, settings.budget, settings.caps, costs, settings.objectives)
    check_caps(whole)
    _check_objectives(whole, evaluator)
    needed = {cost: f"--objective {cost}" for cost in settings.objectives[1:]}
    needed |= {cost: f"--max-{cost}" for cost in settings.caps.limits}
    pool = reuse.read(space, plain(evaluator.protocol()), needed, settings.earlier)
    journal = rundir.open_journal(out, resume, began, wait)
    try:
        old = journal.events[0] if journal.events else None
        header = _header(space, evaluator, settings, [space.format(arch) for arch in starts])
        if old is not None:
            settings = _resumed(journal, header, settings, out)
        if costs is not None and getattr(evaluator, "latency", False):
            costs = JournaledCosts(costs, journal, space, (old or {}).get("measured", {}))
        problem = replace(whole, budget=old["budget"] if old else settings.budget, costs=costs)
        optimizer, engine = optimizer_of(problem, settings, journal, old)
        if old is not None:
            header = {key: value for key, value in old.items() if key not in NOT_KEPT}
        elif engine is not None:
            described = plain(engine.describe())
            header |= {"engine": described, "seen": seen(described, header["protocol"])}
            header["options"]["encoding"] = settings.encoding or described.get("encoding", "compact")
        if old is None and isinstance(costs, JournaledCosts):
            header["measured"] = dict(costs.known)
    except BaseException:
        journal.close()
        raise
    return Run(
        settings=settings,
        problem=problem,
        evaluator=evaluator,
        optimizer=optimizer,
        journal=journal,
        header=header,
        starts=starts,
        init=header["options"]["init"],
        final=settings.budget,
        out=out,
        pool=pool,
    )


def _check_objectives(problem: Problem, evaluator: Evaluator) -> None:
    objectives.check(problem)
    if len(problem.objectives) > 1 and getattr(evaluator, "bounded", False):
        raise UserError(
            "--race stops early on what cannot have the best fitness, which with --objective "
            f"{problem.objectives[1]} may still belong to the front; leave it out"
        )


def _header(space: Any, evaluator: Evaluator, settings: Settings, starts: Sequence[str]) -> dict[str, Any]:
    return {
        "version": 1,
        "space": space.spec(),
        "space_sha256": space.digest(),
        "protocol": plain(evaluator.protocol()),
        "options": plain(settings.recorded(starts)),
        "seed": settings.seed,
        "engine": None,
        "seen": "n/a",
        "versions": _versions(settings),
    }


def _resumed(journal: Journal, header: dict[str, Any], settings: Settings, out: Path | None) -> Settings:
    """Check that the run in the journal is this search; what was left out (`init`, `encoding`) is as it was begun."""
    old = journal.events[0]
    options = header["options"]
    for key in ("init", "encoding"):
        if getattr(settings, key) is None and key in options:
            options[key] = old["options"].get(key)
    rundir.check_same(old, header, out)
    reached = [e["budget"] for e in journal.events if e["event"] == "header"][-1]
    if settings.budget < reached:
        raise UserError(
            f"--budget {settings.budget} is below the {reached} that the run in {out} was begun with; give it, or more"
        )
    return settings


def check_optimizer(option: str, name: str, *others: str) -> None:
    """UserError where the optimiser is none of the folder's, nor of `others`."""
    from collm_nas import optimizers

    legal = [*others, *optimizers.names()]
    if name not in legal:
        import difflib

        near = difflib.get_close_matches(str(name), legal, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"--{option} {name!r} is unknown; legal: {', '.join(legal)}{hint}")


def optimizer_of(
    problem: Problem, settings: Settings, journal: Journal, old: Mapping[str, Any] | None
) -> tuple[Optimizer, Engine | None]:
    """The optimiser and its engine; a resumed run loads its model only when an answer is not in the journal."""
    if settings.optimizer != "collm":
        from collm_nas import optimizers

        return optimizers.create(settings.optimizer, problem), None
    from collm_nas import coordinator, hints, optimizers

    space: Any = problem.space
    hint = None if settings.hint is None else hints.read(settings.hint, space)
    engine: JournaledEngine
    if old is None:
        engine = JournaledEngine(_engine(settings, problem), journal)
    else:
        _check_model(settings, old["engine"])
        engine = JournaledEngine(lambda: _engine(settings, problem), journal, described=old["engine"])
    given: dict[str, Any] = {} if settings.temperature is None else {"temperature": settings.temperature}
    given["top_p"] = settings.top_p
    given["reasoning"] = thinking(settings.reasoning, engine.describe())
    decoding = cast(DecodingMode, settings.decoding)
    if settings.preset == "paper":
        from collm_nas import paper

        folder = None if settings.prompts is None else Path(settings.prompts).expanduser()
        return paper.create(problem, engine, decoding=decoding, prompts=folder, target=settings.target, **given), engine
    encoding = settings.encoding or (
        old["options"]["encoding"] if old else engine.describe().get("encoding", "compact")
    )
    if encoding == "compact":
        space.check_compact()
    spelled = cast(Encoding, encoding)
    given["hint"] = hint
    if settings.interactive:
        given["strategies"] = 1  # a round has one to read
    if settings.advisor is not None:
        given["advisor"] = optimizers.advisor(settings.advisor, problem)
    make = partial(coordinator.create, engine=engine, decoding=decoding, encoding=spelled, **given)
    return weighted.around(problem, make, each=False), engine


def _model_folders(settings: Settings) -> tuple[Path, Path | None, Path | None]:
    def folder(given: str | Path | None) -> Path | None:
        return None if given is None else Path(given).expanduser()

    model = EMBEDDED if settings.model in (None, "embedded") else folder(settings.model)
    assert model is not None
    return model, folder(settings.navigator), folder(settings.generator)


def _engine(settings: Settings, problem: Problem) -> Engine:
    engine = settings.model if hasattr(settings.model, "generate") else load_engine(settings)
    if not settings.interactive:
        return engine
    from collm_nas.interactive import Interactive

    return Interactive(engine, problem.space, input, print)  # type: ignore[arg-type]


def load_engine(settings: Settings) -> Engine:
    """The engine with the model that these name."""
    model, navigator, generator = _model_folders(settings)
    loaded: Engine = stage("inference.engines").load(
        settings.engine,
        model,
        navigator=navigator,
        generator=generator,
        backend=settings.grammar_backend,
        sampling=settings.sampling,
        tuned=settings.preset is None,
        **({} if settings.quantize is None else {"quantize": settings.quantize}),
        **{name: value for name in SERVER if (value := getattr(settings, name))},
    )
    return loaded


def _check_model(settings: Settings, described: Mapping[str, Any]) -> None:
    """UserError where the model's files are not those the run was begun with; hashes alone, nothing is loaded."""
    if hasattr(settings.model, "generate") or (settings.engine == "server" and settings.preset):
        return  # nothing of it lies here
    folder = stage("inference.folder").ModelFolder.open(*_model_folders(settings), tuned=settings.preset is None)
    for key, value in plain(folder.describe()).items():
        if described.get(key) != value:
            raise UserError(
                f"--model: {key} of the model has changed since the run began; resume with the model it had"
            )


def seen(described: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """`seen` where the model was trained on the table in use, by hash; `unseen` otherwise."""
    sources = described.get("sources") or {}
    trained_on = set(sources.values()) if isinstance(sources, Mapping) else set(sources)
    used = {protocol.get("sha256"), *(protocol.get("source_hashes") or ())} - {None}
    return "seen" if used & trained_on else "unseen"


def _versions(settings: Settings) -> dict[str, str]:
    import platform

    names = ["numpy", "scikit-learn"] + (
        ["torch", "transformers", "peft", "outlines"] if settings.optimizer == "collm" else []
    )
    found = {"collm-nas": str(collm_nas.__version__), "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
