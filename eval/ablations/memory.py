"""The Generator, stateless as in the paper or with its own past in what it reads."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does a Generator that remembers do worse?"
CELLS = (DEFAULT, cell("Generator remembers", variant="stateful-generator"))
