"""Full rank out of singular correlations, with certificates (claim R4).

If `xᵀ K(C) x = Σ_k c_k² xᵀ C^{∘k} x = 0`, every term vanishes; as `k` grows `C^{∘k} → I` where `|ρ_ij| < 1`, so
that `x = 0` as soon as infinitely many `c_k` are not zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from flint import arb

from theory.activations import AnyActivation, check_not_constant, get, moments
from theory.enclosures import GUARD, dual_kernel_enclosure
from theory.hermite import hermite_coefficients
from theory.rank import one_matrix
from theory.tolerances import float64_identity

Matrix = Sequence[Sequence[Any]]
Balls = list[list[arb]]

ROUNDING = float64_identity(1)  # of a Hermite coefficient, against √E φ²


def polynomial_rank_limit(rank: int, degree: int) -> int:
    """Return the highest rank of `K_φ(C)` over polynomials of degree `m`: `N_m + N_{m−1}`, and `r` for `m = 1`.

    An odd or even polynomial, or one without its second highest Hermite term, has less: `N_m + N_q` with `q` the
    highest degree of the other parity that it has.

    `C^{∘k}` is the Gram matrix of the `N_k = C(r + k − 1, k)` monomials of degree `k` in `r` variables, at points
    of the unit sphere. There `|a|² = 1` turns a monomial of degree `k − 2` into a sum of those of degree `k`: now
    only the highest even and the highest odd degree count, and `Σ_{k≤m} N_k` is not attained beyond `m = 2`.
    The polynomial is standardised; without centring a constant adds one for `m = 1`, and nothing after.

    Args:
        rank: `r ≥ 1`, the rank of `C`.
        degree: `m ≥ 1`.

    Raises:
        ValueError: One of them is below 1.

    >>> polynomial_rank_limit(2, 1), polynomial_rank_limit(2, 3)
    (2, 7)
    """
    for name, value in (("rank", rank), ("degree", degree)):
        if value < 1:
            raise ValueError(f"{name} is {value!r}; allowed are integers ≥ 1")
    return monomials(rank, degree) + (monomials(rank, degree - 1) if degree > 1 else 0)


def monomials(variables: int, degree: int) -> int:
    """Return `N_k = C(r + k − 1, k)`, how many monomials of degree `k` there are in `r` variables.

    >>> monomials(2, 3)  # x³, x²y, xy², y³
    4
    """
    return math.comb(variables + degree - 1, degree)


def least_eigenvalue_bound(C: Any, phi: AnyActivation, degree: int = 400) -> float:
    """Return a lower bound of `λ_min(K_φ(C))` that needs only the largest correlation `β = max |ρ_ij|`.

    By Gershgorin `λ_min(C^{∘k}) ≥ max(0, 1 − (n − 1) βᵏ)`, hence
    `λ_min(K(C)) ≥ Σ_{k≥1} c_k² max(0, 1 − (n − 1) βᵏ)`. Positive for every `β < 1` unless `φ` is a polynomial.
    Terms above `degree` count as that of `degree + 1`, and every coefficient is taken smaller by what rounding may
    have done to it, so that this stays a lower bound where the mean of `φ` is large against its variance.

    Args:
        C: Correlation matrix, shape (n, n).
        phi: An activation, its name, or a callable; it is standardised.
        degree: How many Hermite coefficients to use.

    Raises:
        ValueError: `C` is no correlation matrix, or `phi` cannot be standardised.

    >>> f"{least_eigenvalue_bound([[1.0, 0.5], [0.5, 1.0]], 'square'):.9f}"  # 1 − ρ²
    '0.750000000'
    """
    C, phi = one_matrix(C), get(phi)
    given = moments(phi)
    check_not_constant(phi, given)
    floor = ROUNDING * math.sqrt(given.square / given.variance)
    beta = float(np.abs(C - np.eye(len(C))).max())
    c = hermite_coefficients(phi, degree)[1:] / math.sqrt(given.variance)
    weights = np.where(np.abs(c) > floor, np.maximum(np.abs(c) - floor, 0.0) ** 2, 0.0)
    rest = 1 - (np.abs(c) + floor) @ (np.abs(c) + floor)
    terms = np.maximum(0.0, 1 - (len(C) - 1) * beta ** np.arange(1.0, degree + 2))
    return float(weights @ terms[:-1] + max(rest, 0.0) * terms[-1])


def kernel_matrix(C: Matrix, phi: AnyActivation, prec: int = 64) -> Balls:
    """Return `K_φ(C)` entry by entry as balls, for a rational correlation matrix.

    Args:
        C: Rows of `Fraction` or integers.
        phi: A named activation, or one made from those.
        prec: Bits that are aimed at.

    Raises:
        ValueError: `C` is not square and symmetric with unit diagonal, or clearly not positive semidefinite.

    >>> half = Fraction(1, 2)
    >>> kernel_matrix([[1, half], [half, 1]], "square")[0][1].contains(arb(0.25))
    True
    """
    n = len(C)
    if not n:
        raise ValueError("C is empty; give at least one feature")
    if any(len(row) != n for row in C) or any(
        C[i][j] != (1 if i == j else C[j][i]) for i in range(n) for j in range(i + 1)
    ):
        raise ValueError("C is no correlation matrix: it has to be square and symmetric, with 1 on the diagonal")
    one_matrix([[float(entry) for entry in row] for row in C])
    upper = {(i, j): dual_kernel_enclosure(phi, C[i][j], prec) for i in range(n) for j in range(i, n)}
    return [[upper[min(i, j), max(i, j)] for j in range(n)] for i in range(n)]


def is_certainly_positive_definite(K: Balls) -> bool:
    """Tell whether every symmetric matrix within the balls is positive definite: all pivots of `LDLᵀ` are positive.

    `False` means that this was not shown.

    >>> is_certainly_positive_definite([[arb(2), arb(1)], [arb(1), arb(2)]])
    True
    >>> is_certainly_positive_definite([[arb(1), arb(1)], [arb(1), arb(1)]])
    False
    """
    K = [list(row) for row in K]
    for i in range(len(K)):
        if not K[i][i] > 0:
            return False
        for j in range(i + 1, len(K)):
            factor = K[j][i] / K[i][i]
            K[j] = [a - factor * b for a, b in zip(K[j], K[i], strict=True)]
    return True


def least_eigenvalue(C: Matrix, phi: AnyActivation, prec: int = 64) -> arb:
    """Return a ball that contains `λ_min(K_φ(C))` for a rational correlation matrix `C`.

    From below by pivots of `K − μI` in ball arithmetic, from above by a Rayleigh quotient. Costs `O(n³)` for each
    of about `prec` pivotings.

    Args:
        C: Rows of `Fraction` or integers.
        phi: A named activation, or one made from those.
        prec: Bits of the arithmetic.

    Raises:
        ValueError: `C` is no correlation matrix, or nothing can be proved of `phi`.

    >>> half = Fraction(1, 2)
    >>> least_eigenvalue([[1, half], [half, 1]], "square").str(9, radius=False)
    '0.750000000'
    """
    K = kernel_matrix(C, phi, prec)
    with flint.ctx.workprec(prec + GUARD):
        high = _rayleigh_quotient(K)
        low, gap = high.lower(), arb(2) ** -prec
        while not is_certainly_positive_definite(_shifted(K, low)):
            low, gap = (low - gap).lower(), gap * 4  # two bits a step: prec/2 steps reach from rounding to 1
        return arb(low).union(high)


def _shifted(K: Balls, mu: arb) -> Balls:
    return [[entry - mu if i == j else entry for j, entry in enumerate(row)] for i, row in enumerate(K)]


def _rayleigh_quotient(K: Balls) -> arb:
    """Return `xᵀ K x / xᵀ x ≥ λ_min` at the float64 eigenvector, refined by two steps of inverse iteration."""
    middle = np.array([[float(entry.mid()) for entry in row] for row in K])
    x = flint.arb_mat([[float(entry)] for entry in np.linalg.eigh(middle)[1][:, 0]])
    matrix = flint.arb_mat([[entry.mid() for entry in row] for row in K])
    for _ in range(3):
        try:
            x = matrix.solve(x)
        except ZeroDivisionError:  # singular to this precision: the float64 vector has to do
            break
        size = max(abs(float(x[i, 0].mid())) for i in range(len(K)))
        x = flint.arb_mat([[x[i, 0].mid() / arb(size).mid()] for i in range(len(K))])
    quotient = (x.transpose() * flint.arb_mat(K) * x)[0, 0] / (x.transpose() * x)[0, 0]
    return arb(quotient)


def rational_gram(vectors: Sequence[Sequence[Fraction]]) -> list[list[Fraction]]:
    """Return the Gram matrix of rational vectors of length one: a correlation matrix of rank at most their length.

    Raises:
        ValueError: A vector does not have length one, or they differ in dimension.

    >>> [[str(entry) for entry in row] for row in rational_gram([[1, 0], [Fraction(3, 5), Fraction(4, 5)]])]
    [['1', '3/5'], ['3/5', '1']]
    """
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("the vectors differ in dimension; give each the same number of coordinates")
    G = [[sum((a * b for a, b in zip(u, v, strict=True)), Fraction(0)) for v in vectors] for u in vectors]
    for i, row in enumerate(G):
        if row[i] != 1:
            raise ValueError(f"vector {i} has squared length {row[i]}; give rational points of the unit sphere")
    return G
