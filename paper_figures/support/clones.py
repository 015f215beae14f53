"""Measurements of experiment 1: clones beside their bases under training regimes, and how the figures show them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from paper_figures.support import style
from paper_figures.support.tables import Curves, curves, where
from torch_experiments.lab.experiments.e01_cloning import WHOLE

COLOURS: Mapping[str, str] = {
    "sgd": style.BLUE,
    "momentum": style.GREEN,
    "adam": style.SKY,
    "noisy-elementwise": style.VERMILION,
    "noisy-normwise": style.ORANGE,
    "dropout": style.PURPLE,
}
DIRECTIONS: Mapping[str, str] = {"forward_score": "-", "backward_score": ":"}
ROUNDING = 1e-12  # `1 − score` of exact copies in float64, whose sums are not taken in the same order


def band(data: pa.Table, regime: str, network: str, metric: str) -> Curves:
    """Return a metric of the whole network over the epochs, `values [seeds, epochs]`."""
    return curves(data, {"regime": regime, "network": network, "metric": metric, "layer": WHOLE})


def departure(data: pa.Table, regime: str) -> float:
    """Return the largest `1 − score` of any layer, direction, epoch and seed."""
    places = [{"regime": regime, "metric": metric} for metric in DIRECTIONS]
    return float(np.max([np.max(1 - where(data, place)["value"].to_numpy()) for place in places]))


def end_departure(data: pa.Table, regime: str) -> float:
    """Return the least `1 − score` of any seed and direction, over the whole network, at the end."""
    return float(np.min([1 - band(data, regime, "clone", metric).values[:, -1] for metric in DIRECTIONS]))


def loss_ratio(data: pa.Table, regime: str) -> float:
    """Return the clone's training loss at the end against the first, the largest of any seed."""
    losses = band(data, regime, "clone", "train_loss").values
    return float(np.max(losses[:, -1] / losses[:, 0]))
