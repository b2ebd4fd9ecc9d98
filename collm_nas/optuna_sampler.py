"""`CollmSampler`: the two language models, or any optimiser of ours, as a sampler of Optuna (extra `rivals`).

    study = optuna.create_study(direction="maximize", sampler=collm_nas.CollmSampler(seed=0))

It keeps nothing: each proposal is made from the study's trials, the seed and the trial's number alone, so that several
processes on one storage, and one that is begun again, search as one. Hence the Navigator does not hear what its last
strategies brought, as it does in `collm_nas.search`.

Categorical parameters, and numbers that take at most `MOST` values, become a space of ours; no configuration of these
is proposed twice, from the first finished trial on (before, Optuna knows no parameters, unless `search_space` says).
Trials that run count: each writes its configuration into the storage before it starts, and looks whether another
worker has done the same. Others (continuous ones, those that not every trial has) are left to `independent_sampler`.
"""

from __future__ import annotations

import math
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from random import Random, SystemRandom
from typing import Any

from collm_nas import settings as checked
from collm_nas.api import Architecture, Candidate, Evaluation, Observation, Problem, UserError, Variable
from collm_nas.assemble import check_optimizer, load_engine, optimizer_of
from collm_nas.journal import Journal
from collm_nas.memory import Memory
from collm_nas.settings import Settings
from collm_nas.spaces.base import CHOICE_CHARS, CategoricalSpace

try:
    import optuna
except ImportError:
    raise ImportError(
        "CollmSampler needs the package optuna; install it with: pip install 'collm-nas[rivals]'"
    ) from None
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers._base import _process_constraints_after_trial
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

MOST = len(CHOICE_CHARS)
"""Values that a parameter may have, at most, to be one of ours: what the compact encoding spells."""
OPTIONS = (
    "navigator", "generator", "engine", "grammar_backend", "quantize", "reasoning", "decoding", "sampling", "encoding",
    "temperature", "top_p", "hint", "advisor", "budget",
)  # fmt: skip
"""What else a sampler takes, as `collm_nas.search` does; some optimisers choose sizes by the budget (default 100)."""
_CLAIM = "collm:configuration"
_ASKS = 3
"""Asks in vain, where a way of decoding lets repeats through, before a random configuration is taken."""
_LOCK = threading.Lock()
_log = optuna.logging.get_logger(__name__)


