"""The options of one search, checked in one place for the shell and for Python."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from collm_nas import objectives
from collm_nas.api import DECODING_MODES, Architecture, Caps, Problem, SearchSpace, UserError
from collm_nas.failures import MOST
from collm_nas.presets import PRESETS, check_top_p

COSTS = ("flops", "params", "latency")
SAMPLINGS = ("masked", "rejection", "reweighted", "asap")
ENCODINGS = ("compact", "native")
QUANTIZED = ("8bit", "4bit")


SERVER = ("server", "server_model", "server_timeout", "allow_remote")
"""Options of the engine `server`; a resumed search may name another address, which changes nothing."""


class Options(TypedDict, total=False):
    """The keywords of `Settings`, for the signatures of `search` and `open_search`."""

    budget: int
    init: int | None
    batch: int
    model: Any
    navigator: str | Path | None
    generator: str | Path | None
    engine: str
    grammar_backend: str
    server: str | None
    server_model: str | None
    server_timeout: float | None
    allow_remote: bool
    quantize: str | None
    preset: str | None
    prompts: str | Path | None
    reasoning: int | str
    optimizer: str
    decoding: str
    sampling: str
    encoding: str | None
    temperature: float | None
    top_p: float
    hint: str | None
    interactive: bool
    advisor: str | None
    objective: str | Sequence[str]
    max_flops: float | None
    max_params: float | None
    max_latency: float | None
    over_cap: str
    target: float | None
    max_hours: float | None
    seed: int
    reuse: str | Path | Sequence[str | Path]
    workers: int | str
    evaluator_timeout: float | None
    max_failures: int
    retry_failed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What `search` and `open_search` take besides space and evaluator."""

    budget: int = 100  # evaluations of distinct architectures, `init` and `start_from` included
    init: int | None = None  # random ones to begin with; None: 10, or the budget where that is smaller
    batch: int = 5  # candidates asked for at once
    model: Any = None  # a folder with base, navigator and generator, or an `api.Engine`; None: the embedded one
    navigator: str | Path | None = None  # another adapter for this role
    generator: str | Path | None = None
    engine: str = "transformers"  # a file of `inference/engines`
    grammar_backend: str = "auto"  # a file of `inference/backends`, or the one for the size of the vocabulary
    server: str | None = None  # engine `server`: its address, HOST:PORT or a URL
    server_model: str | None = None  # the model's name there, or `navigator=NAME,generator=NAME`
    server_timeout: float | None = None  # seconds that it may be silent; None: 600
    allow_remote: bool = False  # whether it may be outside this machine and private networks
    quantize: str | None = None  # weights of the base in so many bits, by bitsandbytes: one of QUANTIZED
    preset: str | None = None  # one of PRESETS, whose values stand where nothing is given
    prompts: str | Path | None = None  # preset `paper`: a folder with other texts for some of its prompts
    reasoning: int | str = "off"  # tokens of free thinking before each answer, or `auto`: many where the model can
    optimizer: str = "collm"  # the language models, or a file of `collm_nas/optimizers`
    decoding: str = "new"  # one of api.DECODING_MODES
    sampling: str = "rejection"  # one of SAMPLINGS
    encoding: str | None = None  # one of ENCODINGS; None: the one the model was trained on
    temperature: float | None = None  # None: the one the Coordinator was tuned for
    top_p: float = 1.0  # each token among the likeliest that together hold this share; 1: among all
    hint: str | None = None  # advice in words, as `prefer kernel 7 late`
    interactive: bool = False  # show each strategy and let the user change it
    advisor: str | None = None  # a classical optimiser whose next candidates the Navigator reads
    objective: str | Sequence[str] = ("fitness",)  # with any of COSTS, which are minimised, a front is sought
    max_flops: float | None = None  # multiply-adds
    max_params: float | None = None
    max_latency: float | None = None  # milliseconds
    over_cap: str = "reject"  # or `evaluate`: over-cap candidates are evaluated, and never best
    target: float | None = None  # stop at the first feasible fitness of at least this
    max_hours: float | None = None  # all sessions added up
    seed: int = 0
    reuse: str | Path | Sequence[str | Path] = ()  # folders of earlier runs whose evaluations are taken over
    workers: int | str = 1  # evaluations at once, here; or the address of a Ray cluster: `ray://HOST:PORT`
    evaluator_timeout: float | None = None  # seconds after which a worker's evaluation is given up
    max_failures: int = MOST  # failed evaluations in a row after which the search stops
    retry_failed: bool = False  # of a resumed run: evaluate again what failed

    def __post_init__(self) -> None:
        """Raises UserError in one sentence that names the option and what is legal."""
        for name in ("budget", "batch"):
            _whole(name, getattr(self, name), 1)
        _whole("seed", self.seed, 0)
        if self.init is not None:
            _whole("init", self.init, 0)
            if self.init > self.budget:
                raise UserError(
                    f"--init {self.init} is more than --budget {self.budget}, which it is part of; lower it"
                )
        _one_of("decoding", self.decoding, DECODING_MODES)
        _one_of("sampling", self.sampling, SAMPLINGS)
        _one_of("over-cap", self.over_cap, ("reject", "evaluate"))
        if self.encoding is not None:
            _one_of("encoding", self.encoding, ENCODINGS)
        if self.quantize is not None:
            _one_of("quantize", self.quantize, QUANTIZED)
        self._check_preset()
        self._check_server()
        objectives.read(self.objective)
        if self.reasoning not in ("off", "auto"):
            _whole("reasoning", self.reasoning, 1, "off, auto or ")
        _number("target", self.target, positive=False)
        _number("temperature", self.temperature, zero=True)
        self._check_top_p()
        _number("max-hours", self.max_hours)
        _number("server-timeout", self.server_timeout)
        for cost in COSTS:
            _number(f"max-{cost}", getattr(self, f"max_{cost}"))
        _workers(self.workers)
        self._check_failing()
        if self.optimizer != "collm" and (self.model or self.navigator or self.generator):
            raise UserError(
                f"--model is for --optimizer collm, but the optimizer is {self.optimizer!r}, which has none"
            )
        self._check_advice()

    def _check_failing(self) -> None:
        _whole("max-failures", self.max_failures, 1)
        _number("evaluator-timeout", self.evaluator_timeout)
        if self.evaluator_timeout is not None and self.workers == 1:
            raise UserError(
                "--evaluator-timeout: Python code can't be ended within this process; add --workers 2 (or more), whose "
                "processes can, or score by a command (--evaluator-cmd)"
            )

    def _check_advice(self) -> None:
        if self.hint is not None and not isinstance(self.hint, str):
            raise UserError(f"--hint must be a text, e.g. 'prefer kernel 7 late', but is {self.hint!r:.60}")
        other = f"--preset {self.preset}" if self.preset else f"--optimizer {self.optimizer}"
        for name in ("hint", "interactive", "advisor"):
            if getattr(self, name) and (self.optimizer != "collm" or self.preset is not None):
                raise UserError(f"--{name} is for tuned models, not for {other}; leave it out")

    def _check_top_p(self) -> None:
        check_top_p(self.top_p)
        strategies = self.optimizer == "collm" and self.preset is None and self.decoding not in ("free", "json")
        if self.top_p < 1 and self.sampling == "reweighted" and strategies and not hasattr(self.model, "generate"):
            raise UserError(
                f"--sampling reweighted with --top-p {self.top_p:g} needs to read all that may be answered, and the "
                "Navigator may write too many strategies, whatever the space; use --sampling asap (near that law), "
                "rejection or masked, or --top-p 1"
            )

    def _check_preset(self) -> None:
        if self.preset is not None:
            _one_of("preset", self.preset, tuple(PRESETS))
            if self.engine == "server":
                if self.model is not None:
                    raise UserError(
                        f"--preset {self.preset} on --engine server chats with what is served; leave --model out "
                        "(--server-model names one of several)"
                    )
            elif self.model in (None, EMBEDDED):
                raise UserError(
                    f"--preset {self.preset} needs a chat model, which the embedded one is not; give --model DIR, or "
                    "--model smollm2"
                )
            if self.encoding == "compact":
                raise UserError(f"--preset {self.preset} speaks of architectures in native encoding; leave it out")
            if len(self.objectives) > 1:
                raise UserError(
                    f"--preset {self.preset} tells its model fitness in words, and knows no other objective; leave "
                    f"--objective {self.objectives[1]} out, or the preset"
                )
        elif self.prompts is not None:
            raise UserError("--prompts is for --preset paper; the tuned models read digests, not prompts of words")

    def _check_server(self) -> None:
        if self.engine == "server":
            if not self.server:
                raise UserError("--engine server needs the address of one: --server HOST:PORT, as in localhost:8000")
            return
        for name in SERVER:
            if getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')} is for --engine server; give that, or leave it out")

    @property
    def caps(self) -> Caps:
        """The caps that were set."""
        limits = {cost: float(limit) for cost in COSTS if (limit := getattr(self, f"max_{cost}")) is not None}
        return Caps(limits, "reject" if self.over_cap == "reject" else "evaluate")

    @property
    def objectives(self) -> tuple[str, ...]:
        """Fitness, then the costs that are minimised beside it."""
        return objectives.read(self.objective)

    @property
    def earlier(self) -> list[Path]:
        """The folders of `reuse`."""
        given = [self.reuse] if isinstance(self.reuse, str | Path) else self.reuse
        return [Path(one).expanduser() for one in given]

    @property
    def first(self) -> int:
        """Number of random architectures to begin with: 10 where it was left out, or the budget if that is smaller."""
        return min(10, self.budget) if self.init is None else self.init

    def recorded(self, starts: Sequence[str]) -> dict[str, Any]:
        """The options as the journal's header keeps them; those of language models only where there is one."""
        options: dict[str, Any] = {
            "optimizer": self.optimizer,
            "init": self.first,
            "batch": self.batch,
            "caps": dict(self.caps.limits),
            **({"objective": list(self.objectives)} if len(self.objectives) > 1 else {}),
            "over_cap": self.over_cap,
            "target": self.target,
            "max_hours": self.max_hours,
            "start_from": list(starts),
        }
        if self.optimizer == "collm":
            options |= {
                "model": _name(self.model) or ("served" if self.preset else "embedded"),
                "navigator": _name(self.navigator),
                "generator": _name(self.generator),
                "engine": self.engine,
                **({} if self.server_model is None else {"server_model": self.server_model}),
                "decoding": self.decoding,
                "sampling": self.sampling,
                "grammar_backend": self.grammar_backend,
                "encoding": self.encoding,
                "temperature": self.temperature,
                **({} if self.top_p == 1 else {"top_p": self.top_p}),
                **({} if self.hint is None else {"hint": self.hint}),
                **({"interactive": True} if self.interactive else {}),
                **({} if self.advisor is None else {"advisor": self.advisor}),
                "reasoning": self.reasoning,
                "quantize": self.quantize,
                "preset": self.preset,
                "prompts": None if self.prompts is None else str(Path(self.prompts).expanduser().resolve()),
            }
        return options


