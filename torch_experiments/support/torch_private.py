"""All that is used of torch though its name begins with an underscore, which any release may change.

There is no public name for any of it. `tests/torch_experiments/support/test_torch_private.py` names each thing, so
that a release that drops one says which, and no other file touches one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase  # of batch and instance norms
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.dropout import _DropoutNd as DropoutNd
from torch.nn.utils.parametrizations import _SpectralNorm as SpectralParametrization
from torch.optim import Optimizer
from torch.optim import optimizer as optimizers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["COMPILER", "FUNCTIONS", "BatchNorm", "ConvNd", "DropoutNd", "NormBase", "TorchDispatchMode"]
__all__ += ["SpectralParametrization"]
__all__ += [
    "MODULE_HOOKS",
    "STEP_HOOKS",
    "backward_hooks",
    "check_dimensions",
    "gradient_hooks",
    "is_replica",
    "schema",
    "step_hooks",
    "tree_map_only",
    "written",
]

FUNCTIONS = torch._C._nn  # where activations live that torch.nn.functional hands on
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")  # of an optimizer
MODULE_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
COMPILER = "torch._dynamo"  # what the first step of a training imports, in a second


def schema(operation: Any) -> Any:
    """Return the schema of an ATen operation: its name, its arguments and which of them it changes.

    >>> schema(torch.ops.aten.relu_.default).is_mutable
    True
    """
    return operation._schema


def written(operation: Any, arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield those of the arguments of an ATen operation that it changes in place.

    >>> list(written(torch.ops.aten.relu_.default, {"self": 1.0}))
    [1.0]
    """
    for argument in schema(operation).arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield arguments[argument.name]


def backward_hooks(module: nn.Module) -> list[Any]:
    """Return the hooks that run when a gradient passes through a module.

    >>> backward_hooks(nn.ReLU())
    []
    """
    return [hook for hooks in (module._backward_hooks, module._backward_pre_hooks) for hook in hooks.values()]


def accumulate_hooks(parameter: nn.Parameter) -> list[Any]:
    """Return the hooks that run once a backward pass has added to ``.grad``.

    >>> accumulate_hooks(nn.Parameter(torch.ones(1)))
    []
    """
    return list((parameter._post_accumulate_grad_hooks or {}).values())


def gradient_hooks(parameter: nn.Parameter) -> list[Any]:
    """Return the hooks that run on the gradient of a parameter.

    >>> gradient_hooks(nn.Parameter(torch.ones(1)))
    []
    """
    return [*(parameter._backward_hooks or {}).values(), *accumulate_hooks(parameter)]


def step_hooks(optimizer: Optimizer) -> Iterator[Any]:
    """Yield the hooks that run before and after a step of an optimizer, and of any optimizer.

    Those that say of themselves that they only look (``hook.only_looks``) are left out.

    >>> list(step_hooks(torch.optim.SGD([nn.Parameter(torch.ones(1))])))
    []
    """
    own: list[Any] = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
    shared: list[Any] = [optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks]
    for hooks in (*own, *shared):
        yield from (hook for hook in hooks.values() if not getattr(hook, "only_looks", False))


def is_replica(module: nn.Module) -> bool:
    """Return whether a module is one of those that `DataParallel` makes for a pass.

    >>> is_replica(nn.ReLU())
    False
    """
    return bool(getattr(module, "_is_replica", False))


def check_dimensions(norm: BatchNorm, x: Tensor) -> None:
    """Raise the ValueError of a batch norm for inputs with another number of axes than it takes.

    >>> check_dimensions(nn.BatchNorm1d(2), torch.ones(3, 2))
    """
    norm._check_input_dim(x)
