"""Near-clones: units that say almost the same on a batch, and how far their weights are from a cloned manifold.

Unit ``v`` is near its leader ``u`` when ``d = min_s ‖a_v − s a_u‖ / ‖a_v − ā_v‖ ≤ τ``, over the scales ``s`` that
everything that happens to the units carries: ``s = 1``, signs behind odd activations, ``s > 0`` behind ReLU. Exact
copies have ``d = 0``, independent units ``d ≥ √2`` whatever their means (``1`` with free scales and zero means).
What is seen on a batch says nothing of other inputs; the distance of the weights does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from theory.tolerances import CANCELLED
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.cloning.partition import blocks_of
from torch_experiments.units.axes import Axis
from torch_experiments.units.graph import Graph
from torch_experiments.units.groups import choose
from torch_experiments.units.hidden import HiddenLayer, Survey, observe, survey
from torch_experiments.units.inputs import Inputs
from torch_experiments.units.symmetry import Scales, carried_by

VALUES = 4096  # of samples × positions that a layer is compared on
ROWS = 256  # units that are compared with all others at a time


@dataclass(frozen=True)
class Cluster:
    """Units that are near their first.

    Attributes:
        layer: the one that makes them.
        units: indices, the leader first.
        scales: of the units against the leader.
        activations: the largest ``d`` to the leader on the batch.
        weights: relative distance of the weights into and out of the units to the nearest ones in RE ∩ CE, if all
            clusters were blocks and all other units alone.
    """

    layer: str
    units: tuple[int, ...]
    scales: tuple[float, ...]
    activations: float
    weights: float


def near_clones(
    model: nn.Module, inputs: Inputs, *, threshold: float = 0.1, known: Survey | None = None
) -> tuple[Cluster, ...]:
    """Return the clusters of near-clones of every hidden layer, the nearest first.

    A unit joins the first unit of a cluster to which it is near. Units that are constant on the batch are in none,
    nor are units of residual streams and heads (`units.hidden`). Costs one forward pass, the products of all pairs
    of units of a layer, and where some are near one pass over the weights. A layer is compared on 4,096 values a
    unit at most, evenly spread.

    Args:
        model: any module that can be traced.
        inputs: a batch, as in `trace`.
        threshold: ``τ``, the largest ``d``; 0.1 asks for about 0.995 of correlation.
        known: the survey of ``model``, if there is one.

    Raises:
        TraceError: as `trace`.
        ValueError: for a threshold that is negative, or 1 or more.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> [(cluster.layer, cluster.units) for cluster in near_clones(model, torch.eye(4, 2))]
    [('0', (0, 1, 2))]
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: got {threshold}; it has to be in [0, 1), 0 for exact copies")
    known = known or survey(model, inputs)
    layers, carried = known.layers, carried_by(known.graph)

    def compare(layer: HiddenLayer, values: Tensor) -> Led:
        return led_by(values, carried.get(layer.group.axis, Scales.ANY), threshold)

    found, _ = observe(model, layers, inputs, compare)
    weights = _weight_distances(model, known.graph, {layer: found[layer.name] for layer in layers})
    clusters = [c for layer, spread in weights.items() for c in _clusters(layer, found[layer.name], spread)]
    return tuple(sorted(clusters, key=lambda cluster: cluster.weights))


class Led(NamedTuple):
    """Of every unit the leader, itself if alone, with scale and distance against it."""

    leader: Tensor
    scale: Tensor
    distance: Tensor

    @property
    def leaders(self) -> list[int]:
        """The units that lead another one."""
        found: list[int] = self.leader[self.leader != torch.arange(len(self.leader))].unique().tolist()
        return found


def led_by(values: Tensor, carried: Scales, threshold: float) -> Led:
    """Return the leader of every unit: itself, or the first leader to which it is near.

    Whatever the scale, ``d² ≥ (1 − cos²) ‖a_v‖² / ‖a_v − ā_v‖²``. Cosines in float32, of some units with all others
    at a time, leave few pairs to be compared in float64.

    Args:
        values: activations, ``[samples, C]``.
        carried: which scales are tried.
        threshold: the largest ``d``.

    >>> values = torch.tensor([[1.0, 2.0, 1.0], [3.0, 6.0, 0.0]])
    >>> led = led_by(values, Scales.POSITIVE, 0.1)
    >>> led.leader.tolist(), led.scale.tolist()
    ([0, 0, 2], [1.0, 2.0, 1.0])
    """
    a = _scaled(values)
    square, variance = a.square().sum(dim=0), (a - a.mean(dim=0)).square().sum(dim=0)
    # A constant is a multiple of any other: it says nothing of being a copy, and has no deviation to divide by.
    constant = variance <= CANCELLED * torch.finfo(a.dtype).eps * square
    tiny = torch.finfo(a.dtype).tiny
    units = (a / square.sqrt().clamp_min(tiny)).float()
    rounding = len(a) * torch.finfo(units.dtype).eps
    least = (1 - threshold**2 * variance / square.clamp_min(tiny)).clamp_min(0).sqrt() - rounding
    least[constant] = torch.inf
    every = torch.arange(a.shape[1])
    leader, scale, distance = every.clone(), torch.ones_like(square), torch.zeros_like(square)
    for start in range(0, len(every), ROWS):
        rows = every[start : start + ROWS]
        rows = rows[(leader[rows] == rows) & ~constant[rows]]
        near = ((units[:, rows].T @ units[:, start:]).abs() >= least[start:]) & (every[start:] > rows[:, None])
        rows = rows[near.any(dim=1)]
        s, d = distances(a[:, rows].T @ a[:, start:], square[rows], square[start:], variance[start:], carried)
        for row, u in enumerate(rows.tolist()):
            if int(leader[u]) == u:
                joins = (d[row] <= threshold) & (leader == every)[start:] & (every > u)[start:] & ~constant[start:]
                new = every[start:][joins]
                leader[new], scale[new] = u, s[row, joins]
                # of the values themselves: what the products leave of it is rounding where means are large
                distance[new] = (a[:, new] - scale[new] * a[:, [u]]).norm(dim=0) / variance[new].sqrt()
    return Led(leader, scale, distance)


