"""Normalisation and dropout over a stream of tasks (JL25 figure 3.2, on digits with random labels)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from paper_figures.support import captions, style, tasks
from paper_figures.support.captions import Statement
from paper_figures.support.results import RESULTS, Profile
from torch_experiments.lab.experiments import e03_normalisation
from torch_experiments.lab.experiments import runner as experiments

NAME = "normalisation"
TITLE = "batch norm, layer norm and dropout over the tasks: accuracy while learning, dead units, rank"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e03_normalisation.SEEDS["quick"], "full": (0, 1, 2)}
METRICS = tasks.PANELS[:3]
LINES: Mapping[str, Mapping[str, Any]] = {
    "none": {"color": style.BLACK},
    "batch": {"color": style.BLUE, "linestyle": "--"},
    "batch, affine": {"color": style.BLUE},
    "layer": {"color": style.ORANGE, "linestyle": "--"},
    "layer, affine": {"color": style.ORANGE},
    "dropout": {"color": style.GREEN},
}
NORMS = tuple(LINES)[1:5]


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 3; finished runs are read from `results`."""
    return experiments.computed(e03_normalisation.configs("quick"), SEEDS[profile], results)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    introduction = (
        "The stream of the figure on symptoms under batch norm, layer norm (dashed: without affine map) and "
        f"dropout 0.1 (JL25 figure 3.2 on embedded data). {tasks.lines(data)}"
    )
    return captions.join(introduction, statements(data))


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims about the last five tasks, means over seeds."""
    accuracy, dead, rank = ({cell: float(tasks.end(data, cell, m).mean()) for cell in LINES} for m in METRICS)
    batch = [cell for cell in NORMS if cell.startswith("batch")]
    least, most = min(accuracy[c] for c in batch), max(dead[c] for c in batch)
    return [
        Statement(
            f"With batch norm the accuracy in the last five tasks is {least:.2f} or more, against "
            f"{accuracy['none']:.2f} without norm.",
            least > accuracy["none"] + 0.1,
        ),
        Statement(
            f"A share of {most:.2g} of the units is dead with batch norm, of {dead['none']:.2f} without.",
            most < 0.1 * dead["none"],
        ),
        Statement(
            "Every norm ends with a higher rank than none: "
            + ", ".join(f"{cell} {rank[cell]:.0f}" for cell in LINES if cell != "dropout")
            + ".",
            all(rank[cell] > rank["none"] for cell in NORMS),
        ),
    ]


def draw(data: pa.Table) -> Figure:
    """Return three panels over one another."""
    figure = Figure(figsize=(style.WIDTH, 3.9))
    axes = figure.subplots(3, 1, sharex=True)
    for axis, metric in zip(axes, METRICS, strict=True):
        for cell, line in LINES.items():
            tasks.band(axis, data, cell, metric, label=cell, **line)
    tasks.decorate(axes, METRICS)
    axes[-1].set_xlabel("task")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
