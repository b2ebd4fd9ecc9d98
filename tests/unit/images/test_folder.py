"""Folders of images: their layouts, their digest, and what is wrong with them."""

from __future__ import annotations

import os
import shutil

import pytest

from collm_nas import images
from collm_nas.api import UserError
from tests.unit.images.samples import COLOURS, RGB_8, folder, image, noise, train_and_test


@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_train_and_test_folders(tmp_path, test):
    data = images.open(train_and_test(tmp_path, test))
    assert data.classes == ("blue", "green", "red")
    assert (data.channels, data.side_hint) == (3, 8)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test.pixels(RGB_8)[:, :, 3, 3].tolist() == [
        [0, 0, 200], [0, 1, 200], [0, 200, 0], [0, 200, 1], [200, 0, 0], [200, 0, 1],
    ]  # fmt: skip


def test_an_unlabelled_test_folder_gives_way_to_val(tmp_path):
    train_and_test(tmp_path, "val")
    (tmp_path / "test").mkdir()
    image().save(tmp_path / "test" / "unlabelled.png")
    assert len(images.open(tmp_path).test) == 6


def test_class_folders_alone_have_no_test_images(tmp_path):
    data = images.open(folder(tmp_path, {"red": 4, "blue": 4}))
    assert (data.classes, data.test, len(data.train) + len(data.valid)) == (("blue", "red"), None, 8)


def test_a_class_may_be_called_train(tmp_path):
    folder(tmp_path, {"red": 4})
    (tmp_path / "red").rename(tmp_path / "train")
    assert images.open(folder(tmp_path, {"blue": 4})).classes == ("blue", "train")


def test_hidden_and_other_files_are_passed_over(tmp_path):
    folder(tmp_path, {"red": 4, "blue": 4})
    digest = images.open(tmp_path).digest
    (tmp_path / ".cache").mkdir()
    (tmp_path / "red" / "._000.png").write_bytes(b"")
    (tmp_path / "red" / "notes.txt").write_text("not an image")
    (tmp_path / "README.md").write_text("not a class")
    assert images.open(tmp_path).digest == digest


def test_the_digest_follows_names_labels_and_sizes_but_not_the_place(tmp_path):
    train_and_test(tmp_path / "a")
    digest = images.open(tmp_path / "a").digest
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert images.open(tmp_path / "b", seed=5, limit=3).digest == digest
    (tmp_path / "b/train/red/000.png").rename(tmp_path / "b/train/red/zzz.png")
    assert images.open(tmp_path / "b").digest != digest
    (tmp_path / "b/train/red/zzz.png").rename(tmp_path / "b/train/red/000.png")
    noise(8, 8).save(tmp_path / "b/test/red/000.png")
    assert images.open(tmp_path / "b").digest != digest


def test_side_hint_of_images_that_differ(tmp_path):
    folder(tmp_path, {"red": 2, "blue": 2})
    image(size=(9, 9)).save(tmp_path / "red" / "000.png")
    assert images.open(tmp_path, valid=0).side_hint is None
    for path in tmp_path.glob("*/*.png"):
        image(size=(9, 8)).save(path)
    assert images.open(tmp_path, valid=0).side_hint is None


def broken(tmp_path, how):
    train_and_test(tmp_path)
    if how == "no test class":
        shutil.rmtree(tmp_path / "test" / "red")
    elif how == "new test class":
        (tmp_path / "test" / "pink").mkdir()
    elif how == "empty class":
        for path in (tmp_path / "train" / "green").iterdir():
            path.unlink()
    elif how == "empty test":
        for path in (tmp_path / "test").glob("*/*"):
            path.unlink()
    elif how == "one class":
        for name in ("red", "green"):
            shutil.rmtree(tmp_path / "train" / name)
    elif how == "no images":
        for path in (tmp_path / "train").glob("*/*"):
            path.rename(path.with_suffix(".txt"))
    elif how == "gone":
        (tmp_path / "train" / "red" / "000.png").unlink()
        os.symlink("nowhere", tmp_path / "train" / "red" / "000.png")
    return tmp_path


@pytest.mark.parametrize(("how", "message"), [
    ("no test class", r"/test: there is no folder for the train class 'red'; add it, or rename 'test'"),
    ("new test class", r"/test: class 'pink' is not among the train classes"),
    ("empty class", r"class 'green' has no train images; add some, or remove the class"),
    ("empty test", r"/test: its folders hold no images \(\.jpg "),
    ("one class", r"'blue' is the only class"),
    ("no images", r"there are no train images in it; give train/CLASS/\*\.jpg"),
    ("gone", r"train/red/000\.png: cannot be read \(No such file"),
])  # fmt: skip
def test_what_is_wrong_with_a_folder(tmp_path, how, message):
    with pytest.raises(UserError, match=message):
        images.open(broken(tmp_path, how))


def test_what_is_no_folder_of_images(tmp_path):
    with pytest.raises(UserError, match=r"images '/none/here': there is no such folder; .* 'digits' for the built-in"):
        images.open("/none/here")
    with pytest.raises(UserError, match="holds neither images"):
        images.open(tmp_path)
    image().save(tmp_path / "one.png")
    with pytest.raises(UserError, match="its images are in no class; put those of each class into a folder"):
        images.open(tmp_path)
    with pytest.raises(UserError, match="neither a folder nor a Parquet file; unpack an archive first"):
        images.open(tmp_path / "one.png")


def test_a_folder_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert images.open(folder(tmp_path / "mine", dict.fromkeys(COLOURS, 4)) and "~/mine").name == "mine"
