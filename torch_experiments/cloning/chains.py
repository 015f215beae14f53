"""Chains of Linear layers: every axis has a `Profile` of its own, any number of copies a unit, with scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from torch_experiments.cloning.layouts import Layout, Placement, Profile, Residual, identity, profile, residuals_of
from torch_experiments.cloning.widen import filled, set_known, tied_as_objects
from torch_experiments.support.duplicates import duplicate
from torch_experiments.units.axes import Axis, Order, find
from torch_experiments.units.graph import Graph, TraceError, Value
from torch_experiments.units.trace import trace

Model = TypeVar("Model", bound=nn.Module)


def profiles(
    model: nn.Module,
    factor: int = 2,
    *,
    scales: str = "one",
    order: Order = "interleaved",
    generator: torch.Generator | None = None,
) -> list[Profile]:
    """Return the profile of every feature axis of a chain: inputs, hidden layers, outputs.

    Inputs and outputs are blocks of their own; every hidden unit is cloned ``factor`` times, with scales and in the
    order as in `profile`.

    >>> [len(p.block) for p in profiles(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))]
    [2, 6, 1]
    """
    layers = [layer for _, layer in linears(model)]
    hidden = [
        profile(layer.out_features, factor, scales=scales, order=order, generator=generator)
        for layer in layers[:-1]
    ]
    return [profile(layers[0].in_features), *hidden, profile(layers[-1].out_features)]


def expand(
    model: Model,
    profiles: Sequence[Profile],
    *,
    spread: float = 0.0,
    generator: torch.Generator | None = None,
) -> Model:
    """Return a chain of Linear layers with its units copied and scaled as ``profiles`` say.

    Between blocks ``j → i`` the weights are ``w_ij s_i s_jᵀ / ‖s_j‖² + P``. The random ``P`` has ``P s_j = 0`` and
    ``s_iᵀ P = 0``; it is projected Gaussian noise of ``spread`` times the rms of the first term. Biases are
    ``s_v b_i``.
    The function is that of ``model`` when every module between two Linear layers is equivariant under the
    scales: any activation for 1, odd ones for ±1, positively homogeneous ones for ``s > 0``; BatchNorm for all
    of them (up to its ``eps``), LayerNorm for 1 only. It is not compared with the base's.

    Raises:
        TypeError: for a model that is no chain.
        ValueError: when the number of profiles is not that of the Linear layers plus one.
        TraceError: for an operation without a rule, or two parameters on one storage.

    >>> base, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double(), torch.eye(2).double()
    >>> wide = expand(base, profiles(base, 2, scales="positive"), spread=1.0)
    >>> torch.allclose(wide(x), base(x))
    True
    """
    tied_as_objects(model)
    graph, own = _axes(model, profiles)
    wide = duplicate(model)
    set_known(wide, graph, lambda axis: len(own[find(axis)].block) if find(axis) in own else axis.size)
    return filled(model, wide, _layout(graph, own), spread, (True, True), generator)


def chain_layout(model: nn.Module, profiles: Sequence[Profile]) -> Layout:
    """Return where the copies lie in ``expand(model, profiles)``, norms with them.

    Raises:
        As `expand`.

    >>> base = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> sorted(chain_layout(base, profiles(base)).placements)
    ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    return _layout(*_axes(model, profiles))


def weights_layout(model: nn.Module, profiles: Sequence[Profile]) -> Layout:
    """Return where the copies lie in the weights and biases of a chain, norms left out; nothing is traced."""
    placements: dict[str, Placement] = {}
    for (name, layer), source, target in zip(linears(model), profiles[:-1], profiles[1:], strict=True):
        placements[f"{name}.weight"] = Placement((target, source), frozenset({(0, 1)}))
        if layer.bias is not None:
            placements[f"{name}.bias"] = Placement((target,))
    return Layout(1, placements)


def cloned_residual(
    model: nn.Module, factor: int, start: Mapping[str, Tensor] | None = None, *, order: Order = "interleaved"
) -> list[Residual]:
    """Return `residuals` of a chain that `clone` made with ``factor`` and ``order`` (all scales one).

    Raises:
        ValueError: when the width of a hidden layer is no multiple of ``factor``.

    >>> model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1))
    >>> all(r.coset > 0.01 for r in cloned_residual(model, 2))  # fresh weights are no clones
    True
    """
    layers = [layer for _, layer in linears(model)]
    for layer in layers[:-1]:
        if layer.out_features % factor:
            raise ValueError(f"factor: got {factor}, which does not divide a width of {layer.out_features}")
    hidden = [profile(layer.out_features // factor, factor, order=order) for layer in layers[:-1]]
    axes = [profile(layers[0].in_features), *hidden, profile(layers[-1].out_features)]
    return residuals_of(model, weights_layout(model, axes), start)


def linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Return the named Linear layers of a chain of modules, in order; a TypeError for anything else."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model: got {type(model).__name__}; a chain is an nn.Sequential with Linear layers")
    found = [(name, layer) for name, layer in model.named_children() if isinstance(layer, nn.Linear)]
    if not found:
        raise TypeError("model: got a chain without nn.Linear; there is no weight to clone")
    return found


def chain_inputs(model: nn.Module) -> Tensor:
    """Return two Gaussian inputs for an ``nn.Sequential`` whose first layer with parameters is Linear.

    Raises:
        TraceError: for any other model, which needs example inputs.
    """
    layers = (m for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    first = next(layers, None)
    if not isinstance(model, nn.Sequential) or not isinstance(first, nn.Linear):
        raise TraceError(
            f"example_inputs: is missing; pass a batch that {type(model).__name__} can be called with (only the "
            "shape of a chain that starts with nn.Linear can be guessed)"
        )
    x = torch.randn(2, first.in_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.to(first.weight)


def _axes(model: nn.Module, profiles: Sequence[Profile]) -> tuple[Graph, dict[Axis, Profile]]:
    layers = linears(model)
    if len(profiles) != len(layers) + 1:
        raise ValueError(f"profiles: got {len(profiles)}; the model needs {len(layers) + 1}, see `profiles(model)`")
    graph = trace(model, chain_inputs(model))
    weights = [graph.parameters[f"{name}.weight"] for name, _ in layers]
    return graph, {find(weight.axes[0]): profile for weight, profile in zip(weights, profiles[1:], strict=True)}


def _layout(graph: Graph, own: Mapping[Axis, Profile]) -> Layout:
    """Return a layout with profiles of single axes, where every input divides by the square norm of its block."""
    placements: dict[str, Placement] = {}
    for name in sorted(graph.used, key=list(graph.parameters).index):
        value, uses = graph.parameters[name], graph.matrices.get(name, set())
        places = _profiles_of(value, own)
        inputs = frozenset(in_dim for _, in_dim in uses)
        placements[name] = Placement(places, frozenset(uses), graph.powers.get(name, ""), uneven=inputs)
    outputs = {name: Placement(_profiles_of(value, own)) for name, value in graph.outputs.items()}
    return Layout(1, placements, outputs, graph.dropped)


def _profiles_of(value: Value, own: Mapping[Axis, Profile]) -> tuple[Profile, ...]:
    return tuple(own.get(find(axis)) or identity(axis.size) for axis in value.axes)
