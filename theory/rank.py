"""Measures of rank, and what an activation does to them (JL25, Theorem 3.1; claims R1 to R4 and R8 to R13).

A measure of rank counts the directions that a positive semidefinite matrix `C` fills. With `p = λ/Σλ` the
eigenvalues as shares, the exponentials of the Rényi entropies of `p` are

    stable_rank  ≤  renyi2_rank  ≤  shannon_rank  ≤  hard_rank        (orders ∞, 2, 1, 0),

with equality anywhere only if all non-zero eigenvalues are equal. `roy_vetterli_rank` and `srank` read singular
values of activations instead and are other numbers; nothing here is called "the" effective rank.

Arrays of NumPy and tensors of torch, of any precision and on any device, are measured alike in float64; what
rounding is forgiven depends on the type in which they come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import entr

from theory.activations import (
    Activation,
    AnyActivation,
    check_not_constant,
    from_callable,
    get,
    moments,
    standardise,
)
from theory.kernels import dual_kernel
from theory.tolerances import EPS, HALVES, float64_identity, matrix_entry, zero_eigenvalue

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ranks:
    """Four measures of rank, from the smallest to the largest: numbers, or arrays for a stack of matrices.

    Attributes:
        stable: Order ∞.
        renyi2: Order 2.
        shannon: Order 1.
        hard: Order 0, an integer.
    """

    stable: Any
    renyi2: Any
    shannon: Any
    hard: Any


def ranks(C: Any) -> Ranks:
    """Return all four measures of positive semidefinite matrices, shape (..., n, n).

    Raises:
        TypeError, ValueError: As `stable_rank`.

    >>> found = ranks(np.diag([2.0, 1.0, 1.0]))
    >>> f"{found.stable:.4f} {found.renyi2:.4f} {found.shannon:.4f} {found.hard}"
    '2.0000 2.6667 2.8284 3'
    """
    return _ranks(shares(C), zero_eigenvalue(C))


def stable_rank(C: Any) -> Any:
    """Return `tr C / λ_max`, the Rényi rank of order ∞.

    Of a matrix of activations `H` it is `‖H‖_F² / ‖H‖₂²` with `C = Hᵀ H`.

    Args:
        C: Positive semidefinite, shape (..., n, n); of float32, bfloat16 and float16 their
            own rounding is forgiven.

    Returns:
        float64 of shape (...).

    Raises:
        TypeError: `C` is complex or no array of numbers.
        ValueError: `C` is not square, finite, symmetric and positive semidefinite (to rounding), or is zero.

    Source: Rudelson and Vershynin 2007.

    >>> f"{stable_rank(np.diag([2.0, 1.0, 1.0])):.4f}"
    '2.0000'
    """
    return _stable(shares(C))


def renyi2_rank(C: Any) -> Any:
    """Return `er₂(C) = (tr C)² / ‖C‖_F²`, the Rényi rank of order 2, known as participation ratio.

    Arguments, result and errors as `stable_rank`. The `er₂` of JL25, Theorem 3.1.

    >>> f"{renyi2_rank(np.diag([2.0, 1.0, 1.0])):.4f}"  # 16/6
    '2.6667'
    """
    return _renyi2(shares(C))


def shannon_rank(C: Any) -> Any:
    """Return `exp(−Σ p ln p)` with `p` the eigenvalues as shares, the Rényi rank of order 1.

    Arguments, result and errors as `stable_rank`.

    >>> f"{shannon_rank(np.diag([2.0, 1.0, 1.0])):.4f}"  # √8
    '2.8284'
    """
    return _shannon(shares(C))


def hard_rank(C: Any, rtol: float | None = None) -> Any:
    """Return how many eigenvalues are above `rtol · λ_max`, the Rényi rank of order 0.

    Args:
        C: Positive semidefinite, shape (..., n, n).
        rtol: By default what rounding leaves of an eigenvalue that is zero in the type of `C`: `64 n eps`, and
            `2 √n eps` in bfloat16 and float16.

    Returns:
        int64 of shape (...).

    Raises:
        ValueError: As `stable_rank`; or `rtol` is not in [0, 1).

    >>> int(hard_rank([[1.0, 1.0], [1.0, 1.0]])), int(hard_rank(np.diag([1.0, 1e-3]), rtol=0.01))
    (1, 1)
    """
    if rtol is not None and not 0 <= rtol < 1:
        raise ValueError(f"rtol is {rtol!r}; allowed are shares of the largest eigenvalue, 0 ≤ rtol < 1")
    return _count(shares(C, rtol or 0.0), zero_eigenvalue(C) if rtol is None else rtol)


def _ranks(p: Array, rtol: float) -> Ranks:
    found = Ranks(_stable(p), _renyi2(p), _shannon(p), _count(p, rtol))
    return found if p.ndim > 1 else Ranks(*(number.item() for number in vars(found).values()))


def _stable(p: Array) -> Any:
    return 1 / p.max(axis=-1)


def _renyi2(p: Array) -> Any:
    return 1 / (p**2).sum(axis=-1)


def _shannon(p: Array) -> Any:
    return np.exp(entr(p).sum(axis=-1))


def _count(p: Array, rtol: float) -> Any:
    return (p > rtol * p.max(axis=-1, keepdims=True)).sum(axis=-1)


def roy_vetterli_rank(H: Any) -> Any:
    """Return `exp(−Σ q ln q)` with `q ∝ σ`, the singular values of activations.

    Never below `shannon_rank(HᵀH)`, where the shares are `p ∝ σ²`.

    Args:
        H: Activations, of shape (..., samples, units).

    Returns:
        float64 of shape (...).

    Raises:
        TypeError: `H` is complex or no array of numbers.
        ValueError: `H` is not a finite matrix, or is zero.

    Source: Roy and Vetterli 2007.

    >>> f"{roy_vetterli_rank(np.diag([3.0, 3.0, 0.0])):.4f}"
    '2.0000'
    """
    sigma = _singular_values(H)
    return np.exp(entr(sigma / sigma.sum(axis=-1, keepdims=True)).sum(axis=-1))


def srank(H: Any, delta: float = 0.01) -> Any:
    """Return the least `k` with `Σ_{i≤k} σ_i ≥ (1 − δ) Σ_i σ_i`, the singular values in descending order.

    Args:
        H: Activations, of shape (..., samples, units).
        delta: The share of the sum that may be left out, `0 ≤ δ < 1`.

    Raises:
        ValueError: `H` is not a finite matrix, or is zero; or `delta` is out of range.

    Source: Kumar et al. 2021.

    >>> int(srank(np.diag([90.0, 9.5, 0.5])))
    2
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta is {delta!r}; allowed are shares 0 ≤ delta < 1")
    sigma = _singular_values(H)
    missing = np.flip(np.cumsum(np.flip(sigma, axis=-1), axis=-1), axis=-1)  # what is left out before each k
    return 1 + (missing[..., 1:] > (delta + EPS * sigma.shape[-1]) * missing[..., :1]).sum(axis=-1)


