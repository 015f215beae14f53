"""Gaussian noise on gradients, in the two conventions that "relative to the gradient's norm" can mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from torch_experiments.support.choices import choose
from torch_experiments.support.closures import Arguments, with_edit

Convention = Literal["elementwise", "normwise"]
# Of the number of entries d: what the standard normal vector, of norm about √d, is divided by.
DIVISORS: Mapping[str, Any] = {"elementwise": lambda entries: 1.0, "normwise": math.sqrt}


class GradientNoise:
    """Add noise to every gradient before each step of an optimizer: ``g ← g + σ₀ λᵗ ‖g‖ ξ / c``, ``ξ ~ N(0, I)``.

    ``‖g‖`` is the norm of one parameter tensor of ``d`` entries, ``t`` counts the steps from 0, and

    - ``"elementwise"``: ``c = 1``. Every *entry* has noise of size ``σ‖g‖``, so the noise vector is ``σ√d`` times
      the gradient: 8.9 times for 3072 × 256 weights at σ = 0.01. This is what JL25's code does.
    - ``"normwise"``: ``c = √d``, so the noise *vector* has expected squared norm ``σ²‖g‖²``.

    Args:
        sigma: ``σ₀``, non-negative.
        decay: ``λ`` in [0, 1]; with 0 only the first step is noisy.
        convention: one of the two.
        generator: of the noise; the global one if none.

    Raises:
        ValueError: for values out of these ranges.

    Source: JL25 (arXiv 2510.00304) and its public code; claim E1.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = torch.optim.SGD([weight], lr=0.1)
    >>> handle = optimizer.register_step_pre_hook(GradientNoise(0.01, 0.999))
    """

    def __init__(
        self,
        sigma: float,
        decay: float = 1.0,
        convention: Convention = "elementwise",
        generator: torch.Generator | None = None,
    ) -> None:
        if sigma < 0:
            raise ValueError(f"sigma: got {sigma}; it has to be 0 or more")
        if not 0 <= decay <= 1:
            raise ValueError(f"decay: got {decay}; it has to be in [0, 1]")
        self.divisor = choose("convention", convention, DIVISORS)
        self.sigma, self.decay, self.generator, self.steps = sigma, decay, generator, 0

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any = (), kwargs: Any = None) -> Arguments | None:
        """Perturb the gradients of ``optimizer``'s parameters (the signature is that of a step pre-hook).

        Under a closure they are perturbed, and a step is counted, after every evaluation.
        """

        def perturb() -> None:
            self.perturb(p for group in optimizer.param_groups for p in group["params"])

        changed = with_edit(tuple(args), kwargs or {}, perturb)
        if changed is None:
            perturb()
        return changed

    def perturb(self, parameters: Iterable[Tensor]) -> None:
        """Add noise to the gradients of ``parameters`` in place, where they have one, and count one step."""
        sigma = self.sigma * self.decay**self.steps
        for gradient in [p.grad for p in parameters if p.grad is not None]:
            gradient.add_(self._xi(gradient) * gradient.norm() * (sigma / self.divisor(gradient.numel())))
        self.steps += 1

    def _xi(self, gradient: Tensor) -> Tensor:
        device = gradient.device if self.generator is None else self.generator.device
        xi = torch.randn(gradient.shape, generator=self.generator, dtype=gradient.dtype, device=device)
        return xi.to(gradient.device)
