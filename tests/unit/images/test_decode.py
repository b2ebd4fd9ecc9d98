"""Kinds of image files, and scaling as torchvision and OpenCV do it (their results, taken once, are pinned here)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from collm_nas import images
from collm_nas.api import UserError
from collm_nas.images import decode, opencv
from collm_nas.images.inputs import Inputs
from tests.unit.images.samples import GRAY_8, RGB_8, folder, image, noise


def digest(pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(np.asarray(pixels)).tobytes()).hexdigest()[:16]


def decoded(tmp_path, picture: Image.Image, name: str, inputs: Inputs, **save) -> torch.Tensor:
    """The one image as it comes out of a folder."""
    folder(tmp_path, {"blue": 1, "red": 1})
    (tmp_path / "red" / "000.png").unlink()
    picture.save(tmp_path / "red" / name, **save)
    data = images.open(tmp_path, valid=0)
    return data.train.take((data.train.labels == 1).nonzero().flatten()).pixels(inputs)[0]


PALETTE = image((10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)


@pytest.mark.parametrize(("picture", "name", "save", "rgb", "tolerance"), [
    (image((10, 200, 30)), "a.png", {}, (10, 200, 30), 0),
    (image((10, 200, 30)), "a.JPG", {"quality": 95}, (10, 200, 30), 3),
    (image((10, 200, 30)), "a.webp", {"lossless": True}, (10, 200, 30), 0),
    (Image.new("L", (8, 8), 77), "a.png", {}, (77, 77, 77), 0),
    (Image.new("LA", (8, 8), (77, 0)), "a.png", {}, (77, 77, 77), 0),
    (Image.new("1", (8, 8), 1), "a.png", {}, (255, 255, 255), 0),
    (PALETTE, "a.png", {}, (10, 200, 30), 0),
    (PALETTE, "a.gif", {}, (10, 200, 30), 0),
    (PALETTE, "a.png", {"transparency": b"\x00\x80"}, (10, 200, 30), 0),
    (Image.new("RGBA", (8, 8), (10, 200, 30, 0)), "a.png", {}, (10, 200, 30), 0),
    (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "a.jpg", {"quality": 95}, (0, 255, 255), 4),
    (Image.fromarray(np.full((8, 8), 0xABCD, np.uint16)), "a.png", {}, (0xAB, 0xAB, 0xAB), 0),
    (Image.fromarray(np.full((8, 8), 0xABCD, np.uint16)), "a.tif", {}, (0xAB, 0xAB, 0xAB), 0),
])  # fmt: skip
def test_kinds_of_files(tmp_path, picture, name, save, rgb, tolerance):
    pixels = decoded(tmp_path, picture, name, RGB_8, **save)
    assert pixels.shape == (3, 8, 8)
    assert (pixels.int() - torch.tensor(rgb)[:, None, None]).abs().max() <= tolerance


def test_orders_of_channels(tmp_path):
    picture = image((10, 200, 30))
    bgr = decoded(tmp_path, picture, "a.png", Inputs(8, (0.0,) * 3, (1.0,) * 3, order="BGR"))
    assert bgr[:, 0, 0].tolist() == [30, 200, 10]
    gray = decoded(tmp_path, picture, "a.png", GRAY_8)
    assert gray.shape == (1, 8, 8)
    assert gray[0, 0, 0] == round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("a.jpg", b"", "no image"),
    ("a.png", b"<html>not found</html>", "no image"),
    ("cut.jpg", None, "truncated"),
    ("cut.png", None, ""),
])  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, name, content, reason):
    folder(tmp_path, {"blue": 2, "red": 2})
    path = tmp_path / "red" / name
    if content is None:
        noise(64, 64).save(path)
        content = path.read_bytes()[:-900]
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"red/{name}: cannot be decoded \(.*{reason}.*\); replace or remove it"):
        images.open(tmp_path, valid=0).train.pixels(RGB_8)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_known_range_are_refused(tmp_path, kind):
    with pytest.raises(UserError, match=r"red/a\.tif: cannot be decoded \(its pixels are 32-bit numbers"):
        decoded(tmp_path, Image.fromarray(np.ones((8, 8), kind)), "a.tif", RGB_8)


@pytest.mark.parametrize(("side", "resize", "how", "sha"), [
    (16, 19, "bilinear", "3cddc3c622775283"),  # from 53 x 37 by way of 27 x 19
    (16, 20, "bicubic", "374eb87682471e9a"),  # 28 x 20: the longer side, 28.6, is cut off
    (24, 28, "bilinear", "8def0264d93297cb"),
])  # fmt: skip
def test_resize_and_centre_crop_as_torchvision(side, resize, how, sha):
    """Pinned: `center_crop(resize(...))` of torchvision 0.29.1 on the same image."""
    fitted = decode.fit(noise(53, 37), Inputs(side, (0.0,), (1.0,), resize=resize, filter=how))
    assert digest(fitted) == sha


@pytest.mark.parametrize(("size", "sha"), [
    ((20, 14), "bb528947c6757a27"), ((106, 74), "2dc745ba886c818c"), ((53, 80), "87dc72c53962edd1"),
    ((27, 19), "d81df441590528f5"),
])  # fmt: skip
def test_opencv_bytes(size, sha):
    """Pinned: `cv2.resize` of OpenCV 5.0.0 and 4.14.0 on the same image."""
    assert digest(opencv.resize(noise(53, 37), size)) == sha


def test_opencv_half_and_gray():
    """Pinned likewise; OpenCV has code of its own for halves."""
    assert digest(opencv.resize(noise(53, 37).crop((0, 0, 52, 36)), (26, 18))) == "b10113fa1cf59171"
    gray = opencv.resize(noise(53, 37).getchannel("R"), (20, 14))
    assert (gray.mode, gray.size, digest(gray)) == ("L", (20, 14), "a24d336c19e8f679")


@pytest.mark.parametrize(
    ("size", "expected"), [((375, 500), (256, 341)), ((500, 375), (341, 256)), ((300, 300), (256, 256))]
)
def test_the_longer_side(size, expected):
    """500 * 256 / 375 = 341.33 either way; of 683 * 256 / 512 = 341.5 OpenCV's users round the half up."""
    assert decode._target(size, 256, Inputs(224, (0.0,), (1.0,))) == expected
    assert decode._target((683, 512), 256, Inputs(224, (0.0,), (1.0,))) == (341, 256)
    assert decode._target((683, 512), 256, Inputs(224, (0.0,), (1.0,), filter="opencv")) == (342, 256)