def rank_gain(C: Any, phi: AnyActivation) -> Any:
    """Return `er₂(K_φ(C)) / er₂(C)`, at least 1: what one activation does to the rank of order 2.

    Args:
        C: Correlation matrix of jointly Gaussian pre-activations, shape (..., n, n).
        phi: An activation, its name, or a callable; it is standardised.

    Raises:
        ValueError: `C` is no correlation matrix, or `phi` cannot be standardised.

    Source: JL25, Theorem 3.1 (R1).

    >>> float(rank_gain([[1.0, 0.5], [0.5, 1.0]], "square"))  # K(ρ) = ρ²: (1 + 1/4)/(1 + 1/16)
    1.1764705882352942
    """
    C = correlation_matrix(C)
    return _squares(C) / _squares(dual_kernel(phi, C))


def rank_gain_bound(C: Any, phi: AnyActivation | float) -> Any:
    """Return the least `rank_gain` that any activation with this linear share can have on `C`; never below 1.

    With `c₁²` the linear share, the mass `1 − c₁²` that is left is worst in a single Hermite polynomial, and the
    worst ones are the second and the third:
    `er₂(K(C)) ≥ n² / max_{k ∈ {2, 3}} Σ_ij (c₁² ρ_ij + (1 − c₁²) ρ_ijᵏ)²`, where the diagonal counts too. It is
    attained by `c₁ h₁ + √(1 − c₁²) h_k`, so that nothing better depends on `c₁` and `C` alone (R2).

    Args:
        C: Correlation matrix, shape (..., n, n).
        phi: The activation, or its linear share `c₁²/Var φ` in [0, 1].

    Raises:
        ValueError: `C` is no correlation matrix, or the share is not in [0, 1].

    Source: JL25, Theorem 3.1, made sharp (R2).

    >>> float(rank_gain_bound([[1.0, 0.5], [0.5, 1.0]], 0.0))  # attained by He₂
    1.1764705882352942
    """
    C, a = correlation_matrix(C), linear_share(phi)
    worst = np.maximum(_squares(a * C + (1 - a) * C**2), _squares(a * C + (1 - a) * C**3))
    return _squares(C) / worst


