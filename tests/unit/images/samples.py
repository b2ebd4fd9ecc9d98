"""Small labelled images made on the fly: a class is a colour, so that a decoded image says which file it was."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from collm_nas.images.inputs import Inputs

RGB_8 = Inputs(8, (0.5,) * 3, (0.5,) * 3)
GRAY_8 = Inputs(8, (0.5,), (0.5,), order="gray")
COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


def image(colour: tuple[int, int, int] = (200, 0, 0), size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, colour)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8))


def folder(root: Path, counts: dict[str, int], suffix: str = "png") -> Path:
    """`counts` images in each class's folder; an image's number is in its blue channel (green, if it is blue)."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixel = list(COLOURS[name])
            pixel[1 if name == "blue" else 2] = number
            image(tuple(pixel)).save(root / name / f"{number:03}.{suffix}")
    return root


def train_and_test(root: Path, test: str = "test", train_images: int = 10, test_images: int = 2) -> Path:
    folder(root / "train", dict.fromkeys(COLOURS, train_images))
    folder(root / test, dict.fromkeys(COLOURS, test_images))
    return root


def png(number: int, label: int) -> bytes:
    data = io.BytesIO()
    image((label * 50, 0, number)).save(data, "PNG")
    return data.getvalue()


def parquet(path: Path, labels: list[int], struct: bool = True, names: list[str] | None = None, **columns: str) -> Path:
    """A file with an image for each label (its row is in the blue channel); `columns` renames `image` and `label`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = [png(row, max(label, 0)) for row, label in enumerate(labels)]
    cells = [{"bytes": data, "path": None} for data in encoded] if struct else encoded
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()}) if struct else pa.binary()
    image_name, label_name = columns.get("image", "image"), columns.get("label", "label")
    table = pa.table({image_name: pa.array(cells, kind), label_name: pa.array(labels, pa.int64())})
    if names is not None:
        features = {label_name: {"names": names, "_type": "ClassLabel"}, image_name: {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)
    return path
