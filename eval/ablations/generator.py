"""What the search loses without the Generator's answers, and what strategies in reserve bring."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Does the Generator help, beside trying each strategy's first anchor as it stands?"
CELLS = (
    DEFAULT,
    cell("first anchors as candidates", variant="anchors"),
    cell("three strategies to choose from, new first anchors first", variant="fresh"),
    cell("both", variant="fresh-anchors"),
)
