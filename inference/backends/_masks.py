"""Masks of rows: from the bits that libraries write, and onto logits. Shapes: B rows, V logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from inference.backends._canonical import Bools


def unpack(bits: Any, size: int) -> Bools:
    """The first `size` bits of a buffer, lowest bit first, as booleans."""
    mask: Bools = np.unpackbits(np.frombuffer(bits, np.uint8), count=size, bitorder="little").view(np.bool_)
    return mask


def only(token: int, size: int) -> Bools:
    """The mask that allows one token."""
    mask: Bools = np.zeros(size, np.bool_)
    mask[token] = True
    return mask


def keep(logits_BV: torch.Tensor, allowed_BV: Sequence[Bools]) -> torch.Tensor:
    """The logits of what is allowed in each row, -inf elsewhere."""
    forbidden_BV = torch.from_numpy(~np.stack(allowed_BV)).to(logits_BV.device)
    return logits_BV.masked_fill(forbidden_BV, -torch.inf)
