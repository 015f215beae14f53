"""What metrics of the whole network read: gradients of single samples, the empirical NTK, Hessian products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_experiments.diagnostics.batches import Batch, spread
from torch_experiments.diagnostics.losses import Loss, logits_of
from torch_experiments.support.hessian import hessian
from torch_experiments.support.lanczos import quadrature
from torch_experiments.units.inputs import call, reference_kernels
from torch_experiments.units.softmaxes import Counted

ROOM = 200_000_000  # entries of the Jacobians that are held at once: 0.8 GB in float32
BLOCK = 65_536  # parameters whose products are summed in their own precision; the sums of blocks are in float64


class Spectrum(NamedTuple):
    """An estimate of a symmetric matrix's spectrum by Lanczos.

    Attributes:
        size: of the matrix.
        nodes: Ritz values and their weights, a pair a random direction.
    """

    size: int
    nodes: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Probe:
    """A network at the samples of the backward pass, in eval mode.

    Attributes:
        model: with at least one parameter that is trained.
        batch: inputs and targets.
        loss: of an output and targets, the mean over samples, or None where there are no targets.
        seed: of the random directions.
        singles: how many samples enter the matrices of gradients of single samples.
        outputs: how many outputs of a sample enter the empirical NTK.
        steps: of Lanczos.
        directions: random directions of the estimate of the Hessian's spectrum.
    """

    model: nn.Module
    batch: Batch
    loss: Loss
    seed: int = 0
    singles: int = 16
    outputs: int = 4
    steps: int = 20
    directions: int = 1

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Parameters that are trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    @cached_property
    def gradient_products(self) -> Tensor | None:
        """Return ``g_i · g_j`` of the loss gradients of single samples, float64; None without a loss."""
        return self._products(lambda part, output: [self.loss(output, part.targets)], 1)

    @cached_property
    def ntk(self) -> Tensor | None:
        """Return the empirical NTK ``∇f_a(x_i) · ∇f_b(x_j)`` of evenly spread outputs, float64."""
        return self._products(lambda _part, output: self._spread(logits_of(output).flatten()), self.outputs)

    @cached_property
    def softmaxes(self) -> tuple[int, int]:
        """Return how many rows of softmaxes (policies, attention) are saturated, and how many there are."""
        with torch.no_grad(), reference_kernels(), Counted() as seen:
            call(self.model, self.batch.inputs)
        return seen.saturated, seen.rows

    @cached_property
    def hessian_spectrum(self) -> Spectrum | None:
        """Return the spectrum of the Hessian over what the loss reads and bends; None without a loss."""
        with torch.enable_grad(), reference_kernels():
            loss = self.loss(call(self.model, self.batch.inputs), self.batch.targets)
            if loss is None or not loss.requires_grad:
                return None
            H = hessian(loss, self.parameters).bent()
        if not H.parameters:
            return Spectrum(0, [(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))])
        source = torch.Generator().manual_seed(self.seed)
        starts = [torch.randn(H.size, generator=source).to(loss) for _ in range(self.directions)]
        return Spectrum(H.size, [quadrature(H.product, start / start.norm(), self.steps) for start in starts])

    @property
    def size(self) -> int:
        """Number of entries of the parameters that are trained."""
        return sum(p.numel() for p in self.parameters)

    def _spread(self, outputs: Tensor) -> list[Tensor]:
        return [outputs[k] for k in spread(len(outputs), self.outputs).tolist()]

    def _products(self, scalars: Callable[[Batch, object], Iterable[Tensor | None]], each: int) -> Tensor | None:
        """Return the products of the gradients of some scalars of every single sample."""
        count = max(2, min(self.singles, len(self.batch), ROOM // max(self.size * each, 1)))
        rows: list[Tensor] = []
        for k in spread(len(self.batch), count).tolist():
            part = self.batch.take(torch.tensor([k]))
            with torch.enable_grad():
                found = list(scalars(part, call(self.model, part.inputs)))
            if any(scalar is None or not scalar.requires_grad for scalar in found):
                return None
            rows += [self._gradient(scalar) for scalar in found if scalar is not None]
        blocks = torch.stack(rows).split(BLOCK, dim=1)
        return torch.stack([(block @ block.T).cpu().double() for block in blocks]).sum(dim=0)

    def _gradient(self, scalar: Tensor) -> Tensor:
        found = torch.autograd.grad(scalar, self.parameters, retain_graph=True, allow_unused=True)
        pairs = zip(self.parameters, found, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])
