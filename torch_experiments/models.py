"""The networks of the experiments (JL25's architectures), built from plain ``torch.nn`` modules."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

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
NORMS: Mapping[str, type[nn.Module] | None] = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def mlp(
    inputs: int,
    classes: int,
    *,
    width: int = 128,
    depth: int = 5,
    norm: str = "none",
    affine: bool = True,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return JL25's multilayer perceptron: flatten, ``depth`` blocks, and a linear head.

    A block is Linear → norm → activation → dropout. Weights and biases of a Linear layer with ``m`` inputs
    are uniform on ``[-1/√m, 1/√m]`` (torch's default), drawn from ``seed`` alone, so the global generator
    is left as it was.

    Args:
        inputs: number of input features (images are flattened).
        classes: number of outputs.
        width: units of a hidden layer.
        depth: number of hidden layers.
        norm: a key of `NORMS`: ``"none"``, ``"batch"`` (BatchNorm1d) or ``"layer"`` (LayerNorm).
        affine: whether the norm has a learnt scale and shift.
        activation: a key of `ACTIVATIONS`.
        dropout: probability of dropping a hidden unit, 0 for none; the module is there in either case.
        seed: of the initial weights.
        dtype: of all parameters.

    Raises:
        ValueError: for an unknown norm or activation, or sizes below one.

    Source: JL25, section 3 (models).
    """
    for argument, size in {"inputs": inputs, "classes": classes, "width": width, "depth": depth}.items():
        if size < 1:
            raise ValueError(f"{argument}: got {size}; it has to be at least 1")
    normalise = _norm(norm, width, affine, dtype)
    activate = choose("activation", activation, ACTIVATIONS)
    generator = torch.Generator().manual_seed(seed)
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for k, fan_in in enumerate([inputs] + [width] * (depth - 1), start=1):
        layers.append((f"linear{k}", linear(fan_in, width, generator=generator, dtype=dtype)))
        layers += [(f"norm{k}", normalise())] if normalise else []
        layers += [(f"act{k}", activate()), (f"drop{k}", nn.Dropout(dropout))]
    layers.append(("head", linear(width, classes, generator=generator, dtype=dtype)))
    return nn.Sequential(OrderedDict(layers))


def linear(
    inputs: int, outputs: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> nn.Linear:
    """Return a Linear layer with weights and bias uniform on ``[-1/√inputs, 1/√inputs]`` from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)
    bound = 1 / math.sqrt(inputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def choose(argument: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return ``table[name]``; a ValueError that names the argument and lists what is allowed if there is none."""
    if name not in table:
        raise ValueError(f"{argument}: got {name!r}; allowed are {', '.join(map(repr, table))}")
    return table[name]


def _norm(name: str, width: int, affine: bool, dtype: torch.dtype) -> Callable[[], nn.Module] | None:
    kind = choose("norm", name, NORMS)
    if kind is None:
        return None
    flag = "affine" if kind is nn.BatchNorm1d else "elementwise_affine"
    return lambda: kind(width, dtype=dtype, **{flag: affine})
