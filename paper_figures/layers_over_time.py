"""Dead units and effective rank of every layer over forty tasks of Tiny ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from paper_figures.support import finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Shown, layers
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report.series import DEAD, RANK

NAME = "layers_over_time"
TITLE = "Tiny ImageNet, layer by layer over the tasks: dead units and rank without norm, with batch and layer norm"
RUNS = Shown("mlp", ("none", "batch", "layer"))
PANELS = (DEAD, RANK)
MAPS = {DEAD: "cividis", RANK: "viridis"}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of the MLP."""
    return RUNS.table()


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    counts = finished.listed(f"{cell} {len(finished.seeds(data, cell))}" for cell in RUNS.cells(data))
    return (
        "Share of dead units and effective rank (Roy and Vetterli, raw activations) in the five hidden layers of "
        "the MLP, at the end of every task of Tiny ImageNet, without norm, with batch norm and with layer norm "
        f"(no affine maps). Means over seeds ({counts}).{RUNS.gaps(data)}"
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims: that the means over layers are those of the network."""
    return [
        finished.sound([data], RUNS.cells(data), PANELS),
        Check(
            "The mean over the layers is what the other figures show of the network.",
            all(_is_mean(data, cell, metric) for cell in RUNS.cells(data) for metric in PANELS),
        ),
    ]


def notes(data: pa.Table) -> list[str]:
    """Return which layers suffer most."""
    most = [_most(data, cell) for cell in RUNS.cells(data)]
    return [*most, f"In the first layer, which sees the images, {_first(data)}."]


def _first(data: pa.Table) -> str:
    most = max(float(layers(data, cell, DEAD)[0].max()) for cell in RUNS.cells(data))
    return f"a share of at most {most:.2g} is dead" if most else "no unit is dead after any task"


def _most(data: pa.Table, cell: str) -> str:
    dead, rank = (layers(data, cell, metric)[:, -tasks.EDGE :].mean(axis=1) for metric in PANELS)
    name = "Without norm" if cell == "none" else f"With {cell} norm"
    dying = f"most dead units in layer {dead.argmax() + 1} ({dead.max():.2g})" if dead.any() else "no dead unit"
    return (
        f"{name} the last five tasks show {dying} and the least rank in layer {rank.argmin() + 1} "
        f"({rank.min():.0f}, against {rank.max():.0f} in layer {rank.argmax() + 1})."
    )


def _is_mean(data: pa.Table, cell: str, metric: str) -> bool:
    whole = over_tasks(data, cell, metric).mean(axis=0)
    return bool(np.allclose(layers(data, cell, metric).mean(axis=0), whole, rtol=1e-9, atol=1e-12))


def draw(data: pa.Table) -> Figure:
    """Return a row a metric, a column a norm."""
    cells = RUNS.cells(data)
    figure = Figure(figsize=(style.PAGE, 2.5))
    axes = figure.subplots(2, len(cells), sharex=True, sharey=True, squeeze=False)
    for row, metric in zip(axes, PANELS, strict=True):
        maps = [layers(data, cell, metric) for cell in cells]
        low, high = 0.0 if metric == DEAD else min(m.min() for m in maps), max(m.max() for m in maps)
        for axis, values in zip(row, maps, strict=True):
            picture = _draw_map(axis, values, metric, low, high)
        figure.colorbar(picture, ax=row, label=tasks.LABELS[metric], pad=0.01)
    for axis, cell in zip(axes[0], cells, strict=True):
        axis.set_title("no norm" if cell == "none" else f"{cell} norm")
    for axis in axes[:, 0]:
        axis.set_ylabel("layer")
    for axis in axes[1]:
        axis.set_xlabel("task")
    return figure


def _draw_map(axis: Axes, values: Array, metric: str, low: float, high: float) -> AxesImage:
    count, length = values.shape
    extent = (0.5, length + 0.5, 0.5, count + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return axis.imshow(
        values,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap=MAPS[metric],
        vmin=low,
        vmax=max(high, low + 1e-9),
    )
