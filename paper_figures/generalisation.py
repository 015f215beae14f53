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

from paper_figures import captions, style, tasks
from paper_figures.captions import Statement
from paper_figures.results import RESULTS, Profile
from paper_figures.tasks import Array
from torch_experiments import e05_generalisation, experiments
from torch_experiments.e05_generalisation import DECAYS, NOISES, fresh, grid
from torch_experiments.experiments import over_tasks

NAME = "generalisation"
TITLE = "rank and test accuracy of a task against learning of the next; the rank held up artificially"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e05_generalisation.SEEDS["quick"], "full": experiments.SEEDS}
WIDTHS = e05_generalisation.SMALL["mlp"]
LEARNING, RANK, TEST = "online_accuracy", "roy_vetterli_rank_raw", "test_accuracy"
LAST = 3  # tasks over which the ends are averaged
HELD = ("rank bonus", "layer norm")
COLOURS: Mapping[tuple[int, float], str] = dict(
    zip(product(WIDTHS, NOISES), (style.SKY, style.ORANGE, style.BLUE, style.VERMILION), strict=True)
)


class Points(NamedTuple):
    """A task each, `[cells, seeds, tasks − 1]`: rank and test accuracy at its end, and the lag in the next one."""

    rank: Array
    test: Array
    lag: Array


class Ends(NamedTuple):
    """Rank and accuracy while learning of every seed, means over the last tasks."""

    rank: Array
    learning: Array


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 5; finished runs are read from `results`."""
    return experiments.computed(e05_generalisation.configs("quick"), SEEDS[profile], results, stack=True)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    introduction = (
        "Multilayer perceptrons of two widths, with and without weight decay and label noise, learn the digits, "
        "pixels permuted anew for every task. A point is a task of a run: effective rank (Roy and Vetterli, raw, "
        "mean over layers; left) and test accuracy (middle) at its end against the accuracy while learning the "
        "next task, minus that of a fresh network of the same width on the same task and labels; crosses: with "
        "weight decay. Right: the wider network with its rank held up, against the same without, over the last "
        f"{LAST} tasks: accuracy while learning them, and the rank with which they began; small: seeds, large: "
        f"{tasks.seeds(data)}."
    )
    return captions.join(introduction, statements(data))


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims."""
    found = points(data)
    rank, test = (correlation(column, found.lag) for column in (found.rank, found.test))
    within = [correlation(centred(column), centred(found.lag)) for column in (found.rank, found.test)]
    return [
        Statement(
            f"Over all {found.lag.size} points Spearman's correlation with what is learnt next is {rank:.2f} for "
            f"the rank and {test:.2f} for the test accuracy: neither tells it across settings.",
            max(abs(rank), abs(test)) < 0.3,
        ),
        Statement(
            f"Within a setting (its means removed) it is {within[0]:.2f} for the rank and {within[1]:.2f} for the "
            "test accuracy: weak signs, both positive.",
            min(within) > 0.1 and max(within) < 0.6,
        ),
        *(_of_intervention(data, name, noise) for name, noise in product(HELD, NOISES)),
    ]


def _of_intervention(data: pa.Table, name: str, noise: float) -> Statement:
    held, bare = ends(data, f"{name}, noise {noise}"), ends(data, plain(noise))
    gained = int((held.learning > bare.learning).sum())
    return Statement(
        f"With label noise {noise:g} the {name} holds the rank at {held.rank.mean():.0f} instead of "
        f"{bare.rank.mean():.0f}; learning is {held.learning.mean():.3f} instead of {bare.learning.mean():.3f}, "
        f"better in {gained} of {len(held.rank)} seeds.",
        float(held.rank.mean()) > 1.05 * float(bare.rank.mean()),
    )


def points(data: pa.Table) -> Points:
    """Return the points of the grid, cells in the order of `cells`."""
    columns = [[over_tasks(data, grid(*place), m) for place in cells()] for m in (RANK, TEST, LEARNING)]
    reference = np.stack([over_tasks(data, fresh(width, noise), LEARNING) for width, _, noise in cells()])
    rank, test, learning = map(np.stack, columns)
    return Points(rank[..., :-1], test[..., :-1], (learning - reference)[..., 1:])


def cells() -> list[tuple[int, float, float]]:
    """Return width, decay and noise of the cells of the grid."""
    return list(product(WIDTHS, DECAYS, NOISES))


def plain(noise: float) -> str:
    """Return the label of the cell with which the intervention is compared."""
    return grid(WIDTHS[-1], 0.0, noise)


def ends(data: pa.Table, cell: str) -> Ends:
    """Return the rank before the last tasks and the accuracy while learning them."""
    rank, learning = (over_tasks(data, cell, metric) for metric in (RANK, LEARNING))
    return Ends(rank[:, -LAST - 1 : -1].mean(axis=1), learning[:, -LAST:].mean(axis=1))


def centred(values: Array) -> Array:
    """Return `values [cells, seeds, tasks]` minus the mean of each cell."""
    return values - values.mean(axis=(1, 2), keepdims=True)


def correlation(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation over all points."""
    return float(spearmanr(a.ravel(), b.ravel())[0])


def draw(data: pa.Table) -> Figure:
    """Return two scatter plots and the intervention."""
    figure = Figure(figsize=(style.PAGE, 2.3))
    left, middle, right = figure.subplots(1, 3)
    found = points(data)
    for axis, column, name in ((left, found.rank, "effective rank"), (middle, found.test, "test accuracy")):
        _scatter(axis, column, found.lag)
        axis.set_xlabel(f"{name} after a task")
    left.set_ylabel("next task: accuracy minus fresh")
    handles, labels = left.get_legend_handles_labels()
    _intervention(right, data)
    figure.legend(handles, labels, loc="outside lower left", ncols=2)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def _scatter(axis: Axes, x: Array, lag: Array) -> None:
    for (width, decay, noise), a, b in zip(cells(), x, lag, strict=True):
        label = None if decay else f"width {width}, noise {noise:g}"
        marker = "x" if decay else "o"
        axis.plot(a.ravel(), b.ravel(), marker, color=COLOURS[width, noise], markersize=2.5, label=label)
    axis.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
    axis.set_title(f"Spearman ${correlation(x, lag):.2f}$, {lag.size} points")


def _intervention(axis: Axes, data: pa.Table) -> None:
    for noise, marker in zip(NOISES, "os", strict=True):
        bare = ends(data, plain(noise))
        for name, colour in zip(HELD, (style.GREEN, style.PURPLE), strict=True):
            found = ends(data, f"{name}, noise {noise}")
            x, y = found.rank / bare.rank, found.learning - bare.learning
            axis.plot(x, y, marker, color=colour, markersize=2.5, alpha=0.6)
            axis.plot(x.mean(), y.mean(), marker, color=colour, markersize=6, label=f"{name}, noise {noise:g}")
    axis.plot(1, 0, "+", color=style.BLACK, markersize=7)
    axis.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
    axis.set_title("rank held up: gain of accuracy")
    axis.set_xlabel("rank, times that without (+)")