class CollmSampler(optuna.samplers.BaseSampler):
    """A sampler of Optuna, for studies of one objective; see the module."""

    def __init__(
        self,
        *,
        optimizer: str = "collm",
        model: Any = None,
        seed: int | None = None,
        init: int | None = None,
        search_space: Mapping[str, BaseDistribution] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        independent_sampler: optuna.samplers.BaseSampler | None = None,
        warn_independent_sampling: bool = True,
        **options: Any,
    ) -> None:
        """`optimizer`: `collm` (the language models) or a file of `collm_nas/optimizers`. `model`: as of `search`.
        `init`: finished trials before it is asked (10); until then configurations are random. `search_space`: the
        parameters that every trial has, by name, where they are known before the first one. `constraints_func`: values
        of a trial that must be at most 0, beside those of `trial.set_constraint`. `options`: see `OPTIONS`.

        Raises UserError (a ValueError) in one sentence for whatever is wrong with these.
        """
        for name in options:
            if name not in OPTIONS:
                raise UserError(f"CollmSampler has no option {name!r}; legal: {', '.join(OPTIONS)}")
        check_optimizer("optimizer", optimizer, "collm")
        self._settings = checked.of({"optimizer": optimizer, "model": model, "init": init, **options})
        self._seed = SystemRandom().getrandbits(32) if seed is None else seed
        self._space = None if search_space is None else dict(sorted(search_space.items()))
        self._constraints_func = constraints_func
        self._independent = independent_sampler or optuna.samplers.RandomSampler(seed)
        self._warn = warn_independent_sampling
        self._warned: set[str] = set()

    def reseed_rng(self) -> None:
        """For parallel workers: proposals differ by the trial's number, so that this is about independent ones."""
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Those parameters of all finished trials (or of `search_space`) that take few values."""
        known = self._space
        if known is None:
            known = intersection_search_space(_trials(study), include_pruned=True)
        return {name: d for name, d in known.items() if not d.single() and _reason(d) is None}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A new configuration; a random one, with a warning, where all were tried."""
        self._raise_error_if_multi_objective(study)
        if search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}  # enqueued by the user
        searched = {name: d for name, d in search_space.items() if _reason(d) is None}
        params: dict[str, Any] = {}
        if searched:
            found = Parameters(searched)
            with _LOCK:
                arch = self._claimed(study, trial, found)
            params = {} if arch is None else found.values(arch)
            if arch is None:
                self._say("", f"all {found.space.size} configurations were tried; what follows are random repeats")
        return {
            name: params[name] if name in params else self._independent.sample_independent(study, trial, name, d)
            for name, d in search_space.items()
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value by `independent_sampler`, with a warning once a parameter."""
        self._raise_error_if_multi_objective(study)
        said = not self._warn or param_name in self._warned
        if not said and not param_distribution.single() and self._begun(study):
            why = _reason(param_distribution) or "not every trial has it, with the same values"
            self._say(
                param_name,
                f"the parameter {param_name!r} is left to {type(self._independent).__name__}: {why} "
                "(warn_independent_sampling=False says nothing)",
            )
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Nothing of our own."""
        self._independent.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Keep the constraints of `constraints_func`."""
        if self._constraints_func is not None:
            _process_constraints_after_trial(self._constraints_func, study, trial, state)
        self._independent.after_trial(study, trial, state, values)

    def _begun(self, study: optuna.Study) -> bool:
        """Whether there is a space to search: before, everything is sampled independently."""
        return self._space is not None or any(
            t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in _trials(study)
        )

    def _say(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            _log.warning("CollmSampler: %s", text)

    # --- a configuration that no other trial has ----------------------------------------------------------------------

    def _claimed(self, study: optuna.Study, trial: FrozenTrial, found: Parameters) -> Architecture | None:
        """A new configuration, written into the storage so that other workers leave it; None where there is none.

        Two workers that write the same one at the same time: whoever reads the other's afterwards takes another, at
        random, which both may do but at least one does.
        """
        history = self._history(study, trial, found)
        arch = self._proposed(found, history, trial.number)
        rng = Random(f"{self._seed}/{trial.number}")
        while arch is not None:
            study._storage.set_trial_system_attr(trial._trial_id, _CLAIM, found.spelled(arch))
            history = self._history(study, trial, found)
            if arch not in history.known:
                break
            arch = _random(found.space, history.known, rng.getrandbits(32))
        return arch

    def _history(self, study: optuna.Study, trial: FrozenTrial, found: Parameters) -> History:
        """What the study's other trials say of these parameters."""
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        return History.of([t for t in _trials(study) if t.number != trial.number], found, sign)

    def _proposed(self, found: Parameters, history: History, number: int) -> Architecture | None:
        """By the optimiser, made anew and told everything; None where all were tried."""
        if len(history.known) >= found.space.size:
            return None
        seed = zlib.crc32(f"{self._seed}/{number}".encode())
        if len(history.values) >= self._settings.first:
            problem = Problem(found.space, seed, self._settings.budget)
            asked = optimizer_of(problem, _loaded(self._settings), Journal(), None)[0]
            asked.tell(history.observations)
            for _ in range(_ASKS):
                for candidate in asked.ask(1):
                    if candidate.arch is not None and candidate.arch not in history.known:
                        return candidate.arch
        return _random(found.space, history.known, seed)


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    """All of them, as they are in the storage now; a pruner may show a sampler a part of its study."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def _random(space: CategoricalSpace, known: Iterable[Architecture], seed: int) -> Architecture | None:
    memory = Memory(Problem(space, seed, 0), "init")
    memory.visited = set(known)
    return memory.new_random()


def _loaded(settings: Settings) -> Settings:
    """With the engine itself in place of its name, loaded once a process."""
    if settings.optimizer != "collm" or hasattr(settings.model, "generate"):
        return settings
    return replace(settings, model=_engine(settings), navigator=None, generator=None)


@lru_cache(maxsize=2)
def _engine(settings: Settings) -> Any:
    return load_engine(settings)


# --- Optuna's parameters as a space of ours ---------------------------------------------------------------------------


def _reason(distribution: BaseDistribution) -> str | None:
    """Why a parameter is not one of ours; None where it is."""
    if isinstance(distribution, FloatDistribution) and distribution.step is None and not distribution.single():
        return "it is continuous"
    many = isinstance(distribution, CategoricalDistribution) and len(distribution.choices) > MOST
    return f"it has more than {MOST} values" if many or len(_values(distribution)) > MOST else None


def _values(distribution: BaseDistribution) -> list[Any]:
    """The values of a parameter in order, one more than `MOST` at most; of a continuous one, the lowest."""
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices[: MOST + 1])
        return [c for i, c in enumerate(choices) if distribution.to_internal_repr(c) == i]  # to Optuna 1 is True
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return [distribution.low]
    low, high, step = (Decimal(str(x)) for x in (distribution.low, distribution.high, distribution.step))
    number = int if isinstance(distribution, IntDistribution) else float
    return [number(low + i * step) for i in range(min(int((high - low) / step), MOST) + 1)]


class Parameters:
    """Some of a study's parameters as a space; its variables and choices are called like them where they can be."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self._distributions = dict(distributions)
        self._choices = [_values(d) for d in distributions.values()]
        names = _texts(list(distributions), r"[^\W\d][\w.-]*", "p")
        texts = [_texts(list(map(str, choices)), r"[\w.+-]+", "") for choices in self._choices]
        self.space = CategoricalSpace("optuna", [Variable(n, tuple(t)) for n, t in zip(names, texts, strict=True)])
        described = repr([(name, repr(d)) for name, d in self._distributions.items()])
        self._digest = f"{zlib.crc32(described.encode()):08x}"

    def values(self, arch: Architecture) -> dict[str, Any]:
        """The parameters' values."""
        rows = zip(self._distributions, self._choices, arch.choices, strict=True)
        return {name: choices[choice] for name, choices, choice in rows}

    def spelled(self, arch: Architecture) -> str:
        """The configuration as it is written into the storage; short, since storages limit what they keep."""
        return f"{self._digest}:{'.'.join(map(str, arch.choices))}"

    def architecture(self, trial: FrozenTrial) -> Architecture | None:
        """A trial's configuration: its parameters, else what it was given; None where some are not known."""
        chosen: list[int] = []
        claim = str(trial.system_attrs.get(_CLAIM, ""))
        claimed = claim.split(":")[1].split(".") if claim.startswith(f"{self._digest}:") else None
        fixed = trial.system_attrs.get("fixed_params", {})
        for i, (name, distribution) in enumerate(self._distributions.items()):
            if name in trial.params and trial.distributions[name] == distribution:
                chosen.append(_position(distribution, self._choices[i], trial.params[name]))
            elif name in fixed:
                chosen.append(_position(distribution, self._choices[i], fixed[name]))
            elif claimed is not None and not trial.state.is_finished():
                chosen.append(int(claimed[i]))
            else:
                return None
        return None if -1 in chosen else self.space.make(chosen)


def _position(distribution: BaseDistribution, choices: Sequence[Any], value: Any) -> int:
    """The place of a value among the choices, -1 where it is none (as an enqueued one may be)."""
    try:
        place = distribution.to_internal_repr(value)
    except ValueError:
        return -1
    if isinstance(distribution, CategoricalDistribution):
        return [distribution.to_internal_repr(choice) for choice in choices].index(place)
    nearest = min(range(len(choices)), key=lambda i: abs(choices[i] - place))
    return nearest if math.isclose(choices[nearest], place, rel_tol=1e-9, abs_tol=1e-12) else -1


def _texts(texts: list[str], legal: str, prefix: str) -> list[str]:
    """These where all can be spelled and told apart, else numbers after the prefix."""
    if len(set(texts)) == len(texts) and all(re.fullmatch(legal, text) for text in texts):
        return texts
    return [f"{prefix}{i}" for i in range(len(texts))]


# --- what the trials say ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """What is known of configurations: higher `values` are better; `known` are those with values, failed ones and those
    that run."""

    values: dict[Architecture, float]
    failed: frozenset[Architecture]
    running: tuple[Architecture, ...]

    @property
    def known(self) -> frozenset[Architecture]:
        """What is not proposed again."""
        return frozenset({*self.values, *self.failed, *self.running})

    @property
    def observations(self) -> list[Observation]:
        """The same, as an optimiser is told."""
        told = [Observation(_candidate(a), "evaluated", Evaluation(v)) for a, v in self.values.items()]
        told += [Observation(_candidate(a), "failed") for a in sorted(self.failed, key=lambda arch: arch.choices)]
        return told + [Observation(_candidate(a), "pending") for a in self.running]

    @staticmethod
    def of(trials: Sequence[FrozenTrial], found: Parameters, sign: float) -> History:
        """In the order of trials; of several with one configuration the last one counts. A pruned trial has the value
        that it was pruned at. What breaks constraints is worse than all that doesn't, by how much it breaks them."""
        values: dict[Architecture, float] = {}
        excess: dict[Architecture, float] = {}
        failed: set[Architecture] = set()
        running: dict[Architecture, None] = {}
        for trial in trials:
            arch = found.architecture(trial)
            if arch is None:
                continue
            if not trial.state.is_finished():
                running[arch] = None
            elif trial.state == TrialState.FAIL or trial.value is None:
                failed.add(arch)
            else:
                values[arch] = sign * _finite(trial.value)
                excess[arch] = sum(max(0.0, _finite(c)) for c in trial.constraints.values())
        out = [arch for arch in running if arch not in values]
        return History(_penalised(values, excess), frozenset(failed - values.keys()), tuple(out))


def _penalised(values: dict[Architecture, float], excess: dict[Architecture, float]) -> dict[Architecture, float]:
    good = [value for arch, value in values.items() if excess[arch] <= 0] or [0.0]
    span = (max(good) - min(good)) or 1.0
    worst = sorted({e for e in excess.values() if e > 0})
    below = {e: min(good) - span * (i + 1) / len(worst) for i, e in enumerate(worst)}
    return {arch: below.get(excess[arch], value) for arch, value in values.items()}


def _finite(value: float) -> float:
    """Infinite values are legal in Optuna."""
    return max(-1e300, min(1e300, value))


def _candidate(arch: Architecture) -> Candidate:
    return Candidate(arch, "optuna")
