"""Layouts of public image files: what is written in each is read back; every broken one has a message."""

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.torch_experiments.lab.images.files import (
    RNG,
    binary,
    cifar,
    hub,
    idx,
    images,
    png,
    tiny,
    write,
    write_pickle,
    zipped,
)
from torch_experiments.lab.images import formats, pixels

CIFAR = Path(__file__).parents[5] / "shared/data/cifar10-part"


def loaded(place, **options):
    return pixels.load(place, cache=place / "cache", **options)


@pytest.mark.parametrize("as_zip", [False, True])
def test_tiny_imagenet_is_read_from_folder_and_zip(tmp_path, as_zip):
    shown, place = tiny(tmp_path / "tiny"), tmp_path / "tiny"
    if as_zip:
        place = tmp_path / "tiny-imagenet-200.zip"
        zipped(tmp_path / "tiny", place)
    found = pixels.load(place, cache=tmp_path / "cache")
    assert found.classes == ("n01", "n02")
    assert found.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test_y.tolist() == [1, 0]
    assert np.array_equal(found.train_x[3].permute(1, 2, 0).numpy(), shown["n02", 0])


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_cifar_is_read_in_both_versions(tmp_path, kind):
    x, y = cifar(tmp_path / "cifar", kind)
    found = pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")
    assert np.array_equal(found.train_x.numpy(), x.reshape(20, 3, 32, 32))
    assert found.train_y.tolist() == y.flatten().tolist()
    assert found.classes[3] == "class3"


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_cifar_100_has_its_fine_labels(tmp_path, kind):
    x, coarse, fine = RNG.integers(0, 256, (4, 3072), dtype=np.uint8), np.arange(4), 10 * np.arange(4)
    names = [f"fine{k}" for k in range(100)]
    for split in ("train", "test"):
        if kind == "python":
            table = {b"data": x, b"coarse_labels": coarse.tolist(), b"fine_labels": fine.tolist()}
            write_pickle(tmp_path / split, table)
            write_pickle(tmp_path / "meta", {b"fine_label_names": [n.encode() for n in names]})
        else:
            (tmp_path / f"{split}.bin").write_bytes(binary(coarse, fine, x))
            (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    found = pixels.load(tmp_path, cache=tmp_path / "cache")
    assert found.train_y.tolist() == fine.tolist()
    assert found.classes[30] == "fine30"


@pytest.mark.parametrize("compressed", [False, True])
def test_fashion_mnist_is_read_gzipped_or_not(tmp_path, compressed):
    x, y = idx(tmp_path / "fashion", compressed)
    found = pixels.load(tmp_path / "fashion", cache=tmp_path / "cache")
    assert np.array_equal(found.train_x.numpy(), x[:, None])
    assert found.train_y.tolist() == y.tolist()
    assert found.classes == tuple("012345")


def cut(file):
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("python", "data_batch_3", r"data_batch_3: truncated or no batch of CIFAR"),
        ("binary", "data_batch_2.bin", r"data_batch_2.bin: 12285 bytes, no multiple of 3073: truncated"),
    ],
)
def test_a_truncated_cifar_file_is_named_and_no_cache_is_left(tmp_path, kind, file, message):
    cifar(tmp_path / "cifar", kind)
    cut(tmp_path / "cifar" / file)
    with pytest.raises(ValueError, match=message):
        pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch evil",)

    cifar(tmp_path / "cifar", "python")
    (tmp_path / "cifar" / "data_batch_1").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"data_batch_1: .*expected NumPy arrays alone"):
        pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")
    assert not (tmp_path / "evil").exists()


def test_missing_files_of_cifar_are_named(tmp_path):
    cifar(tmp_path / "cifar", "binary")
    (tmp_path / "cifar" / "data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_4.bin missing beside"):
        pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")


def test_a_label_out_of_range_is_named(tmp_path):
    cifar(tmp_path / "cifar", "binary")
    x = np.zeros((1, 3072), np.uint8)
    (tmp_path / "cifar" / "test_batch.bin").write_bytes(binary(np.array([77]), x))
    with pytest.raises(ValueError, match=r"test_batch.bin, row 0: label 77 is out of range; allowed are 0 to 9"):
        pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")


