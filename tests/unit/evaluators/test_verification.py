"""Published subnets held against their figures: real scores of a small supernet whose figures were measured before."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from PIL import Image

from collm_nas import images, spaces, supernets
from collm_nas.api import UserError
from collm_nas.cli import main
from collm_nas.evaluators.verification import verify
from collm_nas.supernets import protocols, published
from collm_nas.supernets.scoring import Scorer


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A checkpoint of digits-mbconv as an official code would leave it."""
    path = tmp_path_factory.mktemp("file") / "digits.pth"
    torch.save({"state_dict": supernets.fresh(spaces.load("digits-mbconv"), 1).state}, path)
    return path


@pytest.fixture(scope="module")
def measured(file):
    """Three subnets with what the evaluator finds on the 400 test images."""
    space = spaces.load("digits-mbconv")
    scorer = Scorer(
        supernets.load(space, file), images.open("digits", valid=0), protocols.named("fast"), torch.device("cpu")
    )
    archs = [space.sample(random.Random(i)) for i in range(3)]
    return [
        published.Published(
            f"net {i}", space.name, "fast", space.format(arch), scorer.score(arch, "test").accuracy, 0.3, {}, "measured"
        )
        for i, arch in enumerate(archs)
    ]


def publish(monkeypatch, rows):
    monkeypatch.setattr(published, "PUBLISHED", tuple(rows))


def line(file, *more):
    return main(["supernet", "verify", "--supernet", str(file), "--data", "digits", *more])


def test_what_was_measured_agrees(file, measured, monkeypatch, capsys):
    publish(monkeypatch, [replace(row, accuracy=row.accuracy + 0.25) for row in measured])
    assert line(file, "--space", "digits-mbconv") == 0
    out, err = capsys.readouterr()
    head, *rows = out.splitlines()
    assert head.split() == ["name", "published", "found", "tolerance", "verdict"] and not err
    for row, subnet in zip(rows, measured, strict=True):
        assert row.split()[:2] == subnet.name.split() and row.split()[-2:] == ["0.30", "agrees"]
        assert f"{subnet.accuracy:.2f} ±" in row


def test_one_outside_is_exit_1(file, measured, monkeypatch, capsys):
    publish(monkeypatch, [measured[0], replace(measured[1], accuracy=measured[1].accuracy - 0.35), measured[2]])
    assert line(file, "--space", "digits-mbconv") == 1
    verdicts = [row.split()[-1] for row in capsys.readouterr().out.splitlines()[1:]]
    assert verdicts == ["agrees", "OUTSIDE", "agrees"]


def test_what_has_no_published_accuracy_is_not_judged(file, measured, monkeypatch, capsys):
    publish(monkeypatch, [replace(measured[0], accuracy=None, source="it was trained anew")])
    assert line(file, "--space", "digits-mbconv") == 0
    [row] = capsys.readouterr().out.splitlines()[1:]
    assert "none" in row and row.endswith("not judged (it was trained anew)")


def test_some_images_widen_the_tolerance_by_chance(file, measured, monkeypatch):
    """Three standard errors of the published accuracy, not of the one found, whose error is 0 where none is right."""
    publish(monkeypatch, [replace(row, accuracy=50.0) for row in measured])
    whole = list(verify(file, "digits", space="digits-mbconv"))
    part = list(verify(file, "digits", space="digits-mbconv", limit=100))
    again = list(verify(file, "digits", space="digits-mbconv", limit=100))
    assert part == again, "always the same images"
    assert {f.score.images for f in whole} == {400} and {f.score.images for f in part} == {100}
    assert {f.tolerance for f in whole} == {0.3} and {f.tolerance for f in part} == {0.3 + 15}
    assert any(a.score.accuracy != b.score.accuracy for a, b in zip(whole, part, strict=True))


def test_refused(file, measured, monkeypatch, capsys, tmp_path):
    def sentence(*arguments):
        assert main(["supernet", "verify", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1
        return err

    digits = ("--supernet", file, "--space", "digits-mbconv", "--data", "digits")
    assert "no subnet of a supernet of digits-mbconv is published; those that have some: autofo" in sentence(*digits)
    publish(monkeypatch, measured)
    assert "--images 401 must be between 1 and 400" in sentence(*digits, "--images", "401")
    assert "--images 0 must be" in sentence(*digits, "--images", "0")
    assert "does not say what it is a supernet of" in sentence(*digits[:2], *digits[4:])
    assert "there is no such file" in sentence("--supernet", tmp_path / "none", *digits[2:])
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "photos" / name / "1.pgm")
    assert "there are no validation images" in sentence(*digits[:4], "--data", tmp_path / "photos")
    (tmp_path / "photos" / "train").mkdir()
    (tmp_path / "photos" / "ant").rename(tmp_path / "photos" / "train" / "ant")
    (tmp_path / "photos" / "bee").rename(tmp_path / "photos" / "train" / "bee")
    for name in ("ant", "bee"):
        (tmp_path / "photos" / "val" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "photos" / "val" / name / "1.pgm")
    assert "tells 10 classes apart, but photos has 2" in sentence(*digits[:4], "--data", tmp_path / "photos")


def test_an_autoformer_on_a_folder_of_a_thousand_classes(tmp_path):
    """The whole way, with weights that know nothing: what an official file and ImageNet would go through."""
    for part in ("train", "val"):
        for label in range(1000):
            (tmp_path / part / f"n{label:04}").mkdir(parents=True)
            Image.new("RGB", (3, 2), (label % 256, 0, 0)).save(tmp_path / part / f"n{label:04}" / "1.ppm")
    path = tmp_path / "tiny.pth"
    torch.save({"model": supernets.fresh(spaces.load("autoformer-tiny")).state}, path)
    [finding] = verify(path, tmp_path, space="autoformer-tiny", limit=4)
    assert finding.subnet.accuracy == 75.3 and finding.score.images == 4 and finding.agrees is False
    assert finding.tolerance == pytest.approx(0.2 + 3 * (75.3 * 24.7 / 4) ** 0.5)
    with pytest.raises(UserError, match="is not the supernet of autoformer-small"):
        verify(path, tmp_path, space="autoformer-small", limit=4)
