"""Random crops, flips and colours as the official codes draw them for the images that re-calibrate BatchNorm.

torchvision's `RandomResizedCrop`, `RandomHorizontalFlip` and `ColorJitter` on Pillow images, with draws of our own:
those of a `random.Random` seeded by seed and position for each image, so that threads and batches do not matter.

- `ofa` (mit-han-lab/once-for-all @ f03b267): brightness 32/255, saturation 0.5;
- `spos` (megvii-model/SinglePathOneShot @ 36eed6c): brightness, contrast and saturation 0.4.
"""

from __future__ import annotations

import math
import random
from typing import Literal

from PIL import Image, ImageEnhance

from collm_nas.images.decode import View
from collm_nas.images.inputs import Inputs

Augmentation = Literal["ofa", "spos"]

JITTER: dict[Augmentation, dict[type[ImageEnhance.Brightness | ImageEnhance.Contrast | ImageEnhance.Color], float]] = {
    "ofa": {ImageEnhance.Brightness: 32 / 255, ImageEnhance.Color: 0.5},
    "spos": {ImageEnhance.Brightness: 0.4, ImageEnhance.Contrast: 0.4, ImageEnhance.Color: 0.4},
}
"""By how much each property's factor may differ from 1."""
SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


def random_view(inputs: Inputs, augmentation: Augmentation, seed: int) -> View:
    """The view of an image at a position under this seed."""

    def view(image: Image.Image, position: int) -> Image.Image:
        rng = random.Random(f"{seed}:{position}")
        image = random_resized_crop(image, inputs.side, rng)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return jitter(image, augmentation, rng)

    return view


def random_resized_crop(image: Image.Image, side: int, rng: random.Random) -> Image.Image:
    """A part of 8 to 100 % of the area, between 3:4 and 4:3, scaled bilinearly to side x side."""
    return image.crop(crop_box(image.size, rng)).resize((side, side), Image.Resampling.BILINEAR)


def crop_box(size: tuple[int, int], rng: random.Random) -> tuple[int, int, int, int]:
    """Left, upper, right, lower: the first of ten draws that fits, else the largest centre of a legal ratio."""
    full_width, full_height = size
    for _ in range(TRIES):
        area = full_width * full_height * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= full_width and 0 < height <= full_height:
            top, left = rng.randint(0, full_height - height), rng.randint(0, full_width - width)
            return left, top, left + width, top + height
    ratio = min(max(full_width / full_height, RATIO[0]), RATIO[1])
    width, height = min(full_width, round(full_height * ratio)), min(full_height, round(full_width / ratio))
    left, top = (full_width - width) // 2, (full_height - height) // 2
    return left, top, left + width, top + height


def jitter(image: Image.Image, augmentation: Augmentation, rng: random.Random) -> Image.Image:
    """Brightness, contrast and saturation changed by random factors, in random order."""
    steps = list(JITTER[augmentation].items())
    rng.shuffle(steps)
    for enhance, amount in steps:
        image = enhance(image).enhance(rng.uniform(1 - amount, 1 + amount))
    return image