EMBEDDED = "embedded"
"""The name of the model that the package carries."""


def of(options: Mapping[str, Any]) -> Settings:
    """The settings with these options, and those of their preset where they say nothing."""
    return Settings(**{**PRESETS.get(str(options.get("preset")), {}), **options})


def _name(model: Any) -> str | None:
    """How a model is told from another: a folder by its absolute path, an engine object by its type."""
    if model in (None, EMBEDDED) or (model == "smollm2" and not Path(model).exists()):
        return None if model is None else str(model)
    return str(Path(model).expanduser().resolve()) if isinstance(model, str | Path) else type(model).__name__


def _workers(value: Any) -> None:
    if not isinstance(value, str):
        _whole("workers", value, 1)
    elif not re.fullmatch(r"(ray://)?[^/\s]+:\d+", value):
        raise UserError(
            f"--workers must be a whole number of at least 1, or ray://HOST:PORT or HOST:PORT of a Ray cluster, but is "
            f"{value!r}"
        )


def _whole(name: str, value: Any, least: int, others: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"--{name} must be {others}a whole number of at least {least}, but is {value!r}")


def _number(name: str, value: Any, *, positive: bool = True, zero: bool = False) -> None:
    if value is None:
        return
    if isinstance(value, list | tuple):
        raise UserError(f"--{name} takes one number here, but is {value!r:.60}; collm_nas.search_family takes several")
    legal = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not legal or (positive and (value < 0 or (value == 0 and not zero))):
        kind = "a finite number" + (", zero or more" if zero else " above zero" if positive else "")
        raise UserError(f"--{name} must be {kind}, but is {value!r}")