def published_gain_bound(C: Any, phi: AnyActivation | float) -> Any:
    """Return the published lower bound on the rank gain, `1 + γ Ψ(C)/‖C‖_F²`; never above `rank_gain_bound`.

    Args:
        C: Correlation matrix, float64 of shape (..., n, n).
        phi: The activation, or its linear share in [0, 1].

    Raises:
        ValueError: As `rank_gain_bound`.

    Source: JL25, Theorem 3.1 of the third version (R9).

    >>> float(published_gain_bound([[1.0, 0.5], [0.5, 1.0]], 0.0))  # the sharp bound is 1.176
    1.15
    """
    C = correlation_matrix(C)
    return 1 + nonlinearity(phi) * undecided(C) / _squares(C)


def nonlinearity(phi: AnyActivation | float) -> float:
    """Return `γ = (1 − K'(0))/(1 + K'(0))`, in [0, 1]: 0 for linear activations, 1 where `E φ' = 0`.

    `K'(0) = c₁²/Var φ` is the linear share. A large γ says that the mean slope is small, not that slopes are (R12).

    Args:
        phi: An activation, its name, a callable, or its linear share in [0, 1].

    Raises:
        ValueError: As `linear_share`.

    Source: JL25, Theorem 3.1 of the third version (R9).

    >>> f"{nonlinearity('relu'):.6f}", nonlinearity("square")
    ('0.153754', 1.0)
    """
    share = linear_share(phi)
    return (1 - share) / (1 + share)


def undecided(C: Any) -> Any:
    """Return `Ψ(C) = Σ_{i≠j} C_ij² (1 − C_ij²)`: zero where all units are orthogonal or duplicates up to sign.

    Args:
        C: Correlation matrix, float64 of shape (..., n, n).

    Raises:
        ValueError: `C` is no correlation matrix.

    Source: JL25, Theorem 3.1 of the third version (R9).

    >>> float(undecided([[1.0, 0.5], [0.5, 1.0]]))
    0.375
    """
    C = correlation_matrix(C)
    return _squares(C) - _squares(C**2)


def decorrelation_strength(phi: AnyActivation) -> float:
    """Return `κ = max_{0≤ρ≤1} (ρ² − K_φ(ρ)²)`: how much one correlation can lose at most, squared.

    The maximum is sought on 1,001 points and then refined between the neighbours of the best one. A larger κ does
    not mean a larger rank gain on one and the same matrix (R11).

    Args:
        phi: An activation, its name, or a callable; it is standardised.

    Raises:
        ValueError: `phi` cannot be standardised.

    Source: JL25, Theorem 3.1 as submitted.

    >>> f"{decorrelation_strength('square'):.6f}"  # ρ² − ρ⁴ at ρ² = 1/2
    '0.250000'
    """
    grid = np.linspace(0.0, 1.0, 1001)
    best = int(np.argmax(grid**2 - dual_kernel(phi, grid) ** 2))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 1000)]
    found = minimize_scalar(
        lambda rho: float(dual_kernel(phi, rho)) ** 2 - rho**2, bounds=(low, high), method="bounded"
    )
    return max(-float(found.fun), 0.0)


def linear_share(phi: AnyActivation | float) -> float:
    """Return `c₁² / Var φ` of an activation; a number is checked and returned.

    Args:
        phi: An activation, its name, a callable, or a share in [0, 1].

    Raises:
        ValueError: The number is not in [0, 1], or the activation is constant.

    >>> f"{linear_share('relu'):.6f}", linear_share("square")  # (1/4)/(1/2 − 1/(2π)), and no linear part
    ('0.733471', 0.0)
    """
    if isinstance(phi, (int, float, Fraction, np.number)) or getattr(phi, "shape", None) == ():
        share = float(cast(float, phi))
    else:
        phi = get(phi)
        check_not_constant(phi, moments(phi))
        share = moments(phi).linear_share
    if not 0 <= share <= 1 + float64_identity():
        raise ValueError(f"phi is the linear share {phi!r}; allowed are shares in [0, 1], or an activation")
    return min(share, 1.0)


