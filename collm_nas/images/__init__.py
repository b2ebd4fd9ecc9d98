"""A user's labelled images: the built-in digits, an image folder, or Parquet; split by seed, decoded once.

Nothing is decoded before pixels are asked for, and torch is not loaded before tensors are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collm_nas.images.split import ImageData

__all__ = ["open"]


def open(source: str | os.PathLike[str], *, valid: float = 0.1, seed: int = 0, limit: int | None = None) -> ImageData:
    """Train, valid and test images of `digits`, of a folder of images, or of Parquet files.

    `valid`: which share (below 1) or number of the train images the search is scored on; they are drawn by `seed` and
    never trained on. `limit`: at most so many of the others are trained on. The test images are a folder's own (`test`,
    `validation` or `val` beside `train`). Raises UserError where the source is missing, has no labelled images, or is
    too small for the split.
    """
    from collm_nas.images import sources, split

    return split.cut(sources.read(source), valid=valid, seed=seed, limit=limit)
