"""Norms of parameters and gradients, and how alike the gradients of single samples are.

With the gradients ``g_i`` of ``n`` samples, everything reads their products ``K_ij = g_i · g_j``, ``[n, n]``.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from torch_experiments.support.precision import exact

PART = 2**15  # entries in float64 at once: they stay in the cache, six times faster than a copy of a large layer


def norm(tensors: Iterable[Tensor]) -> float:
    """Return ``‖·‖₂``, the Euclidean norm of all tensors together, summed in float64; 0 for none.

    >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
    5.0
    """
    squares = [torch.dot(part, part).cpu() for x in tensors for part in map(exact, _entries(x).split(PART))]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _entries(x: Tensor) -> Tensor:
    return (x.coalesce().values() if x.is_sparse else x).detach().reshape(-1)


def gradient_diversity(K: Tensor) -> float | None:
    """Return ``Σ‖g_i‖² / ‖Σ g_i‖²``: ``1/n`` for equal gradients, 1 for orthogonal ones; None if they cancel.

    Source: Yin et al. (2018), arXiv 1706.05699.

    >>> gradient_diversity(torch.ones(4, 4)), gradient_diversity(torch.eye(4))
    (0.25, 1.0)
    """
    return float(K.trace() / K.sum()) if float(K.sum()) else None


def gradient_cosine(K: Tensor) -> float:
    """Return the mean of ``cos(g_i, g_j)`` over pairs of different samples; 0 with a sample without gradient.

    Source: Lyle et al. (2023), arXiv 2303.01486 (gradient covariance, normalised).

    >>> gradient_cosine(torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    0.5
    """
    norms = K.diagonal().clamp_min(torch.finfo(K.dtype).tiny).sqrt()
    cosines = K / torch.outer(norms, norms)
    return float((cosines.sum() - cosines.trace()) / (len(K) * (len(K) - 1)))
