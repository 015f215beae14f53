"""Near-clones: units that say almost the same on a batch, and how far their weights are from a cloned manifold.

Unit ``v`` is near its leader ``u`` when ``d = min_s ‖a_v − s a_u‖ / ‖a_v − ā_v‖ ≤ τ``, over the scales ``s`` that
everything that happens to the units carries: ``s = 1``, signs behind odd activations, ``s > 0`` behind ReLU. Exact
copies have ``d = 0``, independent units ``d ≥ √2`` whatever their means (``1`` with free scales and zero means).
What is seen on a batch says nothing of other inputs; the distance of the weights does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    nor are units of residual streams and heads (`units.hidden`). Costs one forward pass, ``C²`` numbers a layer of
    ``C`` units, and one pass over the weights. A layer is compared on 4,096 values a unit at most, evenly spread.

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
    products, _ = observe(model, layers, inputs, _products)
    found = {}
    for layer in layers:
        gram, centred = products[layer.name]
        s, d = distances(gram, centred, carried.get(layer.group.axis, Scales.ANY))
        found[layer.name] = (led_by(d, threshold), s, d)
    weights = _weight_distances(
        model, known.graph, layers, {name: (lead, s) for name, (lead, s, _) in found.items()}
    )
    clusters = [c for layer in layers for c in _clusters(layer, *found[layer.name], weights[layer.name])]
    return tuple(sorted(clusters, key=lambda cluster: cluster.weights))


def distances(gram: Tensor, centred: Tensor, carried: Scales) -> tuple[Tensor, Tensor]:
    """Return the best scales ``s[u, v]`` of unit ``v`` against ``u``, and ``d[u, v]``; inf for constant units.

    Args:
        gram: ``Σ a_u a_v``, float64 ``[C, C]``.
        centred: the same of ``a − ā``.
        carried: which scales are tried.

    >>> a = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> b = a - a.mean(dim=0)
    >>> s, d = distances(a.T @ a, b.T @ b, Scales.POSITIVE)
    >>> s[0].tolist(), d[0].tolist()
    ([1.0, 2.0], [0.0, 0.0])
    """
    G = gram
    # min_s ‖a_v − s a_u‖ is at s = a_u·a_v / ‖a_u‖², and ‖a_v‖² − 2 s a_u·a_v + s² ‖a_u‖² its square
    square, variance = G.diagonal(), centred.diagonal()
    ratio = G / square[:, None].clamp_min(torch.finfo(G.dtype).tiny)
    one = torch.ones_like(G)
    scale = {
        Scales.ONE: one,
        Scales.SIGN: torch.where(G < 0, -one, one),
        Scales.POSITIVE: torch.where(G > 0, ratio, one),
        Scales.ANY: torch.where(G != 0, ratio, one),
    }[carried]
    residual = (square - 2 * scale * G + scale.square() * square[:, None]).clamp_min(0)
    # A constant is a multiple of any other: it says nothing of being a copy, and has no deviation to divide by.
    constant = variance <= CANCELLED * torch.finfo(G.dtype).eps * square
    d = (residual / variance.clamp_min(torch.finfo(G.dtype).tiny)).sqrt()
    return scale, d.masked_fill(constant[:, None] | constant, torch.inf)


def led_by(d: Tensor, threshold: float) -> Tensor:
    """Return the leader of every unit: itself, or the first leader within the threshold.

    >>> led_by(torch.tensor([[0.0, 0.1, 0.2], [0.1, 0.0, 0.1], [0.2, 0.1, 0.0]]), 0.15).tolist()
    [0, 0, 2]
    """
    near = d <= threshold
    leader = torch.arange(len(d))
    for u in range(len(d)):
        if int(leader[u]) == u:
            alone = leader[u + 1 :] == torch.arange(u + 1, len(d))
            leader[u + 1 :][near[u, u + 1 :] & alone] = u
    return leader


def _products(values: Tensor) -> Tensor:
    """Return ``Σ a_u a_v``, raw and centred, float64 ``[2, C, C]``, of values in units of the largest power of two.

    Distances are relative, and squares of the values themselves overflow or vanish where the values do not.
    """
    step = -(-len(values) // VALUES)
    a = values[::step].double().cpu()
    a = torch.ldexp(a, 1 - torch.frexp(a.abs().max()).exponent)
    b = a - a.mean(dim=0)
    return torch.stack([a.T @ a, b.T @ b])


def _clusters(layer: HiddenLayer, leader: Tensor, s: Tensor, d: Tensor, spread: Tensor) -> list[Cluster]:
    found = []
    for u in leader[leader != torch.arange(len(leader))].unique().tolist():
        units = (leader == u).nonzero().flatten()
        members = tuple(units.tolist())
        scales = (1.0, *s[u, units[1:]].tolist())
        found.append(Cluster(layer.name, members, scales, float(d[u, units[1:]].max()), float(spread[u])))
    return found


def _weight_distances(
    model: nn.Module, graph: Graph, layers: tuple[HiddenLayer, ...], found: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Return, by layer and leader, the relative distance of the weights around the cluster to RE ∩ CE."""
    tensors = {name: p.detach() for name, p in model.named_parameters() if name in graph.used}
    colours = {atom: torch.arange(atom.size) for atom in choose(graph, "heads")}
    scales: dict[Axis, Tensor] = {}
    for layer in layers:
        lead, s = found[layer.name]
        colours[layer.group.axis] = lead.unique(return_inverse=True)[1]
        scales[layer.group.axis] = torch.where(
            lead == torch.arange(len(lead)), 1.0, s[lead, torch.arange(len(lead))]
        )
    manifold = blocks_of(graph, tensors, colours, scales, 0.0).layout()
    return {layer.name: _around(layer, tensors, manifold, found[layer.name][0]) for layer in layers}


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
