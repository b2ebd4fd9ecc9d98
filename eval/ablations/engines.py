"""The engines, which should give the same candidates."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell

QUESTION = "Do the engines agree, and which is the quicker one?"
CELLS = (DEFAULT, cell("vllm", engine="vllm"))
