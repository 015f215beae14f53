"""Remedies against a fresh network for every task, on digits with random labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from torch_experiments.lab import experiments
from torch_experiments.lab.experiments import e04_remedies

NAME = "remedies"
TITLE = "remedies against a fresh network for every task, one seed: accuracy in the first and last tasks"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e04_remedies.SEEDS["quick"], "full": (0, 1, 2)}
METRIC = tasks.PANELS[0]
PROBE, PLAIN = "fresh", "none"
MARK: Mapping[str, Any] = {"marker": "o", "markersize": 4, "linestyle": ""}
OPEN: Mapping[str, Any] = {**MARK, "markerfacecolor": "white"}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 4; finished runs are read from `results`."""
    return experiments.computed(e04_remedies.configs("quick"), SEEDS[profile], results)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Accuracy while learning a task, averaged over the first five (open) and last five (filled) tasks of the "
        "stream of the figure on symptoms, for remedies at one strength each, tuned on nothing. Dashed: a fresh "
        f"network for every task, which has lost no plasticity. {tasks.seeds(data).capitalize()}. Quick runs made "
        "for this figure; RESULTS.md ranks remedies on permuted digits."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims about means over seeds."""
    last, began = ends(data), float(tasks.start(data, PROBE, METRIC).mean())
    half = (last[PLAIN] + last[PROBE]) / 2
    good = [f"{cell} {last[cell]:.2f}" for cell in ordered(data) if last[cell] >= half and cell != PROBE]
    return [
        Check(
            f"Without remedy a network ends at {last[PLAIN]:.2f}, a fresh one at {last[PROBE]:.2f}.",
            last[PLAIN] < 0.75 * last[PROBE],
        ),
        Check(
            f"The fresh one began at {began:.2f}: the tasks are equally hard.",
            abs(last[PROBE] - began) < 0.1,
        ),
        Check(
            f"At least half of the difference is made good by {', '.join(good)}.",
            bool(good) and last[PLAIN] < half,
        ),
    ]


def ends(data: pa.Table) -> dict[str, float]:
    """Return the mean accuracy in the last five tasks for every cell."""
    return {cell: float(tasks.end(data, cell, METRIC).mean()) for cell in data["cell"].unique().to_pylist()}


def ordered(data: pa.Table) -> list[str]:
    """Return the cells, the best at the end first."""
    last = ends(data)
    return sorted(last, key=lambda cell: -last[cell])


def draw(data: pa.Table) -> Figure:
    """Return a row a remedy."""
    cells = ordered(data)
    figure = Figure(figsize=(style.WIDTH, 0.95 + 0.16 * len(cells)))
    axis = figure.subplots()
    for row, cell in enumerate(reversed(cells)):
        _draw_row(axis, data, cell, row)
    fresh: dict[str, Any] = {"color": style.GREY, "linestyle": "--", "linewidth": 0.8}
    axis.axvline(ends(data)[PROBE], zorder=0, **fresh)
    axis.set_yticks(np.arange(len(cells)), cells[::-1])
    axis.set_xlim(0, 1)
    axis.set_xlabel("accuracy while learning")
    axis.set_title(f"random labels, {tasks.seeds(data)}")
    first = drawing.entry("first five tasks", **OPEN)
    last = drawing.entry("last five tasks", **MARK)
    figure.legend(handles=[first, last, drawing.entry("fresh", **fresh)], loc="outside lower center", ncols=3)
    return figure


def _draw_row(axis: Axes, data: pa.Table, cell: str, row: int) -> None:
    first, last = (float(edge(data, cell, METRIC).mean()) for edge in (tasks.start, tasks.end))
    colour = {PLAIN: style.VERMILION, PROBE: style.GREY}.get(cell, style.BLUE)
    axis.plot([first, last], [row, row], color=colour, linewidth=1)
    axis.plot(first, row, color=colour, **OPEN)
    axis.plot(last, row, color=colour, **MARK)
