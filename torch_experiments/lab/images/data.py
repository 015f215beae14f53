"""Images in memory as standardised floats: scikit-learn's digits, which need no download, and `formats`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torch_experiments.lab.images import formats


@dataclass(frozen=True)
class ImageData:
    """A labelled image data set in memory.

    Attributes:
        train_x, test_x: float images ``[samples, channels, height, width]``, standardised by the training set.
        train_y, test_y: int64 class indices ``[samples]``.
        classes: names of the classes.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return a hash of all images and labels, which names the data wherever they lie."""
        digest = hashlib.sha256(repr((self.classes, self.train_x.shape, self.test_x.shape)).encode())
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def load(source: str | Path, *, dtype: torch.dtype = torch.float32, limit: int | None = None) -> ImageData:
    """Return the data set ``"digits"``, or that of a folder or zip in one of `formats`' layouts.

    Images are standardised by the training set's mean and deviation of each channel.

    Args:
        source: where the files are.
        dtype: of the images.
        limit: read at most this many images of each split, from the start.

    Raises:
        FileNotFoundError: when there are no files of a split.
        ValueError: for wrong columns, an image that is missing, truncated or of another size than the first, or
            a label out of range; the message names the file and the row.
    """
    return _gathered(formats.source(source), dtype, limit)


def digits(*, seed: int = 0, test_share: float = 0.2, dtype: torch.dtype = torch.float32) -> ImageData:
    """Return scikit-learn's 1,797 handwritten 8×8 digits (`formats.digits`), standardised by one mean and scale."""
    return _gathered(formats.digits(seed=seed, test_share=test_share), dtype, None)


def parquet(folder: str | Path, *, dtype: torch.dtype = torch.float32, limit: int | None = None) -> ImageData:
    """Return `load` of a folder of parquet files (`formats.parquet`)."""
    return _gathered(formats.parquet(Path(folder)), dtype, limit)


def _gathered(source: formats.Source, dtype: torch.dtype, limit: int | None) -> ImageData:
    train, train_y = _split(source, "train", limit)
    test, test_y = _split(source, "test", limit)
    mean = train.mean(axis=(0, 2, 3), keepdims=True)
    scale = np.maximum(train.std(axis=(0, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
    x, z = (torch.as_tensor((part - mean) / scale, dtype=dtype) for part in (train, test))
    top = int(max(train_y.max(), test_y.max()))
    names = source.classes or tuple(map(str, range(top + 1)))
    return ImageData(x, torch.as_tensor(train_y), z, torch.as_tensor(test_y), names)


def _split(source: formats.Source, split: str, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    found = list(formats.samples(source, split, limit))
    return np.stack([sample.pixels for sample in found]), np.array([sample.label for sample in found])
