"""Random crops, flips and colours: their distribution, and that they depend on seed and position alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from collm_nas import images
from collm_nas.images import augment
from collm_nas.images.inputs import Inputs
from tests.unit.images.samples import folder, noise

INPUTS = Inputs(16, (0.0,) * 3, (1.0,) * 3)


def test_crops_cover_8_to_100_percent_between_3_to_4_and_4_to_3():
    boxes = [augment.crop_box((100, 80), random.Random(seed)) for seed in range(2000)]
    sizes = np.array([(right - left, lower - upper) for left, upper, right, lower in boxes])
    assert all(0 <= left < right <= 100 and 0 <= upper < lower <= 80 for left, upper, right, lower in boxes)
    area, ratio = sizes.prod(1) / 8000, sizes[:, 0] / sizes[:, 1]
    assert 0.07 < area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert 0.7 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.4
    assert abs(np.log(ratio).mean()) < 0.04
    assert {box[0] for box in boxes} >= set(range(40))


def test_a_shape_that_no_draw_fits_is_cut_in_the_middle():
    """Of 4 x 400 even 8 % of the area are 11 x 11 pixels; the largest legal centre is 4 x 5."""
    assert augment.crop_box((4, 400), random.Random(0)) == (0, 197, 4, 202)
    assert augment.crop_box((400, 4), random.Random(0)) == (197, 0, 202, 4)


def test_the_largest_crop_is_the_whole_image(monkeypatch):
    monkeypatch.setattr(augment, "SCALE", (1.0, 1.0))
    monkeypatch.setattr(augment, "RATIO", (1.0, 1.0))
    view = augment.random_resized_crop(noise(16, 16), 16, random.Random(0))
    assert np.array_equal(view, noise(16, 16))


@pytest.mark.parametrize(("augmentation", "low", "high"), [("ofa", 1 - 32 / 255, 1 + 32 / 255), ("spos", 0.6, 1.4)])
def test_brightness_factors(augmentation, low, high):
    """Gray is left alone by saturation and contrast, so that its level is the brightness factor."""
    gray = Image.new("RGB", (4, 4), (100, 100, 100))
    levels = [augment.jitter(gray, augmentation, random.Random(seed)).getpixel((0, 0))[0] for seed in range(500)]
    assert 100 * low - 1 <= min(levels) < 100 * low + 2
    assert 100 * high - 2 < max(levels) <= 100 * high + 1


def test_only_spos_changes_contrast():
    """The mean of a gray image with two levels is kept by contrast; their distance relative to it by brightness."""
    picture = Image.fromarray(np.repeat(np.array([[[60]], [[140]]], np.uint8), 3, axis=2))

    def spread(augmentation, seed):
        low, high = np.asarray(augment.jitter(picture, augmentation, random.Random(seed)), float)[:, 0, 0]
        return (high - low) / (high + low)

    assert {round(spread("ofa", seed), 1) for seed in range(50)} == {0.4}
    assert max(spread("spos", seed) for seed in range(50)) > 0.5
    assert min(spread("spos", seed) for seed in range(50)) < 0.3


def test_draws_depend_on_seed_and_position_alone(tmp_path, monkeypatch):
    for name in ("blue", "red"):
        (tmp_path / name).mkdir()
        for number in range(20):
            noise(70, 70, seed=number).save(tmp_path / name / f"{number:03}.png")
    split = images.open(tmp_path, valid=0).train
    first = split.augmented(INPUTS, "spos", seed=1)
    assert first.shape == (40, 3, 16, 16)
    monkeypatch.setattr("collm_nas.images.decode.PORTION", 3)
    assert torch.equal(split.augmented(INPUTS, "spos", seed=1), first)
    assert torch.equal(split.take(slice(5)).augmented(INPUTS, "spos", seed=1), first[:5])
    assert not torch.equal(split.augmented(INPUTS, "spos", seed=2), first)
    assert not torch.equal(split.augmented(INPUTS, "ofa", seed=1), first)


def test_flips_half_of_the_images_and_channels_are_ordered_last(tmp_path, monkeypatch):
    monkeypatch.setattr(augment, "SCALE", (1.0, 1.0))
    monkeypatch.setattr(augment, "RATIO", (1.0, 1.0))
    monkeypatch.setitem(augment.JITTER, "ofa", {})
    folder(tmp_path, {"blue": 50, "red": 50})
    left_red = Image.new("RGB", (16, 16), (0, 0, 200))
    left_red.paste((200, 0, 0), (0, 0, 8, 16))
    for path in tmp_path.glob("*/*.png"):
        left_red.save(path)
    split = images.open(tmp_path, valid=0).train
    pixels = split.augmented(Inputs(16, (0.0,) * 3, (1.0,) * 3, order="BGR"), "ofa", seed=0)
    red_on_the_left = (pixels[:, 2, 0, 0] == 200).sum()
    assert 35 < red_on_the_left < 65
    assert (pixels[:, 0, 0, 0] == 200).sum() == 100 - red_on_the_left


def test_gray_images():
    gray = Inputs(8, (0.0,), (1.0,), order="gray")
    pixels = images.open("digits").valid.augmented(gray, "ofa", seed=0)
    assert pixels.shape == (140, 1, 8, 8)
    assert pixels.float().std() > 30
