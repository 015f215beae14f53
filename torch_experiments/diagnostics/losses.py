"""The loss of an output, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from torch_experiments.support.processes import processes, summed
from torch_experiments.units.inputs import flatten

Loss = Callable[[Any, Any], Tensor | None]
Gradients = Mapping[str, Tensor]


def default_loss(output: Any, targets: Tensor | None) -> Tensor | None:
    """Return the mean loss of an output: cross entropy for integer targets, squared error for others.

    Without targets it is the ``loss`` that the output carries, as those of Hugging Face models called with
    labels, or None. Logits are ``[..., classes]``, images of logits ``[N, classes, height, width]``.

    Raises:
        ValueError: for targets that do not fit the output.

    >>> default_loss(torch.zeros(4, 1), torch.ones(4, 1))
    tensor(1.)
    """
    if targets is None:
        return output.get("loss") if isinstance(output, Mapping) else None
    logits = logits_of(output)
    _check_targets(targets, logits.shape)
    if targets.is_floating_point():
        return mse_loss(logits, targets.to(logits.dtype))
    last = logits.ndim == targets.ndim + 1 and logits.shape[:-1] == targets.shape
    return cross_entropy(logits.flatten(0, -2), targets.flatten()) if last else cross_entropy(logits, targets)


def _check_targets(targets: Tensor, outputs: torch.Size) -> None:
    numbers, given = targets.is_floating_point(), targets.shape
    if given not in ((outputs,) if numbers else (outputs[:-1], outputs[:1] + outputs[2:])):
        kind, fix = (
            ("numbers", "one number an output, or class numbers as integers, such as y.long()")
            if numbers
            else ("class numbers", "one class a sample, or numbers such as y.float() for a squared error")
        )
        raise ValueError(f"targets: got {kind} of shape {tuple(given)} for outputs {tuple(outputs)}; give {fix}")


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
    if processes() == 1:
        return dict(gradients)
    return {name: summed({name: g * share})[name] for name, g in gradients.items()}
