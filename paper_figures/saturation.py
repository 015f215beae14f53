"""Frozen fraction and strength over gain and threshold, for four activations (claim R7, second half)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from theory.saturation import Map, maps

NAME = "saturation"
TITLE = "where reparametrised activations are strong, they are frozen: maps over gain and threshold"

SHOWN = ("relu", "selu", "tanh", "sigmoid")
DELTA, STRONG = 0.1, 10.0
POINTS: Mapping[Profile, int] = {"quick": 61, "full": 161}


@dataclass(frozen=True)
class Data:
    """Maps by activation over gains `a` (columns) and thresholds `t = −b/a` (rows)."""

    a: Array
    t: Array
    maps: Mapping[str, Map]


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the maps; they take seconds and are not recorded."""
    return measure(POINTS[profile])


def measure(points: int) -> Data:
    """Return the maps on a grid of that many gains and thresholds."""
    a, t = np.geomspace(0.03, 100, points), np.linspace(-5, 5, points)
    gain, threshold = np.meshgrid(a, t)
    return Data(a, t, {name: maps(name, gain, -gain * threshold, DELTA) for name in SHOWN})


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Units φ(a z + b) on standard normal z, over the gain a and the threshold −b/a. Left: frozen fraction, "
        f"the probability of a slope below {DELTA}. Right: strength α of the centred unit (black: 0.001 and "
        f"below). Lines: α = {STRONG:.0f}."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    least = {name: least_frozen(found) for name, found in data.maps.items()}
    listed = ", ".join(f"{style.ACTIVATIONS[name]} {value:.3f}" for name, value in least.items())
    relu = data.maps["relu"].strength
    change = float((relu.max(axis=1) / relu.min(axis=1) - 1).max())
    weak = {name: float(found.strength[found.frozen > 0.99].min()) for name, found in data.maps.items()}
    return [
        Check(
            f"Wherever α > {STRONG:.0f}, units are mostly frozen; the least frozen fraction there: {listed}.",
            all(value > 0.8 for value in least.values()),
        ),
        Check(
            "The converse fails: among units that are frozen by more than 99 % some have α below "
            f"{max(weak.values()):.0e}.",
            max(weak.values()) < 0.1,
        ),
        Check(
            f"The strength of ReLU depends on the threshold alone (relative change with a: {change:.0e}).",
            change < 1e-6,
        ),
    ]


def least_frozen(found: Map) -> float:
    """Return the least frozen fraction among units with `α > STRONG`; NaN if there are none."""
    strong = found.strength > STRONG
    return float(found.frozen[strong].min()) if strong.any() else float("nan")


def draw(data: Data) -> Figure:
    """Return a row of two maps for each activation, with colour bars below."""
    figure = Figure(figsize=(style.WIDTH, 5.6))
    axes = figure.subplots(len(data.maps), 2, sharex=True, sharey=True)
    pictures: list[Any] = []
    for row, (name, found) in zip(axes, data.maps.items(), strict=True):
        strength = np.maximum(found.strength, 1e-3)
        pictures = [
            _mesh(row[0], data, found.frozen, "viridis", Normalize(0, 1)),
            _mesh(row[1], data, strength, "magma", LogNorm(1e-3, 1e2)),
        ]
        if (found.strength > STRONG).any():
            for axis in row:
                axis.contour(data.a, data.t, strength, [STRONG], colors=style.BLACK, linewidths=0.8)
        row[0].set_ylabel(f"{style.ACTIVATIONS[name]}\n$-b/a$")
    axes[0, 0].set(title="frozen fraction", xscale="log")
    axes[0, 1].set_title(r"strength $\alpha$")
    for axis, picture, extend in zip(axes[-1], pictures, ("neither", "min"), strict=True):
        axis.set_xlabel("gain $a$")
        figure.colorbar(picture, ax=axis, location="bottom", aspect=30, extend=extend)
    line = drawing.entry(rf"$\alpha = {STRONG:.0f}$", color=style.BLACK, linewidth=0.8)
    figure.legend(handles=[line], loc="outside lower center")
    return figure


def _mesh(axis: Any, data: Data, values: Array, colours: str, norm: Normalize) -> Any:
    return axis.pcolormesh(data.a, data.t, values, cmap=colours, norm=norm, rasterized=True, shading="gouraud")