def _one_of(name: str, value: str, legal: Sequence[str]) -> None:
    if value not in legal:
        raise UserError(f"--{name} {value!r} is unknown; legal: {', '.join(legal)}")


def check_caps(problem: Problem) -> None:
    """UserError where a cap has no cost to hold against, or lies below the cheapest architecture.

    The cheapest is exact but in large spaces that state no terms of their costs, where it is the best of several
    descents.
    """
    from collm_nas.constraints import affordable, remaining
    from collm_nas.memory import Memory

    caps = problem.caps
    if not caps.limits:
        return
    example = next(iter(problem.space.all()))
    known = {} if problem.costs is None else problem.costs(example)
    for cost in caps.limits:
        if cost not in known:
            raise UserError(
                f"--max-{cost}: neither the space {problem.space.name!r} nor the table knows the cost {cost!r}; "
                f"known: {', '.join(sorted(set(known) & set(COSTS))) or 'none'}"
            )
    if Memory(_with_caps(problem, caps.limits), "caps").new_random() is not None:
        return
    for cost, limit in caps.limits.items():
        cheapest, exact = _cheapest(problem, cost)
        if cheapest > limit:
            found = "the cheapest architecture" if exact else "the cheapest architecture found"
            raise UserError(f"--max-{cost} {limit:g} is below {found}, which has {cost} {cheapest:g}; raise it")
    space: Any = problem.space
    masked = len(affordable.maskable(space, caps.limits)) == len(caps.limits)
    if masked and remaining.within(space, "native", caps.limits, problem.costs).count("") > 0:
        return
    names = " and ".join(f"--max-{cost} {limit:g}" for cost, limit in caps.limits.items())
    raise UserError(f"no architecture {'' if masked else 'was found that '}meets {names} together; raise one of them")


