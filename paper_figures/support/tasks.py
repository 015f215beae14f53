"""What the figures over a stream of tasks share: a metric at the end of every task, and its panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paper_figures.support import style
from torch_experiments.lab.experiments.runner import over_tasks

Array = np.ndarray[Any, Any]

LABELS: Mapping[str, str] = {
    "online_accuracy": "accuracy while learning",
    "dead_fraction": "dead units",
    "roy_vetterli_rank_raw": "effective rank",
    "duplicate_fraction": "duplicate units",
    "jl25_saturated_fraction": "saturated units (JL25)",
    "nearly_silent_fraction": "units silent at 95 % (JL25)",
}
PANELS = tuple(LABELS)[:4]
EDGE = 5  # tasks at either end over which the captions average


def band(axis: Axes, table: pa.Table, cell: str, metric: str, **line: Any) -> None:
    """Draw the mean over seeds of a metric against the task, with the range of the seeds."""
    values = over_tasks(table, cell, metric)
    tasks = np.arange(1, values.shape[1] + 1)
    (drawn,) = axis.plot(tasks, values.mean(axis=0), **line)
    axis.fill_between(tasks, *bounds(values), color=drawn.get_color(), alpha=0.18, linewidth=0)


def mark(axis: Axes, value: float, colour: str, *, filled: bool = True) -> None:
    """Mark a value to compare with by a small triangle at the right edge, and let the axis reach it."""
    axis.update_datalim([(1, value)], updatex=False)
    axis.autoscale_view(scalex=False)
    axis.plot(
        1.02,
        value,
        "<",
        transform=axis.get_yaxis_transform(),
        clip_on=False,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markeredgewidth=0.6,
        markersize=3.2,
    )


def handle(label: str, *, filled: bool = True) -> Line2D:
    """Return the entry of a legend for what `mark` draws."""
    face = style.GREY if filled else "white"
    triangle: dict[str, Any] = {"marker": "<", "markersize": 3.2, "markeredgewidth": 0.6, "markerfacecolor": face}
    return Line2D([], [], color=style.GREY, linestyle="", label=label, **triangle)


def bounds(values: Array) -> tuple[Array, Array]:
    """Return least and largest value over the seeds, for every task."""
    return values.min(axis=0), values.max(axis=0)


def start(table: pa.Table, cell: str, metric: str) -> Array:
    """Return the mean over the first `EDGE` tasks, for every seed."""
    return over_tasks(table, cell, metric)[:, :EDGE].mean(axis=1)


def end(table: pa.Table, cell: str, metric: str) -> Array:
    """Return the mean over the last `EDGE` tasks, for every seed."""
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
