"""Copies of networks whose weights are computed before every pass, by the hooks of `torch.nn.utils`."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from torch_experiments.support.torch_private import MODULE_HOOKS

Model = TypeVar("Model", bound=nn.Module)


def duplicate(model: Model) -> Model:
    """Return a copy of a network, also one that `copy.deepcopy` refuses after a pass with gradients.

    >>> import torch
    >>> model = nn.utils.spectral_norm(nn.Linear(2, 1))
    >>> duplicate(model)(torch.ones(1, 2)).shape
    torch.Size([1, 1])
    """
    return copy.deepcopy(model, dict(computed(model)))


def normalising(module: nn.Module) -> list[Any]:
    """Return the hooks by which the old `weight_norm` and `spectral_norm` make a weight of a module.

    >>> [hook.name for hook in normalising(nn.utils.spectral_norm(nn.Linear(2, 1)))]
    ['weight']
    """
    hooks = getattr(module, MODULE_HOOKS[0]).values()
    return [hook for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)]


def computed(model: nn.Module) -> dict[int, Tensor]:
    """Return, by identity, copies of the tensors that `weight_norm` and `spectral_norm` leave behind on a module.

    They have a history and are no leaves, so `copy.deepcopy` refuses them; the next pass makes them anew. Hand the
    result to `copy.deepcopy` as its memory.

    >>> import torch
    >>> model = nn.utils.spectral_norm(nn.Linear(2, 1))
    >>> _ = model(torch.ones(1, 2))
    >>> [tensor.shape for tensor in computed(model).values()]
    [torch.Size([1, 2])]
    """
    names = [(module, hook.name) for module in model.modules() for hook in normalising(module)]
    left = [vars(module).get(name) for module, name in names]
    return {id(tensor): tensor.detach().clone() for tensor in left if isinstance(tensor, Tensor)}
