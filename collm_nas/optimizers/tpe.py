"""The tree-structured Parzen estimator of Optuna (Bergstra et al., NIPS 2011; `optuna.samplers.TPESampler`).

Multivariate, where variables are drawn together (those that are active together, in a space with conditions);
`multivariate=0` draws each by itself. Ten random trials come first, as Optuna has it: `--init` counts among them.
Of several objectives it takes the ranks of fronts (Ozaki et al., GECCO 2020), as Optuna has it. `_optuna.py` says how
caps, batches and repeats are handled.
"""

from __future__ import annotations

import warnings

from collm_nas.api import Problem
from collm_nas.memory import stable_seed
from collm_nas.optimizers._optuna import Studied

NEEDS, EXTRA = "optuna", "rivals"
SEVERAL = True  # objectives


def create(problem: Problem, multivariate: bool = True, dedupe: bool = True) -> Studied:
    """Optuna's TPE; `dedupe=0` lets it repeat itself, as it does by itself."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    conditional = any(variable.active_if for variable in problem.space.variables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # groups have been experimental since Optuna 2.8
        sampler = TPESampler(
            seed=stable_seed("tpe", problem.seed),
            multivariate=bool(multivariate),
            group=bool(multivariate) and conditional,
            constant_liar=True,
        )
    return Studied(problem, "tpe", sampler, bool(dedupe))
