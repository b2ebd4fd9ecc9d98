"""`CollmSampler`: our optimisers in Optuna's studies, by their trials alone."""

from __future__ import annotations

import logging
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from collm_nas import CollmSampler
from collm_nas.api import UserError
from collm_nas.optuna_sampler import History, Parameters
from tests.unit.runs import ScriptedModel

SPACE: dict[str, Any] = {
    "activation": CategoricalDistribution(["relu", "tanh", "gelu"]),
    "layers": IntDistribution(1, 3),
    "rate": FloatDistribution(0.0, 0.3, step=0.1),
}
ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    "gp": lambda: {"optimizer": "gp"},
    "local-search": lambda: {"optimizer": "local-search"},
    "models": lambda: {"model": ScriptedModel()},
    "models that repeat": lambda: {"model": ScriptedModel(), "decoding": "legal"},
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the sampler warned of."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = optuna.logging.get_logger("collm_nas.optuna_sampler"), Keep()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def value(trial: Trial) -> float:
    """No two alike; the best is gelu, 3, 0.2."""
    activation = trial.suggest_categorical("activation", ["relu", "tanh", "gelu"])
    layers, rate = trial.suggest_int("layers", 1, 3), trial.suggest_float("rate", 0.0, 0.3, step=0.1)
    return 10.0 * ["relu", "tanh", "gelu"].index(activation) + 3.0 * layers - 20 * abs(rate - 0.2) + 0.1 * rate


def study_of(sampler: CollmSampler, **options: Any) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=sampler, **options)


def configurations(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(sorted(trial.params.items())) for trial in study.trials]


@pytest.mark.parametrize("row", ROWS)
def test_each_configuration_once_until_all_were_tried(row: str, said: list[str]) -> None:
    study = study_of(CollmSampler(seed=0, init=4, search_space=SPACE, **ROWS[row]()))
    study.optimize(value, n_trials=36)
    assert len(set(configurations(study))) == 36 and not said
    study.optimize(value, n_trials=3)
    assert said == ["CollmSampler: all 36 configurations were tried; what follows are random repeats"]


def test_without_a_search_space_nothing_is_repeated_from_the_first_result_on(said: list[str]) -> None:
    study = study_of(CollmSampler(seed=0, init=4, optimizer="gp"))
    study.optimize(value, n_trials=36)
    assert len(set(configurations(study))) == 36 and not said


def test_it_searches_rather_than_guesses() -> None:
    """A quarter of the space is enough for the best one, from any seed."""
    for seed in range(3):
        study = study_of(CollmSampler(seed=seed, init=4, optimizer="gp"))
        study.optimize(value, n_trials=14)
        assert study.best_params == {"activation": "gelu", "layers": 3, "rate": 0.2}


def test_down_is_up_turned() -> None:
    up, down = (
        study_of(CollmSampler(seed=0, init=4, optimizer="gp")),
        optuna.create_study(sampler=CollmSampler(seed=0, init=4, optimizer="gp")),
    )
    up.optimize(value, n_trials=12)
    down.optimize(lambda trial: -value(trial), n_trials=12)
    assert configurations(up) == configurations(down)


@pytest.mark.parametrize("row", ["gp", "models"])
def test_the_trials_are_all_it_knows(row: str, tmp_path: Path) -> None:
    """A sampler a trial, on a database, searches as one does in memory; another seed searches otherwise."""

    def sampler(seed: int = 3) -> CollmSampler:
        return CollmSampler(seed=seed, init=3, search_space=SPACE, **ROWS[row]())

    whole, other = study_of(sampler()), study_of(sampler(4))
    whole.optimize(value, n_trials=7)
    other.optimize(value, n_trials=7)
    storage = f"sqlite:///{tmp_path}/studies.db"
    for _ in range(7):
        study_of(sampler(), storage=storage, study_name="s", load_if_exists=True).optimize(value, n_trials=1)
    study = optuna.load_study(storage=storage, study_name="s")
    assert configurations(study) == configurations(whole) != configurations(other)


def test_kept_and_begun_again() -> None:
    study = study_of(CollmSampler(seed=0, init=2, optimizer="gp"))
    study.optimize(value, n_trials=6)
    kept = pickle.dumps(study.sampler)
    study.optimize(value, n_trials=4)
    again = study_of(pickle.loads(kept))
    again.add_trials(study.trials[:6])
    again.optimize(value, n_trials=4)
    assert configurations(again) == configurations(study)


# --- others at the same time ------------------------------------------------------------------------------------------


