"""Numbers of JL25, read off the vector graphics of its figures (3.1, 3.2, 4.1 and the bars; 2.1 and the appendix).

``published_streams.csv``: first and last value of a curve over the tasks, and the mean over them where a bar has
it, with its interval over `SEEDS`. The curves have 25 points up to `AXIS`. By its code the network is trained for
`EPOCHS` a task, which are 10,000 steps, accuracy is taken over all `OUTPUTS`, units are measured on
a batch of one class, and dead and duplicate units counted as its code does. ``published_cloning.csv``: the score of
cloning, training loss and effective rank after 500 epochs; the score is a ratio of standard deviations that gives
even independent units more than 0.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

METRICS: Mapping[str, str] = {
    "online_accuracy": "accuracy",
    "dead_fraction": "dead",
    "duplicate_fraction": "duplicate",
    "roy_vetterli_rank_raw": "rank",
}  # of records, and the quantity in the files
NAMES: Mapping[str, str] = {"mlp": "MLP", "cnn": "CNN", "resnet18": "ResNet-18", "vit": "ViT"}
SEEDS, EPOCHS, OUTPUTS = 5, 500, 200  # of every curve; epochs a task, by the code; classes of Tiny ImageNet
EDGE = 64  # of an image of Tiny ImageNet
INPUTS = 3 * EDGE * EDGE
AXIS = 24_000  # where the curves over the tasks end
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Curve:
    """First and last value over the tasks, and the mean with its interval; None where no figure gives it."""

    start: float | None
    end: float | None
    mean: float | None
    low: float | None
    high: float | None


class Ends(NamedTuple):
    """The first and the last value of a curve over the tasks."""

    first: float
    last: float


class Bar(NamedTuple):
    """A mean over the tasks with its interval over seeds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Clones:
    """The end of cloned networks under a regime."""

    score: float
    clone_loss: float
    base_loss: float
    clone_rank: float
    base_rank: float


@cache
def streams() -> Mapping[tuple[str, str, str], Curve]:
    """Return the curves by architecture, cell (as in experiments 2 and 3) and quantity.

    >>> streams()["mlp", "none", "rank"].start, streams()["mlp", "none", "rank"].end
    (54.72, 24.94)
    """
    names = tuple(Curve.__dataclass_fields__)
    return {
        (row["arch"], row["cell"], row["quantity"]): Curve(*(_number(row[name]) for name in names))
        for row in _rows("published_streams.csv")
    }


def ends(arch: str, metric: str) -> dict[str, Ends]:
    """Return where the published curves of a metric of the records begin and end, by cell.

    >>> ends("mlp", "online_accuracy")["none"]
    Ends(first=0.8844, last=0.3889)
    """
    return {
        cell: Ends(curve.start, curve.end)
        for cell, curve in _of(arch, metric).items()
        if curve.start is not None and curve.end is not None
    }


def bars(arch: str, metric: str) -> dict[str, Bar]:
    """Return the published bars of a metric of the records, by cell."""
    return {
        cell: Bar(curve.mean, curve.low, curve.high)
        for cell, curve in _of(arch, metric).items()
        if curve.mean is not None and curve.low is not None and curve.high is not None
    }


def _of(arch: str, metric: str) -> dict[str, Curve]:
    return {
        c: curve for (a, c, quantity), curve in streams().items() if (a, quantity) == (arch, METRICS.get(metric))
    }


@cache
def cloning() -> Mapping[tuple[str, str], Clones]:
    """Return the ends of experiment 1 by architecture and regime.

    >>> cloning()["mlp", "dropout"].score
    0.5294
    """
    rows = _rows("published_cloning.csv")
    names = tuple(Clones.__dataclass_fields__)
    return {(row["arch"], row["regime"]): Clones(*(float(row[name]) for name in names)) for row in rows}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
