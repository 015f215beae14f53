"""Numbers of JL25, read off the vector graphics of its figures (3.1, 3.2, 4.1 and the bars; 2.1 and the appendix).

``published_streams.csv``: first and last value of a curve over 40 tasks, and the mean over them where a bar has it;
accuracy is unmasked, dead and duplicate units are counted as its code does. ``published_cloning.csv``: the score of
cloning, training loss and effective rank at the end of training, with its own definitions of score and noise.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Curve:
    """First and last value over the tasks, and the mean; None where no figure gives it."""

    start: float | None
    end: float | None
    mean: float | None


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
    """Return the curves by architecture, cell (as in experiments 2 and 3) and quantity."""
    names = tuple(Curve.__dataclass_fields__)
    return {
        (row["arch"], row["cell"], row["quantity"]): Curve(*(_number(row[name]) for name in names))
        for row in _rows("published_streams.csv")
    }


@cache
def cloning() -> Mapping[tuple[str, str], Clones]:
    """Return the ends of experiment 1 by architecture and regime."""
    rows = _rows("published_cloning.csv")
    names = tuple(Clones.__dataclass_fields__)
    return {(row["arch"], row["regime"]): Clones(*(float(row[name]) for name in names)) for row in rows}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
