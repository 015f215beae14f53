"""Remedies in order of what they leave of plasticity on permuted digits, with intervals over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.remedies import PLAIN, PROBE
from paper_figures.support import drawing, finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Interval
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.experiments.e04_remedies import fresh_of
from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import ACCURACY, RANK

NAME = "remedy_ranking"
TITLE = "remedies on permuted digits in order, with intervals over seeds; effective rank beside"
ITEM = "remedies"
PANELS = (ACCURACY, RANK)
REFERENCES = {PROBE: ("--", "fresh network"), PLAIN: (":", "no remedy")}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs."""
    return finished.runs(ITEM)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    lacking = finished.gaps(finished.absent(ITEM, data, items.item(ITEM).configs("")))
    return (
        "Accuracy while learning (left, best first) and effective rank (right) in the second half of 20 tasks of "
        "permuted digits for remedies at one strength each, tuned on nothing; mean and 95 % t-interval over seeds. "
        "Grey: a fresh network for every task, of which norms have one of their own; dashed: that without norm; "
        "dotted: no remedy. The intervals drawn are those of every cell by "
        "itself, and those of differences, here and in RESULTS.md, are paired by seed; none is corrected for the "
        f"number of remedies.{lacking}"
    )


def later(data: pa.Table, cell: str, metric: str) -> Array:
    """Return the mean of a metric over the second half of the tasks, `[seeds]`."""
    return series.second_half(over_tasks(data, cell, metric))


def mean(data: pa.Table, cell: str, metric: str) -> Interval:
    """Return a metric in the second half of the tasks with its interval over seeds."""
    return finished.interval(later(data, cell, metric))


def ordered(data: pa.Table) -> list[str]:
    """Return the cells, the best first."""
    levels = {cell: mean(data, cell, ACCURACY).mean for cell in data["cell"].unique().to_pylist()}
    return sorted(levels, key=lambda cell: -levels[cell])


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    return [finished.sound([data], ordered(data), [ACCURACY]), *_lost(data)]


def _lost(data: pa.Table) -> list[Check]:
    """Return that there is something to remedy, where both ends of the scale were run."""
    if set(finished.cells(data, REFERENCES)) != set(REFERENCES):
        return []
    differ = _difference(data, PROBE, PLAIN)
    return [
        Check(
            "Without remedy plasticity is lost: a fresh network learns better, by "
            f"{finished.told(differ, 3)}, seed by seed.",
            series.sign(differ) == 1,
        )
    ]


def notes(data: pa.Table) -> list[str]:
    """Return the ends of the order, and what differs from the references."""
    order = ordered(data)
    best, worst = (f"{cell} with {_told(mean(data, cell, ACCURACY))}" for cell in (order[0], order[-1]))
    return [
        f"First is {best}, last {worst}.",
        *_against(data, PLAIN, "no remedy"),
        *_against(data, PROBE, "a fresh network with the same norm, if any; without norm"),
    ]


def _against(data: pa.Table, reference: str, name: str) -> list[str]:
    """Return which cells are above and below a reference by more than their seeds differ, pair by pair."""
    others = [cell for cell in ordered(data) if cell != PLAIN and not cell.startswith(PROBE)]
    if not others or not finished.cells(data, [reference]):
        return []
    above, below = ([c for c in others if _differs(data, c, reference) == sign] for sign in (1, -1))
    return [
        f"Against {name} ({_told(mean(data, reference, ACCURACY))}) {_counted(above)} are clearly better and "
        f"{_counted(below)} clearly worse: the interval of the difference, seed by seed, leaves zero out."
    ]


def _differs(data: pa.Table, cell: str, reference: str) -> int:
    """Return 1 or -1 where the paired interval over common seeds lies on one side of zero, else 0."""
    own = fresh_of(cell) if reference == PROBE else reference
    return series.sign(_difference(data, cell, own)) if finished.cells(data, [own]) else 0


def _difference(data: pa.Table, cell: str, reference: str) -> Array:
    """Return the accuracy of a cell minus that of a reference in the second half, for every seed of both."""
    common = finished.shared(data, [cell, reference])
    if not len(common):
        return np.empty(0)
    return later(common, cell, ACCURACY) - later(common, reference, ACCURACY)


def _told(value: Interval) -> str:
    return f"{value.mean:.3f} ± {value.half:.3f}"


def _counted(cells: list[str]) -> str:
    return f"{len(cells)} ({', '.join(cells)})" if cells else "none"


def draw(data: pa.Table) -> Figure:
    """Return a row a remedy, the best above."""
    cells = ordered(data)
    figure = Figure(figsize=(style.WIDTH, 1.0 + 0.15 * len(cells)))
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axis, metric in zip(axes, PANELS, strict=True):
        _refer(axis, data, metric)
        for row, cell in enumerate(cells):
            _draw(axis, mean(data, cell, metric), cell, row)
        axis.margins(x=0.06)
    axes[0].set_yticks(range(len(cells)), cells)
    axes[0].invert_yaxis()
    left, right = axes[0].get_xlim()
    axes[0].set_xlim(max(left, -0.02), min(right, 1.02))
    axes[0].set_xlabel("accuracy while learning")
    axes[1].set_xlabel(tasks.LABELS[RANK])
    drawing.legend_below(figure, axes[0], 2)
    return figure


def _refer(axis: Axes, data: pa.Table, metric: str) -> None:
    for cell in finished.cells(data, REFERENCES):
        line, name = REFERENCES[cell]
        place = mean(data, cell, metric).mean
        axis.axvline(place, color=style.GREY, linestyle=line, linewidth=0.8, zorder=0, label=name)


def _draw(axis: Axes, value: Interval, cell: str, row: int) -> None:
    colour = style.VERMILION if cell == PLAIN else style.GREY if cell.startswith(PROBE) else style.BLUE
    axis.errorbar(value.mean, row, xerr=value.half or None, fmt="o", color=colour, markersize=3, elinewidth=0.9)
