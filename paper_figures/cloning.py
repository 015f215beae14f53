"""Cloned networks under six training regimes (JL25 figure 2.1, on scikit-learn's digits)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.support import captions, style
from paper_figures.support.captions import Statement
from paper_figures.support.results import RESULTS, Profile
from torch_experiments.lab.experiments import e01_cloning

Array = np.ndarray[Any, Any]

NAME = "cloning"
TITLE = "six training regimes after cloning: score of cloning, losses, effective rank"

CONFIGS: Mapping[Profile, e01_cloning.Config] = {
    "quick": dataclasses.replace(e01_cloning.PROFILES["quick"], log_every=5),
    "full": e01_cloning.PROFILES["full"],
}
TRAPPED = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}
ESCAPING = {
    "noisy-elementwise": "noise, per entry",
    "noisy-normwise": "noise, per tensor",
    "dropout": "dropout",
}
COLOURS = dict(
    zip(
        [*TRAPPED, *ESCAPING],
        (style.BLUE, style.GREEN, style.SKY, style.VERMILION, style.ORANGE, style.PURPLE),
        strict=True,
    )
)
WIDTHS = {"sgd": 5.0, "momentum": 3.0, "adam": 1.2}  # their scores coincide; the lines lie upon each other
DIRECTIONS = {"forward_score": "-", "backward_score": "--"}
ROUNDING = 1e-12
ROWS = ("1 − score", "training loss", "effective rank")


class Band(NamedTuple):
    """A quantity over the epochs: one row a seed."""

    epochs: Array
    values: Array


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 1; finished cells are read from `results`."""
    return e01_cloning.run(CONFIGS[profile], results, progress=True)


def caption(data: pa.Table) -> str:
    """Return the caption."""
    seeds = len(pc.unique(data["seed"]))
    introduction = (
        "A multilayer perceptron trained on 8×8 digits is cloned, every hidden unit twice, and trained on "
        "(JL25 figure 2.1). Left, regimes that keep the copies; right, regimes that do not. Top: one minus the "
        "explained-variance score of cloning, 0 for exact copies, of activations (forward, solid) and of their "
        "gradients (backward, dashed). Middle: loss on training images of clone (solid) and base (dashed). "
        "Bottom: effective rank (Roy and Vetterli) of hidden activations, clone solid and base dashed. "
        f"Means over hidden layers; line: mean of {seeds} seeds, band: their range."
    )
    return captions.join(introduction, statements(data))


def statements(data: pa.Table) -> list[Statement]:
    """Return what the caption claims."""
    kept = float(np.max([departure(data, regime) for regime in TRAPPED]))
    least = {label: end_departure(data, regime) for regime, label in ESCAPING.items()}
    falls = float(np.max([loss_ratio(data, regime) for regime in TRAPPED]))
    clone, base = (_end_rank(data, "noisy-elementwise", network) for network in ("clone", "base"))
    parted = ", ".join(f"{label} {value:.1g}" for label, value in least.items())
    return [
        Statement(
            "SGD, momentum and Adam keep the score at 1 in every epoch, layer and seed (largest 1 − score: "
            f"{kept:.1g}).",
            kept <= ROUNDING,
        ),
        Statement(
            f"Noise and dropout leave: at the end 1 − score in both directions is at least: {parted}.",
            bool(np.min([*least.values()]) > 1e3 * ROUNDING),
        ),
        Statement(
            f"Trapped clones go on learning: their losses end at {falls:.2g} of the first value or less.",
            falls < 1,
        ),
        Statement(
            f"With noise per entry the clone's rank ends at {clone:.1f}, above its base's {base:.1f} (means).",
            clone > base,
        ),
    ]


def draw(data: pa.Table) -> Figure:
    """Return three rows (score, loss, rank) of two columns (kept, left)."""
    figure = Figure(figsize=(style.WIDTH, 4.5))
    axes = figure.subplots(3, 2, sharex=True, sharey="row")
    for column, regimes in zip(axes.T, (TRAPPED, ESCAPING), strict=True):
        for regime in regimes:
            _draw_regime(column, data, regime)
    _label(axes)
    _explain_lines(figure)
    _explain_colours(figure)
    return figure


