"""Cloned networks under six training regimes (claims C9, E1; JL25 figure 2.1, on scikit-learn's digits)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gmean

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.clones import (
    COLOURS,
    DIRECTIONS,
    ROUNDING,
    band,
    departure,
    end_departure,
    loss_ratio,
)
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array, Curves
from torch_experiments.lab.experiments import e01_cloning

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
NETWORKS = {"clone": "-", "base": "--"}
WIDTHS = {"sgd": 5.0, "momentum": 3.0, "adam": 1.2}  # their scores coincide; the lines lie upon each other
ROWS = ("gap, 1 − score", "loss, clone : base", "effective rank")
FLOOR = 1e-8  # below it a gap is drawn as zero


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 1; finished cells are read from `results`."""
    return e01_cloning.run(CONFIGS[profile], results, progress=True)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    seeds = len(pc.unique(data["seed"]))
    return (
        "A multilayer perceptron trained on 8×8 digits is cloned, every hidden unit twice, and trained on "
        "(JL25 figure 2.1). Left, regimes that keep the copies; right, regimes that do not. Top: one minus the "
        "explained-variance score of cloning, 0 for exact copies, of activations (forward) and of their gradients "
        "(backward, dotted). Middle: loss on training images of the clone over that of its base, trained in the "
        "same way. Bottom: effective rank (Roy and Vetterli) of hidden activations, of the clone and of the base "
        f"(dashed). Means over hidden layers; line: mean of {seeds} seeds (geometric one of ratios), band: their "
        "range."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    kept = float(np.max([departure(data, regime) for regime in TRAPPED]))
    least = {label: end_departure(data, regime) for regime, label in ESCAPING.items()}
    falls = float(np.max([loss_ratio(data, regime) for regime in TRAPPED]))
    clone, base = (_end_rank(data, "noisy-elementwise", network) for network in ("clone", "base"))
    parted = ", ".join(f"{label} {value:.1g}" for label, value in least.items())
    return [
        Check(
            "SGD, momentum and Adam keep the score at 1 in every epoch, layer and seed (largest 1 − score: "
            f"{kept:.1g}).",
            kept <= ROUNDING,
        ),
        Check(
            f"Noise and dropout leave: at the end 1 − score in both directions is at least: {parted}.",
            bool(np.min([*least.values()]) > 1e3 * ROUNDING),
        ),
        Check(
            f"Trapped clones go on learning (not drawn): their losses end at {falls:.2g} of the first value or "
            "less.",
            falls < 1,
        ),
        Check(
            f"With noise per entry the clone's rank ends at {clone:.1f}, above its base's {base:.1f} (means).",
            clone > base,
        ),
    ]


def draw(data: pa.Table) -> Figure:
    """Return three rows (score, loss, rank) of two columns (kept, left)."""
    figure = Figure(figsize=(style.WIDTH, 4.6))
    axes = figure.subplots(3, 2, sharex=True, sharey="row")
    for column, regimes in zip(axes.T, (TRAPPED, ESCAPING), strict=True):
        for regime in regimes:
            _draw_regime(column, data, regime)
    _label(axes)
    _explain(figure)
    return figure


def _end_rank(data: pa.Table, regime: str, network: str) -> float:
    return float(band(data, regime, network, "roy_vetterli_rank").values[:, -1].mean())


def _draw_regime(column: Array, data: pa.Table, regime: str) -> None:
    for metric, line in DIRECTIONS.items():
        epochs, values = band(data, regime, "clone", metric)
        _plot(column[0], Curves(epochs, 1 - values), COLOURS[regime], line, WIDTHS.get(regime, 1.2))
    epochs, ratios = ratio(data, regime)
    drawing.band(column[1], epochs, gmean(ratios), *drawing.bounds(ratios), color=COLOURS[regime], linewidth=1.2)
    for network, line in NETWORKS.items():
        _plot(column[2], band(data, regime, network, "roy_vetterli_rank"), COLOURS[regime], line)


def ratio(data: pa.Table, regime: str) -> Curves:
    """Return the clone's training loss over that of its base, `values [seeds, epochs]`."""
    epochs, clone = band(data, regime, "clone", "train_loss")
    return Curves(epochs, clone / band(data, regime, "base", "train_loss").values)


def _plot(axis: Axes, quantity: Curves, colour: str, line: str, width: float = 1.2) -> None:
    middle, bounds = quantity.values.mean(axis=0), drawing.bounds(quantity.values)
    drawing.band(axis, quantity.x, middle, *bounds, color=colour, linestyle=line, linewidth=width)


def _label(axes: Array) -> None:
    axes[0, 0].set_yscale("symlog", linthresh=FLOOR)
    axes[0, 0].set_ylim(-FLOOR / 3, 1)
    axes[0, 0].set_yticks([0, 1e-6, 1e-4, 1e-2, 1], ["0", *(f"$10^{{{k}}}$" for k in (-6, -4, -2)), "1"])
    axes[1, 0].set_yscale("log")
    axes[1, 0].set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
    axes[1, 0].minorticks_off()
    for axis in axes[1]:
        axis.axhline(1, color=style.GREY, linewidth=0.6, zorder=0)
    for axis, label in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(label)
    for axis, title in zip(axes[0], ("copies stay exact", "copies part"), strict=True):
        axis.set_title(title)
    for axis in axes[2]:
        axis.set_xlabel("epochs after cloning")


def _explain(figure: Figure) -> None:
    """Name below the axes the regimes, each column's in its own, and what dots and dashes mean."""
    regimes = [drawing.entry(label, color=COLOURS[key]) for key, label in {**TRAPPED, **ESCAPING}.items()]
    lines = [drawing.entry("backward score", linestyle=":"), drawing.entry("rank of the base", linestyle="--")]
    figure.legend(handles=[*regimes, *lines], loc="outside lower center", ncols=3, columnspacing=1.4)
