"""The grammar backends, which should all give the same candidates."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell
from inference import backends

QUESTION = "Do the grammar backends give the same search?"
CELLS = (DEFAULT, *(cell(name, grammar_backend=name) for name in backends.names() if name != "outlines_core"))
