"""Image files as their owners publish them: parquet of the hub, tiny-imagenet-200, CIFAR, Fashion-MNIST, digits.

Every reader gives a `Source`: the names of the classes and, for each split, an iterator over `Sample`. Nothing is
held in memory; `torch_experiments.lab.images.pixels` decodes a source once into a cache.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGE_COLUMNS = ("image", "img")
HELD_OUT = ("test", "valid")
MOST = 100_000  # classes, where the files do not say how many there are
IDX_UINT8 = 0x08


class Sample(NamedTuple):
    """An image: where it stands in its file, its uint8 pixels ``[channels, height, width]``, its label."""

    place: str
    pixels: np.ndarray[Any, Any]
    label: int


@dataclass(frozen=True)
class Source:
    """A labelled set of images on disk.

    Attributes:
        classes: their names; empty where the files do not say.
        files: what was read, so that a change is noticed.
        train, test: functions that start an iteration over a split.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    train: Callable[[], Iterator[Sample]]
    test: Callable[[], Iterator[Sample]]


def source(where: str | Path) -> Source:
    """Return the source at ``where``: ``"digits"``, a folder, or tiny-imagenet-200.zip; the layout is recognised.

    Raises:
        FileNotFoundError: when there is nothing, or no layout fits; the message lists the layouts.
    """
    if str(where) == "digits":
        return digits()
    path = Path(where)
    if not path.exists():
        raise FileNotFoundError(f"data: there is no {path}; give a folder, a zip, or 'digits'; see `lop data info`")
    reader = next((read for fits, read in LAYOUTS if fits(path)), None)
    return parquet(path) if reader is None else reader(path)


def samples(found: Source, split: str, limit: int | None = None) -> Iterator[Sample]:
    """Yield the samples of a split, checked against the first one's shape and the number of classes.

    Raises:
        ValueError: for an image of another shape, a label out of range, or no image; the message names the place.
    """
    shape: tuple[int, ...] | None = None
    for sample in islice(getattr(found, split)(), limit):
        shape = shape or sample.pixels.shape
        if sample.pixels.shape != shape:
            raise ValueError(f"{sample.place}: image of shape {sample.pixels.shape}; the first has {shape}")
        yield sample._replace(label=_checked_label(sample.label, sample.place, found.classes))
    if shape is None:
        first = found.files[0].name if found.files else "the source"
        raise ValueError(f"folder: {first} holds no images of the {split} split; expected at least one row")


def digits(*, seed: int = 0, test_share: float = 0.2) -> Source:
    """Return scikit-learn's 1,797 handwritten 8×8 digits, split by ``seed`` with the classes in proportion.

    Grey values are 0 to 16, as published. Source: UCI ML repository, optical recognition of digits.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images, labels = bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=test_share, random_state=seed, stratify=labels)
    train, test, train_y, test_y = parts
    arrays = (_arrays("digits", train, train_y), _arrays("digits", test, test_y))
    return Source(tuple(map(str, bunch.target_names)), (), *arrays)


def parquet(folder: Path) -> Source:
    """Return a folder of ``train-*.parquet`` and ``test-*.parquet`` (or ``valid-*``) files of the hub's layout.

    A column ``image`` or ``img`` of ``struct{bytes, path}`` and an integer ``label``; class names come from the
    ``huggingface`` metadata of the schema where it has them.

    Raises:
        FileNotFoundError: when there are no files of a split.
    """
    train, held_out = parquet_files(folder, ("train",)), parquet_files(folder, HELD_OUT)
    parts = (lambda: _parquet_samples(train), lambda: _parquet_samples(held_out))
    return Source(_class_names(train[0]), (*train, *held_out), *parts)


def tiny_imagenet(path: Path) -> Source:
    """Return the official ``tiny-imagenet-200``, a folder or the zip; classes are the sorted wnids.

    The training images of a class follow one another as in its folder; the test split is ``val``.

    Raises:
        FileNotFoundError: when files are missing.
        ValueError: for a broken image, or an annotation of an unknown class.
    """
    tree = _tree(path)
    wnids = tuple(sorted(tree.read("wnids.txt").decode().split()))
    index = {wnid: k for k, wnid in enumerate(wnids)}
    train = [(name, index[wnid]) for wnid in wnids for name in tree.under(f"train/{wnid}/images/")]
    val = [_annotation(line, index) for line in tree.read("val/val_annotations.txt").decode().splitlines()]
    parts = (lambda: _tree_samples(tree, train), lambda: _tree_samples(tree, val))
    return Source(wnids, (path if path.is_file() else path / "wnids.txt",), *parts)


def cifar(folder: Path) -> Source:
    """Return CIFAR-10 or CIFAR-100 (fine labels) from its python or binary version, unpacked.

    The pickles of the python version are read by an unpickler that knows NumPy arrays and nothing else.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: for a file of a wrong length, or a pickle that holds anything else.
    """
    batches = next(b for b in CIFAR if (folder / b.train[0]).exists())
    files = [folder / name for name in (*batches.train, *batches.test, batches.names)]
    _present(files)
    train, test = (tuple(folder / name for name in names) for names in (batches.train, batches.test))
    parts = (lambda: _cifar_samples(train, batches), lambda: _cifar_samples(test, batches))
    return Source(_cifar_names(folder / batches.names, batches), tuple(files), *parts)


def idx(folder: Path) -> Source:
    """Return MNIST's layout (Fashion-MNIST, …): four ``*-ubyte`` files, gzipped or not.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: for a wrong magic number or length.
    """
    files = [_plain_or_gz(folder / name) for name in IDX]
    _present(files)
    x, y, test_x, test_y = files
    parts = (lambda: _idx_samples(x, y), lambda: _idx_samples(test_x, test_y))
    return Source((), tuple(files), *parts)


@dataclass(frozen=True)
class _Batches:
    """Where CIFAR has what; ``skip`` counts label bytes before the one that is read, None for a pickle."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    key: str
    skip: int | None = None


