"""Data sets fetched from their owners: resumed, checked, and put in place at once."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20  # bytes between two looks at the bar
Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class File:
    """A file to fetch: its name, its address, and the MD5 sum that its owner or its usual readers state."""

    name: str
    url: str
    md5: str


@dataclass(frozen=True)
class Fetchable:
    """A data set: its files, what to do with them, and whose terms hold."""

    files: tuple[File, ...]
    about: str
    folder: str = ""


_TORONTO = "https://www.cs.toronto.edu/~kriz"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FASHION_SUMS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
DATA: Mapping[str, Fetchable] = {
    "tiny-imagenet": Fetchable(
        (
            File(
                "tiny-imagenet-200.zip",
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
        "Tiny ImageNet, 200 classes, 64×64, 248 MB; research use under the terms of ImageNet",
        "tiny-imagenet-200.zip",
    ),
    "cifar10": Fetchable(
        (File("cifar-10-python.tar.gz", f"{_TORONTO}/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
        "CIFAR-10, 32×32, 170 MB; Krizhevsky (2009)",
        "cifar-10-batches-py",
    ),
    "cifar100": Fetchable(
        (
            File(
                "cifar-100-python.tar.gz",
                f"{_TORONTO}/cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
        "CIFAR-100, 32×32, 169 MB; Krizhevsky (2009)",
        "cifar-100-python",
    ),
    "fashion-mnist": Fetchable(
        tuple(File(name, f"{_FASHION}/{name}", md5) for name, md5 in _FASHION_SUMS.items()),
        "Fashion-MNIST, 28×28, 31 MB; Xiao et al. (2017), MIT licence",
    ),
}


def fetch(name: str, folder: str | Path, report: Report = lambda done, total: None) -> Path:
    """Return where the data set ``name`` lies below ``folder``, after fetching what is missing.

    A broken transfer is kept as ``*.part`` and resumed by the next call; a file gets its name when its sum is
    right, and archives are unpacked beside their place and renamed.

    Args:
        name: one of `DATA`.
        folder: where data sets are kept; the result is ``folder/name`` or a file or folder in it.
        report: called with the bytes so far and the total, where the server tells it.

    Raises:
        ValueError: for an unknown name, or a file whose sum is wrong (it is set aside as ``*.bad``).
        ConnectionError: without a network; the message says what to fetch by hand, and where to put it.
    """
    if name not in DATA:
        raise ValueError(f"name: got {name!r}; allowed are {', '.join(DATA)}")
    found, target = DATA[name], Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    result = target / found.folder
    if found.folder and result.exists():
        return result
    for file in found.files:
        path = download(file, target, report)
        if path.name.endswith(".tar.gz"):
            _unpack(path, target, found.folder)
    return result


def download(file: File, folder: Path, report: Report = lambda done, total: None) -> Path:
    """Return the path of one checked ``file`` in ``folder``; errors as `fetch`."""
    path, part = (
        folder / file.name,
        folder / f"{file.name}.part",
    )  # kept when it fails, so that the next call resumes
    if not path.exists():
        try:
            _transfer(file.url, part, report)
        except (urllib.error.URLError, OSError) as error:
            raise ConnectionError(_by_hand(file, path, error)) from error
        _checked(part, file)
        part.replace(path)
    return path


def _transfer(url: str, part: Path, report: Report) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        resumed = answer.status == 206
        done = done if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as sink:
            while chunk := answer.read(CHUNK):
                done += sink.write(chunk)
                report(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _checked(part: Path, file: File) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with part.open("rb") as raw:
        while chunk := raw.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != file.md5:
        bad = part.replace(part.with_suffix(".bad"))
        raise ValueError(
            f"{file.name}: MD5 sum {digest.hexdigest()}, expected {file.md5}; kept as {bad}. Fetch it again"
        )


def _unpack(path: Path, target: Path, folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=target, prefix=f".{folder}-", suffix=".tmp") as partial:
        with tarfile.open(path) as archive:
            archive.extractall(partial, filter="data")
        (Path(partial) / folder).rename(target / folder)


def _by_hand(file: File, path: Path, error: Exception) -> str:
    return (
        f"{file.url} cannot be reached ({error}). The same command resumes. Without a network, fetch the file "
        f"elsewhere and put it at {path} (MD5 {file.md5}); any folder that `lop data info` lists will do as well"
    )
