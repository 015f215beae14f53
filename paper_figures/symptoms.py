"""The symptoms of loss of plasticity over forty tasks (JL25 figure 3.1, on digits with random labels)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from matplotlib.figure import Figure

from paper_figures.support import style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from torch_experiments.lab import experiments
from torch_experiments.lab.experiments import e02_symptoms

NAME = "symptoms"
TITLE = "a plain network over forty tasks: accuracy while learning, dead units, rank, duplicates"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e02_symptoms.SEEDS["quick"], "full": experiments.SEEDS}
CELL = "none"


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 2; finished seeds are read from `results`."""
    return experiments.computed(e02_symptoms.configs("quick"), SEEDS[profile], results)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "A multilayer perceptron without normalisation learns random labels of 500 digits, new labels for every "
        "task, with Adam all along (the symptoms of JL25 figure 3.1 on embedded data). Accuracy: of every batch "
        "before its step, averaged over the task. Dead: zero on all of 500 images. Duplicate: correlated with "
        "another unit by 0.95 or more. Effective rank (Roy and Vetterli) of the raw activations, mean over hidden "
        f"layers. {tasks.lines(data)}"
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims; ends are means over five tasks, the least favourable seed counts."""
    accuracy, dead, rank = ((tasks.start(data, CELL, m), tasks.end(data, CELL, m)) for m in tasks.PANELS[:3])
    return [
        Check(
            f"Accuracy falls in every seed, from {accuracy[0].mean():.2f} in the first five tasks to "
            f"{accuracy[1].mean():.2f} in the last five (means).",
            bool((accuracy[1] < 0.75 * accuracy[0]).all()),
        ),
        Check(
            f"Dead units grow in every seed, from {dead[0].mean():.2f} to {dead[1].mean():.2f}.",
            bool((dead[1] > dead[0] + 0.1).all()),
        ),
        Check(
            f"The rank falls in every seed, from {rank[0].mean():.0f} to {rank[1].mean():.0f}.",
            bool((rank[1] < 0.75 * rank[0]).all()),
        ),
    ]


def draw(data: pa.Table) -> Figure:
    """Return the four panels."""
    figure = Figure(figsize=(style.WIDTH, 2.6))
    axes = figure.subplots(2, 2, sharex=True)
    for axis, metric in zip(axes.flat, tasks.PANELS, strict=True):
        tasks.band(axis, data, CELL, metric, color=style.BLUE)
    tasks.decorate(axes.flat)
    for axis in axes[1]:
        axis.set_xlabel("task")
    return figure
