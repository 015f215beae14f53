"""Loss and test accuracy after an escape from a cloned manifold, against training from scratch (claims E1, E2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import RANK, TEST

NAME = "after_escape"
TITLE = "escaping, and then? loss and test accuracy after an escape, against training from scratch"
ITEM = "after-escape"
LINES: Mapping[str, Mapping[str, Any]] = {
    "narrow": {"color": style.GREY, "linestyle": "--"},
    "trapped": {"color": style.VERMILION},
    "split": {"color": style.BLUE},
    "noise": {"color": style.ORANGE},
    "scratch": {"color": style.BLACK},
}
ESCAPES, REFERENCES = ("split", "noise"), ("trapped", "scratch")
LOSS = "train_loss"
PANELS: Mapping[str, str] = {LOSS: "training loss", TEST: "test error", RANK: "effective rank"}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs."""
    return finished.complete(ITEM)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    steps = items.item(ITEM).configs("")["split"].steps
    return (
        "A multilayer perceptron that starts on a cloned manifold (every hidden unit twice) learns the digits with "
        "Adam and stays there (trapped); or the out-weights of its clones are split after the first stretch of "
        f"{steps} steps (dotted), which keeps its function; or noise of 0.1 times the gradient's norm acts all "
        "along. Scratch: a network of the same width, initialised as usual; narrow: the network that was cloned. "
        f"Loss on 500 training images, error on 250 others. {tasks.lines(data)} Brackets: 95 % t-intervals over "
        "seeds, paired by seed."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims of the end of training."""
    loss, test, rank = ({cell: last(data, cell, metric) for cell in LINES} for metric in PANELS)
    below, beside = ({cell: np.log(loss[cell] / loss[other]) for cell in ESCAPES} for other in REFERENCES)
    higher, lower = ({cell: rank[cell] - rank[other] for cell in ESCAPES} for other in REFERENCES)
    gained = {cell: test[cell] - test["trapped"] for cell in (*ESCAPES, "scratch")}
    return [
        Check(
            f"Both escapes end with less loss than the trapped clone, {_ratios(below)} times it (geometric means).",
            _all_have(below, -1),
        ),
        Check(
            f"Against the network from scratch it is {_ratios(beside)} times as much: neither can be told from it.",
            _all_have(beside, 0),
        ),
        Check(
            f"Their effective ranks are above that of the trapped clone, by {finished.differences(higher, 1)}, "
            f"and below that of the network from scratch, {finished.differences(lower, 1)}.",
            _all_have(higher, 1) and _all_have(lower, -1),
        ),
        Check(
            f"Test accuracy, minus that of the trapped clone: {finished.differences(gained, 3)}.",
            series.sign(gained["scratch"]) == 1,
        ),
    ]


def last(data: pa.Table, cell: str, metric: str) -> Array:
    """Return a metric at the end of training, `[seeds]`."""
    return over_tasks(data, cell, metric)[:, -1]


def _all_have(found: Mapping[str, Array], sign: int) -> bool:
    return all(series.sign(values) == sign for values in found.values())


def _ratios(logarithms: Mapping[str, Array]) -> str:
    return " and ".join(f"{_ratio(*finished.interval(values))} ({cell})" for cell, values in logarithms.items())


def _ratio(mean: float, half: float) -> str:
    return f"{np.exp(mean):.2f} [{np.exp(mean - half):.2f}, {np.exp(mean + half):.2f}]"


def draw(data: pa.Table) -> Figure:
    """Return loss, error and rank over the steps."""
    figure = Figure(figsize=(style.PAGE, 2.0))
    axes = figure.subplots(1, 3)
    for axis, metric in zip(axes, PANELS, strict=True):
        for cell, line in LINES.items():
            _curve(axis, data, cell, metric, **line)
        axis.axvline(1, color=style.BLUE, linewidth=0.8, linestyle=":", zorder=0, label="split happens")
        axis.set_title(PANELS[metric])
        axis.set_xlabel("stretch of training")
        if metric == LOSS:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
    drawing.legend_below(figure, axes[0], 6)
    return figure


def _curve(axis: Axes, data: pa.Table, cell: str, metric: str, **line: Any) -> None:
    values = over_tasks(data, cell, metric)
    values = 1 - values if metric == TEST else values
    stretches = np.arange(1, values.shape[1] + 1)
    drawing.band(axis, stretches, values.mean(axis=0), *drawing.bounds(values), alpha=0.15, label=cell, **line)
