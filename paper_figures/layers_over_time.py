"""Dead units and rank of every layer over forty tasks of Tiny ImageNet, where accuracy is lost and where kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from paper_figures.support import finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Tables, layers
from paper_figures.support.results import RESULTS, Missing, Profile
from paper_figures.support.tables import Array, where
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report.series import DEAD, RANK

NAME = "layers_over_time"
TITLE = (
    "Tiny ImageNet, layer by layer over the tasks: dead units and rank where accuracy is lost and kept, one seed"
)
PANELS = (DEAD, RANK)
MAPS = {DEAD: "cividis", RANK: "viridis"}
LAST = 2  # layers, those before the head


class Place(NamedTuple):
    """A cell of an item of the campaign."""

    item: str
    cell: str


LOST: Mapping[str, Place] = {
    "no norm, 10,000 steps": Place("mlp-paper", "none"),
    "no norm, 2,000 steps": Place("mlp-medium", "none"),
}
KEPT: Mapping[str, Place] = {"layer norm, 2,000 steps": Place("mlp-medium", "layer, affine")}
SHOWN: Mapping[str, Place] = {**LOST, **KEPT}


def compute(profile: Profile, results: Path = RESULTS) -> Tables:
    """Return the finished runs by what they are.

    Raises:
        Missing: There are none.
    """
    found = finished.several(dict.fromkeys(place.item for place in SHOWN.values()))
    there = {
        name: where(found[place.item], {"cell": place.cell})
        for name, place in SHOWN.items()
        if place.item in found and finished.cells(found[place.item], [place.cell])
    }
    if not there:
        raise Missing(f"of the finished runs of {finished.listed(found)} none is of a cell that is shown")
    return there


def introduction(data: Tables) -> str:
    """Return what is shown, and how it was found."""
    counts = finished.listed(f"{name}: {_seeds(data[name])}" for name in data)
    return (
        "Share of dead units and effective rank (Roy and Vetterli, raw activations) in the five hidden layers of "
        "the MLP, at the end of every task of Tiny ImageNet: without norm in tasks of 10,000 and of 2,000 steps, "
        "where it loses accuracy to itself or to the network with layer norm, and with layer norm and its affine "
        f"map. Means over seeds ({counts}).{finished.gaps(name for name in SHOWN if name not in data)}"
    )


def checks(data: Tables) -> list[Check]:
    """Return what the caption claims: where the symptoms are, and that the means over layers are those shown."""
    lost, kept = ([name for name in names if name in data] for names in (LOST, KEPT))
    return [
        *(finished.sound([table], [SHOWN[name].cell], PANELS) for name, table in data.items()),
        Check(
            "The mean over the layers is what the other figures show of the network.",
            all(_is_mean(table, SHOWN[name].cell, metric) for name, table in data.items() for metric in PANELS),
        ),
        *(_collapse(name, data[name]) for name in lost),
        *(_holding(name, data[name]) for name in kept),
    ]


def _collapse(name: str, table: pa.Table) -> Check:
    """Return that the last layers die and lose their rank, while the first has all of its units and its rank."""
    dead, rank = (ends(table, SHOWN[name].cell, metric) for metric in PANELS)
    return Check(
        f"{name.capitalize()}: units die and rank is lost before the head; in the last {LAST} layers the dead "
        f"share goes from {dead.first[-LAST:].max():.2f} or less to {dead.last[-LAST:].min():.2f} or more, the "
        f"rank from {rank.first[-LAST:].min():.0f} or more to {rank.last[-LAST:].max():.0f} or less, while in the "
        f"first layer a share of {dead.last[0]:.2g} is dead and the rank goes from {rank.first[0]:.0f} to "
        f"{rank.last[0]:.0f}.",
        bool((dead.last[-LAST:] > dead.first[-LAST:] + 0.3).all() and (rank.last < 0.5 * rank.first)[-LAST:].all())
        and bool(dead.last[0] < 0.05 and rank.last[0] > 0.9 * rank.first[0]),
    )


def _holding(name: str, table: pa.Table) -> Check:
    dead, rank = (ends(table, SHOWN[name].cell, metric) for metric in PANELS)
    return Check(
        f"{name.capitalize()}: no layer loses more than a tenth of its rank, and a share of {dead.last.max():.2g} "
        "of the units is dead at most.",
        bool((rank.last > 0.9 * rank.first).all() and dead.last.max() < 0.05),
    )


class Ends(NamedTuple):
    """A metric by layer, means over the first and over the last five tasks, each `[layers]`."""

    first: Array
    last: Array


def ends(table: pa.Table, cell: str, metric: str) -> Ends:
    """Return a metric of every layer in the first and in the last tasks."""
    found = layers(table, cell, metric)
    return Ends(found[:, : tasks.EDGE].mean(axis=1), found[:, -tasks.EDGE :].mean(axis=1))


def _is_mean(table: pa.Table, cell: str, metric: str) -> bool:
    whole = over_tasks(table, cell, metric).mean(axis=0)
    return bool(np.allclose(layers(table, cell, metric).mean(axis=0), whole, rtol=1e-9, atol=1e-12))


def _seeds(table: pa.Table) -> str:
    return tasks.seeds(table).removeprefix("mean of ")


def draw(data: Tables) -> Figure:
    """Return a row a metric, a column a run."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    axes = figure.subplots(2, len(data), sharex=True, sharey=True, squeeze=False)
    for row, metric in zip(axes, PANELS, strict=True):
        maps = [layers(table, SHOWN[name].cell, metric) for name, table in data.items()]
        low, high = 0.0 if metric == DEAD else min(m.min() for m in maps), max(m.max() for m in maps)
        for axis, values in zip(row, maps, strict=True):
            picture = _draw_map(axis, values, metric, low, high)
        figure.colorbar(picture, ax=row, label=tasks.LABELS[metric], pad=0.01)
    for axis, (name, table) in zip(axes[0], data.items(), strict=True):
        axis.set_title(f"{name} ({_seeds(table)})")
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
