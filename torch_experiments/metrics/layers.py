"""The layers of a network whose outputs are measured, and their scores.

All scores are measured in eval mode and computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments.cloning.layouts import Profile
from torch_experiments.metrics.copies import CloningScore, cloning_score
from torch_experiments.metrics.moments import Moments, moments, rows
from torch_experiments.support.precision import in_float32
from torch_experiments.units.hooks import hooked, outputs_of
from torch_experiments.units.inputs import evaluating

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "celu": nn.CELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}


class CReLU(nn.Module):
    """Both halves of every unit, side by side: ``(max(x, 0), max(−x, 0))``; what reads it reads twice the width.

    Where a unit is silent in one half it speaks in the other, unless its input is zero.

    Args:
        dim: of the units.

    Source: Shang et al. (2016), arXiv 1603.05201; Abbas et al. (2023), arXiv 2303.07507.

    >>> CReLU()(torch.tensor([[2.0, -3.0]]))
    tensor([[2., 0., 0., 3.]])
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with ``dim`` twice as long."""
        return torch.cat([torch.relu(x), torch.relu(-x)], dim=self.dim)


def forward_scores(model: nn.Module, x: Tensor, profiles: Sequence[Profile]) -> list[CloningScore]:
    """Return the `cloning_score` of the outputs of every `observed` module, in eval mode.

    ``profiles`` are those of their units, in order; of a chain ``profiles(base, factor)[1:-1]``.

    >>> from torch_experiments.cloning import clone, profiles
    >>> base = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> [round(score.value, 6) for score in forward_scores(clone(base), x, profiles(base)[1:-1])]
    [1.0]
    """
    with torch.no_grad():
        values = activations(model, x)
    return [cloning_score(v, p) for v, p in zip(values, profiles, strict=True)]


def backward_scores(model: nn.Module, x: Tensor, y: Tensor, profiles: Sequence[Profile]) -> list[CloningScore]:
    """Return the `cloning_score` of ``δ = ∂L/∂h`` of every `observed` module in eval mode.

    ``L`` is the cross entropy, summed over the samples, so each row of ``δ`` is of one sample and position.
    Copies with profile scales ``s`` have ``δ(v) = s_v δ̃``, the same scales as their activations.

    >>> from torch_experiments.cloning import clone, profiles
    >>> base = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    >>> x, y = torch.eye(2, dtype=torch.float64), torch.arange(2)
    >>> [round(score.value, 6) for score in backward_scores(clone(base), x, y, profiles(base)[1:-1])]
    [1.0]
    """
    with evaluating(model), captured(model) as values, in_float32():
        loss = cross_entropy(model(x), y, reduction="sum")
        gradients = torch.autograd.grad(loss, values)
    return [cloning_score(rows(g), p) for g, p in zip(gradients, profiles, strict=True)]


def activations(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the outputs of all `observed` modules in eval mode, each as `rows`.

    >>> [h.shape for h in activations(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.ones(4, 2))]
    [torch.Size([4, 3])]
    """
    with evaluating(model), captured(model) as values, in_float32():
        model(x)
    return [rows(value) for value in values]


def observed(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose outputs are measured, by name.

    These are the modules that ask for it by an attribute ``observed = True`` where there are some, as the blocks of
    our ResNet and ViT do, else all activation modules (JL25, section 3).

    >>> list(observed(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
    ['1']
    """
    blocks = {name: module for name, module in model.named_modules() if getattr(module, "observed", False)}
    kinds = (*ACTIVATIONS.values(), CReLU)
    return blocks or {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


@contextmanager
def captured(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of all `observed` modules in the order in which they run."""
    outputs: list[Tensor] = []
    with hooked(outputs_of(observed(model), lambda _name, output: outputs.append(output))):
        yield outputs


def gather(model: nn.Module, batches: Iterable[Tensor]) -> tuple[dict[str, Moments], list[Tensor]]:
    """Return the moments of all `observed` layers over ``batches`` in eval mode, and the outputs of the model.

    >>> found, outputs = gather(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), [torch.ones(4, 2), torch.ones(1, 2)])
    >>> found["1"].n, len(outputs)
    (5, 2)
    """
    found: dict[str, Moments] = {}

    def add(name: str, output: Tensor) -> None:
        new = moments(output)
        found[name] = found[name] + new if name in found else new

    with evaluating(model), torch.no_grad(), in_float32(), hooked(outputs_of(observed(model), add)):
        outputs = [model(x) for x in batches]
    return found, outputs
