"""The same problem with the choices of every variable in another order for every seed."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does the search live on the order of the choices?"
CELLS = (DEFAULT, cell("choices relabelled", relabel=True))
