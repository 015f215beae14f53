"""Singular values of activations and gradients, and the ranks that they have.

With ``p`` the squares of the singular values, divided by their sum, the ranks are exponentials of Rényi entropies:
of order 0 the number of those that are not zero, of order 1 ``exp(−Σ p ln p)``, of order 2 ``1/Σ p²``, of order ∞
``1/max p``; larger orders give smaller ranks. All are in float64, and 0 for a spectrum of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def spectrum(a: Tensor, *, centred: bool = True) -> Tensor:
    """Return the singular values of activations ``a [samples, units]``, float64, largest first.

    With ``centred`` the mean over the samples is removed first, so the squares are the eigenvalues of the
    covariance times the number of samples. All digits are right, where `singular_values` has half of them.

    >>> spectrum(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), centred=False)
    tensor([4., 3.], dtype=torch.float64)
    """
    a = a.detach().double()
    return torch.linalg.svdvals(a - a.mean(dim=0) if centred else a)


def singular_values(products: Tensor) -> Tensor:
    """Return ``√λ`` of the eigenvalues of a matrix of products ``AᵀA`` or ``A Aᵀ``, largest first.

    Those below ``√eps ≈ 1e-8`` of the largest are rounding. They are NaN where a product is not finite.

    >>> singular_values(torch.tensor([[9.0, 0.0], [0.0, 16.0]]))
    tensor([4., 3.])
    """
    if not bool(products.isfinite().all()):
        return products.new_full((len(products),), torch.nan)
    return torch.linalg.eigvalsh(products).clamp_min(0).sqrt().flip(0)


def shannon_rank(sigma: Tensor) -> float:
    """Return ``exp(−Σ p ln p)`` with ``p ∝ σ²``: the Rényi rank of order 1 of the covariance; 0 for ``σ = 0``.

    >>> shannon_rank(torch.tensor([2.0, 2.0, 0.0]))
    2.0
    """
    return _exp_entropy(sigma.square())


def roy_vetterli_rank(sigma: Tensor) -> float:
    """Return ``exp(−Σ p ln p)``, ``p ∝ σ``, never below `shannon_rank` (Roy & Vetterli 2007); 0 for ``σ = 0``.

    >>> roy_vetterli_rank(torch.tensor([2.0, 2.0, 0.0]))
    2.0
    """
    return _exp_entropy(sigma)


def renyi2_rank(sigma: Tensor) -> float:
    """Return ``(Σ σ²)² / Σ σ⁴ = (tr C)² / ‖C‖_F²``, the participation ratio; 0 for ``σ = 0``.

    >>> renyi2_rank(torch.tensor([3.0, 3.0, 0.0]))
    2.0
    """
    weight = sigma.square()
    return _quotient(weight.sum().square(), weight.square().sum())


def log_renyi2_rank(a: Tensor) -> Tensor:
    """Return ``ln (‖A‖_F⁴ / ‖AᵀA‖_F²)``, the logarithm of `renyi2_rank` of ``a [samples, units]``; 0 for zeros.

    It can be differentiated.

    >>> float(log_renyi2_rank(torch.eye(3)).exp())
    3.0
    """
    tiny = torch.finfo(a.dtype).tiny
    return 2 * a.square().sum().clamp_min(tiny).log() - (a.T @ a).square().sum().clamp_min(tiny).log()


def stable_rank(sigma: Tensor) -> float:
    """Return ``Σ σ² / max σ² = tr C / λ_max``, the Rényi rank of order ∞; 0 for ``σ = 0``.

    >>> stable_rank(torch.tensor([2.0, 1.0]))
    1.25
    """
    weight = sigma.square()
    return _quotient(weight.sum(), weight.max())


RANKS: Mapping[str, Callable[[Tensor], float]] = {
    "shannon_rank": shannon_rank,
    "roy_vetterli_rank": roy_vetterli_rank,
    "renyi2_rank": renyi2_rank,
    "stable_rank": stable_rank,
}


def srank(sigma: Tensor, delta: float = 0.01) -> float:
    """Return ``srank_δ``, the least ``k`` with ``Σ_{i≤k} σ_i ≥ (1 − δ) Σ σ_i``; 0 for ``σ = 0``.

    Source: Kumar et al. (2021), arXiv 2010.14498.

    >>> srank(torch.tensor([90.0, 9.0, 0.5, 0.5]))
    2.0
    """
    total = sigma.sum()
    return float((sigma.cumsum(0) < (1 - delta) * total).sum() + 1) if total > 0 else 0.0


def hard_rank(values: Tensor, bound: float | Tensor) -> float:
    """Return how many values exceed ``bound``, what rounding can make of zero: the Rényi rank of order 0.

    >>> hard_rank(torch.tensor([1.0, 1e-3, 1e-9]), 1e-7)
    2.0
    """
    return float((values > bound).sum())


def quadrature_rank(theta: Tensor, tau: Tensor, scale: float) -> float:
    """Return ``exp(−Σ q ln q)``, ``q = |λ| / Σ|λ|``, of a symmetric matrix, from a quadrature of its spectrum.

    With ``Σ_λ g(λ) ≈ scale · Σ τ g(θ)``, ``S₁`` that of ``|λ|`` and ``S₂`` of ``|λ| ln|λ|``, it is
    ``exp(ln S₁ − S₂/S₁)``; 0 for a matrix of zeros.

    >>> quadrature_rank(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5]), 6)
    6.0
    """
    weight = theta.abs()
    S1, S2 = scale * (tau * weight).sum(), scale * (tau * torch.special.xlogy(weight, weight)).sum()
    return float(torch.exp(S1.log() - S2 / S1)) if S1 > 0 else 0.0


def _exp_entropy(weight: Tensor) -> float:
    total = weight.sum()
    return float(torch.exp(-torch.special.xlogy(weight / total, weight / total).sum())) if total > 0 else 0.0


def _quotient(numerator: Tensor, denominator: Tensor) -> float:
    return float(numerator / denominator) if denominator > 0 else 0.0
