"""Networks whose activations are given, and a task with its network, for the tests of diagnostics."""

import io

import torch
from rich.console import Console
from torch import nn

from torch_experiments import diagnose
from torch_experiments.diagnostics import Diagnosis
from torch_experiments.lab.models import mlp
from torch_experiments.support.generators import generator


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


class Given(nn.Module):
    """An activation of given pre-activations: the input itself."""

    def __init__(self, activation=None, units=1):
        super().__init__()
        self.activation = activation or nn.ReLU()
        self.head = nn.Linear(units, 2, dtype=torch.float64)

    def forward(self, z):
        return self.head(self.activation(z))


def measured(z, activation=None, **options):
    found = diagnose(Given(activation, z.shape[1]), z, **options)
    return found["activation"]


def small():
    model = mlp(4, 3, width=5, depth=1, activation="tanh", dtype=torch.float64)
    return model, normal(12, 4), torch.arange(12) % 3


def rendered(found, width=150):
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(found)
    return console.export_text()


FAST = {"metrics": ["dead_fraction", "shannon_rank_centred", "dormant_fraction", "duplicate_fraction"]}


def task(seed=0, samples=400):
    """Return samples of four Gaussian clusters with labels that ``seed`` permutes."""
    y = torch.arange(samples) % 4
    x = 2 * torch.randn(4, 20, generator=generator(7))[y] + torch.randn(samples, 20, generator=generator(8))
    return x, torch.randperm(4, generator=generator(seed))[y]


def network(**options):
    return mlp(20, 4, width=32, depth=3, **options)


def diagnosis(**metrics):
    return Diagnosis({"a": dict(metrics), "b": dict(metrics), "": {"loss": 1.0}}, about=None)
