"""Hooks by which a remedy sees what its own network computes, and nothing of copies of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_experiments.remedies.network import Network
from torch_experiments.support.torch_private import is_replica
from torch_experiments.units.hidden import HiddenLayer
from torch_experiments.units.inputs import flatten

Note = Callable[[HiddenLayer, Tensor], None]


class Observer:
    """A hook on the reader of a layer that notes what it reads in training passes of the network itself.

    Passes of copies are nobody's: a copy of the model (`copy.deepcopy`, `AveragedModel`, `torch.save`, a spawned
    process) has a hook that does nothing in this one's place, and needs nothing of this package to be loaded. Nor
    does it count when `torch.func.functional_call` puts other weights into the network. Of the replicas of
    `DataParallel` the one on the device of the network counts. Compiled code is left for every call.

    >>> import copy
    >>> model, seen = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)), []
    >>> network = Network(model, lambda p: {}, {}, lambda seed: model, 0)
    >>> _ = watch_training(network, lambda layer, x: seen.append(layer.name))
    >>> _ = copy.deepcopy(model)(torch.ones(1, 1)), model.eval()(torch.ones(1, 1))
    >>> seen
    []
    >>> _ = model.train()(torch.ones(1, 1))
    >>> seen
    ['0']
    """

    def __init__(self, reader: nn.Module, layer: HiddenLayer, note: Note) -> None:
        self.reader, self.layer, self.note = reader, layer, note
        self.leaf = layer.place.parameter.rpartition(".")[2]
        self.weight = getattr(reader, self.leaf, None)
        _leave_compiled_code()

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note the first input; the signature is that of a forward pre-hook with keyword arguments."""
        x = next(flatten([args, kwargs]))
        if module.training and self._is_own(module, x):
            self.note(self.layer, x)

    def __reduce__(self) -> Any:
        """Return, for copies and pickles, something that takes three arguments and does nothing."""
        return getattr, (nullcontext(), "__exit__")

    def _is_own(self, module: nn.Module, x: Tensor) -> bool:
        if is_replica(module):
            return self.weight is None or x.device == self.weight.device
        return module is self.reader and getattr(module, self.leaf, None) is self.weight


def watch_training(network: Network, note: Note) -> list[RemovableHandle]:
    """Call ``note`` with what the reader of every layer reads in every training pass; see `Observer`."""
    modules = dict(network.model.named_modules())
    layers = [one for layer in network.layers for one in layer.of_readers()]
    hooks = [Observer(modules[layer.reader], layer, note) for layer in layers]
    return [hook.reader.register_forward_pre_hook(hook, with_kwargs=True) for hook in hooks]


@cache
def _leave_compiled_code() -> None:
    """Keep the compiler out of the hook; done once, and late, since it imports the compiler."""
    Observer.__call__ = torch.compiler.disable(Observer.__call__)  # type: ignore[method-assign]
