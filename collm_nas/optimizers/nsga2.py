"""NSGA-II of Optuna (Deb et al., 2002; `optuna.samplers.NSGAIISampler`).

With several objectives it is what it was made for; with one its ranks are the order of fitness. Under a cap, what is
over it ranks below all that is not, by its excess (constrained domination). Uniform crossover, each variable redrawn
with probability 1/variables. Optuna's population of 50 where the budget holds five of them, else a fifth of the budget;
what was evaluated before belongs to the first one. `_optuna.py` says how caps, batches and repeats are handled.
"""

from __future__ import annotations

from collm_nas.api import Problem, UserError
from collm_nas.memory import stable_seed
from collm_nas.optimizers._optuna import Studied
from collm_nas.optimizers._population import population_of

NEEDS, EXTRA = "optuna", "rivals"
SEVERAL = True  # objectives


def create(problem: Problem, population: int | None = None, dedupe: bool = True) -> Studied:
    """Optuna's NSGA-II; UserError unless `population` is a whole number of at least 2."""
    from optuna.samplers import NSGAIISampler

    size = population_of(problem, population, 50)
    if not isinstance(size, int) or size < 2:
        raise UserError(f"nsga2: population {size!r} must be a whole number of at least 2")
    sampler = NSGAIISampler(population_size=size, seed=stable_seed("nsga2", problem.seed))
    return Studied(problem, "nsga2", sampler, bool(dedupe), whole=True)
