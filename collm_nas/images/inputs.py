"""What a network wants its images to be: the last step before it, and the key under which decoded images are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Filter = Literal["bilinear", "bicubic", "opencv"]
"""How images are scaled: Pillow's two (which average when they shrink), or OpenCV's bilinear (which does not)."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Side and normalisation of square images, and how they are cut out of larger ones.

    `resize`: pixels of the shorter side before the centre is cut out; None scales the whole image to a square, which is
    for small images. `mean` and `std` are of values between 0 and 1, one a channel, in the order of the channels.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    filter: Filter = "bilinear"
    order: Literal["RGB", "BGR", "gray"] = "RGB"

    @classmethod
    def small(cls, side: int, channels: int) -> Inputs:
        """Whole images of this side, RGB or gray, centred and scaled alike whatever the data."""
        return cls(side, (0.5,) * channels, (0.25,) * channels, order="gray" if channels == 1 else "RGB")

    @property
    def channels(self) -> int:
        """Of an image: three, or one."""
        return 1 if self.order == "gray" else 3

    def normalized(self, pixels_NCHW: Tensor, dtype: torch.dtype) -> Tensor:
        """Bytes (N, C, H, W), on any device, as the network's numbers, in the memory format that they have."""
        import torch

        scale_C, shift_C = (
            torch.tensor(values, dtype=dtype, device=pixels_NCHW.device)[:, None, None]
            for values in (
                [1 / (255 * s) for s in self.std],
                [-m / s for m, s in zip(self.mean, self.std, strict=True)],
            )
        )
        return pixels_NCHW.to(dtype).mul_(scale_C).add_(shift_C)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
