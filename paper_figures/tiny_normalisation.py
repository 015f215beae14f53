"""Normalisation and dropout over forty tasks of Tiny ImageNet (JL25 figure 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.normalisation import LINES
from paper_figures.support import captions, finished, style, tasks
from paper_figures.support.captions import Statement
from paper_figures.support.finished import ACCURACY, DEAD, RANK, SATURATED, SILENT
from paper_figures.support.results import RESULTS, Profile
from torch_experiments.lab.experiments.runner import over_tasks
from torch_experiments.lab.report import published
from torch_experiments.lab.report.tables import STILL, direction

NAME = "tiny_normalisation"
TITLE = "batch norm, layer norm and dropout on Tiny ImageNet: accuracy, silent units, rank, saturated units"
ITEM = "mlp"
PANELS = (ACCURACY, SILENT, RANK, SATURATED)
PUBLISHED = {ACCURACY: ACCURACY, SILENT: DEAD}  # names of what is published of the plain network alone
BY_DERIVATIVE = "saturated_fraction"


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of the MLP."""
    return finished.needed(ITEM, LINES)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    introduction = (
        "A multilayer perceptron at its published size on 40 tasks of Tiny ImageNet of 500 steps each, with batch "
        "norm, layer norm (dashed: without affine map), dropout 0.1, or none of them (JL25 figure 3.2). Triangles: "
        "where published curves end (open: without affine map), after 10,000 steps a task by the published code, "
        "whose accuracy is over all 200 outputs. Silent units are those it calls dead, zero at 95 % of the values; "
        "dead ones are zero on all images. Saturated, after JL25: the gradient of the loss is below 10⁻⁴ of the "
        "unit's mean size at 99 % of the images, which depends on how well these are fitted. "
        f"{finished.lines(data, shown(data))}{finished.gaps(finished.absent(ITEM, data, LINES))}"
    )
    return captions.join(introduction, statements(data))


def shown(data: pa.Table) -> list[str]:
    """Return the cells that are drawn."""
    return finished.cells(data, LINES)


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims; ends are means over the last five tasks and the seeds."""
    last = {m: {cell: finished.ends(data, cell, m)[1] for cell in shown(data)} for m in (*PANELS, DEAD)}
    return [
        Statement(
            f"In the last five tasks the accuracy is {_numbers(last[ACCURACY], '.2f')}.",
            finished.finite(*last[ACCURACY].values()) and max(last[ACCURACY].values()) <= 1,
        ),
        Statement(
            f"The share of silent units is {_numbers(last[SILENT], '.2g')} then, that of dead ones at most "
            f"{max(last[DEAD].values()):.2g}.",
            all(0 <= last[DEAD][cell] <= last[SILENT][cell] <= 1 for cell in shown(data)),
        ),
        Statement(
            f"The rank is {_numbers(last[RANK], '.0f')}; published are "
            f"{_numbers({cell: ends.last for cell, ends in published.ends(ITEM, RANK).items()}, '.0f')}.",
            finished.finite(*last[RANK].values()) and min(last[RANK].values()) >= 1,
        ),
        *_rise(data),
        Statement(
            "By the derivative of the activation a rectified unit is saturated if it is dead and only then: both "
            "shares agree in every task.",
            all(_agree(data, cell) for cell in shown(data)),
        ),
    ]


def _rise(data: pa.Table) -> list[Statement]:
    """Return how many norms move the rank from the first to the last tasks in the published direction."""
    theirs = published.ends(ITEM, RANK)
    ours = {cell: finished.ends(data, cell, RANK) for cell in shown(data) if cell in theirs}
    agreeing = [cell for cell, ends in ours.items() if direction(*ends) == direction(*theirs[cell])]
    which = f": {'; '.join(agreeing)}" if agreeing else ""
    return [
        Statement(
            f"From the first to the last tasks the rank moves as published in {len(agreeing)} of {len(ours)} of "
            f"these settings{which} (a change below {STILL * 100:g} % counts as none; dropout was not published).",
            finished.finite(*(value for ends in ours.values() for value in ends)),
        )
    ]


def _agree(data: pa.Table, cell: str) -> bool:
    if not finished.has(data, cell, BY_DERIVATIVE):
        return True
    dead, saturated = (over_tasks(data, cell, metric) for metric in (DEAD, BY_DERIVATIVE))
    return bool((abs(dead - saturated) < 1e-9).all())


def _numbers(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{value:{form}} ({cell})" for cell, value in values.items())


def draw(data: pa.Table) -> Figure:
    """Return four panels."""
    figure = Figure(figsize=(style.PAGE, 3.2))
    axes = figure.subplots(2, 2, sharex=True)
    for axis, metric in zip(axes.flat, PANELS, strict=True):
        for cell in shown(data):
            tasks.band(axis, data, cell, metric, label=cell, **LINES[cell])
        _mark(axis, metric, shown(data))
    tasks.decorate(axes.flat, PANELS)
    for axis in axes[1]:
        axis.set_xlabel("task")
    handles = [*axes[0, 0].get_legend_handles_labels()[0], tasks.handle("published end")]
    figure.legend(handles=handles, loc="outside lower center", ncols=7)
    return figure


def _mark(axis: Axes, metric: str, cells: Sequence[str]) -> None:
    """Mark where published curves of these cells end; norms of the MLP are published for the rank alone."""
    if metric == RANK:
        theirs = published.ends(ITEM, RANK)
        for cell, ends in ((cell, theirs[cell]) for cell in cells if cell in theirs):
            tasks.mark(axis, ends.last, LINES[cell]["color"], filled=LINES[cell].get("linestyle") is None)
    elif "none" in cells and metric in PUBLISHED:
        tasks.mark(axis, published.ends(ITEM, PUBLISHED[metric])["none"].last, LINES["none"]["color"])
