"""The flow near a cloned manifold, in a plane through its stable and its unstable direction (claims C3, C10)."""

from __future__ import annotations

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
from simulate.flow import gradient_flow
from simulate.stability import Stability, classify
from theory.manifolds import Manifold, cloned_manifold
from theory.network import Network, SquaredError, gradient
from theory.partitions import coarsest_equitable_partition

NAME = "portrait"
TITLE = "the flow at a cloned manifold: trapped on it, a saddle across it"
SPAN, GRID, TIME = 0.6, 21, 6.0
STARTS = ((0.0, 0.0), (0.03, 0.2), (-0.03, 0.2), (0.03, -0.2), (-0.03, -0.2))  # growing, shrinking


@dataclass(frozen=True)
class Data:
    """Flow of a tanh network with one pair of clones.

    Attributes:
        type: The manifold's type at the start.
        u, v: Velocity along the growing and the shrinking normal direction on a grid, shape (GRID, GRID).
        paths: For each start the coordinates along both directions, shape (points, 2).
        distances: For each start the distance from the manifold, shape (points,).
        times: Of the points.
    """

    type: Stability
    u: Array
    v: Array
    paths: tuple[Array, ...]
    distances: tuple[Array, ...]
    times: Array


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the flow; it takes a second and is not recorded."""
    network, manifold, x, goal = example()
    found = classify(network, manifold, x, goal)
    growing, shrinking = found.descent, found.ascent
    axis, times = np.linspace(-SPAN, SPAN, GRID), np.linspace(0, TIME, 121)
    field = np.array([[_velocity(network, x, goal, a * growing + b * shrinking) for a in axis] for b in axis])
    flows = [_start(network, x, goal, a * growing + b * shrinking) for a, b in STARTS]
    parameters = [np.array([flow.parameters(t) for t in times]) for flow in flows]
    offsets = [np.array([manifold.offset(theta) for theta in path]) for path in parameters]
    return Data(
        type=found,
        u=field @ growing,
        v=field @ shrinking,
        paths=tuple(np.stack([offset @ growing, offset @ shrinking], axis=1) for offset in offsets),
        distances=tuple(np.linalg.norm(offset, axis=1) for offset in offsets),
        times=times,
    )


def example() -> tuple[Network, Manifold, Array, SquaredError]:
    """Return a tanh network with one pair of clones, its manifold and data that one unit cannot fit."""
    W, a = np.array([[1.0, 0.3], [1.0, 0.3]]), np.array([[0.5, 0.5]])
    network = Network.layered([W, a], "tanh")
    x = np.random.default_rng(0).standard_normal((2, 40))
    goal = SquaredError((np.tanh(2 * x[:1] + x[1:]) - np.tanh(x[:1] - 2 * x[1:])) / np.sqrt(40))
    manifold = cloned_manifold(network, coarsest_equitable_partition(network))
    return network, manifold, x / np.sqrt(4), goal


def _velocity(network: Network, x: Array, goal: SquaredError, offset: Array) -> Array:
    return -gradient(network.with_parameters(network.parameters + offset), x, goal.gradient) / x.shape[1]


def _start(network: Network, x: Array, goal: SquaredError, offset: Array) -> Any:
    return gradient_flow(network.with_parameters(network.parameters + offset), x, goal, TIME)


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Gradient flow of a tanh network with a pair of clones. (a) Arrows: the flow in the plane through a point "
        "of the cloned manifold (centre) along its fastest growing and fastest shrinking normal direction; lines: "
        "trajectories from the dots, projected to that plane. (b) Their distance from the manifold, which is the "
        "same for starts of opposite sign: broad lines show below dashed ones."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    trapped, *others = (path[:, 0] for path in data.paths)
    ends = [float(abs(path[-1])) for path in others]
    return [
        Check(
            f"The manifold is a {data.type.kind} there: the Hessian across it has eigenvalues from "
            f"{data.type.lowest:.2f} to {data.type.highest:.2f}.",
            data.type.kind == "saddle" and data.type.certified,
        ),
        Check(
            f"Started on the manifold the flow stays on it (largest distance {data.distances[0].max():.1g}).",
            data.distances[0].max() < 1e-9 and len(trapped) > 1,
        ),
        Check(
            f"Started beside it, it first comes closer, from {data.distances[1][0]:.2f} to "
            f"{min(float(d.min()) for d in data.distances[1:]):.2f} at least, and then leaves along the "
            "growing one.",
            all(d.min() < 0.8 * d[0] and d[-1] > d[0] for d in data.distances[1:]) and min(ends) > 0.1,
        ),
    ]


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 3.1))
    left, right = figure.subplots(1, 2)
    _plane(left, data)
    _distances(right, data)
    start = drawing.entry("start", marker="o", markersize=3, linestyle="")
    figure.legend(handles=[start, drawing.entry("flow", linewidth=0.4)], loc="outside lower left", ncols=2)
    return figure


def _plane(axis: Axes, data: Data) -> None:
    grid = np.linspace(-SPAN, SPAN, GRID)
    axis.streamplot(grid, grid, data.u, data.v, color=style.GREY, linewidth=0.4, arrowsize=0.5, density=1.1)
    for path, colour in zip(data.paths, style.PALETTE, strict=False):
        axis.plot(*path.T, color=colour, linewidth=1.2)
        axis.plot(*path[0], "o", color=colour, markersize=3)
    axis.set(
        xlim=(-SPAN, SPAN),
        ylim=(-SPAN, SPAN),
        xlabel="growing direction",
        ylabel="shrinking direction",
        title="(a) across the manifold",
        aspect="equal",
    )


def _distances(axis: Axes, data: Data) -> None:
    drawn: list[Array] = []
    for distance, start, colour in zip(data.distances, STARTS, style.PALETTE, strict=False):
        label = f"{start[0]:+g}, {start[1]:+g}".replace("-", "−") if any(start) else "0, on the manifold"
        above = any(np.allclose(distance, other, atol=1e-3) for other in drawn)
        look = {"linewidth": 1.2, "linestyle": "--"} if above else {"linewidth": 3.0}
        axis.plot(data.times, distance, color=colour, label=label, **look)
        drawn.append(distance)
    axis.set(xlabel="time", ylabel="distance from the manifold", title="(b) trapped or parted")
    axis.legend(
        title="coordinates at the start",
        loc="center right",
        bbox_to_anchor=(1.0, 0.42),
        title_fontsize=style.SMALLEST,
    )
