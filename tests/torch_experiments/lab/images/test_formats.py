"""Layouts of public image files: what is written in each is read back; every broken one has a message."""

import gzip
import io
import os
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from torch_experiments.lab.images import formats, pixels

RNG = np.random.default_rng(0)


def image(size=8):
    return RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)


def png(array):
    raw = io.BytesIO()
    Image.fromarray(array).save(raw, format="PNG")
    return raw.getvalue()


def tiny(folder):
    """Write two classes of three training and one validation image as tiny-imagenet-200 has them."""
    wnids, shown = ("n02", "n01"), {}
    for wnid in wnids:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for k in range(3):
            shown[wnid, k] = image()
            (folder / "train" / wnid / "images" / f"{wnid}_{k}.JPEG").write_bytes(png(shown[wnid, k]))
    (folder / "val" / "images").mkdir(parents=True)
    for k in range(2):
        (folder / "val" / "images" / f"val_{k}.JPEG").write_bytes(png(image()))
    (folder / "wnids.txt").write_text("\n".join(wnids))
    lines = [f"val_{k}.JPEG\t{wnid}\t0\t0\t1\t1" for k, wnid in enumerate(wnids)]
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines))
    return shown


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, f"tiny-imagenet-200/{file.relative_to(folder)}")


def cifar(folder, kind):
    """Write two training batches' worth of CIFAR of one version; return pixels and labels."""
    folder.mkdir()
    x, y = RNG.integers(0, 256, (5, 4, 3072), dtype=np.uint8), RNG.integers(0, 10, (5, 4))
    names = [f"class{k}" for k in range(10)]
    if kind == "python":
        for k in range(5):
            write_pickle(folder / f"data_batch_{k + 1}", {b"data": x[k], b"labels": y[k].tolist()})
        write_pickle(folder / "test_batch", {b"data": x[0], b"labels": y[0].tolist()})
        write_pickle(folder / "batches.meta", {b"label_names": [n.encode() for n in names]})
    else:
        for k in range(5):
            (folder / f"data_batch_{k + 1}.bin").write_bytes(binary(y[k], x[k]))
        (folder / "test_batch.bin").write_bytes(binary(y[0], x[0]))
        (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return x, y


def write_pickle(file, table):
    file.write_bytes(pickle.dumps(table, protocol=2))


def binary(*columns):
    return np.concatenate([c.reshape(len(c), -1).astype(np.uint8) for c in columns], axis=1).tobytes()


def idx(folder, compressed):
    folder.mkdir()
    x, y = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8), np.arange(6, dtype=np.uint8)
    for name, array in zip(formats.IDX, (x, y, x[:2], y[:2]), strict=True):
        raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        target = folder / (f"{name}.gz" if compressed else name)
        target.write_bytes(gzip.compress(raw) if compressed else raw)
    return x, y


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


def test_the_statistics_are_those_of_the_training_images(tmp_path):
    x, _ = cifar(tmp_path / "cifar", "binary")
    found = pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")
    levels = x.reshape(20, 3, 1024).astype(float)
    assert np.allclose(found.mean.flatten(), levels.mean(axis=(0, 2)), rtol=1e-6)
    assert np.allclose(found.scale.flatten(), levels.std(axis=(0, 2)), rtol=1e-6)
    normal = found.standardised(found.train_x, torch.float64)
    assert float(normal.mean()) == pytest.approx(0, abs=1e-6)
    assert float(normal.std(unbiased=False)) == pytest.approx(1, abs=1e-6)


def test_the_second_load_maps_the_cache_and_a_changed_file_is_read_anew(tmp_path, monkeypatch):
    cifar(tmp_path / "cifar", "binary")
    first = pixels.load(tmp_path / "cifar", cache=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "_decode", lambda *args: pytest.fail("decoded again"))
        assert pixels.load(tmp_path / "cifar", cache=tmp_path / "cache").fingerprint == first.fingerprint
    os.utime(tmp_path / "cifar" / "data_batch_1.bin", (1, 1))
    assert pixels.load(tmp_path / "cifar", cache=tmp_path / "cache").fingerprint == first.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_writer_that_was_overtaken_leaves_the_first_cache(tmp_path):
    cifar(tmp_path / "cifar", "binary")
    source, folder = formats.source(tmp_path / "cifar"), tmp_path / "cache" / "x"
    pixels._decode(source, folder, None)
    pixels._decode(source, folder, None)
    assert [p.name for p in folder.parent.iterdir()] == ["x"]


def test_digits_are_in_memory_with_their_levels():
    found = pixels.load("digits")
    assert found.shape == (1, 8, 8)
    assert int(found.train_x.max()) == 16
    assert len(found.train_y) == 1437


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


def parquet(folder, labels, size=8, split="train"):
    folder.mkdir(exist_ok=True)
    cells = [{"bytes": png(image(size)), "path": None} for _ in labels]
    pq.write_table(pa.table({"image": cells, "label": labels}), folder / f"{split}-0.parquet")


def test_a_huge_label_without_names_is_refused(tmp_path):
    parquet(tmp_path / "data", [0, 10**9])
    parquet(tmp_path / "data", [0], split="test")
    with pytest.raises(ValueError, match=r"train-0.parquet, row 1: label 1000000000 is out of range; allowed"):
        pixels.load(tmp_path / "data", cache=tmp_path / "cache")


def test_test_images_of_another_shape_are_refused(tmp_path):
    parquet(tmp_path / "data", [0, 1])
    parquet(tmp_path / "data", [0], size=9, split="test")
    with pytest.raises(ValueError, match=r"images of shape \(3, 9, 9\) in the test split; .* have \(3, 8, 8\)"):
        pixels.load(tmp_path / "data", cache=tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())