CIFAR = (
    _Batches(tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",), "batches.meta", "label"),
    _Batches(("train",), ("test",), "meta", "fine_label"),
    _Batches(
        tuple(f"data_batch_{k}.bin" for k in range(1, 6)), ("test_batch.bin",), "batches.meta.txt", "label", 0
    ),
    _Batches(("train.bin",), ("test.bin",), "fine_label_names.txt", "fine_label", 1),
)
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LAYOUTS: Sequence[tuple[Callable[[Path], bool], Callable[[Path], Source]]] = (
    (lambda p: p.suffix == ".zip" or (p / "wnids.txt").exists(), tiny_imagenet),
    (lambda p: any((p / b.train[0]).is_file() for b in CIFAR), cifar),
    (lambda p: _plain_or_gz(p / IDX[0]).exists(), idx),
)


def parquet_files(folder: Path, splits: Sequence[str]) -> list[Path]:
    """Return the sorted files of the first split that has some; a FileNotFoundError that lists what is there."""
    for split in splits:
        if found := sorted(folder.glob(f"{split}-*.parquet")):
            return found
    wanted = " or ".join(f"{split}-*.parquet" for split in splits)
    present = ", ".join(sorted(p.name for p in folder.glob("*"))[:8]) or "nothing"
    raise FileNotFoundError(f"folder: no {wanted} in {folder}, which holds {present}")


def decode(raw: bytes | None, place: str) -> np.ndarray[Any, Any]:
    """Return an encoded image as uint8 RGB ``[3, height, width]``.

    Raises:
        ValueError: when it is missing, truncated or broken; the message names ``place``.
    """
    if raw is None:
        raise ValueError(f"{place}: no image bytes; embed the images in the parquet file")
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{place}: truncated or broken image ({error})") from error


def _arrays(
    name: str, images: np.ndarray[Any, Any], labels: Iterable[Any], first: int = 0
) -> Callable[[], Iterator[Sample]]:
    rows = enumerate(zip(images, labels, strict=True), start=first)
    table = [(f"{name}, row {row}", image, int(label)) for row, (image, label) in rows]
    return lambda: (Sample(*row) for row in table)


def _checked_label(label: int | None, place: str, names: tuple[str, ...]) -> int:
    count = len(names) or MOST
    if label is None or not 0 <= label < count:
        raise ValueError(f"{place}: label {label} is out of range; allowed are 0 to {count - 1}")
    return label


def _parquet_samples(files: Sequence[Path]) -> Iterator[Sample]:
    for file in files:
        image, row = _image_column(file), 0
        for batch in pq.ParquetFile(file).iter_batches(256, columns=[image, "label"]):
            for cell, label in zip(batch[image].to_pylist(), batch["label"].to_pylist(), strict=True):
                place = f"{file.name}, row {row}"
                yield Sample(place, decode((cell or {}).get("bytes"), place), label)
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


def _class_names(file: Path) -> tuple[str, ...]:
    raw = (pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}")
    info: dict[str, Any] = json.loads(raw).get("info", {})
    return tuple(info.get("features", {}).get("label", {}).get("names", ()))


@dataclass(frozen=True)
class _Tree:
    """Files below a root, in a folder or a zip."""

    names: tuple[str, ...]
    get: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise FileNotFoundError(f"folder: no {name}; expected the layout of tiny-imagenet-200")
        return self.get(name)

    def under(self, prefix: str) -> list[str]:
        return [name for name in self.names if name.startswith(prefix)]


def _tree(path: Path) -> _Tree:
    if path.is_dir():
        names = tuple(sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()))
        return _Tree(names, lambda name: (path / name).read_bytes())
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name}: truncated or no zip file ({error}); fetch it again") from error
    inside = sorted(n for n in archive.namelist() if not n.endswith("/"))
    root = next((n.removesuffix("wnids.txt") for n in inside if n.endswith("wnids.txt")), "")
    names = tuple(n.removeprefix(root) for n in inside if n.startswith(root))
    return _Tree(names, lambda name: archive.read(root + name))


