"""Metrics of the parameters of a module, and of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from torch_experiments.diagnostics.registry import parameter_metric
from torch_experiments.metrics.parameters import norm


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


def by_module(model: nn.Module, gradients: Mapping[str, Tensor] | None) -> dict[str, Parameters]:
    """Return the parameters of every module that has some of its own, and all of them under ``""``."""
    groups: dict[str, list[str]] = {}
    named = dict(model.named_parameters())
    for name in named:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    groups[""] = list(named)
    return {module: _chosen(names, named, gradients) for module, names in groups.items()}


def _chosen(
    names: Sequence[str], named: Mapping[str, Tensor], gradients: Mapping[str, Tensor] | None
) -> Parameters:
    values = [named[name] for name in names]
    return Parameters(values, None if gradients is None else [gradients[n] for n in names if n in gradients])
