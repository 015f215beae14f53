"""Image data: scikit-learn's digits, which need no download, and parquet files as the Hugging Face hub has them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

IMAGE_COLUMNS = ("image", "img")
HELD_OUT = ("test", "valid")


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
    """Return the data set ``"digits"``, or that of a folder of parquet files (see `parquet`)."""
    return digits(dtype=dtype) if str(source) == "digits" else parquet(source, dtype=dtype, limit=limit)


def digits(*, seed: int = 0, test_share: float = 0.2, dtype: torch.dtype = torch.float32) -> ImageData:
    """Return scikit-learn's 1,797 handwritten 8×8 digits, split by ``seed`` and standardised by one mean and scale.

    The split keeps the classes in proportion. Source: UCI ML repository, optical recognition of digits.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images, labels = bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=test_share, random_state=seed, stratify=labels)
    train, test, train_y, test_y = parts
    return _standardised(train, train_y, test, test_y, tuple(map(str, bunch.target_names)), dtype)


def parquet(folder: str | Path, *, dtype: torch.dtype = torch.float32, limit: int | None = None) -> ImageData:
    """Return the images of a folder with ``train-*.parquet`` and ``test-*.parquet`` (or ``valid-*``) files.

    The layout is the Hugging Face hub's: a column ``image`` or ``img`` of ``struct{bytes, path}`` and an integer
    ``label``; class names come from the ``huggingface`` metadata of the schema where it has them. Images are
    decoded by Pillow to RGB and standardised by the training set's mean and deviation of each channel.

    Args:
        folder: where the files are.
        dtype: of the images.
        limit: read at most this many images of each split, from the start.

    Raises:
        FileNotFoundError: when there are no files of a split.
        ValueError: for missing columns, an image that is missing, truncated or of another size than the
            first, or a label out of range; the message names the file and the row.
    """
    folder = Path(folder)
    train, held_out = _files(folder, ("train",)), _files(folder, HELD_OUT)
    names = _class_names(train[0])
    train_x, train_y = _read(train, names, limit)
    test_x, test_y = _read(held_out, names, limit)
    top = int(max(train_y.max(), test_y.max()))
    return _standardised(train_x, train_y, test_x, test_y, names or tuple(map(str, range(top + 1))), dtype)


def _files(folder: Path, splits: Sequence[str]) -> list[Path]:
    for split in splits:
        if found := sorted(folder.glob(f"{split}-*.parquet")):
            return found
    wanted = " or ".join(f"{split}-*.parquet" for split in splits)
    present = ", ".join(sorted(p.name for p in folder.glob("*"))[:8]) or "nothing"
    raise FileNotFoundError(f"folder: no {wanted} in {folder}, which holds {present}")


def _read(files: Sequence[Path], names: tuple[str, ...], limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    images: list[np.ndarray] = []
    labels: list[int] = []
    for file, row, raw, label in _rows(files):
        if len(images) == limit:
            break
        images.append(_decode(raw, file, row, images[0].shape if images else None))
        labels.append(_checked_label(label, file, row, names))
    if not images:
        raise ValueError(f"folder: {files[0].name} holds no images; expected at least one row")
    return np.stack(images), np.array(labels)


def _rows(files: Sequence[Path]) -> Iterator[tuple[Path, int, bytes | None, int | None]]:
    for file in files:
        image, row = _image_column(file), 0
        for batch in pq.ParquetFile(file).iter_batches(256, columns=[image, "label"]):
            for cell, label in zip(batch[image].to_pylist(), batch["label"].to_pylist(), strict=True):
                yield file, row, (cell or {}).get("bytes"), label
                row += 1


def _image_column(file: Path) -> str:
    schema = pq.read_schema(file)
    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    if image is None or "label" not in schema.names:
        wanted = "image (or img) and label"
        raise ValueError(f"{file.name}: columns are {', '.join(schema.names)}; expected {wanted}")
    kind = schema.field(image).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise ValueError(f"{file.name}: column {image} is {kind}; expected struct with a field bytes")
    if not pa.types.is_integer(schema.field("label").type):
        raise ValueError(f"{file.name}: column label is {schema.field('label').type}; expected an integer")
    return image


def _decode(raw: bytes | None, file: Path, row: int, shape: tuple[int, ...] | None) -> np.ndarray:
    if raw is None:
        raise ValueError(f"{file.name}, row {row}: no image bytes; embed the images in the parquet file")
    try:
        with Image.open(io.BytesIO(raw)) as image:
            pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{file.name}, row {row}: truncated or broken image ({error})") from error
    if shape not in (None, pixels.shape):
        raise ValueError(f"{file.name}, row {row}: image of shape {pixels.shape}; the first has {shape}")
    return pixels


def _checked_label(label: int | None, file: Path, row: int, names: tuple[str, ...]) -> int:
    top = f"{len(names) - 1}" if names else "∞"
    if label is None or label < 0 or (names and label >= len(names)):
        raise ValueError(f"{file.name}, row {row}: label {label} is out of range; allowed are 0 to {top}")
    return label


def _class_names(file: Path) -> tuple[str, ...]:
    raw = (pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}")
    info: dict[str, Any] = json.loads(raw).get("info", {})
    return tuple(info.get("features", {}).get("label", {}).get("names", ()))


def _standardised(
    train: np.ndarray,
    train_y: np.ndarray,
    test: np.ndarray,
    test_y: np.ndarray,
    classes: tuple[str, ...],
    dtype: torch.dtype,
) -> ImageData:
    mean = train.mean(axis=(0, 2, 3), keepdims=True)
    scale = np.maximum(train.std(axis=(0, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
    x, z = (torch.as_tensor((part - mean) / scale, dtype=dtype) for part in (train, test))
    return ImageData(x, torch.as_tensor(train_y), z, torch.as_tensor(test_y), classes)