def distances(
    gram: Tensor, leading: Tensor, square: Tensor, variance: Tensor, carried: Scales
) -> tuple[Tensor, Tensor]:
    """Return the best scales ``s[u, v]`` of unit ``v`` against ``u``, and ``d[u, v]``.

    Args:
        gram: ``Σ a_u a_v``, float64 ``[rows, C]``.
        leading: ``Σ a_u²``, ``[rows]``.
        square, variance: ``Σ a_v²`` and ``Σ (a_v − ā_v)²``, ``[C]``.
        carried: which scales are tried.

    >>> a = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> size, spread = a.square().sum(dim=0), (a - a.mean(dim=0)).square().sum(dim=0)
    >>> s, d = distances(a.T @ a, size, size, spread, Scales.POSITIVE)
    >>> s[0].tolist(), d[0].tolist()
    ([1.0, 2.0], [0.0, 0.0])
    """
    G, tiny = gram, torch.finfo(gram.dtype).tiny
    # min_s ‖a_v − s a_u‖ is at s = a_u·a_v / ‖a_u‖², and ‖a_v‖² − 2 s a_u·a_v + s² ‖a_u‖² its square
    ratio = G / leading[:, None].clamp_min(tiny)
    one = torch.ones_like(G)
    scale = {
        Scales.ONE: one,
        Scales.SIGN: torch.where(G < 0, -one, one),
        Scales.POSITIVE: torch.where(G > 0, ratio, one),
        Scales.ANY: torch.where(G != 0, ratio, one),
    }[carried]
    residual = (square - 2 * scale * G + scale.square() * leading[:, None]).clamp_min(0)
    return scale, (residual / variance.clamp_min(tiny)).sqrt()


def _scaled(values: Tensor) -> Tensor:
    """Return values that a layer is compared on, float64, in units of the largest power of two.

    Distances are relative, and squares of the values themselves overflow or vanish where the values do not.
    """
    step = -(-len(values) // VALUES)
    a = values[::step].double().cpu()
    return torch.ldexp(a, 1 - torch.frexp(a.abs().max()).exponent)


def _clusters(layer: HiddenLayer, led: Led, spread: Tensor) -> list[Cluster]:
    found = []
    for u in led.leaders:
        units = (led.leader == u).nonzero().flatten()
        scales, far = tuple(led.scale[units].tolist()), float(led.distance[units].max())
        found.append(Cluster(layer.name, tuple(units.tolist()), scales, far, float(spread[u])))
    return found


def _weight_distances(
    model: nn.Module, graph: Graph, found: Mapping[HiddenLayer, Led]
) -> dict[HiddenLayer, Tensor]:
    """Return, by layer with near-clones and leader, the relative distance of the weights around to RE ∩ CE."""
    joined = {layer: led for layer, led in found.items() if led.leaders}
    if not joined:
        return {}
    tensors = {name: p.detach() for name, p in model.named_parameters() if name in graph.used}
    colours = {atom: torch.arange(atom.size) for atom in choose(graph, "heads")}
    scales: dict[Axis, Tensor] = {}
    for layer, led in found.items():
        colours[layer.group.axis] = led.leader.unique(return_inverse=True)[1]
        scales[layer.group.axis] = led.scale
    manifold = blocks_of(graph, tensors, colours, scales, 0.0).layout()
    return {layer: _around(layer, tensors, manifold, led.leader) for layer, led in joined.items()}


def _around(layer: HiddenLayer, tensors: Mapping[str, Tensor], manifold: Layout, lead: Tensor) -> Tensor:
    off, whole = (torch.zeros(len(lead), dtype=torch.float64) for _ in range(2))
    for edge in (*layer.group.incoming, *layer.group.own, *layer.group.outgoing):
        if edge.parameter not in tensors:
            continue
        W = tensors[edge.parameter].double()
        for dim, profile in enumerate(manifold.placements[edge.parameter].profiles):
            W = profile.coordinates(W, dim) if dim != edge.dim and profile.copied else W
        normal = W - _own(manifold, edge.parameter, edge.dim).project(W, edge.dim)
        inside = edge.unit >= 0
        for total, x in ((off, normal), (whole, W)):
            each = x.square().movedim(edge.dim, 0).reshape(len(edge.unit), -1).sum(dim=1).cpu()
            total.index_add_(0, lead[edge.unit[inside]], each[inside])
    return (off / whole.clamp_min(torch.finfo(torch.float64).tiny)).sqrt()


def _own(manifold: Layout, parameter: str, dim: int) -> Profile:
    return manifold.placements[parameter].profiles[dim]
