"""The Gaussian process of `gp` with a Weisfeiler-Lehman kernel on graphs, as in NAS-BOWL (Ru et al., arXiv 2006.07556).

A cell (`_cells.py`) is the graph of its operations, with an input and an output; every other architecture is the path
of its active variables in their order, a node labelled by variable and choice. A node's label at level h is its label
at level h - 1 with those of the nodes that feed it; the kernel is the cosine of the counts of all labels up to a
level. The level (0 to 2), scale and noise maximise the marginal likelihood. Differences to the paper: targets are
normal ranks, the pool is that of `gp` (a small space is scored whole), batches are filled by the kriging believer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from collm_nas.api import Architecture, Problem, SearchSpace
from collm_nas.optimizers._cells import cell, output
from collm_nas.optimizers.gp import Floats, GaussianProcess, Similarity

LEVELS = (0, 1, 2)

Graph = tuple[list[str], list[list[int]]]
"""Labels of the nodes, and for each node the nodes that feed it."""


def graph(space: SearchSpace, arch: Architecture) -> Graph:
    """The graph of an architecture."""
    if space.edges is None:
        active = space.active(arch.choices)
        on = [i for i, is_on in enumerate(active) if is_on]
        labels = [f"{space.variables[i].name}={space.variables[i].choices[arch.choices[i]]}" for i in on]
        return labels, [[i - 1] if i else [] for i in range(len(labels))]
    last = output(space)
    nodes = [(-1, 0, "input"), *cell(space, arch), (last, last + 1, "output")]
    return [name for _, _, name in nodes], [[j for j, up in enumerate(nodes) if up[1] == a] for a, _, _ in nodes]


class Labels:
    """Numbers for labels, given as they are met, and counts of them as sparse rows."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._levels: list[int] = []
        self._known: dict[Architecture, list[int]] = {}

    def rows(self, space: SearchSpace, archs: Sequence[Architecture]) -> Any:
        """Counts of labels, one CSR row an architecture; as wide as the labels met so far."""
        from scipy.sparse import csr_array

        found = [self._of(space, arch) for arch in archs]
        columns = [number for own in found for number in own]
        ends = np.cumsum([0, *map(len, found)])
        made = csr_array((np.ones(len(columns)), columns, ends), shape=(len(archs), len(self._numbers)))
        made.sum_duplicates()
        return made

    def kernel(self, a_ND: Any, b_MD: Any, level: float) -> Floats:
        """Cosine of the counts of labels up to a level, shape (N, M); 1 for equal rows."""
        kept_D = (np.array(self._levels) <= level).astype(float)
        a_ND, b_MD = (self._normed(rows, kept_D) for rows in (a_ND, b_MD))
        return np.asarray((a_ND @ b_MD.T).toarray())

    def _normed(self, rows: Any, kept_D: Floats) -> Any:
        """Rows of length 1, widened to all labels."""
        from scipy.sparse import csr_array

        data = rows.data * kept_D[rows.indices]
        of_row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        norms_N = np.sqrt(np.bincount(of_row, data**2, minlength=rows.shape[0]))
        data = data / np.maximum(norms_N, 1e-12)[of_row]
        return csr_array((data, rows.indices, rows.indptr), shape=(rows.shape[0], len(kept_D)))

    def _of(self, space: SearchSpace, arch: Architecture) -> list[int]:
        if arch not in self._known:
            labels, feeds = graph(space, arch)
            own = [self._number(label, 0) for label in labels]
            every = list(own)
            for level in LEVELS[1:]:
                fed = [(level, label, *sorted(own[j] for j in up)) for label, up in zip(own, feeds, strict=True)]
                own = [self._number(label, level) for label in fed]
                every += own
            self._known[arch] = every
        return self._known[arch]

    def _number(self, label: Any, level: int) -> int:
        if label not in self._numbers:
            self._numbers[label] = len(self._numbers)
            self._levels.append(level)
        return self._numbers[label]


def create(problem: Problem) -> GaussianProcess:
    """Gaussian process on labels of graphs, with expected improvement."""
    labels = Labels()
    return GaussianProcess(problem, "wl-gp", Similarity(labels.rows, labels.kernel, LEVELS))
