"""Is plasticity lost in every stream? Pairs, permuted pixels, random labels, and the gap of a warm start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.support import drawing, finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.experiments.e07_streams import ARMS, FRESH_NORM, STREAMS, WARM, fresh_of, label
from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import ACCURACY, TEST

NAME = "streams"
TITLE = "pairs, permuted pixels, random labels, warm start: what is lost, and what helps"
ITEM = "streams"
LONG = tuple(name for name in STREAMS if name != WARM)
COLOURS: Mapping[str, str] = dict(zip(ARMS, (style.VERMILION, style.ORANGE, style.BLUE, style.GREY), strict=True))
LINES: Mapping[str, str] = {**COLOURS, FRESH_NORM: style.ORANGE}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs."""
    return finished.complete(ITEM)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Digits in four streams, with Adam all along: accuracy while learning a task, for a multilayer perceptron"
        " as it is, with layer norm, with a pull towards the initial weights (L2 init), and for a fresh network "
        "at every task, which lost nothing. Layer norm is set against a fresh network with layer norm. Warm "
        "start: test accuracy after training on 30 % of the images and then on all, minus that of a network "
        "trained on all from the start. "
        f"{tasks.lines(data)} Points: seeds; bars: their means. Brackets: 95 % t-intervals over seeds, paired by "
        "seed, not corrected for their number."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims; lags are in the second half of the tasks."""
    plain, norm, pull = ({stream: minus_fresh(data, stream, arm) for stream in LONG} for arm in ARMS[:3])
    gaps = {arm: gap(data, arm) for arm in ARMS[:3]}
    return [
        Check(
            "In the second half of the tasks the plain network lags a fresh one in all three streams, by "
            f"{finished.differences(plain, 3)}.",
            all(series.sign(values) == -1 for values in plain.values()),
        ),
        Check(
            f"Layer norm is no cure by itself: {finished.differences(norm, 3)}.",
            all(series.sign(values) == -1 for values in norm.values()),
        ),
        Check(
            f"With the pull towards the initial weights it is {finished.differences(pull, 3)}: it "
            "is lost with pairs all the same.",
            series.sign(pull["pairs"]) == -1,
        ),
        Check(
            f"The warm start of these small data costs nothing that can be told: {finished.differences(gaps, 3)}.",
            not any(series.sign(values) for values in gaps.values()),
        ),
    ]


def minus_fresh(data: pa.Table, stream: str, arm: str) -> Array:
    """Return the accuracy in the second half of the tasks minus that of a fresh network, `[seeds]`."""
    names = (arm, fresh_of(arm))
    own, fresh = (series.second_half(over_tasks(data, label(stream, name), ACCURACY)) for name in names)
    return own - fresh


def gap(data: pa.Table, arm: str) -> Array:
    """Return the test accuracy after a warm start minus that of a start on all images, `[seeds]`."""
    warm, cold = (over_tasks(data, label(WARM, name), TEST)[:, -1] for name in (arm, fresh_of(arm)))
    return warm - cold


def draw(data: pa.Table) -> Figure:
    """Return a panel a stream."""
    figure = Figure(figsize=(style.PAGE, 2.0))
    axes = figure.subplots(1, 4)
    for axis, stream in zip(axes, LONG, strict=False):
        _learning(axis, data, stream)
    _gaps(axes[-1], data)
    axes[0].set_ylabel("accuracy while learning")
    drawing.legend_below(figure, axes[0], 5)
    return figure


def _learning(axis: Axes, data: pa.Table, stream: str) -> None:
    for arm, colour in LINES.items():
        line = "--" if arm.startswith("fresh") else "-"
        tasks.band(axis, data, label(stream, arm), ACCURACY, color=colour, linestyle=line, label=arm)
    axis.set_title(stream)
    axis.set_xlabel("task")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _gaps(axis: Axes, data: pa.Table) -> None:
    for place, arm in enumerate(ARMS[:3]):
        found = gap(data, arm)
        axis.plot(np.full(len(found), place), found, "o", color=COLOURS[arm], markersize=2.5, alpha=0.6)
        axis.plot(place, found.mean(), "_", color=COLOURS[arm], markersize=14, markeredgewidth=1.5)
    axis.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
    axis.set_xticks(range(3), ARMS[:3])
    axis.set_xlim(-0.6, 2.6)
    axis.set_title("warm start: test gap")
