"""Check on a clone what Theorem 2.2 says of each module: copied activations, and copied errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_experiments.cloning.layouts import Layout, Profile, project
from torch_experiments.support.precision import in_float32
from torch_experiments.units.hooks import hooked, outputs_of
from torch_experiments.units.inputs import Inputs, call, flatten


class Deviation(NamedTuple):
    """How far the copies at the output of a layer differ, relative to the largest entry: activations and errors.

    >>> Deviation("act1", forward=0.0, backward=1e-16).forward
    0.0
    """

    layer: str
    forward: float
    backward: float


def deviations(model: nn.Module, layout: Layout, inputs: Inputs, loss: Callable[[Any], Tensor]) -> list[Deviation]:
    """Return for every module of a clone whose output has copied axes how exact its copies are.

    ``forward = max |h − QQᵀh| / max |h|`` with the profiles of the output, ``backward`` the same of ``∂L/∂h``,
    where ``L = loss(model(inputs))``. Runs in the model's present mode, with its gradients left as they are.

    Source: JL25 Theorem 2.2.

    >>> from torch_experiments.cloning import clone, layout
    >>> base = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    >>> found = deviations(clone(base), layout(base), torch.eye(2).double(), lambda output: output.sum())
    >>> [d.layer for d in found if max(d.forward, d.backward) < 1e-12]
    ['0', '1']
    """
    values: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    placed = {name: place.profiles for name, place in layout.outputs.items() if name}
    wanted = {name: axes for name, axes in placed.items() if any(p.copied for p in axes)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    watched = outputs_of({name: modules[name] for name in wanted}, _keeping(values, errors))
    with hooked(watched), in_float32():
        torch.autograd.grad(loss(call(model, inputs)), parameters, allow_unused=True)
    return [
        Deviation(name, _spread(values[name], wanted[name]), _spread(errors[name], wanted[name]))
        for name in values
        if name in errors
    ]


def _keeping(values: dict[str, Tensor], errors: dict[str, Tensor]) -> Callable[[str, Any], None]:
    def keep(name: str, output: Any) -> None:
        found = next(flatten(output))
        values[name] = found.detach().clone()
        if found.requires_grad:
            found.register_hook(lambda error: errors.__setitem__(name, error.detach()))

    return keep


def _spread(x: Tensor, profiles: Sequence[Profile]) -> float:
    """Return the largest distance of ``x`` from its projection, relative to its largest entry, 0 for ``x = 0``."""
    return float((x - project(x, profiles)).abs().max() / x.abs().max().clamp_min(torch.finfo(x.dtype).tiny))
