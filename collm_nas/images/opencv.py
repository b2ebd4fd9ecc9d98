"""OpenCV's bilinear resize of bytes without OpenCV: no averaging when shrinking, pixel centres at halves.

Its integer arithmetic as well: weights in 2048ths, of whose sums the last bits are cut off before and after the
vertical step. Equal to `cv2.resize(..., interpolation=cv2.INTER_LINEAR)` of 4.14.0 and 5.0.0 on every byte that was
compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ONE = 2048


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image of bytes (gray, or of channels), scaled to width and height."""
    source_HWC = np.atleast_3d(np.asarray(image, np.uint8))
    left, right, weight_W = _taps(image.width, size[0])
    upper, lower, weight_H = _taps(image.height, size[1])
    b_W1, b_H11 = weight_W[:, None], weight_H[:, None, None]
    rows_HWC = (source_HWC.take(left, 1) * (ONE - b_W1) + source_HWC.take(right, 1) * b_W1) >> 4
    out_HWC = ((rows_HWC.take(upper, 0) * (ONE - b_H11) >> 16) + (rows_HWC.take(lower, 0) * b_H11 >> 16) + 2) >> 2
    return Image.fromarray(out_HWC.astype(np.uint8).squeeze(2) if image.mode == "L" else out_HWC.astype(np.uint8))


def _taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
    """For each target pixel of a line the two source pixels around it, and the weight of the second, in 2048ths."""
    place_T = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first_T = np.floor(place_T).astype(np.intp)
    weight_T = np.rint((place_T - first_T.astype(np.float32)) * ONE).astype(np.int32)
    return first_T.clip(0, source - 1), (first_T + 1).clip(0, source - 1), weight_T
