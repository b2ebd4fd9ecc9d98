"""How an exported network's images are prepared: in words, and as code that needs Pillow and NumPy alone.

The same steps as `collm_nas.images.decode`; `inputs` is `Inputs` as a dict, plus `channels`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FILTERS = {
    "bilinear": "Pillow's bilinear filter (which averages when it shrinks)",
    "bicubic": "Pillow's bicubic filter (which averages when it shrinks)",
    "opencv": "OpenCV's bilinear interpolation (which does not average)",
}
ORDERS = {"RGB": "red, green, blue", "BGR": "blue, green, red", "gray": "one gray channel"}


def words(inputs: Mapping[str, Any]) -> Iterator[str]:
    """The steps, one a line."""
    side, resize, how = inputs["side"], inputs["resize"], FILTERS[inputs["filter"]]
    yield f"1. Bytes of {ORDERS[inputs['order']]}."
    if resize is None:
        yield f"2. The whole image scaled to {side} x {side} pixels by {how}, unless it has that size."
    else:
        rounded = "rounded" if inputs["filter"] == "opencv" else "its fraction cut off"
        yield f"2. The shorter side scaled to {resize} pixels by {how}, the longer in proportion ({rounded})."
        yield f"   Of that the {side} x {side} pixels in the middle."
    yield "3. " + _normalised(inputs)
    yield "4. Channels first: (N, C, H, W)."


def _normalised(inputs: Mapping[str, Any]) -> str:
    if _raw(inputs):
        return "The bytes as numbers from 0 to 255, as they are."
    channels = "each channel" if inputs["channels"] > 1 else "the channel"
    mean, std = _listed(inputs["mean"]), _listed(inputs["std"])
    return f"Divided by 255; from {channels} its mean is taken ({mean}), then it is divided by its deviation ({std})."


def _raw(inputs: Mapping[str, Any]) -> bool:
    return not any(inputs["mean"]) and all(abs(255 * s - 1) < 1e-6 for s in inputs["std"])


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def code(inputs: Mapping[str, Any]) -> str:
    """A function `prepare(path)` that gives float32 (1, C, side, side)."""
    opencv, mode = inputs["filter"] == "opencv", "L" if inputs["order"] == "gray" else "RGB"
    lines = [
        *(["import cv2"] if opencv else []),
        "import numpy as np",
        "from PIL import Image",
        "",
        "",
        "def prepare(path):",
        f'    image = Image.open(path).convert("{mode}")',
        *(f"    {line}" for line in (*_scaling(inputs), *_numbers(inputs))),
    ]
    return "\n".join(lines)


def _scaling(inputs: Mapping[str, Any]) -> Iterator[str]:
    side, resize, opencv = inputs["side"], inputs["resize"], inputs["filter"] == "opencv"
    if resize is None:
        size = f"({side}, {side})"
    else:
        yield "width, height = image.size"
        yield "shorter = min(width, height)"
        half = " + 0.5" if opencv else ""
        yield f"width, height = (int({resize} * length / shorter{half}) for length in (width, height))"
        size = "(width, height)"
    if opencv:
        yield f"pixels = cv2.resize(np.asarray(image), {size}, interpolation=cv2.INTER_LINEAR)"
    else:
        yield f"pixels = np.asarray(image.resize({size}, Image.Resampling.{inputs['filter'].upper()}))"
    if resize is not None:
        yield f"left, top = round((width - {side}) / 2), round((height - {side}) / 2)"
        yield f"pixels = pixels[top : top + {side}, left : left + {side}]"


def _numbers(inputs: Mapping[str, Any]) -> Iterator[str]:
    if inputs["order"] == "gray":
        yield "pixels = pixels[:, :, None]"
    if inputs["order"] == "BGR":
        yield "pixels = pixels[:, :, ::-1]"
    if _raw(inputs):
        yield "numbers = pixels.astype(np.float32)"
    else:
        mean, std = (f"np.float32([{', '.join(map(repr, inputs[key]))}])" for key in ("mean", "std"))
        yield f"numbers = (pixels.astype(np.float32) / 255 - {mean}) / {std}"
    yield "return np.ascontiguousarray(numbers.transpose(2, 0, 1)[None])"
