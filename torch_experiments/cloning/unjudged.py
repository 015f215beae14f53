"""Where the search for copies does not look, and numbers that its sums cannot take."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torch_experiments.units.axes import Axis, atoms
from torch_experiments.units.graph import Graph
from torch_experiments.units.groups import choose, groups
from torch_experiments.units.inputs import finite

LARGE = 1e100  # the square of one beyond 1e154 overflows in float64, and sums that are infinite all look equal


def not_finite(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[Axis, str]:
    """Return the atoms along which a parameter or buffer holds NaN or infinity, with the reason in words.

    >>> import torch
    >>> from torch_experiments.units import trace
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> not_finite(trace(model, torch.ones(2, 2)), dict(model.named_parameters()))
    {}
    """
    said = "not looked for: {} holds NaN or infinity, so sums of it tell nothing"
    return _along(graph, {name: said.format(name) for name, tensor in tensors.items() if not finite(tensor)})


def not_real(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[Axis, str]:
    """Return the atoms of complex parameters and buffers, with the reason in words.

    >>> import torch
    >>> from torch_experiments.units import trace
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> not_real(trace(model, torch.ones(2, 2)), dict(model.named_parameters()))
    {}
    """
    said = "not looked for: {} is {}; store its real and imaginary part as two parameters"
    complex_ = {name: tensor.dtype for name, tensor in tensors.items() if tensor.is_complex()}
    return _along(graph, {name: said.format(name, dtype) for name, dtype in complex_.items()})


def _along(graph: Graph, reasons: Mapping[str, str]) -> dict[Axis, str]:
    """Return the reasons of parameters and buffers by the atoms along which they lie."""
    axes = ((axis, why) for name, why in reasons.items() for axis in graph.parameters[name].axes)
    return {atom: why for axis, why in axes for atom in atoms(axis)}


def moderate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights divided by one power of two, where squares of them would overflow; zero for infinite ones.

    >>> import torch
    >>> float(moderate({"w": torch.tensor([3e200], dtype=torch.float64)})["w"]) < 1
    True
    """
    tame = {n: t if finite(t) else t.nan_to_num(0.0, 0.0, 0.0) for n, t in tensors.items()}
    wide = [t for t in tame.values() if t.numel() and t.dtype == torch.float64]  # no other dtype goes beyond 3e38
    most = max((float(tensor.abs().max()) for tensor in wide), default=0.0)
    if most < LARGE:
        return tame
    shrink = 2.0 ** -math.frexp(most)[1]
    return {name: tensor.double() * shrink for name, tensor in tame.items()}


def within(model: nn.Module, graph: Graph) -> dict[str, str]:
    """Return the groups of units within which copies are not looked for, by name, with the reason.

    >>> import torch
    >>> from torch_experiments.units import trace
    >>> model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 1, 1))
    >>> list(within(model, trace(model, torch.ones(2, 2, 3, 3))))
    ['0', '1']
    """
    left = [atom for atom in set(graph.free()) - choose(graph, "heads") if atom.size > 1]
    said = {
        group.name: f"not looked for within a head or group (of {group.size} units each), as whole ones are copied"
        for group in groups(graph, left)
    }
    for name, layer in model.named_modules():
        if isinstance(layer, nn.RNNBase) and layer.num_layers * (1 + layer.bidirectional) > 1:
            own = name or type(layer).__name__
            said[own] = "not looked for in one of its stacked layers or directions, but in all of them together"
    return said
