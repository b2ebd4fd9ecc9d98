"""SMAC3 (Lindauer et al., JMLR 2022; `smac.HyperparameterOptimizationFacade`): a random forest on logarithms of the
cost, expected improvement, one proposal in five random.

SMAC's own set-up but for the initial design, whose place the starting architectures take. Conditions of variables are
ConfigSpace's. It retrains after every eighth proposal, whatever the batch (`retrain`), and never proposes a
configuration again. It knows no constraints: what is over a cap or outside the table is told at once as a crash with
the highest cost known, and another one is drawn, up to `REDRAWS` times for each one wanted; what is missing then is
random.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collm_nas.api import Architecture, Candidate, Observation, Problem, SearchSpace, UserError
from collm_nas.memory import Memory, stable_seed
from collm_nas.optimizers._population import made

NEEDS = EXTRA = "smac"
REDRAWS = 4
LEAVES = 2**13
"""Of a tree at most: more than any search has evaluations."""


class Smac:
    """`api.Optimizer`; costs are negative fitness."""

    def __init__(self, problem: Problem, retrain: int) -> None:
        self._memory = Memory(problem, "smac")
        self._space = configuration_space(problem.space)
        self._facade = _facade(self._space, problem, retrain)
        self._running: dict[Architecture, Any] = {}

    def ask(self, n: int) -> list[Candidate]:
        """Up to `n` new candidates of SMAC, random ones where it brings too few."""
        from joblib import parallel_config
        from smac.main.exceptions import ConfigurationSpaceExhaustedException
        from smac.runhistory import StatusType

        taken: list[Architecture] = []
        for _ in range(n * REDRAWS):
            if len(taken) == n:
                break
            try:
                # Ten small trees: threads would wait for each other. Its log takes means of nothing.
                with parallel_config(backend="sequential"), warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    info = self._facade.ask()
            except (ConfigurationSpaceExhaustedException, StopIteration):
                break
            arch = self._architecture(info.config)
            if arch is not None and self._memory.is_new(arch, taken):
                taken.append(arch)
                self._running[arch] = info
            else:
                self._finish(info, self._worst(), StatusType.CRASHED)
        return self._memory.fill(taken, n)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn; what is over a cap counts as the worst met."""
        from smac.runhistory import StatusType, TrialInfo

        self._memory.tell(observations)
        for seen in observations:
            arch = seen.candidate.arch
            if arch is None or seen.verdict in ("surplus", "pending"):
                continue
            info = self._running.pop(arch, None) or TrialInfo(self._configuration(arch), seed=0)
            if seen.verdict == "evaluated" and seen.evaluation is not None and seen.feasible:
                self._finish(info, -seen.evaluation.fitness, StatusType.SUCCESS)
            elif not seen.feasible:
                self._finish(info, self._worst(), StatusType.CRASHED)

    def _worst(self) -> float:
        return -min(self._memory.values.values(), default=0.0)

    def _finish(self, info: Any, cost: float, status: Any) -> None:
        from smac.runhistory import TrialValue

        self._facade.tell(info, TrialValue(cost=cost, status=status), save=False)

    def _architecture(self, config: Any) -> Architecture | None:
        values = dict(config)
        return made(self._memory.space, [int(values.get(v.name, 0)) for v in self._memory.space.variables])

    def _configuration(self, arch: Architecture) -> Any:
        from ConfigSpace import Configuration

        variables, active = self._memory.space.variables, self._memory.space.active(arch.choices)
        values = {v.name: c for v, c, on in zip(variables, arch.choices, active, strict=True) if on}
        return Configuration(self._space, values=values)


def configuration_space(space: SearchSpace) -> Any:
    """The space as ConfigSpace has it: one categorical hyperparameter a variable, active under its conditions."""
    from ConfigSpace import AndConjunction, CategoricalHyperparameter, ConfigurationSpace, InCondition

    made = [CategoricalHyperparameter(v.name, list(range(len(v.choices)))) for v in space.variables]
    whole = ConfigurationSpace()
    whole.add(made)
    for own, variable in zip(made, space.variables, strict=True):
        conditions = [InCondition(own, made[i], sorted(allowed)) for i, allowed in variable.active_if]
        if conditions:
            whole.add(AndConjunction(*conditions) if len(conditions) > 1 else conditions[0])
    return whole


def _facade(space: Any, problem: Problem, retrain: int) -> Any:
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario

    logging.getLogger("smac").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:  # where it writes its settings, which nobody reads
        scenario = Scenario(
            space,
            output_directory=Path(folder),
            deterministic=True,
            n_trials=problem.budget,
            seed=stable_seed("smac", problem.seed) % 2**31,
        )
        maximizer = Facade.get_acquisition_maximizer(scenario)
        _in_order(maximizer._local_search)
        return Facade(
            scenario,
            model=forest(scenario),
            initial_design=Facade.get_initial_design(scenario, n_configs=0),
            acquisition_maximizer=maximizer,
            config_selector=Facade.get_config_selector(scenario, retrain_after=retrain),
            logging_level=False,
            overwrite=True,
        )


def forest(scenario: Any) -> Any:
    """The facade's own forest with room for `LEAVES` a tree. The facade's million, for which scikit-learn takes memory
    each time, costs a tenth of a second a tree."""
    from smac.model.random_forest.random_forest import RandomForest

    return RandomForest(
        scenario.configspace,
        log_y=True,
        n_trees=10,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=LEAVES,
        seed=scenario.seed,
    )


def _in_order(local_search: Any) -> None:
    """SMAC 2.4 makes its starting points a list by way of a set of configurations, whose order is that of hashes of
    texts: another one in every process."""
    given = local_search._get_init_points_from_previous_configs
    local_search._get_init_points_from_previous_configs = lambda *args: sorted(given(*args), key=repr)


def create(problem: Problem, retrain: Any = 8) -> Smac:
    """SMAC3's random forest, fitted after every `retrain` proposals; UserError unless that is at least 1."""
    if type(retrain) is not int or retrain < 1:
        raise UserError(f"smac: retrain {retrain!r} must be a whole number of at least 1")
    return Smac(problem, retrain)
