"""`lop data`: what image data can be read and fetched, and what lies in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from torch_experiments.lab.images import fetch, pixels

LAYOUTS: Mapping[str, str] = {
    "folder of train-*.parquet": "the Hugging Face layout, with test-*.parquet or valid-*.parquet",
    "tiny-imagenet-200": "the official folder, or the zip as it is",
    "cifar-10-batches-py, -bin": "CIFAR-10, python or binary version, unpacked",
    "cifar-100-python, -binary": "CIFAR-100 with its fine labels",
    "folder of *-ubyte(.gz)": "MNIST's format, such as Fashion-MNIST",
}


def fetched(name: str, folder: Path) -> None:
    """Fetch a data set with a progress bar and say where it is."""
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        line = bar.add_task(name, total=None)
        path = fetch.fetch(name, folder, lambda done, total: bar.update(line, completed=done, total=total))
    print(f"{name} is at {path}")


def info(where: str | None = None) -> Table:
    """Return the layouts that are read and the data sets that can be fetched, or what lies at ``where``."""
    return _described(where) if where else _known()


def _known() -> Table:
    table = Table("data", "what")
    table.add_row("digits", "scikit-learn's 8×8 digits, embedded")
    for layout, what in LAYOUTS.items():
        table.add_row(layout, what)
    for name, found in fetch.DATA.items():
        table.add_row(f"lop data fetch {name}", found.about)
    return table


def _described(where: str) -> Table:
    found = pixels.load(where)
    table = Table("property", "value")
    table.add_row("images", f"{len(found.train_y):,} for training, {len(found.test_y):,} for testing")
    table.add_row("shape", "×".join(map(str, found.shape)))
    table.add_row("classes", f"{len(found.classes)}: {', '.join(found.classes[:5])}, …")
    table.add_row("fingerprint", found.fingerprint)
    return table
