"""The Gaussian process of `gp` with a kernel that sees interactions of every order: the exponential of the share of
matching choices, `exp((shared / n - 1) / length)`. Where all variables are active and have equally many choices, it is
the diffusion kernel of COMBO (Oh et al., arXiv 1902.00448) with one length for all.

`shared` counts active variables in which two architectures agree, n is their geometric mean number of active ones.
`length`, scale and noise maximise the marginal likelihood over a small grid.
"""

from __future__ import annotations

import numpy as np

from collm_nas.api import Problem
from collm_nas.optimizers.gp import Floats, GaussianProcess, Similarity

LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)


def kernel(a_ND: Floats, b_MD: Floats, length: float) -> Floats:
    """Similarity of one-hot rows, shape (N, M); 1 for equal rows."""
    norms_NM = np.sqrt(np.maximum(np.outer(a_ND.sum(1), b_MD.sum(1)), 1.0))
    return np.asarray(np.exp((a_ND @ b_MD.T / norms_NM - 1.0) / length))


SIMILARITY = Similarity(kernel=kernel, parameters=LENGTHS)


def create(problem: Problem) -> GaussianProcess:
    """Gaussian process on matching choices, with expected improvement."""
    return GaussianProcess(problem, "gp-exp", SIMILARITY)
