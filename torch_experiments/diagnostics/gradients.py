"""The loss, its gradient, and the norms of parameters and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from torch_experiments.diagnostics.registry import parameter_metric
from torch_experiments.support import processes as distributed
from torch_experiments.units.inputs import flatten

Loss = Callable[[Any, Any], Tensor | None]
Gradients = Mapping[str, Tensor]


@dataclass(frozen=True)
class Parameters:
    """Parameters of a module, and their gradients where there was a backward pass."""

    values: Sequence[Tensor]
    gradients: Sequence[Tensor] | None = None


@parameter_metric("JL25 (arXiv 2510.00304); Dohare et al. (2024)")
def weight_norm(p: Parameters) -> float:
    """Return ``‖θ‖₂`` of the parameters of a module, and of all under the layer ``""``."""
    return norm(p.values)


@parameter_metric("Lyle et al. (2023), arXiv 2303.01486")
def gradient_norm(p: Parameters) -> float | None:
    """Return ``‖∂L/∂θ‖₂`` of the mean loss of the samples of the backward pass."""
    return norm(p.gradients) if p.gradients is not None else None


def norm(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all tensors together."""
    return sum(float(torch.linalg.vector_norm(x.detach())) ** 2 for x in tensors) ** 0.5


def default_loss(output: Any, targets: Tensor | None) -> Tensor | None:
    """Return the mean loss of an output: cross entropy for integer targets, squared error for others.

    Without targets it is the ``loss`` that the output carries, as those of Hugging Face models called with
    labels, or None. Logits are ``[..., classes]``, images of logits ``[N, classes, height, width]``.
    """
    if targets is None:
        return output.get("loss") if isinstance(output, Mapping) else None
    logits = logits_of(output)
    if targets.is_floating_point():
        return mse_loss(logits, targets.to(logits.dtype))
    last = logits.ndim == targets.ndim + 1 and logits.shape[:-1] == targets.shape
    return cross_entropy(logits.flatten(0, -2), targets.flatten()) if last else cross_entropy(logits, targets)


def logits_of(output: Any) -> Tensor:
    """Return the ``logits`` of an output, or its first floating-point tensor that is not a single number."""
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    return next(x for x in flatten(output) if x.is_floating_point() and x.ndim)


def gradients_of(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradient of ``loss`` for every parameter that is trained; ``.grad`` stays as it is."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(trained.items(), found, strict=True)}


def averaged(gradients: Gradients, share: float) -> dict[str, Tensor]:
    """Return the gradient over all processes, of which this one has a ``share`` of the samples."""
    if distributed.processes() == 1:
        return dict(gradients)
    return {name: distributed.summed({name: g * share})[name] for name, g in gradients.items()}


def by_module(model: nn.Module, gradients: Gradients | None) -> dict[str, Parameters]:
    """Return the parameters of every module that has some of its own, and all of them under ``""``."""
    groups: dict[str, list[str]] = {}
    named = dict(model.named_parameters())
    for name in named:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    groups[""] = list(named)
    return {module: _chosen(names, named, gradients) for module, names in groups.items()}


def _chosen(names: Sequence[str], named: Mapping[str, Tensor], gradients: Gradients | None) -> Parameters:
    values = [named[name] for name in names]
    return Parameters(values, None if gradients is None else [gradients[n] for n in names if n in gradients])
