"""What a run of continual training measures on its networks, as rows of its record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments.certificates.certificate import Part, certify
from torch_experiments.diagnostics.measurement import diagnose
from torch_experiments.lab.training import parallel
from torch_experiments.metrics import layers
from torch_experiments.metrics.moments import Moments, measure
from torch_experiments.metrics.parameters import norm
from torch_experiments.units.inputs import finite, first_module

WHOLE = 0  # the layer of what belongs to the whole network
LOSS = "the loss"
FROZEN: tuple[Part, ...] = ("frozen",)
SATURATED = ("saturated_fraction", "jl25_saturated_fraction")
CHUNK = 100  # images that pass the network together
ONLINE = ("online_loss", "online_accuracy", "online_accuracy_unmasked")
Measured = tuple[int, str, float]  # layer, metric, value
Batch = tuple[Tensor, Tensor]  # images and labels


def in_turn(labels: Tensor) -> Tensor:
    """Return indices: the first sample of every class, then the second of every class, …

    >>> in_turn(torch.tensor([0, 0, 0, 1, 1, 2]))
    tensor([0, 3, 5, 1, 4, 2])
    """
    rank = torch.empty_like(labels)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        rank[members] = torch.arange(len(members))
    return rank.argsort(stable=True)


def first_infinite(model: nn.Module, x: Tensor) -> str:
    """Return where a nan or an infinity appears first: the input, a module's parameters, or its output."""
    if not finite(x):
        return "the input"
    name = first_module(model, x, lambda module, output: not finite([*module.parameters(recurse=False), output]))
    if not name:
        return LOSS
    broken = not finite(list(model.get_submodule(name).parameters(recurse=False)))
    return f"the {'parameters' if broken else 'output'} of {name}"


def measured(model: nn.Module, train: Batch, test: Batch, active: Tensor) -> Iterator[Measured]:
    """Yield layer, metric and value of a network on its two metric batches; units are those on ``train``.

    Outputs are ``[n, outputs]``, or ``[n, positions, outputs]`` with labels ``[n · positions]``.
    """
    for split, (x, y) in (("train", train), ("test", test)):
        gathered, outputs = layers.gather(model, x.split(CHUNK))
        yield from scores(split, torch.cat(outputs).flatten(0, -2), y, active)
        if split == "train":
            yield from unit_rows(gathered)
    yield WHOLE, "weight_norm", norm(model.parameters())


def scores(split: str, outputs: Tensor, y: Tensor, active: Tensor) -> Iterator[Measured]:
    """Yield loss and both accuracies of ``outputs [n, classes]`` on labels ``y``, the first two over ``active``."""
    masked, local = outputs[:, active], torch.searchsorted(active, y)
    yield WHOLE, f"{split}_loss", float(cross_entropy(masked.double(), local))
    yield WHOLE, f"{split}_accuracy", float((masked.argmax(dim=1) == local).double().mean())
    yield WHOLE, f"{split}_accuracy_unmasked", float((outputs.argmax(dim=1) == y).double().mean())


def unit_rows(gathered: Mapping[str, Moments]) -> Iterator[Measured]:
    """Yield the metrics of units of every layer, and of the whole network their means over the layers."""
    found = [measure(m) for m in gathered.values()]
    for metric in found[0] if found else ():
        column = [layer[metric] for layer in found]
        yield from ((k, metric, value) for k, value in enumerate(column, start=1))
        yield WHOLE, metric, math.fsum(column) / len(column)


def trapped(model: nn.Module, x: Tensor, y: Tensor, active: Tensor) -> Iterator[Measured]:
    """Yield both shares of saturated units, means over layers, and the share of parameters that are free.

    The first two are `diagnostics.unit_measures`, with the loss over ``active``; the last is
    `Certificate.unheld_fraction`, which takes units that are frozen on ``x`` and exact copies away.
    """

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(output[:, active], torch.searchsorted(active, labels))

    found = diagnose(model, x, y, loss=loss, metrics=SATURATED, samples=len(x), gradient_samples=len(x))
    for metric in SATURATED:
        if any(metric in layer for layer in found.values()):
            yield WHOLE, metric, found.mean(metric)
    yield WHOLE, "free_fraction", certify(model, x, parts=FROZEN).unheld_fraction


class Averages:
    """Loss and both accuracies of the batches of a task, each before its step, one of each for every seed."""

    def __init__(self, seeds: int, device: str) -> None:
        self.sums = torch.zeros(len(ONLINE), seeds, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, loss: Tensor, active: Tensor, outputs: Tensor, y: Tensor, truth: Tensor) -> Tensor:
        """Add a batch and return its loss ``[S]`` over all processes.

        Args:
            loss: ``[S]``.
            active, outputs: ``[S, batch, outputs]``, those under the loss and all.
            y, truth: ``[S, batch]``, the labels among both.
        """
        hit = active.argmax(dim=2) == y
        hits = hit, hit if active is outputs else outputs.argmax(dim=2) == truth
        means = [loss, *(found.double().mean(dim=1) for found in hits)]
        found = parallel.averaged(torch.stack([mean.detach().double() for mean in means]))
        self.sums += found
        return found[0]

    def over(self, steps: int, s: int) -> Iterator[Measured]:
        """Yield the means over a task for seed number ``s``."""
        for name, total in zip(ONLINE, self.sums[:, s].tolist(), strict=True):
            yield WHOLE, name, total / steps


def row(task: int, step: int, layer: int, metric: str, value: float) -> dict[str, Any]:
    """Return a measurement as a row of a record."""
    return {"task": task, "step": step, "layer": layer, "metric": metric, "value": value}
