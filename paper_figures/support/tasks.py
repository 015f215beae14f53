"""What the figures over a stream of tasks share: a metric at the end of every task, and its panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from paper_figures.support import drawing
from paper_figures.support.tables import Array
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, LATER, RANK, SILENT, THEIR_SATURATED

LABELS: Mapping[str, str] = {
    ACCURACY: "accuracy while learning",
    DEAD: "dead units",
    RANK: "effective rank",
    DUPLICATE: "duplicate units",
    THEIR_SATURATED: "saturated units (JL25)",
    SILENT: "units silent at 95 % (JL25)",
    LATER: "duplicates (JL25)",
}
PANELS = tuple(LABELS)[:4]
EDGE = 5  # tasks at either end over which the captions average


def band(axis: Axes, table: pa.Table, cell: str, metric: str, **line: Any) -> None:
    """Draw the mean over seeds of a metric against the task, with the range of the seeds."""
    draw(axis, over_tasks(table, cell, metric), **line)


def draw(axis: Axes, values: Array, **line: Any) -> None:
    """Draw the mean of `values [seeds, tasks]` against the task, with their range."""
    tasks = np.arange(1, values.shape[1] + 1)
    drawing.band(axis, tasks, values.mean(axis=0), *drawing.bounds(values), **line)


def start(table: pa.Table, cell: str, metric: str) -> Array:
    """Return the mean over the first `EDGE` tasks, `[seeds]`."""
    return over_tasks(table, cell, metric)[:, :EDGE].mean(axis=1)


def end(table: pa.Table, cell: str, metric: str) -> Array:
    """Return the mean over the last `EDGE` tasks, `[seeds]`."""
    return over_tasks(table, cell, metric)[:, -EDGE:].mean(axis=1)


def seeds(table: pa.Table) -> str:
    """Return how many seeds there are, in words for a caption."""
    count = len(table["seed"].unique())
    return "one seed" if count == 1 else f"mean of {count} seeds"


def lines(table: pa.Table) -> str:
    """Return the sentence of a caption that explains line and band."""
    count = len(table["seed"].unique())
    return f"Line: {seeds(table)}." if count == 1 else f"Line: {seeds(table)}; band: their range."


def decorate(axes: Sequence[Axes], metrics: Sequence[str] = PANELS) -> None:
    """Name the panels and let them begin at zero."""
    for axis, metric in zip(axes, metrics, strict=True):
        axis.set_title(LABELS[metric])
        axis.set_ylim(bottom=0)
        axis.margins(x=0.02)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