def test_what_runs_is_not_proposed_again() -> None:
    study = study_of(CollmSampler(seed=0, init=4, optimizer="gp"))
    study.optimize(value, n_trials=6)
    for _ in range(30):
        value(study.ask())
    assert len(set(configurations(study))) == 36


def test_threads() -> None:
    study = study_of(CollmSampler(seed=0, init=4, optimizer="gp", search_space=SPACE))
    study.optimize(value, n_trials=36, n_jobs=4)
    assert len(set(configurations(study))) == 36


def test_processes_on_one_storage(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    study_of(CollmSampler(), storage=storage, study_name="s")
    code = (
        "import optuna\nfrom tests.unit.test_optuna_sampler import SPACE, value\nfrom collm_nas import CollmSampler\n"
        "sampler = CollmSampler(seed=0, init=4, optimizer='random', search_space=SPACE)\n"
        f"optuna.load_study(study_name='s', storage={storage!r}, sampler=sampler).optimize(value, n_trials=8)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0, 0]
    study = optuna.load_study(study_name="s", storage=storage)
    assert len(set(configurations(study))) == len(study.trials) == 24


def test_two_workers_that_want_the_same_take_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have read the storage before either writes: the second to look again takes another one."""
    sampler = CollmSampler(seed=0, init=4, optimizer="gp", search_space=SPACE)
    study, found = study_of(sampler), Parameters(dict(sorted(SPACE.items())))
    wanted = found.space.make((1, 1, 1))
    monkeypatch.setattr(CollmSampler, "_proposed", lambda *given: wanted)
    first, second = study.ask(), study.ask()
    assert value(first) == pytest.approx(value_of(found.values(wanted)))
    value(second)
    assert second.params != first.params == found.values(wanted)


def value_of(params: dict[str, Any]) -> float:
    return value(optuna.trial.FixedTrial(params))  # type: ignore[arg-type]


def test_enqueued_trials_are_the_users_and_count() -> None:
    study = study_of(CollmSampler(seed=0, init=0, optimizer="gp", search_space=SPACE))
    wanted = {"activation": "tanh", "layers": 2, "rate": 0.1}
    study.enqueue_trial(wanted)
    study.enqueue_trial({"layers": 2})
    study.enqueue_trial({"activation": "gelu", "layers": 3, "rate": 0.25})  # none of the space's values
    for _ in range(2):
        value(study.ask())
    with pytest.warns(UserWarning, match="out of range"):
        value(study.ask())
    study.optimize(value, n_trials=33)
    assert study.trials[0].params == wanted and study.trials[1].params["layers"] == 2
    assert configurations(study).count(tuple(sorted(wanted.items()))) == 1


# --- results of all kinds ---------------------------------------------------------------------------------------------


def test_failed_trials_are_not_tried_again() -> None:
    def moody(trial: Trial) -> float:
        found = value(trial)
        if trial.number % 3 == 0:
            raise ValueError("out of memory")
        return math.nan if trial.number % 3 == 1 else found

    study = study_of(CollmSampler(seed=0, init=4, optimizer="gp", search_space=SPACE))
    study.optimize(moody, n_trials=36, catch=ValueError)
    assert len(set(configurations(study))) == 36
    assert sum(trial.state == TrialState.FAIL for trial in study.trials) == 24


def test_pruned_and_infinite_trials_count() -> None:
    def pruned(trial: Trial) -> float:
        found = value(trial)
        if trial.params["activation"] != "gelu":
            trial.report(found, 1)
            raise optuna.TrialPruned
        return math.inf if trial.params["layers"] == 3 else found

    study = study_of(CollmSampler(seed=0, init=4, optimizer="gp"))
    study.optimize(pruned, n_trials=36)
    assert len(set(configurations(study))) == 36


def constrained(trial: Trial) -> float:
    found = value(trial)
    trial.set_constraint("layers", trial.params["layers"] - 2)
    trial.set_constraint("rate", 0.1 - trial.params["rate"])
    return found


def as_before(trial: FrozenTrial) -> tuple[float, float]:
    return trial.params["layers"] - 2, 0.1 - trial.params["rate"]


def test_constraints_in_both_ways() -> None:
    """The best ones break them; what holds them is searched."""
    one = study_of(CollmSampler(seed=1, init=4, optimizer="gp"))
    one.optimize(constrained, n_trials=16)
    two = study_of(CollmSampler(seed=1, init=4, optimizer="gp", constraints_func=as_before))
    two.optimize(value, n_trials=16)
    assert configurations(one) == configurations(two)
    assert one.best_params == {"activation": "gelu", "layers": 2, "rate": 0.2}
    free = study_of(CollmSampler(seed=1, init=4, optimizer="gp"))
    free.optimize(value, n_trials=16)

    def held(study: optuna.Study) -> int:
        return sum(t.params["layers"] <= 2 and t.params["rate"] > 0.09 for t in study.trials[4:])

    assert held(one) > held(free)


def test_what_breaks_constraints_is_worse_than_all_that_does_not() -> None:
    study = study_of(CollmSampler(seed=1, optimizer="random", search_space=SPACE))
    study.optimize(constrained, n_trials=36)
    history = History.of(study.trials, Parameters(dict(sorted(SPACE.items()))), 1.0)
    excess = {
        c: sum(max(0.0, x) for x in t.constraints.values()) for c, t in zip(history.values, study.trials, strict=True)
    }
    ranked = sorted(history.values, key=lambda arch: -history.values[arch])
    assert [excess[arch] for arch in ranked] == sorted(excess.values())
    assert len({excess[arch] for arch in ranked}) > 2


# --- parameters that are none of ours ---------------------------------------------------------------------------------


def test_continuous_and_conditional_ones_are_left_to_another_sampler(said: list[str]) -> None:
    def mixed(trial: Trial) -> float:
        found = value(trial) - trial.suggest_float("decay", 1e-5, 1e-1, log=True) - trial.suggest_int("units", 1, 1000)
        return found + (trial.suggest_int("skip", 0, 1) if trial.params["layers"] > 1 else 0)

    study = study_of(CollmSampler(seed=0, init=4, optimizer="gp"))
    study.optimize(mixed, n_trials=20)
    kept = [tuple(t.params[name] for name in SPACE) for t in study.trials]
    assert len(set(kept)) == 20
    assert [line.partition(" (warn")[0] for line in said] == [
        "CollmSampler: the parameter 'decay' is left to RandomSampler: it is continuous",
        "CollmSampler: the parameter 'units' is left to RandomSampler: it has more than 36 values",
        "CollmSampler: the parameter 'skip' is left to RandomSampler: not every trial has it, with the same values",
    ]
    said.clear()
    tpe = optuna.samplers.TPESampler(seed=0)
    other = study_of(CollmSampler(optimizer="gp", independent_sampler=tpe, warn_independent_sampling=False))
    other.optimize(mixed, n_trials=5)
    assert not said


def test_names_and_choices_of_any_kind() -> None:
    kinds = [None, True, "a b", "", 1.5, "1.5", 1]  # for Optuna the last one is True

    def strange(trial: Trial) -> float:
        first = trial.suggest_categorical("learning rate", kinds)
        return (
            kinds.index(first)
            + trial.suggest_float("2nd, or so", -0.3, 0.3, step=0.2)
            + trial.suggest_int("ü", -4, 4, step=4)
        )

    study = study_of(CollmSampler(seed=0, init=2, optimizer="gp"))
    study.optimize(strange, n_trials=6 * 4 * 3)
    assert len({repr(trial.params) for trial in study.trials}) == 6 * 4 * 3


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=CollmSampler(optimizer="gp"))
    with pytest.raises(ValueError, match="CollmSampler cannot be used"):
        study.optimize(lambda trial: (value(trial), 0.0), n_trials=1)


def test_the_example(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "examples" / "optuna_study.py"), "3", f"sqlite:///{tmp_path}/digits.db"]
    for trials in (3, 6):
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        study = optuna.load_study(storage=command[-1], study_name="digits")
        assert len(study.trials) == trials and all("weights" in trial.constraints for trial in study.trials)
    assert float(done.stdout.split()[0]) == pytest.approx(study.best_value, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "gpp"}, "--optimizer 'gpp' is unknown; legal: collm, .*; did you mean 'gp'"),
        ({"batch": 3}, "CollmSampler has no option 'batch'; legal: navigator, "),
        ({"init": -1}, "--init must be a whole number of at least 0"),
        ({"optimizer": "gp", "model": "embedded"}, "--model is for --optimizer collm"),
    ],
)
def test_options_are_checked_when_it_is_made(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        CollmSampler(**options)


def test_the_embedded_model_searches() -> None:
    """The real thing: 18 of 256 configurations, of which ten are random."""

    def additive(trial: Trial) -> float:
        return sum((i + 1) * (3 - abs(trial.suggest_int(f"x{i}", 0, 3) - i % 4)) for i in range(4))

    study = study_of(CollmSampler(seed=0))
    study.optimize(additive, n_trials=18)
    assert len(set(configurations(study))) == 18
    values = [float(trial.value or 0) for trial in study.trials]
    assert sum(values[10:]) / 8 > sum(values[:10]) / 10 + 3, "its own are better than the random ones before"
