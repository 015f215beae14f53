"""Normalisation and dropout over forty tasks of Tiny ImageNet (claims P7, P9; JL25 figure 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Shown
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.style import NORMS
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import published
from torch_experiments.lab.report.series import ACCURACY, DEAD, RANK, SATURATED, SILENT, THEIR_SATURATED
from torch_experiments.lab.report.tables import STILL, direction

NAME = "tiny_normalisation"
TITLE = "norms and dropout on Tiny ImageNet, 500 steps a task: accuracy, silent units, rank, saturated units"
ITEM = "mlp"
RUNS = Shown(ITEM, tuple(NORMS))
PANELS = (ACCURACY, SILENT, RANK, THEIR_SATURATED)
PUBLISHED = {ACCURACY: ACCURACY, SILENT: DEAD}  # names of what is published of the plain network alone


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of the MLP."""
    return RUNS.table()


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "A multilayer perceptron at its published size on 40 tasks of Tiny ImageNet of 500 steps each, with batch "
        "norm, layer norm (dashed: without affine map), dropout 0.1, or none of them (JL25 figure 4.1). Triangles: "
        "where published curves end (open: without affine map), after 10,000 steps a task by the published code, "
        "whose accuracy is over all 200 outputs. Silent units are those it calls dead, zero at 95 % of the values; "
        "dead ones are zero on all images. Saturated, after JL25: the gradient of the loss is below 10⁻⁴ of the "
        "unit's mean size at 99 % of the images, which depends on how well these are fitted. "
        f"{finished.lines(data, RUNS.cells(data))}{RUNS.gaps(data)}"
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    dead, silent = ([over_tasks(data, cell, metric) for cell in RUNS.cells(data)] for metric in (DEAD, SILENT))
    return [
        finished.sound([data], RUNS.cells(data), [*PANELS, DEAD]),
        Check(
            "Dead units are silent ones: in no task is their share larger.",
            all(bool((few <= many).all()) for few, many in zip(dead, silent, strict=True)),
        ),
        Check(
            "By the derivative of the activation a rectified unit is saturated if it is dead and only then: both "
            "shares agree in every task.",
            all(_agree(data, cell) for cell in RUNS.cells(data)),
        ),
    ]


def notes(data: pa.Table) -> list[str]:
    """Return the ends of all settings; they are means over the last five tasks and the seeds."""
    last = {m: {cell: finished.ends(data, cell, m)[1] for cell in RUNS.cells(data)} for m in (*PANELS, DEAD)}
    theirs = {cell: ends.last for cell, ends in published.ends(ITEM, RANK).items()}
    return [
        f"In the last five tasks the accuracy is {_numbers(last[ACCURACY], '.2f')}.",
        f"The share of silent units is {_numbers(last[SILENT], '.2g')} then, that of dead ones at most "
        f"{max(last[DEAD].values()):.2g}.",
        f"The rank is {_numbers(last[RANK], '.0f')}; published are {_numbers(theirs, '.0f')}.",
        _rise(data),
    ]


def _rise(data: pa.Table) -> str:
    """Return how many norms move the rank from the first to the last tasks in the published direction."""
    theirs = published.ends(ITEM, RANK)
    ours = {cell: finished.ends(data, cell, RANK) for cell in RUNS.cells(data) if cell in theirs}
    agreeing = [cell for cell, ends in ours.items() if direction(*ends) == direction(*theirs[cell])]
    which = f": {'; '.join(agreeing)}" if agreeing else ""
    return (
        f"From the first to the last tasks the rank moves as published in {len(agreeing)} of {len(ours)} of "
        f"these settings{which} (a change below {STILL * 100:g} % counts as none; dropout was not published)."
    )


def _agree(data: pa.Table, cell: str) -> bool:
    if not finished.has(data, cell, SATURATED):
        return True
    dead, saturated = (over_tasks(data, cell, metric) for metric in (DEAD, SATURATED))
    return bool((abs(dead - saturated) < 1e-9).all())


def _numbers(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{value:{form}} ({cell})" for cell, value in values.items())


def draw(data: pa.Table) -> Figure:
    """Return four panels."""
    figure = Figure(figsize=(style.PAGE, 3.4))
    axes = figure.subplots(2, 2, sharex=True)
    for axis, metric in zip(axes.flat, PANELS, strict=True):
        for cell in RUNS.cells(data):
            tasks.band(axis, data, cell, metric, label=finished.named(data, cell), **NORMS[cell])
        _mark(axis, metric, RUNS.cells(data))
    tasks.decorate(axes.flat, PANELS)
    for axis in axes[1]:
        axis.set_xlabel("task")
    axes[0, 0].set_title(f"{tasks.LABELS[ACCURACY]}, 500 steps a task")
    ends = [
        drawing.handle("published end, 10,000 steps a task"),
        drawing.handle("without affine map", filled=False),
    ]
    figure.legend(handles=[*axes[0, 0].get_legend_handles_labels()[0], *ends], loc="outside lower center", ncols=4)
    return figure


def _mark(axis: Axes, metric: str, cells: Sequence[str]) -> None:
    """Mark where published curves of these cells end; norms of the MLP are published for the rank alone."""
    if metric == RANK:
        theirs = published.ends(ITEM, RANK)
        for cell, ends in ((cell, theirs[cell]) for cell in cells if cell in theirs):
            drawing.mark(axis, ends.last, NORMS[cell]["color"], filled=NORMS[cell].get("linestyle") is None)
    elif "none" in cells and metric in PUBLISHED:
        drawing.mark(axis, published.ends(ITEM, PUBLISHED[metric])["none"].last, NORMS["none"]["color"])
