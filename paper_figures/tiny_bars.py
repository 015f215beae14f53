"""Means over the tasks by norm, beside the published bars (claims P7, P9; JL25, bars of the MLP)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from paper_figures.support import finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Interval, Shown
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.style import NORMS
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import published
from torch_experiments.lab.report.published import Bar
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, RANK, THEIR_SATURATED
from torch_experiments.lab.report.tables import STILL, direction

NAME = "tiny_bars"
TITLE = "Tiny ImageNet, means over tasks of 500 steps by norm, beside the published bars of 10,000 steps"
ITEM = "mlp"
RUNS = Shown(ITEM, tuple(NORMS))
PANELS = (DEAD, DUPLICATE, RANK, ACCURACY, THEIR_SATURATED)
HEIGHT = 0.27
BARS = {
    "500 steps a task": style.BLUE,
    "500 steps a task, counted as published": style.SKY,
    "published, 10,000 steps a task": style.GREY,
}


class Agreement(NamedTuple):
    """How many norms stand to the plain network as published."""

    agreeing: int
    of: int


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of the MLP."""
    return RUNS.table()


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Means over 40 tasks of Tiny ImageNet, measured at the end of every task, for the MLP by norm, 500 steps a "
        "task (blue, with 95 % t-intervals where there are several seeds), beside the published bars (grey, with "
        "their intervals; 10,000 steps a task by the published code). Light blue: counted as published, accuracy "
        "over all 200 outputs, dead units silent at 95 % of the values, duplicates with the direction of an "
        "earlier unit; rank and saturated units are counted alike. The share of saturated units was published for "
        "the ViT alone, so that its panel has no published bars."
        f"{RUNS.gaps(data)}"
    )


def mean(data: pa.Table, cell: str, metric: str) -> Interval:
    """Return the mean over tasks and seeds with its interval over seeds."""
    return finished.interval(over_tasks(data, cell, metric).mean(axis=1))


def agreement(data: pa.Table, metric: str) -> Agreement:
    """Return how many cells differ from the plain network in the published direction, on their common seeds."""
    bars = published.bars(ITEM, metric)
    pairs = {cell: finished.shared(data, [cell, "none"]) for cell in RUNS.cells(data) if cell != "none"}
    same = [
        _direction(pair, cell, finished.COUNTED.get(metric, metric))
        == direction(bars["none"].value, bars[cell].value)
        for cell, pair in pairs.items()
        if len(pair)
    ]
    return Agreement(sum(same), len(same))


def _direction(data: pa.Table, cell: str, metric: str) -> int:
    """Return whether a cell is above the plain network, alike or below."""
    return direction(*(mean(data, name, metric).mean for name in ("none", cell)))


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    return [
        finished.sound([data], RUNS.cells(data), PANELS),
        Check(
            "Over the classes of the task the accuracy is nowhere lower than over all outputs.",
            finished.masked_is_no_less(data, RUNS.cells(data)),
        ),
    ]


def notes(data: pa.Table) -> list[str]:
    """Return between which settings the means lie, and how many differ as published."""
    found = {metric: {cell: mean(data, cell, metric).mean for cell in RUNS.cells(data)} for metric in PANELS}
    return [
        f"Accuracy lies between {_range(found[ACCURACY])}, the share of dead units between "
        f"{_range(found[DEAD])}, the rank between {_range(found[RANK])}.",
        *_directions(data),
    ]


def _directions(data: pa.Table) -> list[str]:
    if len(RUNS.cells(data)) < 2 or "none" not in RUNS.cells(data):
        return []
    counts = {metric: agreement(data, metric) for metric in PANELS if published.bars(ITEM, metric)}
    text = ", ".join(f"{tasks.LABELS[m]} {a.agreeing} of {a.of}" for m, a in counts.items())
    return [
        "Counted as published, so many settings differ from the plain network in the published direction (a "
        f"difference below {STILL}, of a rank below {STILL * 100:g} %, is none): {text}."
    ]


def _range(values: Mapping[str, float]) -> str:
    low, high = (choose(values, key=lambda cell: values[cell]) for choose in (min, max))
    return f"{values[low]:.2g} ({low}) and {values[high]:.2g} ({high})"


def draw(data: pa.Table) -> Figure:
    """Return a panel a metric, a pair of bars a norm."""
    cells = RUNS.cells(data)
    figure = Figure(figsize=(style.PAGE, 0.9 + 0.3 * len(cells)))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for axis, metric in zip(axes, PANELS, strict=True):
        for row, cell in enumerate(cells):
            _draw_bars(axis, data, metric, cell, row)
        axis.set_title(tasks.LABELS[metric])
        axis.set_xlim(left=0)
        axis.tick_params(axis="y", length=0)
        axis.locator_params(axis="x", nbins=4)
        axis.set_xlabel("" if published.bars(ITEM, metric) else "(not published)")
    axes[0].set_yticks(range(len(cells)), [finished.named(data, cell).replace(" (", "\n(") for cell in cells])
    axes[0].invert_yaxis()
    handles = [Patch(color=colour, label=label) for label, colour in BARS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _draw_bars(axis: Axes, data: pa.Table, metric: str, cell: str, row: int) -> None:
    """Draw what is measured, what is so counted as published, and what is published, as far as there is any."""
    measured = [name for name in (metric, finished.COUNTED.get(metric)) if name and finished.has(data, cell, name)]
    means = [mean(data, cell, name) for name in measured]
    bars = [Bar(found.mean, found.mean - found.half, found.mean + found.half) for found in means]
    colours = list(BARS.values())[: len(bars)]
    if theirs := published.bars(ITEM, metric).get(cell):
        bars, colours = [*bars, theirs], [*colours, style.GREY]
    for place, (bar, colour) in enumerate(zip(bars, colours, strict=True)):
        _draw_bar(axis, row + (place - (len(bars) - 1) / 2) * HEIGHT, bar, colour)


def _draw_bar(axis: Axes, place: float, bar: Bar, colour: str) -> None:
    error: dict[str, Any] = {"error_kw": {"elinewidth": 0.7}, "capsize": 1.2, "ecolor": style.BLACK}
    reach = [[bar.value - bar.low], [bar.high - bar.value]] if bar.high > bar.low else None
    axis.barh(place, bar.value, HEIGHT, color=colour, xerr=reach, **error)