def one_matrix(C: Any) -> Array:
    """Return one correlation matrix as float64, checked.

    Raises:
        ValueError: As `correlation_matrix`, or it is a stack of them.

    >>> one_matrix([[1, 0], [0, 1]]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if np.ndim(C) > 2:
        raise ValueError(
            f"C has shape {np.shape(C)}; this function takes one matrix: call it for each of the stack"
        )
    return correlation_matrix(C)


def predict_rank(C: Any, phi: AnyActivation) -> Ranks:
    """Return the measures of rank of `K_φ(C)`: of post-activations, in the limit of many samples.

    Args:
        C: Correlation matrix of jointly Gaussian pre-activations, shape (n, n).
        phi: An activation, its name, or a callable; it is standardised.

    Raises:
        ValueError: As `rank_gain`.

    >>> f"{predict_rank([[1.0, 0.5], [0.5, 1.0]], 'square').renyi2:.4f}"
    '1.8824'
    """
    p = shares(dual_kernel(phi, one_matrix(C)), math.inf)  # negative ones are rounding: of C, which was checked
    return _ranks(p, zero_eigenvalue(C))


def predict_sampled_rank(C: Any, phi: AnyActivation, samples: int) -> float:
    """Return `er₂` of the second moments of `N` independent samples of `φ(X)`, `X ~ N(0, C)`, to leading order.

    `Ĝ = HᵀH/N` has `E Ĝ_ij² = K_ij² + v_ij/N` with `v_ij = E φ(X_i)²φ(X_j)² − K_ij²`: sampling alone lowers the
    rank. The result is `n² / Σ_ij (K_ij² + v_ij/N)`; what is left out is of order `1/N` relative, too, but does not
    grow with `n`.

    Args:
        C: Correlation matrix, shape (n, n).
        phi: An activation, its name, or a callable with `E φ⁴ < ∞`; it is standardised.
        samples: `N ≥ 1`.

    Raises:
        ValueError: As `rank_gain`, or `samples < 1`.

    >>> f"{predict_sampled_rank(np.eye(4), 'relu', 10):.2f} {predict_sampled_rank(np.eye(4), 'relu', 10**6):.2f}"
    '2.30 4.00'
    """
    if not isinstance(samples, (int, np.integer)) or samples < 1:
        raise ValueError(f"samples is {samples!r}; allowed are integers ≥ 1")
    C, phi = one_matrix(C), get(phi)
    K, fourth = dual_kernel(phi, C), dual_kernel(_square(phi), C, standardised=False)
    return float(len(C) ** 2 / (K**2 + (fourth - K**2) / samples).sum())


def _square(phi: Activation) -> Activation:
    """Return `z ↦ φ(z)²` of the standardised activation."""
    standard = standardise(phi)
    return from_callable(_Squared(standard.value), phi.breaks, name=f"{standard.name}²")


@dataclass(frozen=True)
class _Squared:
    function: Callable[[Array], Array]

    def __call__(self, z: Array) -> Array:
        return self.function(z) ** 2


def shares(C: Any, slack: float = 0.0) -> Array:
    """Return the eigenvalues of positive semidefinite matrices as shares `λ/Σλ`, ascending.

    Args:
        C: Shape (..., n, n).
        slack: Shares down to minus this count as zero, beside what rounding explains.

    Raises:
        ValueError: `C` is not square, finite, symmetric and positive semidefinite (to rounding), or is zero.

    >>> [f"{p:.2f}" for p in shares(np.diag([3.0, 1.0]))]
    ['0.25', '0.75']
    """
    matrix = _symmetric(C)
    eigenvalues = np.linalg.eigvalsh(matrix / (np.abs(matrix).max() or 1.0))
    trace = eigenvalues.sum(axis=-1, keepdims=True)
    if not (trace > 0).all():
        raise ValueError("C is zero or negative, so it has no rank to measure; drop features that never vary")
    p = eigenvalues / trace
    _check_semidefinite(p, max(slack, matrix_entry(C)))
    return np.asarray(np.maximum(p, 0.0))


def correlation_matrix(C: Any) -> Array:
    """Return `C` as float64, checked: symmetric, unit diagonal, positive semidefinite, to rounding of its type.

    Args:
        C: Shape (..., n, n), for instance `np.corrcoef(H.T)` of activations `H` of shape (samples, units).

    Raises:
        ValueError: It is no correlation matrix; the message says in what and, where there is one, the fix.

    >>> correlation_matrix([[1.0, 0.5], [0.5, 1.0]]).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    slack, C = matrix_entry(C), _symmetric(C)
    diagonal = np.diagonal(C, axis1=-2, axis2=-1)
    if np.abs(diagonal - 1).max() > slack:
        worst = float(diagonal.flat[np.abs(diagonal - 1).argmax()])
        raise ValueError(
            f"C has {worst!r} on its diagonal; a correlation matrix has 1 there: divide a covariance by "
            "√(C_ii C_jj), or use np.corrcoef(H.T) for activations H of shape (samples, units)"
        )
    _check_semidefinite(np.linalg.eigvalsh(C) / C.shape[-1], slack)
    C = np.clip(C, -1.0, 1.0)
    index = np.arange(C.shape[-1])
    C[..., index, index] = 1.0
    return C


