"""What `tpe` and `nsga2` share: an Optuna study that is asked for candidates and told what became of them.

Every variable is one categorical parameter, its value the position of the choice. What differs from `study.optimize`:

- A batch is asked for before any of it is told, and more while it is pending; until then its members are running
  trials, which TPE takes for bad ones (its constant liar).
- A candidate over a cap (Optuna's constraints) or outside the table is told at once and another one is drawn: it costs
  no evaluation. Optuna ranks it by its excess, below everything feasible.
- A known architecture is drawn again too, its trial having failed, up to `REDRAWS` times for each one wanted; what is
  missing then is random. `dedupe=0` leaves all of these candidates in the answer as they came: they count as proposals
  and bring nothing, and Optuna is told once more what it knows.
- What others proposed (`--init`, `--start-from`) are enqueued trials.
- Of several objectives the study has as many directions: fitness upwards, costs downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from collm_nas.api import Architecture, Candidate, Observation, Problem
from collm_nas.memory import Memory
from collm_nas.objectives import losses
from collm_nas.optimizers._population import filled, made

REDRAWS = 20


class Studied:
    """`api.Optimizer`; `whole`: inactive variables are parameters as well, drawn and bred unseen."""

    def __init__(self, problem: Problem, name: str, sampler: Any, dedupe: bool, whole: bool = False) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._memory = Memory(problem, name)
        self._objectives = problem.objectives
        down: list[Literal["maximize", "minimize"]] = ["minimize"] * (len(problem.objectives) - 1)
        self._study = optuna.create_study(sampler=sampler, directions=["maximize", *down])
        self._values: dict[Architecture, list[float]] = {}
        self._failed = optuna.trial.TrialState.FAIL
        self._dedupe, self._whole = dedupe, whole
        self._running: dict[Architecture, Any] = {}

    def ask(self, n: int) -> list[Candidate]:
        """Up to `n` new candidates, random ones where the study brings too few; without `dedupe`, what it brings."""
        taken: list[Architecture] = []
        drawn: list[Candidate] = []
        for _ in range(n * (REDRAWS if self._dedupe else 1)):
            trial = self._study.ask()
            arch = self._suggested(trial)
            drawn.append(self._candidate(arch))
            if arch is not None and self._memory.is_new(arch, taken):
                taken.append(arch)
                self._running[arch] = trial
            else:
                self._refuse(trial, arch)
            if len(taken) == n:
                break
        return self._memory.fill(taken, n) if self._dedupe else drawn

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn; trials of what was not evaluated have failed."""
        self._memory.tell(observations)
        for seen in observations:
            arch = seen.candidate.arch
            if arch is None or seen.verdict == "pending":
                continue
            trial = self._running.pop(arch, None)
            if seen.verdict == "evaluated" and seen.evaluation is not None:
                down = losses(seen.evaluation.fitness, seen.evaluation.costs, self._objectives)
                self._values[arch] = [-down[0], *down[1:]]
                self._finish(trial or self._enqueued(arch), arch, self._values[arch])
            elif trial is not None:
                self._study.tell(trial, state=self._failed)

    def _candidate(self, arch: Architecture | None) -> Candidate:
        if arch is None:
            return Candidate(None, self._memory.name, problem="not a row of the table")
        return self._memory.candidates([arch])[0]

    def _refuse(self, trial: Any, arch: Architecture | None) -> None:
        """Tell what is known of a candidate that will not be evaluated."""
        if arch is not None and not self._memory.affordable(arch):
            self._finish(trial, arch, [0.0] * len(self._objectives))
        elif arch in self._values and not self._dedupe:
            self._finish(trial, arch, self._values[arch])
        else:
            self._study.tell(trial, state=self._failed)

    def _finish(self, trial: Any, arch: Architecture, values: list[float]) -> None:
        """Tell a value an objective, which count for nothing where the caps do not hold."""
        excess = self._memory.excess(arch) or float(arch in self._memory.infeasible)
        if excess > 0:
            trial.set_constraint("cost", excess)
        self._study.tell(trial, values)

    def _enqueued(self, arch: Architecture) -> Any:
        space = self._memory.space
        choices = filled(space, arch, self._memory.rng) if self._whole else arch.choices
        self._study.enqueue_trial({v.name: c for v, c in zip(space.variables, choices, strict=True)})
        trial = self._study.ask()
        self._suggested(trial)
        return trial

    def _suggested(self, trial: Any) -> Architecture | None:
        """The architecture of a trial, whose parameters are drawn as they come into play; None where it is no row."""
        choices: list[int] = []
        active: list[bool] = []
        for variable in self._memory.space.variables:
            active.append(all(active[i] and choices[i] in allowed for i, allowed in variable.active_if))
            drawn = active[-1] or self._whole
            positions = range(len(variable.choices))
            choices.append(trial.suggest_categorical(variable.name, positions) if drawn else 0)
        return made(self._memory.space, choices)
