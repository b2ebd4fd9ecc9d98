"""The mode `json`, whose form the adapters never met: well-formed, and legal only by luck.

Each candidate takes as many tries as there are, ten times as long as in other modes: at most three seeds of 40 queries.
"""

from __future__ import annotations

from eval.ablations import cell
from eval.ablations.models import SHORT

QUESTION = "Is a form that the model never met enough of a constraint?"
CELLS = (cell("embedded, 40 queries", protocol=SHORT), cell("json, 40 queries", decoding="json", protocol=SHORT))
