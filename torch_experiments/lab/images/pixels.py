"""Images decoded once: a memory-mapped uint8 cache, written atomically, and a batch of it on any device."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from simulate.files import filling
from torch_experiments.lab.images import formats

LAYOUT = 1  # raise it when the files of the cache change
SPLITS = ("train", "test")


class Floats(NamedTuple):
    """A labelled image data set as standardised floats; images ``[samples, channels, height, width]``."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Pixels:
    """A labelled image data set as uint8, the one representation of images in memory.

    Attributes:
        train_x, test_x: uint8 ``[samples, channels, height, width]``; memory-mapped when they come from a cache.
        train_y, test_y: int64 class indices ``[samples]``.
        classes: names of the classes.
        fingerprint: 16 hex digits of the content, wherever it lies.
        mean, scale: of every channel of the training images, float32 ``[channels, 1, 1]``, in levels.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]
    fingerprint: str
    mean: Tensor
    scale: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    def resized(self, size: int | None) -> Pixels:
        """Return square images of edge ``size``, each pixel the mean of its area; self if they have it already.

        Raises:
            ValueError: for images that are not square, or smaller.
        """
        _, height, width = self.shape
        if size is None or size == height == width:
            return self
        if height != width or not 1 <= size < height:
            raise ValueError(
                f"size: got {size}; the images are {height}×{width}: allowed are 1 to {height}, if square"
            )
        train, test = (_reduced(x, size) for x in (self.train_x, self.test_x))
        mean, scale = _levels(train)
        return Pixels(**vars(self) | {"train_x": train, "test_x": test, "mean": mean, "scale": scale})

    def to(self, device: str | torch.device) -> Pixels:
        """Return the same on ``device``; on the CPU the memory map stays one."""
        if torch.device(device).type == "cpu":
            return self
        names = ("train_x", "train_y", "test_x", "test_y", "mean", "scale")
        return Pixels(**vars(self) | {name: getattr(self, name).to(device) for name in names})

    def standardised(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ``(levels − mean) / scale`` in ``dtype``, shape ``[…, channels, h, w]``.

        Levels that have this dtype already, those of a batch that was changed, are changed in place.
        """
        factor = (1 / self.scale.double()).to(self.mean)  # a product, as a division takes twice as long on a CPU
        return levels.to(dtype).sub_(self.mean).mul_(factor)

    def floats(self, dtype: torch.dtype = torch.float32) -> Floats:
        """Return all images standardised at once, for data that are small and experiments that are exact.

        Mean and deviation of every channel are those of the training images, in float64 until the end, which
        differs from `standardised` by rounding: records and figures hold the numbers of either.

        >>> images = load("digits").floats(torch.float64)
        >>> tuple(images.train_x.shape), abs(float(images.train_x.mean())) < 1e-12
        ((1437, 1, 8, 8), True)
        """
        train, test = self.train_x.cpu().numpy(), self.test_x.cpu().numpy()
        mean = train.mean(axis=(0, 2, 3), keepdims=True)
        scale = np.maximum(train.std(axis=(0, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
        x, z = (torch.as_tensor((part - mean) / scale, dtype=dtype) for part in (train, test))
        return Floats(x, self.train_y, z, self.test_y)


def _reduced(x: Tensor, size: int) -> Tensor:
    parts = (adaptive_avg_pool2d(part.float(), size).round_().to(torch.uint8) for part in x.split(1000))
    return torch.cat(list(parts))


def _levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of every channel, ``[channels, 1, 1]``."""
    moments = [
        (len(part), part.double().mean(dim=(0, 2, 3)), part.double().square().mean(dim=(0, 2, 3)))
        for part in x.split(1000)
    ]
    mean, square = (sum(n * moment[k] for n, *moment in moments) / len(x) for k in (0, 1))
    scale = (square - mean.square()).clamp_min(0).sqrt()
    return mean.float()[:, None, None], scale.float().clamp_min(torch.finfo(torch.float32).tiny)[:, None, None]


def load(where: str | Path, *, cache: Path | None = None, limit: int | None = None) -> Pixels:
    """Return the images at ``where`` (see `formats.source`), decoded at the first call and mapped from then on.

    The cache is named by the files' paths, sizes and times, so changed files are decoded again. It is written
    beside its place and renamed when complete: a reader sees all of it or nothing. ``"digits"`` need none.

    Args:
        where: ``"digits"``, a folder, or a zip.
        cache: the folder of all caches; `cache_folder` if None.
        limit: decode at most this many images of each split, from the start.

    Raises:
        FileNotFoundError, ValueError: as the reader of the layout; no cache is left behind.

    >>> load("digits").shape, len(load("digits").train_y)
    ((1, 8, 8), 1437)
    """
    source = formats.source(where)
    if not source.files:
        return _in_memory(source, limit)
    folder = (cache or cache_folder()) / _name(source, limit)
    if not folder.is_dir():
        _decode(source, folder, limit)
    return _mapped(folder)


def cache_folder() -> Path:
    """Return where decoded images lie: ``$LOP_CACHE``, else ``lop`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LOP_CACHE") or Path(base) / "lop")


def _name(source: formats.Source, limit: int | None) -> str:
    files = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in source.files]
    return hashlib.sha256(json.dumps([LAYOUT, files, limit]).encode()).hexdigest()[:16]


def _decode(source: formats.Source, folder: Path, limit: int | None) -> None:
    with filling(folder) as partial:
        about: dict[str, Any] = {"classes": source.classes}
        digest = hashlib.sha256(repr(source.classes).encode())
        for split in SPLITS:
            about[split] = _write(formats.samples(source, split, limit), partial, split, digest)
        _check_alike(about)
        about["classes"] = source.classes or tuple(map(str, range(max(about[s]["top"] for s in SPLITS) + 1)))
        about["fingerprint"] = digest.hexdigest()[:16]
        (partial / "about.json").write_text(json.dumps(about))


def _check_alike(about: dict[str, Any]) -> None:
    train, test = (tuple(about[split]["shape"][1:]) for split in SPLITS)
    if train != test:
        raise ValueError(f"folder: images of shape {test} in the test split; those for training have {train}")


def _write(samples: Iterator[formats.Sample], folder: Path, split: str, digest: Any) -> dict[str, Any]:
    labels, sums, squares, shape = [], 0.0, 0.0, (0, 0, 0)
    with (folder / f"{split}_x.bin").open("wb") as file:
        for sample in samples:
            raw, level, shape = sample.pixels.tobytes(), sample.pixels.astype(np.float64), sample.pixels.shape
            file.write(raw)
            digest.update(raw)
            sums, squares = sums + level.mean(axis=(1, 2)), squares + np.square(level).mean(axis=(1, 2))
            labels.append(sample.label)
    y = np.array(labels, np.int64)
    digest.update(y.tobytes())
    np.save(folder / f"{split}_y.npy", y)
    mean, square = np.asarray(sums) / len(y), np.asarray(squares) / len(y)
    scale = np.sqrt(np.maximum(square - mean**2, 0))
    return {"shape": [len(y), *shape], "top": int(y.max()), "mean": mean.tolist(), "scale": scale.tolist()}


def _mapped(folder: Path) -> Pixels:
    about = json.loads((folder / "about.json").read_text())
    x, y = {}, {}
    for split in SPLITS:
        levels = np.memmap(folder / f"{split}_x.bin", np.uint8, "c", shape=tuple(about[split]["shape"]))
        x[split], y[split] = torch.from_numpy(levels), torch.from_numpy(np.load(folder / f"{split}_y.npy"))
    mean, scale = (torch.tensor(about["train"][name])[:, None, None] for name in ("mean", "scale"))
    fixed = (tuple(about["classes"]), about["fingerprint"], mean, scale.clamp_min(torch.finfo(scale.dtype).tiny))
    return Pixels(x["train"], y["train"], x["test"], y["test"], *fixed)


def _in_memory(source: formats.Source, limit: int | None) -> Pixels:
    with tempfile.TemporaryDirectory(prefix="lop-") as folder:
        target = Path(folder) / "cache"
        _decode(source, target, limit)
        found = _mapped(target)
        return Pixels(**vars(found) | {name: getattr(found, name).clone() for name in ("train_x", "test_x")})
