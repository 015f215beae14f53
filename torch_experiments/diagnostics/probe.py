"""What metrics of the whole network read: gradients of single samples, the empirical NTK, Hessian products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from torch_experiments.diagnostics.batches import Batch, spread
from torch_experiments.diagnostics.gradients import Loss, logits_of
from torch_experiments.units.inputs import call
from torch_experiments.units.trace import reference_kernels

ROOM = 200_000_000  # entries of the Jacobians that are held at once
BLOCK = 65_536  # parameters whose products are summed in their own precision


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
    def hessian_spectrum(self) -> list[tuple[Tensor, Tensor]] | None:
        """Return Ritz values and weights of the Hessian, a pair a random direction; None without a loss."""
        with torch.enable_grad(), reference_kernels():
            loss = self.loss(call(self.model, self.batch.inputs), self.batch.targets)
            if loss is None or not loss.requires_grad:
                return None
            slopes = torch.autograd.grad(loss, self.parameters, create_graph=True, allow_unused=True)
            used = [
                (p, g) for p, g in zip(self.parameters, slopes, strict=True) if g is not None and g.requires_grad
            ]
            gradient = torch.cat([g.flatten() for _, g in used]) if used else loss.new_zeros(1)
            wrt = [p for p, _ in used]
            source = torch.Generator().manual_seed(self.seed)
            starts = [torch.randn(len(gradient), generator=source).to(gradient) for _ in range(self.directions)]
            return [lanczos(lambda v: _product(gradient, wrt, v), start, self.steps) for start in starts]

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


def lanczos(product: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return Ritz values ``θ``, ascending, and weights ``τ`` of a symmetric matrix ``A``, float64, on the CPU.

    ``vᵀ g(A) v ≈ Σ τ_k g(θ_k)`` for ``v = start/‖start‖``, exact for polynomials of degree below ``2 steps``; the
    largest ``θ`` approaches the largest eigenvalue from below. Vectors are orthogonalised against all earlier ones,
    so the memory is ``steps`` vectors. It ends early when the space is invariant.

    Source: Golub & Meurant (2010), Matrices, Moments and Quadrature.
    """
    V = start.new_zeros(min(steps, len(start)) + 1, len(start))
    V[0] = start / start.norm()
    diagonal: list[float] = []
    off: list[float] = []
    for k in range(len(V) - 1):
        w = product(V[k])
        diagonal.append(float(w @ V[k]))
        for _twice in range(2):
            w = w - (V[: k + 1] @ w) @ V[: k + 1]
        off.append(float(w.norm()))
        if off[-1] <= 100 * torch.finfo(w.dtype).eps * max(map(abs, diagonal + off[:-1])):
            break
        V[k + 1] = w / off[-1]
    inner = torch.tensor(off[: len(diagonal) - 1], dtype=torch.float64)
    T = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(inner, 1) + torch.diag(inner, -1)
    theta, vectors = torch.linalg.eigh(T)
    return theta, vectors[0].square()


def _product(gradient: Tensor, parameters: list[nn.Parameter], v: Tensor) -> Tensor:
    found = torch.autograd.grad(gradient, parameters, v, retain_graph=True, allow_unused=True)
    pairs = zip(parameters, found, strict=True)
    return torch.cat([(torch.zeros_like(p) if h is None else h).flatten() for p, h in pairs]).detach()
