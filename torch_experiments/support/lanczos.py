"""Lanczos' method with full reorthogonalisation: the ends of a spectrum, and quadrature over it.

A symmetric ``A`` is seen through products with vectors alone. From a unit vector ``v`` the method builds
orthonormal rows ``Q`` that span ``v, Av, …, A^{k−1}v``, in which ``T = Q A Qᵀ`` is tridiagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from theory.tolerances import KRYLOV

Operator = Callable[[Tensor], Tensor]


class End(NamedTuple):
    """An approximate eigenpair: ``value = vᵀAv`` of a unit vector ``v``, and ``residual = ‖Av − value v‖``.

    Within ``residual`` of ``value`` there is an eigenvalue; the end of the spectrum lies at ``value`` or beyond.
    """

    value: float
    residual: float
    vector: Tensor


class Krylov(NamedTuple):
    """Orthonormal ``basis``, rows ``[k, n]``, and ``T``: its ``diagonal [k]`` and ``beside [k − 1]``, float64."""

    basis: Tensor
    diagonal: Tensor
    beside: Tensor

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Return the eigenvalues of ``T``, ascending, and its eigenvectors as columns; float64, on the CPU."""
        T = torch.diag(self.diagonal) + torch.diag(self.beside, 1) + torch.diag(self.beside, -1)
        values, vectors = torch.linalg.eigh(T)
        return values, vectors


def ends(operator: Operator, start: Tensor, iterations: int) -> tuple[End, End]:
    """Return the lowest and the highest eigenpair that a Krylov space shows, each measured with one more product.

    Extreme eigenvectors ``s`` of ``T`` give ``v = Qᵀs``. Takes ``iterations + 2`` products, or fewer where the
    space is exhausted.

    Args:
        operator: symmetric, on flat vectors ``[n]``.
        start: a unit vector ``[n]``; only the part of the space that it generates is seen.
        iterations: at most.

    Source: Lanczos (1950); Parlett (1980), chapter 13.

    >>> A = torch.diag(torch.tensor([3.0, 1.0, -2.0]))
    >>> [round(end.value, 4) for end in ends(A.mv, torch.ones(3) / 3**0.5, 3)]
    [-2.0, 3.0]
    """
    space = krylov(operator, start, iterations)
    _, S = space.eigen()
    low, high = (_measured(operator, S[:, k].to(space.basis) @ space.basis) for k in (0, -1))
    return low, high


def quadrature(operator: Operator, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return Ritz values ``θ``, ascending, and weights ``τ`` of a symmetric ``A``, float64, on the CPU.

    ``vᵀ g(A) v ≈ Σ τ_k g(θ_k)`` for the unit vector ``v``, exact for polynomials ``g`` of degree below twice the
    ``iterations``; the largest ``θ`` approaches the largest eigenvalue from below. Arguments as of `ends`.

    Source: Golub & Meurant (2010), Matrices, Moments and Quadrature.

    >>> theta, tau = quadrature(torch.diag(torch.tensor([3.0, 1.0])).mv, torch.tensor([0.6, 0.8]), 2)
    >>> [[round(x, 4) for x in part.tolist()] for part in (theta, tau)]
    [[1.0, 3.0], [0.64, 0.36]]
    """
    theta, vectors = krylov(operator, start, iterations).eigen()
    return theta, vectors[0].square()


def krylov(operator: Operator, start: Tensor, iterations: int) -> Krylov:
    """Return the Krylov space of a unit vector, of ``iterations`` dimensions or where it is exhausted.

    The memory is ``iterations`` vectors, in the dtype of ``start``.
    """
    most = min(iterations, len(start))
    Q, diagonal, beside = start.new_empty(most, len(start)), [], []
    Q[0] = start
    for k in range(most):
        w = operator(Q[k])
        size = float(w.norm())
        diagonal.append(_inner(Q[k], w))
        w = _orthogonal(_orthogonal(w, Q[: k + 1]), Q[: k + 1])  # once would leave rounding, which grows
        rest = float(w.norm())
        if k + 1 == most or not rest > KRYLOV * torch.finfo(w.dtype).eps * size:
            break
        beside.append(rest)
        Q[k + 1] = w / rest
    T = (torch.tensor(found, dtype=torch.float64) for found in (diagonal, beside))
    return Krylov(Q[: len(diagonal)], *T)


def _orthogonal(w: Tensor, Q: Tensor) -> Tensor:
    return w - (Q @ w) @ Q


def _measured(operator: Operator, v: Tensor) -> End:
    v = v / v.norm()
    image = operator(v)
    value = _inner(v, image)
    return End(value, float((image - value * v).norm()), v)


def _inner(x: Tensor, y: Tensor) -> float:
    """Return ``xᵀy``, summed in float64: small eigenvalues drown in a float32 sum over millions of parameters."""
    return float(torch.dot(x.double(), y.double()))
