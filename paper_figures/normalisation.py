"""Normalisation and dropout over a stream of tasks (JL25 figure 4.1, on digits with random labels)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from matplotlib.figure import Figure

from paper_figures.support import drawing, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.style import NORMS
from torch_experiments.lab import experiments
from torch_experiments.lab.experiments import e03_normalisation

NAME = "normalisation"
TITLE = "norms and dropout over the tasks, one seed: accuracy while learning, dead units, rank"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e03_normalisation.SEEDS["quick"], "full": (0, 1, 2)}
METRICS = tasks.PANELS[:3]
NORMED = tuple(NORMS)[1:5]


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 3; finished runs are read from `results`."""
    return experiments.computed(e03_normalisation.configs("quick"), SEEDS[profile], results)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "The stream of the figure on symptoms under batch norm, layer norm (dashed: without affine map) and "
        f"dropout 0.1 (JL25 figure 4.1 on embedded data). {tasks.lines(data)}"
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims about the last five tasks, means over seeds."""
    accuracy, dead, rank = ({cell: float(tasks.end(data, cell, m).mean()) for cell in NORMS} for m in METRICS)
    batch = [cell for cell in NORMED if cell.startswith("batch")]
    least, most = min(accuracy[c] for c in batch), max(dead[c] for c in batch)
    return [
        Check(
            f"In {tasks.seeds(data)}: with batch norm the accuracy in the last five tasks is {least:.2f} or more, "
            f"against {accuracy['none']:.2f} without norm.",
            least > accuracy["none"] + 0.1,
        ),
        Check(
            f"A share of {most:.2g} of the units is dead with batch norm, of {dead['none']:.2f} without.",
            most < 0.1 * dead["none"],
        ),
        Check(
            "Every norm ends with a higher rank than none: "
            + ", ".join(f"{cell} {rank[cell]:.0f}" for cell in NORMS if cell != "dropout")
            + ".",
            all(rank[cell] > rank["none"] for cell in NORMED),
        ),
    ]


def draw(data: pa.Table) -> Figure:
    """Return three panels over one another."""
    figure = Figure(figsize=(style.WIDTH, 3.9))
    axes = figure.subplots(3, 1, sharex=True)
    for axis, metric in zip(axes, METRICS, strict=True):
        for cell, line in NORMS.items():
            tasks.band(axis, data, cell, metric, label=cell, **line)
    tasks.decorate(axes, METRICS)
    axes[0].set_title(f"{tasks.LABELS[METRICS[0]]}, {tasks.seeds(data)}")
    axes[-1].set_xlabel("task")
    drawing.legend_below(figure, axes[0], 3)
    return figure
