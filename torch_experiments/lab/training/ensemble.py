"""Networks of one shape trained together: their parameters stacked, one forward pass by `torch.func.vmap`.

An ensemble holds the networks of ``S`` seeds and one optimizer. `Separate` is the plain case of one network;
`Stacked` keeps every parameter as one tensor ``[S, …]`` that the optimizer sees, and the networks' own parameters
are views of it, so that whatever is read or written in network ``s`` is read or written in the stack. Adam and SGD
are elementwise, so stacked training is separate training up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from torch_experiments.metrics.layers import ACTIVATIONS
from torch_experiments.remedies.network import moments_of

Make = Callable[[list[Tensor]], torch.optim.Optimizer]


class Ensemble(Protocol):
    """Networks and their optimizer."""

    models: Sequence[nn.Module]
    optimizer: torch.optim.Optimizer

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``[S, batch, outputs]`` of inputs ``[S, batch, …]``."""

    def step(self, loss: Tensor, edit: Callable[[], None] | None = None) -> None:
        """Descend along the gradient of the sum of ``loss [S]``; ``edit`` may change gradients before."""

    def moments(self, s: int, parameter: nn.Parameter) -> Mapping[str, Tensor]:
        """Return the optimizer's tensors of the shape of a parameter of network ``s``, by name."""


class Separate:
    """One network; convolutional ones keep their tensors in the order that is fast on their device."""

    def __init__(self, models: Sequence[nn.Module], make: Make) -> None:
        (self.model,) = self.models = models
        self.order = fast_order(self.model)
        for parameter in self.model.parameters():
            parameter.data = self._ordered(parameter.data)
        self.optimizer = make(list(self.model.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``[1, batch, outputs]``."""
        return self.model(self._ordered(x[0]))[None]

    def _ordered(self, x: Tensor) -> Tensor:
        return x if self.order is None or x.ndim != 4 else x.contiguous(memory_format=self.order)

    def step(self, loss: Tensor, edit: Callable[[], None] | None = None) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        loss.sum().backward()
        if edit:
            edit()
        self.optimizer.step()

    def moments(self, s: int, parameter: nn.Parameter) -> Mapping[str, Tensor]:
        """Return the tensors of the parameter's shape in the optimizer's state."""
        return moments_of(self.optimizer.state.get(parameter, {}), parameter)


class Stacked:
    """Any number of networks of one shape, with neither batch norm nor dropout.

    Raises:
        ValueError: for networks that are not of one shape, or hold a module with state or randomness.
    """

    def __init__(self, models: Sequence[nn.Module], make: Make) -> None:
        _stackable(models)
        self.models = models
        self.skeleton = copy.deepcopy(models[0]).to("meta")
        self.stack = {name: _stacked(p) for name, p in _by_name(models)}
        for s, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.data = self.stack[name].data[s]
        self._names = {id(p): name for model in models for name, p in model.named_parameters()}
        self.optimizer = make(list(self.stack.values()))
        self._forward = self._chain if _is_chain(models[0]) else vmap(self._one)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``[S, batch, outputs]`` of inputs ``[S, batch, …]``, one batch for each network."""
        return self._forward(self.stack, x)

    def _chain(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the outputs of a chain of Linear and elementwise modules, a quarter cheaper than by vmap."""
        for name, module in self.skeleton.named_children():
            if isinstance(module, nn.Linear):
                x = torch.baddbmm(parameters[f"{name}.bias"][:, None], x, parameters[f"{name}.weight"].mT)
            else:
                x = x.flatten(2) if isinstance(module, nn.Flatten) else module(x)
        return x

    def step(self, loss: Tensor, edit: Callable[[], None] | None = None) -> None:
        """Take one step in all networks; ``edit`` finds the gradients in the networks' own parameters."""
        self.optimizer.zero_grad()
        loss.sum().backward()
        if edit:
            self._share_gradients()
            edit()
        self.optimizer.step()

    def moments(self, s: int, parameter: nn.Parameter) -> Mapping[str, Tensor]:
        """Return views of row ``s`` of the optimizer's tensors."""
        stacked = self.stack[self._names[id(parameter)]]
        found = moments_of(self.optimizer.state.get(stacked, {}), stacked)
        return {name: tensor[s] for name, tensor in found.items()}

    def _one(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.skeleton, parameters, (x,))

    def _share_gradients(self) -> None:
        for s, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                gradient = self.stack[name].grad
                parameter.grad = None if gradient is None else gradient[s]


def fast_order(model: nn.Module) -> torch.memory_format | None:
    """Return the order of the tensors of a network in which a CUDA device convolves faster, None where none does.

    It is ``channels_last``, and changes where numbers lie, not which they are, up to rounding.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return torch.channels_last if layers and all(layer.weight.is_cuda for layer in layers) else None


def make_ensemble(models: Sequence[nn.Module], make: Make) -> Ensemble:
    """Return the ensemble for these networks; ``make`` builds the optimizer from a list of tensors."""
    return Separate(models, make) if len(models) == 1 else Stacked(models, make)


def _is_chain(model: nn.Module) -> bool:
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    kinds = (nn.Linear, nn.Flatten, nn.Dropout, *ACTIVATIONS.values())
    plain = isinstance(model, nn.Sequential) and all(isinstance(module, kinds) for module in model)
    return plain and all(module.bias is not None for module in linear)


def _by_name(models: Sequence[nn.Module]) -> Iterator[tuple[str, list[Tensor]]]:
    for name, _ in models[0].named_parameters():
        yield name, [model.get_parameter(name) for model in models]


def _stacked(parameters: list[Tensor]) -> Tensor:
    return torch.stack([p.detach() for p in parameters]).requires_grad_()


def _stackable(models: Sequence[nn.Module]) -> None:
    shapes = [[(name, p.shape) for name, p in model.named_parameters()] for model in models]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("models: the networks of a stack need parameters of the same names and shapes")
    for name, module in models[0].named_modules():
        dropping = isinstance(module, nn.Dropout) and module.p > 0
        if dropping or next(module.buffers(recurse=False), None) is not None:
            kind = type(module).__name__
            raise ValueError(f"models: {name} is {kind}; a stack takes neither running statistics nor dropout")
