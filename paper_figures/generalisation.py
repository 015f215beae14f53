"""Rank and test accuracy of a task against learning of the next one, and the rank held up artificially."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from paper_figures.support import finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.experiments.e05_generalisation import DECAYS, NOISES, SMALL, fresh, grid
from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import ACCURACY, RANK, TEST
from torch_experiments.lab.report.tables import with_interval

NAME = "generalisation"
TITLE = "rank and test accuracy of a task against learning of the next; the rank held up artificially"
ITEM = "generalisation"
WIDTHS = SMALL["mlp"]
HELD = ("rank bonus", "layer norm")
COLOURS: Mapping[tuple[int, float], str] = dict(
    zip(product(WIDTHS, NOISES), (style.SKY, style.ORANGE, style.BLUE, style.VERMILION), strict=True)
)


class Points(NamedTuple):
    """A task each, `[cells, seeds, tasks − 1]`: rank and test accuracy at its end, and the lag in the next one."""

    rank: Array
    test: Array
    lag: Array


class Means(NamedTuple):
    """Rank and accuracy while learning of every seed, means over the second half of the tasks."""

    rank: Array
    learning: Array


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs."""
    return finished.complete(ITEM)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"{items.item(ITEM).about}, of two widths, with and without weight decay and label noise. A point is a "
        "task of a run: effective rank (Roy and Vetterli, raw, mean over layers; left) and test accuracy (middle) "
        "at its end against the accuracy while learning the next task, minus that of a fresh network of the same "
        "width on the same task and labels; crosses: with weight decay. Right: the wider network with its rank "
        "held up, against the same without, means over the second half of the tasks; small: seeds, large: "
        f"{tasks.seeds(data)}. Titles: correlations over all points, and without the mean and the line over the "
        "tasks of every run. Brackets are 95 % t-intervals over seeds, not corrected for their number."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    found = points(data)
    overall = [correlations(column, found.lag) for column in (found.rank, found.test)]
    within = [correlations(centred(column), centred(found.lag)) for column in (found.rank, found.test)]
    steady = [correlations(detrended(column), detrended(found.lag)) for column in (found.rank, found.test)]
    return [
        Check(
            "Spearman's correlation with what is learnt next, in a seed and over all settings, is "
            f"{with_interval(overall[0], 2)} for the rank and {with_interval(overall[1], 2)} for the test "
            "accuracy: neither tells much across settings.",
            all(_reach(values) < 0.4 for values in overall),
        ),
        Check(
            f"Within a setting (its means removed) it is {with_interval(within[0], 2)} for the rank and "
            f"{with_interval(within[1], 2)} for the test accuracy: signs both positive, neither near 1.",
            all(series.sign(values) == 1 and _reach(values) < 0.7 for values in within),
        ),
        Check(
            "Rank and learning both drift over the tasks: with a line over the tasks taken out of every run it is "
            f"{finished.told(steady[0], 2)}, for the rank and {finished.told(steady[1], 2)}, for the test "
            "accuracy.",
            all(series.sign(values) == 0 for values in steady),
        ),
        *(_of_intervention(data, name, noise) for name, noise in product(HELD, NOISES)),
    ]


def _reach(values: Array) -> float:
    """Return how far from zero the interval of values reaches."""
    mean, half = finished.interval(values)
    return abs(mean) + half


def _of_intervention(data: pa.Table, name: str, noise: float) -> Check:
    held, bare = means(data, f"{name}, noise {noise}"), means(data, plain(noise))
    higher, gained = held.rank - bare.rank, held.learning - bare.learning
    return Check(
        f"With label noise {noise:g} the rank is {held.rank.mean():.0f} under {name} instead of "
        f"{bare.rank.mean():.0f} ({finished.told(higher, 1)}); what is learnt changes by "
        f"{finished.told(gained, 3)}.",
        float(higher.mean()) > 0,
    )


def points(data: pa.Table) -> Points:
    """Return the points of the grid, cells in the order of `cells`."""
    columns = [[over_tasks(data, grid(*place), m) for place in cells()] for m in (RANK, TEST, ACCURACY)]
    reference = np.stack([over_tasks(data, fresh(width, noise), ACCURACY) for width, _, noise in cells()])
    rank, test, learning = map(np.stack, columns)
    return Points(rank[..., :-1], test[..., :-1], (learning - reference)[..., 1:])


def cells() -> list[tuple[int, float, float]]:
    """Return width, decay and noise of the cells of the grid."""
    return list(product(WIDTHS, DECAYS, NOISES))


def plain(noise: float) -> str:
    """Return the label of the cell with which the intervention is compared."""
    return grid(WIDTHS[-1], 0.0, noise)


def means(data: pa.Table, cell: str) -> Means:
    """Return rank and accuracy while learning in the second half of the tasks, for every seed."""
    return Means(*(series.second_half(over_tasks(data, cell, metric)) for metric in (RANK, ACCURACY)))


def centred(values: Array) -> Array:
    """Return `values [cells, seeds, tasks]` minus the mean of each cell and seed."""
    return values - values.mean(axis=-1, keepdims=True)


def detrended(values: Array) -> Array:
    """Return `values [cells, seeds, tasks]` minus the line over the tasks of each cell and seed."""
    tasks = np.arange(values.shape[-1]) - (values.shape[-1] - 1) / 2
    slope = (values @ tasks) / (tasks @ tasks)
    return centred(values) - slope[..., None] * tasks


def correlations(a: Array, b: Array) -> Array:
    """Return Spearman's rank correlation over the points of every seed, `[seeds]`."""
    return np.array([float(spearmanr(a[:, seed].ravel(), b[:, seed].ravel())[0]) for seed in range(a.shape[1])])


def draw(data: pa.Table) -> Figure:
    """Return two scatter plots and the intervention."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    left, middle, right = figure.subplots(1, 3)
    found = points(data)
    for axis, column, name in ((left, found.rank, "effective rank"), (middle, found.test, "test accuracy")):
        _scatter(axis, column, found.lag)
        axis.set_xlabel(f"{name} after a task")
    left.set_ylabel("next task: accuracy minus fresh")
    left.plot([], [], "x", color=style.GREY, markersize=2.5, label="with weight decay")
    _intervention(right, data)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def _scatter(axis: Axes, x: Array, lag: Array) -> None:
    for (width, decay, noise), a, b in zip(cells(), x, lag, strict=True):
        label = None if decay else f"width {width}, noise {noise:g}"
        marker = "x" if decay else "o"
        axis.plot(a.ravel(), b.ravel(), marker, color=COLOURS[width, noise], markersize=2.5, label=label)
    axis.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
    over, steady = correlations(x, lag), correlations(detrended(x), detrended(lag))
    axis.set_title(f"Spearman {with_interval(over, 2)}\nwithout trends {with_interval(steady, 2)}")


def _intervention(axis: Axes, data: pa.Table) -> None:
    for noise, marker in zip(NOISES, "os", strict=True):
        bare = means(data, plain(noise))
        for name, colour in zip(HELD, (style.GREEN, style.PURPLE), strict=True):
            found = means(data, f"{name}, noise {noise}")
            x, y = found.rank / bare.rank, found.learning - bare.learning
            axis.plot(x, y, marker, color=colour, markersize=2.5, alpha=0.6)
            axis.plot(x.mean(), y.mean(), marker, color=colour, markersize=6, label=f"{name}, noise {noise:g}")
    axis.plot(1, 0, "+", color=style.BLACK, markersize=7, label="not held up")
    axis.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
    axis.set_title("rank held up: gain of accuracy")
    axis.set_xlabel("rank, times that without")
