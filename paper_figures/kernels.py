"""The dual kernels of a dozen activations, from float64 and from balls that provably contain them (claim K1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from theory.activations import Activation, get, modulate
from theory.enclosures import dual_kernel_enclosure
from theory.kernels import dual_kernel

NAME = "kernels"
TITLE = "dual kernels of twelve activations with enclosures"

RAMPS: Mapping[str, Activation] = {
    "ReLU²": get("relu2"),
    "ReLU": get("relu"),
    "GELU": get("gelu"),
    "SiLU": get("silu"),
    "softplus": get("softplus"),
    "ELU": get("elu"),
}
SYMMETRIC: Mapping[str, Activation] = {
    "tanh": get("tanh"),
    "sin": get("sin"),
    "sign": get("sign"),
    "sin 3z": modulate("sin", 3),
    "|z|": get("abs"),
    "cos 3z": modulate("cos", 3),
}
BALLS: Mapping[Profile, int] = {"quick": 9, "full": 41}
REACH = 1e-12  # largest radius, and largest distance of float64 from its ball


@dataclass(frozen=True)
class Curve:
    """One standardised kernel.

    Attributes:
        name: The activation, a key of `RAMPS` or `SYMMETRIC`.
        K: At `Data.rho`, float64 of shape (correlations,).
        centres: Midpoints of balls at `Data.places`, shape (balls,).
        radii: Their radii, rounded up.
        gaps: Upper bounds of the distance from float64 to any point of the ball.
    """

    name: str
    K: Array
    centres: Array
    radii: Array
    gaps: Array


@dataclass(frozen=True)
class Data:
    """Kernels on a grid of correlations, with balls at fewer places."""

    rho: Array
    places: Array
    curves: tuple[Curve, ...]


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return kernels and balls; they take seconds and are not recorded."""
    return measure(BALLS[profile])


def measure(balls: int) -> Data:
    """Return kernels on 401 correlations, with that many balls each, evenly spread over [−1, 1]."""
    rho, places = np.linspace(-1, 1, 401), np.linspace(-1, 1, balls)
    activations = {**RAMPS, **SYMMETRIC}
    return Data(rho, places, tuple(_curve(name, phi, rho, places) for name, phi in activations.items()))


def _curve(name: str, phi: Activation, rho: Array, places: Array) -> Curve:
    found = dual_kernel(phi, places)
    balls = [dual_kernel_enclosure(phi, float(place)) for place in places]
    gaps = [float(abs(ball - float(x)).upper()) for ball, x in zip(balls, found, strict=True)]
    centres, radii = (np.array([float(part) for part in parts]) for parts in _parts(balls))
    return Curve(name, dual_kernel(phi, rho), centres, radii, np.array(gaps))


def _parts(balls: list[Any]) -> tuple[list[Any], list[Any]]:
    return [ball.mid() for ball in balls], [ball.rad() for ball in balls]


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Dual kernels: the correlation of two activations, each centred and scaled, as a function of that of two "
        "standard Gaussian pre-activations. Left: ramps. Right: odd activations (solid) and even ones "
        f"(dashed). Dots: centres of {len(data.places)} balls a curve that provably contain the kernel and are far "
        "smaller than the dots."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    radius, gap = (max(float(getattr(curve, part).max()) for curve in data.curves) for part in ("radii", "gaps"))
    inside = data.rho >= 0
    rounding = 1e-13
    slopes = [np.diff(curve.K[inside]) for curve in data.curves]
    return [
        Check(
            f"The largest radius is {radius:.0e}, and no float64 value is farther than {gap:.0e} from any point of "
            "its ball.",
            bool(radius <= REACH and gap <= REACH and len(data.curves) == 12),
        ),
        Check(
            "Every kernel is 0 at 0 and 1 at 1 and stays between the grey diagonals, |K(ρ)| ≤ |ρ|.",
            all(
                bool(curve.K[-1] == 1 and curve.K[len(data.rho) // 2] == 0)
                and bool((np.abs(curve.K) <= np.abs(data.rho) + rounding).all())
                for curve in data.curves
            ),
        ),
        Check(
            "On [0, 1] each increases and is convex.",
            all(bool((s >= -rounding).all() and (np.diff(s) >= -rounding).all()) for s in slopes),
        ),
    ]


def draw(data: Data) -> Figure:
    """Return two panels: ramps, and symmetric activations."""
    figure = Figure(figsize=(style.WIDTH, 2.7))
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, data, RAMPS, "ramps")
    _panel(right, data, SYMMETRIC, "odd and even")
    left.set_ylabel(r"$K_\phi(\rho)$")
    balls = drawing.entry("centres of the balls", marker=".", markersize=2.2, linestyle="")
    diagonals = drawing.entry(r"$\pm\rho$", color=style.PALE, linewidth=0.8)
    figure.legend(handles=[balls, diagonals], loc="outside lower center", ncols=2)
    return figure


def _panel(axis: Axes, data: Data, activations: Mapping[str, Activation], title: str) -> None:
    axis.plot([-1, 1], [-1, 1], [-1, 1], [1, -1], color=style.PALE, linewidth=0.8, zorder=0)
    shown = [curve for curve in data.curves if curve.name in activations]
    for curve, color in zip(shown, style.PALETTE, strict=False):
        line = "--" if activations[curve.name].symmetry == "even" else "-"
        axis.plot(data.rho, curve.K, color=color, linestyle=line, linewidth=0.9, label=curve.name)
        axis.plot(data.places, curve.centres, color=color, marker=".", markersize=2.2, linestyle="none")
    axis.set(title=title, xlabel=r"correlation $\rho$", xticks=[-1, 0, 1], yticks=[-1, 0, 1], box_aspect=1)
    axis.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.3), ncols=2, columnspacing=1, borderaxespad=0)
