"""Small networks drawn as graphs: units where they are told to stand, edges that pass no unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle

from paper_figures.support import style
from theory.network import Edge, Network, Unit
from theory.partitions import Partition

Array = np.ndarray[Any, Any]
RADIUS = 0.2


@dataclass(frozen=True)
class Layout:
    """Where units stand, and which edges bend.

    Attributes:
        places: The centre of every unit.
        bends: Height of an edge's arc as a share of half its length, positive to the right of its direction;
            edges not named are straight.
    """

    places: Mapping[Unit, tuple[float, float]]
    bends: Mapping[Edge, float] = field(default_factory=dict)


def layered(*columns: str, step: float = 1.0) -> dict[Unit, tuple[float, float]]:
    """Return places for units given column by column, space-separated, from left to right and top to bottom."""
    places: dict[Unit, tuple[float, float]] = {}
    for x, column in enumerate(columns):
        units = column.split()
        places |= {unit: (step * x, 0.6 * ((len(units) - 1) / 2 - k)) for k, unit in enumerate(units)}
    return places


def draw(axis: Axes, network: Network, partition: Partition, layout: Layout) -> None:
    """Draw the network: one colour a block of two units or more, dashed edges where the weight is negative."""
    shapes = {unit: _shape(network, unit, layout) for unit in network.units}
    colours = block_colours(partition)
    for edge, weight in zip(network.edges, network.weights, strict=True):
        axis.add_patch(_arrow(edge, float(weight), layout, shapes))
    for i, unit in enumerate(network.units):
        shapes[unit].set(
            facecolor=colours[int(partition.labels[i])], edgecolor=style.BLACK, linewidth=0.6, zorder=3
        )
        axis.add_patch(shapes[unit])
        axis.text(*layout.places[unit], f"${unit}$", ha="center", va="center_baseline", fontsize=6.5, zorder=4)
    axis.set_aspect("equal")
    axis.axis("off")
    axis.autoscale_view()


def block_colours(partition: Partition) -> dict[int, str]:
    """Return a colour for every block: white for single units."""
    shared = [b for b, size in enumerate(partition.sizes) if size > 1]
    palette = (style.SKY, style.ORANGE, style.GREEN, style.PURPLE)
    return dict.fromkeys(range(len(partition)), "white") | dict(zip(shared, palette, strict=False))


def clearance(network: Network, layout: Layout) -> float:
    """Return the least distance between an edge and the centre of a unit that is not its end, in radii."""
    least = np.inf
    for source, target in network.edges:
        path = curve((source, target), layout)
        for unit, place in layout.places.items():
            if unit not in (source, target):
                least = min(least, float(np.linalg.norm(path - place, axis=1).min()))
    return least / RADIUS


def curve(edge: Edge, layout: Layout, samples: int = 101) -> Array:
    """Return points along an edge: the quadratic Bézier curve of matplotlib's `arc3`; shape (samples, 2)."""
    start, end = (np.array(layout.places[unit]) for unit in edge)
    (dx, dy), t = end - start, np.linspace(0, 1, samples)[:, None]
    control = (start + end) / 2 + layout.bends.get(edge, 0.0) * np.array([dy, -dx])
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def _shape(network: Network, unit: Unit, layout: Layout) -> Patch:
    """Return a square for an input or output, a circle for a hidden unit."""
    x, y = layout.places[unit]
    if network.index[unit] in {*network.inputs, *network.outputs}:
        return Rectangle((x - 0.85 * RADIUS, y - 0.85 * RADIUS), 1.7 * RADIUS, 1.7 * RADIUS)
    return Circle((x, y), RADIUS)


def _arrow(edge: Edge, weight: float, layout: Layout, shapes: Mapping[Unit, Patch]) -> FancyArrowPatch:
    source, target = edge
    return FancyArrowPatch(
        layout.places[source],
        layout.places[target],
        connectionstyle=f"arc3,rad={layout.bends.get(edge, 0.0)}",
        patchA=shapes[source],
        patchB=shapes[target],
        shrinkA=0,
        shrinkB=0,
        arrowstyle="-|>,head_length=2.2,head_width=1.1",
        mutation_scale=1,
        linewidth=0.35 + 0.35 * abs(weight),
        linestyle="-" if weight > 0 else (0, (3, 1.5)),
        color=style.GREY,
        zorder=2,
    )
