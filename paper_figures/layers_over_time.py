"""Dead units and effective rank of every layer over forty tasks of Tiny ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from paper_figures.support import captions, finished, style, tasks
from paper_figures.support.captions import Statement
from paper_figures.support.finished import DEAD, RANK
from paper_figures.support.results import RESULTS, Profile
from torch_experiments.lab.training.measures import WHOLE

Array = np.ndarray[Any, Any]

NAME = "layers_over_time"
TITLE = "Tiny ImageNet, layer by layer over the tasks: dead units and rank without norm, with batch and layer norm"
ITEM = "mlp"
CELLS = ("none", "batch", "layer")
PANELS = (DEAD, RANK)
MAPS = {DEAD: "cividis", RANK: "viridis"}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of the MLP."""
    return finished.needed(ITEM, CELLS)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    counts = finished.listed(f"{cell} {len(finished.seeds(data, cell))}" for cell in shown(data))
    introduction = (
        "Share of dead units and effective rank (Roy and Vetterli, raw activations) in the five hidden layers of "
        "the MLP, at the end of every task of Tiny ImageNet, without norm, with batch norm and with layer norm "
        f"(no affine maps). Means over seeds ({counts}).{finished.gaps(finished.absent(ITEM, data, CELLS))}"
    )
    return captions.join(introduction, statements(data))


def shown(data: pa.Table) -> list[str]:
    """Return the cells that are drawn."""
    return finished.cells(data, CELLS)


def layers(data: pa.Table, cell: str, metric: str) -> Array:
    """Return a metric at the end of every task, mean over seeds, ``[layers, tasks]``."""
    rows = finished.where(data, {"cell": cell, "metric": metric})
    rows = rows.filter(pc.greater(rows["layer"], WHOLE))
    rows = rows.filter(pc.equal(rows["step"], pc.max(rows["step"])))
    rows = rows.sort_by([(name, "ascending") for name in ("seed", "layer", "task")])
    seeds, count = (len(pc.unique(rows[name])) for name in ("seed", "layer"))
    found: Array = rows["value"].to_numpy().reshape(seeds, count, -1).mean(axis=0)
    return found


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims: which layers suffer most, and that the means are those of the network."""
    return [
        *(_most(data, cell) for cell in shown(data)),
        Statement(
            "The mean over the layers is what the other figures show of the network.",
            all(_is_mean(data, cell, metric) for cell in shown(data) for metric in PANELS),
        ),
        Statement(
            f"In the first layer, which sees the images, {_first(data)}.",
            all(bool((layers(data, cell, DEAD)[0] <= 1).all()) for cell in shown(data)),
        ),
    ]


def _first(data: pa.Table) -> str:
    most = max(float(layers(data, cell, DEAD)[0].max()) for cell in shown(data))
    return f"a share of at most {most:.2g} is dead" if most else "no unit is dead after any task"


def _most(data: pa.Table, cell: str) -> Statement:
    dead, rank = (layers(data, cell, metric)[:, -tasks.EDGE :].mean(axis=1) for metric in PANELS)
    name = "Without norm" if cell == "none" else f"With {cell} norm"
    dying = f"most dead units in layer {dead.argmax() + 1} ({dead.max():.2g})" if dead.any() else "no dead unit"
    return Statement(
        f"{name} the last five tasks show {dying} and the "
        f"least rank in layer {rank.argmin() + 1} ({rank.min():.0f}, against {rank.max():.0f} in layer "
        f"{rank.argmax() + 1}).",
        finished.finite(*dead, *rank) and bool((dead >= 0).all() and (dead <= 1).all() and (rank >= 1).all()),
    )


def _is_mean(data: pa.Table, cell: str, metric: str) -> bool:
    whole = tasks.over_tasks(data, cell, metric).mean(axis=0)
    return bool(np.allclose(layers(data, cell, metric).mean(axis=0), whole, rtol=1e-9, atol=1e-12))


def draw(data: pa.Table) -> Figure:
    """Return a row a metric, a column a norm."""
    cells = shown(data)
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
