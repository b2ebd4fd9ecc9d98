"""The same problem with the choices of every variable, or the variables, in another order for every seed."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does the search live on the order of the choices, or of the variables?"
CELLS = (DEFAULT, cell("choices relabelled", relabel=True), cell("variables reordered", reorder=True))
