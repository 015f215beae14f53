"""Expansions in the normalised probabilists' Hermite polynomials `h_k = He_k/√k!`, orthonormal for the Gaussian."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from theory import gaussian
from theory.activations import AnyActivation, get
from theory.closed_forms import Polynomial
from theory.tolerances import SQUARED_TAIL

Array = np.ndarray[Any, Any]


def hermite_coefficients(phi: AnyActivation, n: int) -> Array:
    """Return `c_k = E φ(Z) h_k(Z)` for `k = 0..n`, so that `K(ρ) = Σ_k c_k² ρᵏ` for the activation as it is.

    Gauss-Legendre on panels that end at the kinks and are as fine as `h_n` oscillates; the error of each
    coefficient is about 1e-15 of `√E φ²`. Those of polynomials are exact but for one rounding.

    Args:
        phi: An activation, its name, or a callable without kinks.
        n: The highest degree.

    Returns:
        float64 of shape (n + 1,).

    Raises:
        ValueError: `n` is negative or no integer, or `φ` is not square integrable under the Gaussian.

    >>> hermite_coefficients("square", 3).tolist()  # z² = √2 h₂ + h₀
    [1.0, 0.0, 1.4142135623730951, 0.0]
    """
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"n is {n!r}; allowed are integers n ≥ 0")
    phi = get(phi)
    if isinstance(phi.kernel, Polynomial):
        means = phi.kernel.means[: n + 1]
        given = [_over_root_factorial(mean, k) for k, mean in enumerate(means)]
        return np.array([*given, *[0.0] * (n + 1 - len(given))])
    f = gaussian.resolve(phi.value, phi.breaks, tail=SQUARED_TAIL)
    x, w = (a.ravel() for a in gaussian.panels(*_finer(f.edges, n)))
    values = w * f.function(x) * np.exp(-x * x / 4) / math.sqrt(2 * math.pi)
    return np.array([values @ h for h in hermite_functions(x, int(n))])


def _over_root_factorial(mean: Fraction, k: int) -> float:
    """Return `mean / √k!` without overflow, from its square."""
    return math.copysign(math.sqrt(mean**2 / math.factorial(k)), mean)


def _finer(edges: Array, n: int) -> tuple[Array, Array]:
    """Return the ends of panels no longer than one oscillation of `h_n`."""
    counts = np.ceil(np.diff(edges) * math.sqrt(n + 1) / 6).astype(int)
    cuts = [np.linspace(a, b, k + 1) for a, b, k in zip(edges, edges[1:], counts, strict=False)]
    return np.concatenate([c[:-1] for c in cuts]), np.concatenate([c[1:] for c in cuts])


def hermite_functions(x: Array, n: int) -> Iterator[Array]:
    """Yield `h_k(x) e^{−x²/4}` for `k = 0..n`, all of them below 1.1 in size.

    From `√(k+1) h_{k+1} = x h_k − √k h_{k−1}`, which is stable.

    Args:
        x: Where, float64 of any shape.
        n: The highest degree.

    >>> [float(h[0]) for h in hermite_functions(np.array([0.0]), 2)]
    [1.0, 0.0, -0.7071067811865475]
    """
    current, previous = np.exp(-x * x / 4), np.zeros_like(x)
    for k in range(n + 1):
        yield current
        current, previous = (x * current - math.sqrt(k) * previous) / math.sqrt(k + 1), current
