"""The two ends of the spectrum of a symmetric operator, by Lanczos' method with full reorthogonalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
NEGLIGIBLE = 8


class End(NamedTuple):
    """An approximate eigenpair: ``value = vᵀAv`` of a unit vector ``v``, and ``residual = ‖Av − value v‖``.

    Within ``residual`` of ``value`` there is an eigenvalue; the end of the spectrum lies at ``value`` or beyond.
    """

    value: float
    residual: float
    vector: Tensor


def ends(operator: Operator, start: Tensor, iterations: int) -> tuple[End, End]:
    """Return the lowest and the highest eigenpair that a Krylov space shows, each measured with one more product.

    After ``k`` steps ``Q`` has orthonormal columns and ``QᵀAQ`` is tridiagonal; its extreme eigenvectors ``s`` give
    ``v = Q s``. Takes ``iterations + 2`` products, or fewer where the space is exhausted.

    Args:
        operator: symmetric, on flat vectors.
        start: a unit vector; only the part of the space that it generates is seen.
        iterations: at most.

    Source: Lanczos (1950); Parlett (1980), chapter 13.
    """
    Q, alpha, beta = tridiagonal(operator, start, iterations)
    _, S = torch.linalg.eigh(torch.diag(alpha) + torch.diag(beta, 1) + torch.diag(beta, -1))
    low, high = (_measured(operator, S[:, k].to(Q) @ Q) for k in (0, -1))
    return low, high


def tridiagonal(operator: Operator, start: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return an orthonormal basis of the Krylov space as rows, with the operator's diagonal and off-diagonal."""
    Q, alpha, beta = start.new_empty(iterations, len(start)), [], []
    Q[0] = start
    for k in range(iterations):
        w = operator(Q[k])
        size = float(w.norm())
        alpha.append(_inner(Q[k], w))
        w = _orthogonal(_orthogonal(w, Q[: k + 1]), Q[: k + 1])
        rest = float(w.norm())
        if k + 1 == iterations or not rest > NEGLIGIBLE * torch.finfo(w.dtype).eps * size:
            break
        beta.append(rest)
        Q[k + 1] = w / rest
    diagonal, beside = (torch.tensor(found, dtype=torch.float64) for found in (alpha, beta))
    return Q[: len(alpha)], diagonal, beside


def _orthogonal(w: Tensor, Q: Tensor) -> Tensor:
    return w - (Q @ w) @ Q


def _measured(operator: Operator, v: Tensor) -> End:
    v = v / v.norm()
    image = operator(v)
    value = _inner(v, image)
    return End(value, float((image - value * v).norm()), v)


def _inner(x: Tensor, y: Tensor) -> float:
    """Return ``xᵀy``, summed in float64."""
    return float(torch.dot(x.double(), y.double()))