def _annotation(line: str, index: Mapping[str, int]) -> tuple[str, int]:
    name, wnid = line.split("\t")[:2]
    if wnid not in index:
        raise ValueError(f"val_annotations.txt: {name} has class {wnid}, which is not in wnids.txt")
    return f"val/images/{name}", index[wnid]


def _tree_samples(tree: _Tree, rows: Sequence[tuple[str, int]]) -> Iterator[Sample]:
    return (Sample(name, decode(tree.read(name), name), label) for name, label in rows)


def _cifar_samples(files: Sequence[Path], batches: _Batches) -> Iterator[Sample]:
    return chain.from_iterable(_cifar_file(file, batches)() for file in files)


def _cifar_file(file: Path, batches: _Batches) -> Callable[[], Iterator[Sample]]:
    if batches.skip is None:
        table = _unpickled(file)
        x, y = np.asarray(table[b"data"]), table[f"{batches.key}s".encode()]
    else:
        rows = _rows(file.read_bytes(), batches.skip + 1 + 3072, file)
        x, y = rows[:, batches.skip + 1 :], rows[:, batches.skip]
    return _arrays(file.name, x.reshape(-1, 3, 32, 32), y)


def _rows(raw: bytes, width: int, file: Path) -> np.ndarray[Any, Any]:
    if not raw or len(raw) % width:
        raise ValueError(f"{file.name}: {len(raw)} bytes, no multiple of {width}: truncated, fetch it again")
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def _cifar_names(file: Path, batches: _Batches) -> tuple[str, ...]:
    if batches.skip is not None:
        return tuple(file.read_text(encoding="utf-8").split())
    return tuple(name.decode() for name in _unpickled(file)[f"{batches.key}_names".encode()])


class _Arrays(pickle.Unpickler):
    """An unpickler of NumPy arrays: nothing in a file can run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("_core", "core"), name) == ("numpy.core.multiarray", "_reconstruct"):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"holds {module}.{name}; expected NumPy arrays alone")


def _unpickled(file: Path) -> Any:
    try:
        return _Arrays(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{file.name}: truncated or no batch of CIFAR ({error})") from error


def _idx_samples(images: Path, labels: Path) -> Iterator[Sample]:
    return _arrays(images.name, _idx_array(images, 3)[:, None], _idx_array(labels, 1))()


def _idx_array(file: Path, axes: int) -> np.ndarray[Any, Any]:
    """Return the array of an IDX file: 0, 0, type, number of axes; big-endian sizes; the bytes."""
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (EOFError, OSError) as error:
        raise ValueError(f"{file.name}: truncated or no gzip file ({error}); fetch it again") from error
    if raw[:4] != bytes([0, 0, IDX_UINT8, axes]):
        raise ValueError(f"{file.name}: magic number {raw[:4].hex()}; expected 0000080{axes}")
    shape = np.frombuffer(raw, ">u4", axes, 4).astype(int)
    if len(raw) != 4 + 4 * axes + shape.prod():
        raise ValueError(
            f"{file.name}: {len(raw)} bytes for shape {tuple(shape.tolist())}: truncated, fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _plain_or_gz(path: Path) -> Path:
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def _present(files: Iterable[Path]) -> None:
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"folder: {', '.join(missing)} missing beside the other files; fetch them again")
