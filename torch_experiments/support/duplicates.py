"""Copies of networks whose weights are computed before every pass, by the hooks of `torch.nn.utils`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from torch_experiments.support.torch_private import MODULE_HOOKS

Model = TypeVar("Model", bound=nn.Module)
OF_TORCH = frozenset(vars(nn.Module()))  # attributes that every module has: parameters, buffers, modules, hooks
NOTHING_NOTED = (nn.Module, type, FunctionType, ModuleType, str, bytes, int, float, complex, type(None))


def duplicate(model: Model) -> Model:
    """Return a copy of a network, also one that `copy.deepcopy` refuses after a pass with gradients.

    >>> import torch
    >>> model = nn.utils.spectral_norm(nn.Linear(2, 1))
    >>> duplicate(model)(torch.ones(1, 2)).shape
    torch.Size([1, 1])
    """
    return copy.deepcopy(model, dict(computed(model)))


def for_weights(model: Model) -> Model:
    """Return a copy of a network of which the parameters alone are wanted, whatever its modules noted of a pass.

    `copy.deepcopy` refuses tensors with a history, which a module keeps that notes its last output, also in
    containers and other objects, as policies of stable-baselines3 do with their distribution. In the copy they have
    none.

    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> model.last = [model(torch.ones(1, 2))]
    >>> for_weights(model).last[0].requires_grad
    False
    """
    noted: dict[int, Tensor] = {}
    left = [value for module in model.modules() for name, value in vars(module).items() if name not in OF_TORCH]
    seen: set[int] = set()
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                noted[id(value)] = value.detach().clone()
        elif id(value) not in seen and not isinstance(value, NOTHING_NOTED):
            seen.add(id(value))
            left += _parts(value)
    return copy.deepcopy(model, noted)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())


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