def band(data: pa.Table, regime: str, network: str, metric: str) -> Band:
    """Return a metric of the whole network over the epochs, for every seed."""
    place = {"regime": regime, "network": network, "metric": metric, "layer": e01_cloning.WHOLE}
    rows = where(data, place).sort_by([("seed", "ascending"), ("epoch", "ascending")])
    epochs = np.unique(rows["epoch"].to_numpy())
    return Band(epochs, rows["value"].to_numpy().reshape(-1, len(epochs)))


def departure(data: pa.Table, regime: str) -> float:
    """Return the largest `1 − score` of any layer, direction, epoch and seed."""
    places = [{"regime": regime, "metric": metric} for metric in DIRECTIONS]
    return float(np.max([np.max(1 - where(data, place)["value"].to_numpy()) for place in places]))


def end_departure(data: pa.Table, regime: str) -> float:
    """Return the least `1 − score` of any seed and direction, over the whole network, at the end."""
    return float(np.min([1 - band(data, regime, "clone", metric).values[:, -1] for metric in DIRECTIONS]))


def where(data: pa.Table, place: Mapping[str, Any]) -> pa.Table:
    """Return the rows with these values of columns."""
    for column, value in place.items():
        data = data.filter(pc.equal(data[column], value))
    return data


def loss_ratio(data: pa.Table, regime: str) -> float:
    """Return the clone's training loss at the end against the first, the largest of any seed."""
    losses = band(data, regime, "clone", "train_loss").values
    return float(np.max(losses[:, -1] / losses[:, 0]))


def _end_rank(data: pa.Table, regime: str, network: str) -> float:
    return float(band(data, regime, network, "roy_vetterli_rank").values[:, -1].mean())


def _draw_regime(column: Array, data: pa.Table, regime: str) -> None:
    for metric, line in DIRECTIONS.items():
        epochs, values = band(data, regime, "clone", metric)
        _plot(column[0], Band(epochs, 1 - values), COLOURS[regime], line, WIDTHS.get(regime, 1.2))
    for axis, metric in ((column[1], "train_loss"), (column[2], "roy_vetterli_rank")):
        for network, line in (("clone", "-"), ("base", "--")):
            _plot(axis, band(data, regime, network, metric), COLOURS[regime], line)


def _plot(axis: Axes, quantity: Band, colour: str, line: str, width: float = 1.2) -> None:
    epochs, values = quantity
    axis.plot(epochs, values.mean(axis=0), line, color=colour, linewidth=width)
    axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)


def _label(axes: Array) -> None:
    axes[0, 0].set_yscale("symlog", linthresh=1e-6)
    axes[0, 0].set_ylim(0.3, -2e-7)
    axes[0, 0].set_yticks([0, 1e-6, 1e-4, 1e-2])
    axes[1, 0].set_yscale("log")
    for axis, label in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(label)
    for axis, title in zip(axes[0], ("copies stay exact", "copies part"), strict=True):
        axis.set_title(title)
    for axis in axes[2]:
        axis.set_xlabel("epochs after cloning")


def _explain_colours(figure: Figure) -> None:
    """Name the regimes below the panels, those of the left column on the left."""
    handles = [*_handles(TRAPPED), *_handles(ESCAPING)]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, columnspacing=7.5, borderaxespad=0.2)


def _handles(regimes: Mapping[str, str]) -> list[Line2D]:
    return [Line2D([], [], color=COLOURS[regime], label=label) for regime, label in regimes.items()]


def _explain_lines(figure: Figure) -> None:
    solid, dashed = (Line2D([], [], color=style.GREY, linestyle=line) for line in ("-", "--"))
    figure.legend(
        [solid, dashed],
        ["forward score; clone", "backward score; base"],
        loc="outside upper center",
        ncols=2,
    )
