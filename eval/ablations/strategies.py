"""A strategy a candidate, or one for a whole batch as in the paper."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does a strategy for each candidate beat one a round, the paper's way?"
CELLS = (DEFAULT, cell("one strategy a round", strategies=1))
