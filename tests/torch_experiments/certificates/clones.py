"""Small clones in float64, and steps of training."""

import torch
from torch import nn

from torch_experiments import clone, layout
from torch_experiments.lab.models import mlp


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def network(activation="tanh", depth=2, outputs=2, width=3, seed=0):
    return mlp(3, outputs, width=width, depth=depth, activation=activation, seed=seed, dtype=torch.float64)


def cloned(activation="tanh", factor=2, mode="equal", **options):
    base = network(activation, **options)
    return clone(base, factor, mode, rng()), layout(base, factor)


def steps(model, optimizer, x, y, count):
    """Train for a few steps."""
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
