"""Ways of sampling under the same grammar and mask."""

from __future__ import annotations

from eval.ablations import DEFAULT, cell
from inference.drafts import DRAFTS

QUESTION = "Does it matter how the model's distribution is conditioned on what is allowed?"
CELLS = (DEFAULT, *(cell(name, sampling=name) for name in DRAFTS if name != "rejection"))
