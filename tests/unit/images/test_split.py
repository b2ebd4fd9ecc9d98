"""Cutting images into splits, and keeping what was decoded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from collm_nas import images
from collm_nas.api import UserError
from collm_nas.images import decode, memory
from collm_nas.images.inputs import Inputs
from tests.unit.images.samples import COLOURS, GRAY_8, RGB_8, folder, train_and_test


def blues(split):
    """An image's own number, which its colour says, with its class: unique in a folder."""
    pixels_NC = split.pixels(RGB_8)[:, :, 0, 0]
    return {(int(label), *pixel) for label, pixel in zip(split.labels, pixels_NC.tolist(), strict=True)}


def test_digits():
    data = images.open("digits")
    assert [len(data.train), len(data.valid), len(data.test)] == [1257, 140, 400]
    assert (data.classes, data.channels, data.side_hint) == (tuple("0123456789"), 1, 8)
    pixels = data.train.pixels(GRAY_8)
    assert pixels.shape == (1257, 1, 8, 8)
    assert pixels.dtype == torch.uint8
    assert data.train.labels.dtype == torch.long
    everything = torch.cat([split.pixels(GRAY_8) for split in (data.train, data.valid, data.test)])
    from sklearn.datasets import load_digits

    theirs = load_digits()
    levels = torch.tensor(theirs.images).mul(255 / 16).round().to(torch.uint8).flatten(1)
    assert sorted(everything.flatten(1).tolist()) == sorted(levels.tolist())
    numbers = {tuple(image): int(label) for image, label in zip(levels.tolist(), theirs.target, strict=True)}
    assert [numbers[tuple(image)] for image in pixels.flatten(1).tolist()] == data.train.labels.tolist()


def test_digits_are_the_same_on_every_machine():
    data = images.open("digits")
    assert data.digest == "885c1e1d3cb9f9d7599e2175e7ab75c7992220cd9d9099c8a447637823c4fc23"
    assert [split.labels[:8].tolist() for split in (data.train, data.valid, data.test)] == DIGITS
    other = images.open("digits", seed=1)
    assert torch.equal(other.test.labels, data.test.labels)
    assert not torch.equal(other.valid.labels, data.valid.labels)


DIGITS = [[9, 9, 6, 9, 4, 6, 0, 3], [5, 6, 0, 0, 6, 9, 7, 7], [2, 7, 4, 0, 4, 2, 7, 7]]


@pytest.mark.parametrize(("valid", "limit", "sizes"), [
    (0.2, None, (24, 6)), (6, None, (24, 6)), (0.2, 5, (5, 6)), (0, None, (30, 0)), (0.5, 1000, (15, 15)),
])  # fmt: skip
def test_sizes_and_no_overlap(tmp_path, valid, limit, sizes):
    data = images.open(train_and_test(tmp_path), valid=valid, limit=limit)
    assert (len(data.train), len(data.valid)) == sizes
    seen = blues(data.train) | blues(data.valid)
    assert len(seen) == sum(sizes)
    assert len(blues(data.test)) == len(data.test) == 6


def test_the_limit_and_the_seed_choose_without_moving_the_rest(tmp_path):
    train_and_test(tmp_path)
    whole, part = images.open(tmp_path, seed=3), images.open(tmp_path, seed=3, limit=4)
    assert torch.equal(part.train.pixels(RGB_8), whole.train.pixels(RGB_8)[:4])
    assert torch.equal(part.valid.pixels(RGB_8), whole.valid.pixels(RGB_8))
    assert blues(images.open(tmp_path, seed=4).valid) != blues(whole.valid)
    assert set(whole.train.labels[:12].tolist()) == {0, 1, 2}  # beginnings are samples, not the first class


def test_nothing_is_decoded_and_torch_is_not_loaded_at_open(tmp_path):
    for name in COLOURS:
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.jpg").write_bytes(b"no image at all")
    code = (
        f"import sys; from collm_nas import images; d = images.open({str(tmp_path)!r}); d.describe(); "
        "print(len(d.train), 'torch' in sys.modules, 'PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "False", "False"]


def test_pixels_are_decoded_once_for_inputs_that_differ_in_scaling(tmp_path, monkeypatch):
    data = images.open(train_and_test(tmp_path))
    first = data.train.pixels(RGB_8)
    monkeypatch.setattr(decode, "pixels", None)  # would fail if called
    assert data.train.pixels(RGB_8) is first
    assert data.train.pixels(Inputs(8, (0.1,) * 3, (1.0,) * 3)) is first
    part = data.train.take([4, 2])
    assert torch.equal(part.pixels(RGB_8), first[[4, 2]])
    assert torch.equal(part.take([1]).pixels(RGB_8), first[[2]])
    with pytest.raises(TypeError):
        data.train.pixels(Inputs(4, (0.5,) * 3, (0.5,) * 3))


def test_a_part_that_is_asked_first_is_decoded_alone(tmp_path):
    data = images.open(train_and_test(tmp_path))
    part = data.train.take(torch.tensor([5, 0, 5]))
    assert len(part) == 3
    assert torch.equal(part.labels, data.train.labels[[5, 0, 5]])
    before = part.pixels(RGB_8)
    assert torch.equal(before, data.train.pixels(RGB_8)[[5, 0, 5]])
    assert len(data.train.take(slice(2))) == 2
    with pytest.raises(IndexError):
        data.train.take([27])


def test_pixels_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    data = images.open(train_and_test(tmp_path))
    big = Inputs(64, (0.5,) * 3, (0.5,) * 3)
    kept = data.train.pixels(RGB_8)
    monkeypatch.setattr(memory, "free_bytes", lambda: 10 * 3 * 64 * 64)
    with pytest.raises(
        UserError, match=r"27 images of 64 x 64 take 0\.0 GB decoded.* take at most 10 \(limit, valid\)"
    ):
        data.train.pixels(big)
    assert data.train.pixels(RGB_8) is not kept  # the room that it took was given back first
    assert data.valid.pixels(big).shape == (3, 3, 64, 64)


def test_free_memory_is_what_the_system_says():
    import psutil

    assert 0.3 < memory.free_bytes() / psutil.virtual_memory().available < 1


def test_describe_is_json_for_a_protocol(tmp_path):
    line = images.open(train_and_test(tmp_path / "mine"), valid=0.2, seed=2, limit=9).describe()
    digest = line.pop("digest")
    assert json.loads(json.dumps(line)) == {
        "name": "mine", "classes": 3, "images": {"train": 9, "valid": 6, "test": 6},
        "seed": 2, "valid": 0.2, "limit": 9,
    }  # fmt: skip
    assert len(digest) == 64
    assert images.open(folder(tmp_path / "flat", {"red": 3, "blue": 3})).describe()["images"]["test"] is None


@pytest.mark.parametrize(("options", "message"), [
    ({"valid": 30}, "30 valid images cannot be held out of 30 train images"),
    ({"valid": 0.99}, "30 valid images cannot be held out of 30"),
    ({"valid": 0.01}, "valid 0.01 of 30 train images is none"),
    ({"valid": -0.1}, "give a share below 1, or a whole number"),
    ({"valid": 2.5}, "give a share below 1, or a whole number"),
    ({"valid": float("inf")}, "give a share below 1, or a whole number"),
    ({"valid": float("nan")}, "give a share below 1, or a whole number"),
    ({"limit": 0}, "limit 0: at least one image"),
    ({"seed": -1}, "seed -1"),
])  # fmt: skip
def test_illegal_cuts(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        images.open(train_and_test(tmp_path), **options)
