"""Images in Parquet files, as Hugging Face stores them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collm_nas import images
from collm_nas.api import UserError
from tests.unit.images.samples import RGB_8, parquet, png

LABELS = [0, 1, 2] * 7


def rows(split):
    """(label, row) of each image by its colour, which must agree with the label."""
    pixels_NC = split.pixels(RGB_8)[:, :, 0, 0].tolist()
    assert [red // 50 for red, _, _ in pixels_NC] == split.labels.tolist()
    return [blue for _, _, blue in pixels_NC]


@pytest.mark.parametrize("struct", [True, False])
def test_one_file_is_train_alone(tmp_path, struct):
    """21 rows in groups of 4: every image comes from its own row, whatever the order."""
    data = images.open(parquet(tmp_path / "mine.parquet", LABELS, struct))
    assert (data.test, data.classes, data.channels, data.side_hint) == (None, ("0", "1", "2"), 3, 8)
    found = rows(data.train) + rows(data.valid)
    assert found != sorted(found)
    assert sorted(found) == list(range(21))


def test_a_folder_of_files_with_class_names(tmp_path):
    names = ["cat", "dog", "cow"]
    parquet(tmp_path / "data/train-00000-of-00002.parquet", LABELS, names=names)
    parquet(tmp_path / "data/train-00001-of-00002.parquet", LABELS[:6], names=names)
    parquet(tmp_path / "data/test-00000-of-00001.parquet", [-1, -1], names=names)
    parquet(tmp_path / "data/validation-00000-of-00001.parquet", [2, 1, 0], names=names)
    data = images.open(tmp_path, valid=7)
    assert (data.classes, len(data.train), len(data.valid)) == (("cat", "dog", "cow"), 20, 7)
    assert rows(data.test) == [0, 1, 2]  # of `validation`, since `test` is unlabelled
    assert sorted(rows(data.train) + rows(data.valid)) == sorted([*range(21), *range(6)])
    assert images.open(tmp_path).digest == data.digest != images.open(tmp_path / "data/train-00000-of-00002.parquet")


@pytest.mark.parametrize("layout", ["{}/0000.parquet", "{}.parquet", "{}-0.parquet"])
def test_parts_by_the_name_of_file_or_folder(tmp_path, layout):
    parquet(tmp_path / layout.format("train"), LABELS, image="img", label="labels")
    parquet(tmp_path / layout.format("val"), LABELS[:3], image="img", label="labels")
    data = images.open(tmp_path)
    assert (len(data.train) + len(data.valid), len(data.test)) == (21, 3)
    assert sorted(rows(data.train) + rows(data.valid)) == list(range(21))


def test_a_damaged_image_is_named_by_file_and_row(tmp_path):
    path = tmp_path / "mine.parquet"
    cells = [png(0, 0), png(1, 1), png(2, 0), png(3, 1), png(4, 0), b"junk"]
    pq.write_table(pa.table({"image": cells, "label": [0, 1, 0, 1, 0, 1]}), path, row_group_size=4)
    data = images.open(path, valid=0)
    with pytest.raises(UserError, match=r"mine\.parquet, row 5: cannot be decoded \(no image\)"):
        data.train.pixels(RGB_8)


def test_rows_are_counted_within_their_file(tmp_path):
    parquet(tmp_path / "train-0.parquet", LABELS)
    parquet(tmp_path / "train-1.parquet", [0, 1, 2, 2, 2, 2, -1])
    with pytest.raises(UserError, match=r"train-1\.parquet, row 6: label -1 is none of the train classes 0\.\.2"):
        images.open(tmp_path)


@pytest.mark.parametrize(("table", "message"), [
    ({"picture": [b""], "label": [0]}, r"no column 'image' among picture, label"),
    ({"image": [b""], "class": [0]}, r"no column 'label' among image, class"),
    ({"image": ["a.png"], "label": [0]}, r"column 'image' holds string, but must hold bytes"),
    ({"image": [{"path": "a.png"}], "label": [0]}, r"column 'image' holds struct<path: string>"),
    ({"image": [b""], "label": ["cat"]}, r"column 'label' must hold a whole number for every image"),
    ({"image": [b"", b""], "label": [0, None]}, r"column 'label' must hold a whole number for every image"),
    ({"image": [b"", b""], "label": [1, 2]}, r"class '0' has no train images"),
    ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, r"there are no train images"),
])  # fmt: skip
def test_tables_that_are_refused(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "mine.parquet")
    with pytest.raises(UserError, match=message):
        images.open(tmp_path / "mine.parquet")


def test_files_that_are_refused(tmp_path):
    parquet(tmp_path / "test-0.parquet", LABELS)
    with pytest.raises(UserError, match=r"it holds test-0\.parquet, but no train-\*\.parquet"):
        images.open(tmp_path)
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"train-0\.parquet: not readable as Parquet"):
        images.open(tmp_path)
    parquet(tmp_path / "train-0.parquet", LABELS)
    parquet(tmp_path / "train-1.parquet", LABELS, image="img")
    with pytest.raises(UserError, match=r"train-1\.parquet: its columns are not those of train-0\.parquet"):
        images.open(tmp_path)
    (tmp_path / "train-1.parquet").unlink()
    parquet(tmp_path / "test-0.parquet", [3])
    with pytest.raises(UserError, match=r"test-0\.parquet, row 0: label 3 is none of the test classes 0\.\.2"):
        images.open(tmp_path)
