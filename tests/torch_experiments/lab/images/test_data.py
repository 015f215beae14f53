"""Digits, and parquet files of the hub's layout: the good ones, and every bad one that has a message."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from torch_experiments.lab.images.data import digits, load, parquet

CIFAR = Path(__file__).parents[5] / "shared/data/cifar10-part"
NAMES = ["cat", "dog", "eel"]


def png(pixels, mode=None):
    raw = io.BytesIO()
    Image.fromarray(pixels, mode).save(raw, format="PNG")
    return raw.getvalue()


def images(count, seed=0, size=4):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def write(file, raws, labels, column="image", names=NAMES, label_type="int64"):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": raw, "path": None} for raw in raws], kind)
    table = pa.table({column: cells, "label": pa.array(labels, label_type)})
    features = {"label": {"_type": "ClassLabel", "names": names}}
    about = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    pq.write_table(table.replace_schema_metadata(about), file)


def folder(tmp_path, train=None, labels=(0, 1, 2, 1), **layout):
    write(tmp_path / "train-00000-of-00001.parquet", train or list(map(png, images(4))), list(labels), **layout)
    write(tmp_path / "test-00000-of-00001.parquet", list(map(png, images(2, 1))), [2, 0], **layout)
    return tmp_path


def test_digits_are_standardised_and_split_in_proportion():
    data = digits()
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert data.test_x.shape == (360, 1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert float(data.train_x.mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.train_x.std(unbiased=False)) == pytest.approx(1, abs=1e-6)
    assert data.train_y.bincount().min() >= 139
    assert data.train_y.dtype == torch.int64


def test_the_split_depends_on_the_seed():
    assert digits().fingerprint() == load("digits").fingerprint() != digits(seed=1).fingerprint()


@pytest.mark.parametrize("column", ["image", "img"])
def test_pixels_come_back_as_they_were(tmp_path, column):
    data = load(folder(tmp_path, column=column), dtype=torch.float64)
    pixels = np.stack(images(4)).transpose(0, 3, 1, 2).astype(float)
    mean, scale = (f(pixels, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    assert np.allclose(data.train_x.numpy(), (pixels - mean) / scale, rtol=1e-12)
    assert data.test_x.shape == (2, 3, 4, 4)
    assert data.train_y.tolist() == [0, 1, 2, 1]
    assert data.classes == ("cat", "dog", "eel")


def test_shards_follow_each_other_and_a_limit_stops_early(tmp_path):
    folder(tmp_path)
    write(tmp_path / "train-00001-of-00002.parquet", [b"broken"], [0])
    assert len(parquet(tmp_path, limit=4).train_y) == 4
    with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet, row 0: truncated or broken"):
        parquet(tmp_path)


def test_a_validation_split_serves_as_test_set_and_names_are_optional(tmp_path):
    folder(tmp_path, names=None)
    (tmp_path / "test-00000-of-00001.parquet").rename(tmp_path / "valid-00000-of-00001.parquet")
    assert parquet(tmp_path).classes == ("0", "1", "2")


def test_grey_and_palette_images_become_rgb(tmp_path):
    grey = [png(p[..., 0]) for p in images(4)]
    assert parquet(folder(tmp_path, train=grey)).train_x.shape == (4, 3, 4, 4)


def broken(position, raw):
    raws = list(map(png, images(4, size=16)))
    raws[position] = raw(raws[position])
    return {"train": raws}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"column": "picture"}, r"columns are picture, label; expected image \(or img\) and label"),
        (broken(2, lambda raw: raw[: len(raw) // 2]), r"train-00000-of-00001.parquet, row 2: truncated or broken"),
        (broken(1, lambda raw: None), r"row 1: no image bytes; embed"),
        (broken(3, lambda raw: png(images(1)[0])), r"row 3: image of shape \(3, 4, 4\); the first has \(3, 16"),
        ({"labels": (0, 3, 1, 1)}, r"row 1: label 3 is out of range; allowed are 0 to 2"),
        ({"labels": (0, 0, -1, 1)}, r"row 2: label -1 is out of range"),
        ({"labels": (0, 0, None, 1)}, r"row 2: label None is out of range"),
        ({"label_type": "float32"}, r"column label is float; expected an integer"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_its_row(tmp_path, layout, message):
    with pytest.raises(ValueError, match=message):
        parquet(folder(tmp_path, **layout))


def test_an_image_column_of_plain_bytes_is_named(tmp_path):
    folder(tmp_path)
    pq.write_table(pa.table({"image": [b"x"], "label": [0]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"column image is binary; expected struct with a field bytes"):
        parquet(tmp_path)


def test_an_empty_split_is_named(tmp_path):
    folder(tmp_path)
    write(tmp_path / "train-00000-of-00001.parquet", [], [])
    with pytest.raises(ValueError, match=r"train-00000-of-00001.parquet holds no images"):
        parquet(tmp_path)


def test_missing_files_are_named_with_what_is_there(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"no train-\*.parquet in .*, which holds notes.txt"):
        load(tmp_path)
    write(tmp_path / "train-00000-of-00001.parquet", [png(images(1)[0])], [0])
    with pytest.raises(FileNotFoundError, match=r"no test-\*.parquet or valid-\*.parquet"):
        load(tmp_path)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="the development copy of CIFAR-10 is not on this machine")
def test_the_real_files_load():
    data = parquet(CIFAR, limit=200)
    assert data.train_x.shape == (200, 3, 32, 32)
    assert data.classes[0] == "airplane"
    assert len(data.classes) == 10