def test_spos_inputs_end_to_end(tmp_path):
    """Scaled by OpenCV's rule, centre cut out, BGR: against the steps one by one."""
    inputs = Inputs(16, (0.0,) * 3, (1 / 255,) * 3, resize=20, filter="opencv", order="BGR")
    pixels = decoded(tmp_path, noise(53, 37), "a.png", inputs)
    scaled = np.asarray(opencv.resize(noise(53, 37), (29, 20)))
    assert np.array_equal(pixels.numpy(), scaled[2:18, 6:22, ::-1].transpose(2, 0, 1))


def test_without_resize_the_whole_image_is_scaled(tmp_path):
    assert np.array_equal(decode.fit(noise(8, 8), RGB_8), noise(8, 8))
    fitted = decode.fit(noise(53, 37), RGB_8)
    assert np.array_equal(fitted, noise(53, 37).resize((8, 8), Image.Resampling.BILINEAR))


def test_large_images_in_threads_come_in_order(tmp_path, monkeypatch):
    for name in ("blue", "red"):
        (tmp_path / name).mkdir()
        for number in range(100):
            noise(80, 80, seed=number + (name == "red") * 100).save(tmp_path / name / f"{number:03}.bmp")
    inputs = Inputs(16, (0.0,) * 3, (1.0,) * 3)
    data = images.open(tmp_path, valid=0)
    monkeypatch.setattr(decode, "PORTION", 7)
    pixels = data.train.pixels(inputs)
    for position in range(0, 200, 9):
        seed = int(data.train.numbers_N[position])
        expected = decode.fit(noise(80, 80, seed), inputs)
        assert np.array_equal(pixels[position].permute(1, 2, 0), expected)
