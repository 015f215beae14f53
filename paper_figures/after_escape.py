"""Loss and test accuracy after an escape from a cloned manifold, against training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures import captions, style, tasks
from paper_figures.captions import Statement
from paper_figures.results import RESULTS, Profile
from paper_figures.tasks import Array
from torch_experiments import e06_escape, experiments
from torch_experiments.experiments import over_tasks

NAME = "after_escape"
TITLE = "escaping, and then? loss and test accuracy after an escape, against training from scratch"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e06_escape.SEEDS["quick"], "full": experiments.SEEDS}
LINES: Mapping[str, Mapping[str, Any]] = {
    "narrow": {"color": style.GREY, "linestyle": "--"},
    "trapped": {"color": style.VERMILION},
    "split": {"color": style.BLUE},
    "noise": {"color": style.ORANGE},
    "scratch": {"color": style.BLACK},
}
ESCAPES = ("split", "noise")
LOSS, TEST, RANK = "train_loss", "test_accuracy", "roy_vetterli_rank_raw"
PANELS: Mapping[str, str] = {LOSS: "training loss", TEST: "test error", RANK: "effective rank"}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 6; finished runs are read from `results`."""
    return experiments.computed(e06_escape.configs("quick"), SEEDS[profile], results, stack=True)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    steps = e06_escape.configs("quick")["split"].steps
    introduction = (
        "A multilayer perceptron that starts on a cloned manifold (every hidden unit twice) learns the digits with "
        "Adam and stays there (trapped); or the out-weights of its clones are split after the first stretch of "
        f"{steps} steps (dotted), which keeps its function; or noise of 0.1 times the gradient's norm acts all "
        "along. Scratch: a network of the same width, initialised as usual; narrow: the network that was cloned. "
        f"Loss on 500 training images, error on 250 others. {tasks.lines(data)}"
    )
    return captions.join(introduction, statements(data))


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims; the least favourable seed counts."""
    loss, test = ({cell: last(data, cell, metric) for cell in LINES} for metric in (LOSS, TEST))
    later = over_tasks(data, "scratch", LOSS)[:, -2]
    return [
        Statement(
            f"In every seed both escapes end with less loss than the trapped clone: {_means(loss, ESCAPES)} "
            f"against {loss['trapped'].mean():.2g}.",
            all(bool((loss[cell] < loss["trapped"]).all()) for cell in ESCAPES),
        ),
        Statement(
            f"On average they do not reach the network from scratch, {loss['scratch'].mean():.2g} after as many "
            f"steps, {later.mean():.2g} after as many as the split one had since its escape.",
            all(float(loss[cell].mean()) > float(later.mean()) for cell in ESCAPES),
        ),
        Statement(
            f"Test accuracy, mean: trapped {test['trapped'].mean():.3f}, {_means(test, ESCAPES, 3)}, scratch "
            f"{test['scratch'].mean():.3f}; the split one makes good "
            f"{recovered(test):.0%} of the difference.",
            recovered(test) > 0.5,
        ),
        Statement(
            f"The narrow network ends with a loss of {loss['narrow'].mean():.2g}, the trapped clone at twice the "
            "width still above all that escaped.",
            float(loss["trapped"].mean()) > max(float(loss[cell].mean()) for cell in ESCAPES),
        ),
    ]


def recovered(test: Mapping[str, Array]) -> float:
    """Return the share of the difference between trapped and scratch that the split network makes good."""
    means = {cell: float(values.mean()) for cell, values in test.items()}
    return (means["split"] - means["trapped"]) / (means["scratch"] - means["trapped"])


def last(data: pa.Table, cell: str, metric: str) -> Array:
    """Return a metric at the end of training, for every seed."""
    return over_tasks(data, cell, metric)[:, -1]


def _means(values: Mapping[str, Array], chosen: tuple[str, ...], digits: int = 2) -> str:
    shown = ".3f" if digits == 3 else ".2g"
    return ", ".join(f"{cell} {values[cell].mean():{shown}}" for cell in chosen)


def draw(data: pa.Table) -> Figure:
    """Return loss, error and rank over the steps."""
    figure = Figure(figsize=(style.PAGE, 2.0))
    axes = figure.subplots(1, 3)
    for axis, metric in zip(axes, PANELS, strict=True):
        for cell, line in LINES.items():
            _curve(axis, data, cell, metric, **line)
        axis.axvline(1, color=style.BLUE, linewidth=0.8, linestyle=":", zorder=0)
        axis.set_title(PANELS[metric])
        axis.set_xlabel("stretch of training")
        if metric == LOSS:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _curve(axis: Axes, data: pa.Table, cell: str, metric: str, **line: Any) -> None:
    values = over_tasks(data, cell, metric)
    values = 1 - values if metric == TEST else values
    stretches = np.arange(1, values.shape[1] + 1)
    axis.plot(stretches, values.mean(axis=0), label=cell, **line)
    axis.fill_between(stretches, *tasks.bounds(values), color=line["color"], alpha=0.15, linewidth=0)