def _with_caps(problem: Problem, limits: Mapping[str, float]) -> Problem:
    return Problem(problem.space, 0, problem.budget, Caps(limits, "reject"), problem.costs)


def _cheapest(problem: Problem, cost: str) -> tuple[float, bool]:
    """The lowest value of this cost, and whether it is exact."""
    from collm_nas.constraints.cheapest import ENUMERABLE, cheapest
    from collm_nas.memory import Memory

    space: Any = problem.space
    if not space.restricted and cost in space.cost(next(space.all())) and (least := cheapest(space, cost)) is not None:
        return least, True
    if space.size <= ENUMERABLE:
        return min(problem.costs(arch)[cost] for arch in space.all()), True
    memory = Memory(_with_caps(problem, {cost: 0.0}), "cheapest")
    descents = [memory.within_caps(space.sample(memory.rng)) for _ in range(8)]
    return min(problem.costs(arch)[cost] for arch in descents), False


def read_starts(space: SearchSpace, start_from: object) -> list[Architecture]:
    """The starting architectures, from a text file (one native spelling a line, `#` comments) or a sequence.

    Raises UserError that names file, line and culprit.
    """
    if start_from is None:
        return []
    if isinstance(start_from, str | Path):
        return _read_starts(space, Path(start_from))
    if not isinstance(start_from, Sequence):
        raise UserError(f"--start-from must be a file or a sequence of architectures, but is {start_from!r:.60}")
    return [one if isinstance(one, Architecture) else space.parse(one) for one in start_from]


def _read_starts(space: SearchSpace, path: Path) -> list[Architecture]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"--start-from: cannot read {path}: {reason}") from None
    archs = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                archs.append(space.parse(line.strip()))
            except ValueError as error:
                raise UserError(f"--start-from: {path}, line {number}: {error}") from None
    if not archs:
        raise UserError(f"--start-from: {path} holds no architecture; give one native spelling a line")
    return archs
