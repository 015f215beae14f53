"""Products of the Hessian of a scalar with vectors over parameters (Pearlmutter 1994), by two backward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class Hessian:
    """A Hessian as products ``H v = ∇⟨∇L, v⟩`` with flat vectors ``[Σ numel]``, one parameter after the other.

    Attributes:
        parameters: over which it is taken.
        slopes: the gradient, a tensor a parameter with its graph; None where the scalar does not depend on it.
        products: how many were taken.
    """

    parameters: list[Tensor]
    slopes: list[Tensor | None]
    products: int = 0

    def product(self, v: Tensor) -> Tensor:
        """Return ``H v``, in the dtype of ``v``."""
        self.products += 1
        pairs = [(g, part) for g, part in zip(self.slopes, self.split(v), strict=True) if _bends(g)]
        if not pairs:
            return torch.zeros_like(v)
        slopes, parts = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            slopes, self.parameters, parts, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flat(found, v)

    def bent(self) -> Hessian:
        """Return the Hessian over the parameters whose slope is no constant: its other rows are zero."""
        kept = [(p, g) for p, g in zip(self.parameters, self.slopes, strict=True) if _bends(g)]
        return Hessian([p for p, _ in kept], [g for _, g in kept])

    @property
    def size(self) -> int:
        """Number of entries of a vector."""
        return sum(p.numel() for p in self.parameters)

    def split(self, v: Tensor) -> list[Tensor]:
        """Return a vector as tensors of the parameters' shapes and dtypes."""
        parts = v.split([p.numel() for p in self.parameters])
        return [part.reshape(p.shape).to(p) for part, p in zip(parts, self.parameters, strict=True)]


def hessian(value: Tensor, parameters: Sequence[Tensor]) -> Hessian:
    """Return the Hessian of a scalar. The graph of its gradient is built once and kept; products pass through it.

    Args:
        value: a scalar with its graph, computed under `units.inputs.reference_kernels`: fused attention has no
            second derivative.
        parameters: of which it is a function.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> hessian(w[0] ** 2 * w[1], [w]).product(torch.tensor([1.0, 0.0]))
    tensor([4., 2.])
    """
    if not value.requires_grad:
        return Hessian(list(parameters), [None] * len(parameters))
    slopes = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
    return Hessian(list(parameters), list(slopes))


def flat(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return tensors as one vector in the dtype and on the device of ``like``."""
    return torch.cat([part.detach().reshape(-1).to(like) for part in parts])


def _bends(slope: Tensor | None) -> bool:
    return slope is not None and slope.requires_grad
