"""Images in memory: levels as they were, statistics of the training set, a cache that is whole or not there."""

import os

import numpy as np
import pytest
import torch

from tests.torch_experiments.lab.images.files import cifar, hub, images, png, write
from torch_experiments.lab.images import formats, pixels


def loaded(place, **options):
    return pixels.load(place, cache=place / "cache", **options)


def test_digits_are_in_memory_with_their_levels():
    found = pixels.load("digits")
    assert found.shape == (1, 8, 8)
    assert int(found.train_x.max()) == 16
    assert len(found.train_y) == 1437


def test_digits_are_standardised_and_split_in_proportion():
    found = pixels.load("digits")
    data = found.floats()
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert data.test_x.shape == (360, 1, 8, 8)
    assert found.classes == tuple("0123456789")
    assert float(data.train_x.mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.train_x.std(unbiased=False)) == pytest.approx(1, abs=1e-6)
    assert data.train_y.bincount().min() >= 139
    assert data.train_y.dtype == torch.int64


def test_the_split_depends_on_the_seed():
    first, again, other = (next(formats.digits(seed=seed).train()).pixels for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("column", ["image", "img"])
def test_pixels_come_back_as_they_were(tmp_path, column):
    found = loaded(hub(tmp_path, column=column))
    data = found.floats(torch.float64)
    shown = np.stack(images(4)).transpose(0, 3, 1, 2).astype(float)
    mean, scale = (f(shown, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    assert np.allclose(data.train_x.numpy(), (shown - mean) / scale, rtol=1e-12)
    assert data.test_x.shape == (2, 3, 4, 4)
    assert data.train_y.tolist() == [0, 1, 2, 1]
    assert found.classes == ("cat", "dog", "eel")


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


def test_test_images_of_another_shape_are_refused(tmp_path):
    hub(tmp_path)
    write(tmp_path / "test-00000-of-00001.parquet", [png(images(1, size=9)[0])], [0])
    with pytest.raises(ValueError, match=r"images of shape \(3, 9, 9\) in the test split; .* have \(3, 4, 4\)"):
        loaded(tmp_path)
    assert not any((tmp_path / "cache").iterdir())