def test_broken_idx_files_are_named(tmp_path):
    idx(tmp_path / "fashion", compressed=False)
    file = tmp_path / "fashion" / formats.IDX[0]
    cut(file)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte: 4713 bytes for shape \(6, 28, 28\): truncated"):
        pixels.load(tmp_path / "fashion", cache=tmp_path / "cache")
    file.write_bytes(b"\0\0\x0d\x03" + file.read_bytes()[4:])
    with pytest.raises(ValueError, match=r"magic number 00000d03; expected 00000803"):
        pixels.load(tmp_path / "fashion", cache=tmp_path / "cache")


def test_broken_images_of_tiny_imagenet_are_named(tmp_path):
    tiny(tmp_path / "tiny")
    cut(tmp_path / "tiny/val/images/val_1.JPEG")
    cut(tmp_path / "tiny/train/n01/images/n01_2.JPEG")
    (tmp_path / "tiny/train/n01/images/n01_2.JPEG").write_bytes(b"JPEG?")
    with pytest.raises(ValueError, match=r"train/n01/images/n01_2.JPEG: truncated or broken image"):
        pixels.load(tmp_path / "tiny", cache=tmp_path / "cache")


def test_a_broken_zip_and_an_unknown_class_are_named(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK?")
    with pytest.raises(ValueError, match=r"broken.zip: truncated or no zip file"):
        pixels.load(tmp_path / "broken.zip", cache=tmp_path / "cache")
    tiny(tmp_path / "tiny")
    (tmp_path / "tiny/val/val_annotations.txt").write_text("val_0.JPEG\tn09\t0\n")
    with pytest.raises(ValueError, match=r"val_0.JPEG has class n09, which is not in wnids.txt"):
        pixels.load(tmp_path / "tiny", cache=tmp_path / "cache")


def test_a_place_with_nothing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data: there is no .*nowhere; give a folder"):
        pixels.load(tmp_path / "nowhere")


def test_shards_follow_each_other_and_a_limit_stops_early(tmp_path):
    hub(tmp_path)
    write(tmp_path / "train-00001-of-00002.parquet", [b"broken"], [0])
    assert len(loaded(tmp_path, limit=4).train_y) == 4
    with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet, row 0: truncated or broken"):
        loaded(tmp_path)


def test_a_validation_split_serves_as_test_set_and_names_are_optional(tmp_path):
    hub(tmp_path, names=None)
    (tmp_path / "test-00000-of-00001.parquet").rename(tmp_path / "valid-00000-of-00001.parquet")
    assert loaded(tmp_path).classes == ("0", "1", "2")


def test_grey_and_palette_images_become_rgb(tmp_path):
    grey = [png(p[..., 0]) for p in images(4)]
    assert loaded(hub(tmp_path, train=grey)).train_x.shape == (4, 3, 4, 4)


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
        loaded(hub(tmp_path, **layout))


def test_an_image_column_of_plain_bytes_is_named(tmp_path):
    hub(tmp_path)
    pq.write_table(pa.table({"image": [b"x"], "label": [0]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"column image is binary; expected struct with a field bytes"):
        loaded(tmp_path)


def test_an_empty_split_is_named(tmp_path):
    hub(tmp_path)
    write(tmp_path / "train-00000-of-00001.parquet", [], [])
    with pytest.raises(ValueError, match=r"train-00000-of-00001.parquet holds no images"):
        loaded(tmp_path)


def test_missing_files_are_named_with_what_is_there(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"no train-\*.parquet in .*, which holds notes.txt"):
        loaded(tmp_path)
    write(tmp_path / "train-00000-of-00001.parquet", [png(images(1)[0])], [0])
    with pytest.raises(FileNotFoundError, match=r"no test-\*.parquet or valid-\*.parquet"):
        loaded(tmp_path)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="the development copy of CIFAR-10 is not on this machine")
def test_the_real_files_load(tmp_path):
    data = pixels.load(CIFAR, cache=tmp_path, limit=200)
    assert data.train_x.shape == (200, 3, 32, 32)
    assert data.classes[0] == "airplane"
    assert len(data.classes) == 10


def test_a_huge_label_without_names_is_refused(tmp_path):
    write(tmp_path / "train-0.parquet", list(map(png, images(2))), [0, 10**9], names=None)
    write(tmp_path / "test-0.parquet", list(map(png, images(1))), [0], names=None)
    with pytest.raises(ValueError, match=r"train-0.parquet, row 1: label 1000000000 is out of range; allowed"):
        loaded(tmp_path)
