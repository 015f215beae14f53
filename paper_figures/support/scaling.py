"""Times against size in log-log, with the slope: what the figures on cost share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import style
from paper_figures.support.tables import Array


@dataclass(frozen=True)
class Config:
    """Sizes; the slope is fitted from `fit_from` on; times are the best of so many repetitions."""

    sizes: tuple[int, ...]
    fit_from: int
    repetitions: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Times:
    """Columns `line`, `size`, `found`, `expected` and `seconds`, and from which size on to fit."""

    table: pa.Table
    fit_from: int

    @property
    def right(self) -> bool:
        """Whether everywhere was found what was expected."""
        return bool(self.table["found"].equals(self.table["expected"]))


class Line(NamedTuple):
    """How the times of one kind are named and drawn."""

    label: str
    colour: str
    marker: str


def row(
    line: str,
    size: int,
    expected: int,
    act: Callable[[], int],
    *,
    repetitions: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Return a row of `Times`: the least seconds that `act` takes, and the number that it finds."""
    seconds, found = min(_timed(act, clock) for _ in range(repetitions))
    return {"line": line, "size": size, "found": found, "expected": expected, "seconds": seconds}


def _timed(act: Callable[[], int], clock: Callable[[], float]) -> tuple[float, int]:
    start = clock()
    found = act()
    return clock() - start, found


def points(data: Times, line: str) -> tuple[Array, Array]:
    """Return sizes and seconds of one line, smallest first; shapes (points,)."""
    rows = data.table.filter(pc.equal(data.table["line"], line)).sort_by("size")
    return rows["size"].to_numpy(), rows["seconds"].to_numpy()


def slope(data: Times, line: str) -> float:
    """Return the least-squares slope of log seconds against log size."""
    size, seconds = points(data, line)
    fitted = size >= data.fit_from
    return float(np.polyfit(np.log(size[fitted]), np.log(seconds[fitted]), 1)[0])


def slopes(data: Times, lines: Mapping[str, Line]) -> dict[str, float]:
    """Return the slope of every line by its label."""
    return {look.label: slope(data, line) for line, look in lines.items()}


def panel(data: Times, lines: Mapping[str, Line]) -> tuple[Figure, Axes]:
    """Return a log-log panel with a line a kind, named with its slope."""
    figure = Figure(figsize=(style.WIDTH, 2.3))
    axis = figure.subplots()
    for line, (label, colour, marker) in lines.items():
        name = f"{label}: slope {slope(data, line):.2f}"
        axis.loglog(*points(data, line), color=colour, marker=marker, markersize=3, linewidth=1, label=name)
    return figure, axis


def guide(axis: Axes, size: Array, seconds: Array, below: float) -> None:
    """Draw a dashed line of slope one that passes so many times below the last point."""
    line = {"color": style.GREY, "linestyle": "--", "linewidth": 0.7}
    axis.loglog(size, seconds[-1] / below * size / size[-1], **line, label="slope 1")