def _symmetric(C: Any) -> Array:
    matrix = _real(C, "C")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or not matrix.size:
        raise ValueError(f"C has shape {matrix.shape}; allowed are square matrices, shape (..., n, n) with n ≥ 1")
    if not np.isfinite(matrix).all():
        raise ValueError(
            "C contains NaN or infinity; a feature that never varies has no correlation: drop it first"
        )
    scale = float(np.abs(matrix).max()) or 1.0
    if np.abs(matrix - np.swapaxes(matrix, -1, -2)).max() > scale * matrix_entry(C):
        raise ValueError(
            "C is not symmetric; of activations H, shape (samples, units), give np.corrcoef(H.T) or H.T @ H; use "
            "(C + Cᵀ)/2 if it is a covariance and ought to be symmetric"
        )
    return matrix


def _check_semidefinite(p: Array, slack: float) -> None:
    """Check shares of eigenvalues; the slack is what rounding of the entries may do to them."""
    lowest = float(p.min())
    if lowest < -slack:
        raise ValueError(
            f"C is not positive semidefinite: one eigenvalue is {lowest:.3g} of the trace; a sample covariance of "
            "complete data always is, one with entries from different samples need not be; pass what was computed "
            "in float32 as float32"
        )


def _squares(C: Array) -> Array:
    return np.asarray((C * C).sum(axis=(-2, -1)))


def _real(values: Any, name: str) -> Array:
    """Return numbers of NumPy or torch as a fresh float64 array.

    Raises:
        TypeError: They are complex, or no numbers; a masked entry is none.
    """
    if np.ma.is_masked(values):
        raise TypeError(f"{name} has masked entries; fill or drop them first")
    given = values if hasattr(values, "detach") else np.asarray(values)
    imaginary = "complex" in str(given.dtype)
    if imaginary or (getattr(given.dtype, "kind", "f") not in "biufO" and given.dtype.name not in HALVES):
        raise TypeError(f"{name} holds {given.dtype}; real numbers are needed" + " (pass .real?)" * imaginary)
    if not isinstance(given, np.ndarray):  # of torch: it may have a graph, be elsewhere, or of a type NumPy lacks
        given = given.detach().cpu().double().numpy()
    return np.array(given, dtype=np.float64)


def _singular_values(H: Any) -> Array:
    matrix = _real(H, "H")
    if matrix.ndim < 2 or not matrix.size:
        raise ValueError(f"H has shape {matrix.shape}; allowed are activations of shape (..., samples, units)")
    if not np.isfinite(matrix).all():
        raise ValueError("H contains NaN or infinity; drop the samples or units that do")
    sigma = np.linalg.svd(matrix / (np.abs(matrix).max() or 1.0), compute_uv=False)
    if not (sigma[..., 0] > 0).all():
        raise ValueError("H is zero, so it has no rank to measure")
    return np.asarray(sigma)
