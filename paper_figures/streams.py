"""Is plasticity lost in every stream? Pairs, permuted pixels, random labels, and the gap of a warm start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures import captions, style, tasks
from paper_figures.captions import Statement
from paper_figures.results import RESULTS, Profile
from paper_figures.tasks import Array
from torch_experiments import e07_streams, experiments
from torch_experiments.e07_streams import ARMS, FRESH_NORM, WARM, label
from torch_experiments.experiments import over_tasks

NAME = "streams"
TITLE = "pairs, permuted pixels, random labels, warm start: what is lost, and what helps"
SEEDS: Mapping[Profile, tuple[int, ...]] = {"quick": e07_streams.SEEDS["quick"], "full": experiments.SEEDS}
LONG = tuple(name for name in e07_streams.STREAMS if name != WARM)
LEARNING, TEST = "online_accuracy", "test_accuracy"
COLOURS: Mapping[str, str] = dict(zip(ARMS, (style.VERMILION, style.ORANGE, style.BLUE, style.GREY), strict=True))


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 7; finished runs are read from `results`."""
    return experiments.computed(e07_streams.configs("quick"), SEEDS[profile], results, stack=True)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    introduction = (
        "Digits in four streams, with Adam all along: accuracy while learning a task, for a multilayer perceptron "
        "as it is, with layer norm, with a pull towards the initial weights (L2 init), and for a fresh network at "
        "every task, which has lost nothing. Warm start: test accuracy after training on 30 % of the images and "
        "then on all, minus that of a network trained on all from the start (layer norm: one with layer norm). "
        f"{tasks.lines(data)} Points: seeds."
    )
    return captions.join(introduction, statements(data))


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims; lags are against the fresh network, in the second half of the tasks."""
    lags = {stream: {arm: lag(data, stream, arm) for arm in ARMS[:3]} for stream in LONG}
    gaps = {arm: gap(data, arm) for arm in ARMS[:3]}
    plain = {stream: float(found["plain"].mean()) for stream, found in lags.items()}
    return [
        Statement(
            f"In the second half of the tasks the plain network lags a fresh one by {_listed(plain)}, on average, "
            f"in every seed: {_lost(lags, 'plain')}.",
            min(plain.values()) > 0 and bool((lags["pairs"]["plain"] > 0).all()),
        ),
        Statement(
            f"Layer norm is no cure by itself: with pairs it lags by {lags['pairs']['layer norm'].mean():.2f}, and "
            "in every stream its accuracy is lower then than in the first task.",
            float(lags["pairs"]["layer norm"].mean()) > 0.03
            and all(bool((fall(data, stream, "layer norm") > 0).all()) for stream in LONG),
        ),
        Statement(
            f"The pull keeps plasticity under random labels (lag {lags['random labels']['l2-init'].mean():.2f}), "
            f"not with pairs ({lags['pairs']['l2-init'].mean():.2f}).",
            float(lags["random labels"]["l2-init"].mean()) < 0 < float(lags["pairs"]["l2-init"].mean()),
        ),
        Statement(
            "The warm start of these small data costs nothing that can be told: the mean gap is "
            + ", ".join(f"{found.mean():+.3f} ({arm})" for arm, found in gaps.items())
            + ".",
            all(abs(float(found.mean())) < 0.03 for found in gaps.values()),
        ),
    ]


def lag(data: pa.Table, stream: str, arm: str) -> Array:
    """Return how far an arm learns worse than a fresh network in the second half of the tasks, for every seed."""
    fresh, found = (over_tasks(data, label(stream, name), LEARNING) for name in ("fresh", arm))
    return later(fresh - found)


def fall(data: pa.Table, stream: str, arm: str) -> Array:
    """Return the accuracy while learning the first task minus that of the second half, for every seed."""
    found = over_tasks(data, label(stream, arm), LEARNING)
    return found[:, 0] - later(found)


def later(values: Array) -> Array:
    """Return the mean over the second half of the tasks of `values [seeds, tasks]`."""
    return values[:, values.shape[1] // 2 :].mean(axis=1)


def gap(data: pa.Table, arm: str) -> Array:
    """Return the test accuracy after a warm start minus that of a start on all images, for every seed."""
    fresh = FRESH_NORM if arm == "layer norm" else "fresh"
    warm, cold = (over_tasks(data, label(WARM, name), TEST)[:, -1] for name in (arm, fresh))
    return warm - cold


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.2f} ({name})" for name, value in values.items())


def _lost(lags: Mapping[str, Mapping[str, Array]], arm: str) -> str:
    return " and ".join(stream for stream, found in lags.items() if (found[arm] > 0).all())


def draw(data: pa.Table) -> Figure:
    """Return a panel a stream."""
    figure = Figure(figsize=(style.PAGE, 2.0))
    axes = figure.subplots(1, 4)
    for axis, stream in zip(axes, LONG, strict=False):
        _learning(axis, data, stream)
    _gaps(axes[-1], data)
    axes[0].set_ylabel("accuracy while learning")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _learning(axis: Axes, data: pa.Table, stream: str) -> None:
    for arm, colour in COLOURS.items():
        line = "--" if arm == "fresh" else "-"
        tasks.band(axis, data, label(stream, arm), LEARNING, color=colour, linestyle=line, label=arm)
    axis.set_title(stream)
    axis.set_xlabel("task")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _gaps(axis: Axes, data: pa.Table) -> None:
    for place, arm in enumerate(ARMS[:3]):
        found = gap(data, arm)
        axis.plot(np.full(len(found), place), found, "o", color=COLOURS[arm], markersize=2.5, alpha=0.6)
        axis.plot(place, found.mean(), "_", color=COLOURS[arm], markersize=14, markeredgewidth=1.5)
    axis.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
    axis.set_xticks(range(3), ARMS[:3])
    axis.set_xlim(-0.6, 2.6)
    axis.set_title("warm start: test gap")
