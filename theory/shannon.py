"""Shannon effective rank of equicorrelated features, before and after a nonlinearity.

`C = (1 − ε) 1 1ᵀ + ε I` of size `n` has the eigenvalues `n (1 − δ)`, `δ = (1 − 1/n) ε`, and `ε`, `n − 1` times. The
entropy of the normalised ones is `H(ε) = δ ln(n/ε) − (1 − δ) ln(1 − δ)`, with `H'(ε) = (1 − 1/n) ln(n (1 − δ)/ε)`;
a nonlinearity replaces `ε` by `ε' = 1 − K(1 − ε)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from flint import arb

from theory.activations import AnyActivation, get, moments
from theory.enclosures import GUARD, dual_kernel_enclosure
from theory.kernels import dual_kernel
from theory.scalars import like, rational, transcendental
from theory.strength import checked, near_identity

Array = np.ndarray[Any, Any]

_log = transcendental("log")


def equicorrelation_entropy(eps: Any, n: int) -> Any:
    """Return `H(ε)` of floats in [0, 1], balls or SymPy expressions; `exp H` is the Shannon effective rank.

    Args:
        eps: `ε`; floats of any shape.
        n: Size of the matrix, ≥ 2.

    Raises:
        ValueError: `n < 2`, or a float is outside [0, 1].

    >>> equicorrelation_entropy(0.0, 3), f"{equicorrelation_entropy(1.0, 3):.9f}"  # 0 and ln 3
    (0.0, '1.098612289')
    """
    _check(n)
    if isinstance(eps, (float, int, np.ndarray, np.floating)):
        return _float_entropy(np.asarray(checked(eps)), n)
    delta = eps * (n - 1) / n
    return delta * _log(n / eps) - (1 - delta) * _log(1 - delta)


def shannon_rank(eps: Any, n: int) -> Any:
    """Return the Shannon effective rank `exp H(ε)` of the equicorrelation matrix `1 − ε` of size `n`, float64.

    Arguments and errors as `equicorrelation_entropy`.

    >>> f"{shannon_rank(1.0, 5):.9f}"
    '5.000000000'
    """
    return np.exp(equicorrelation_entropy(eps, n))


def shannon_gain(phi: AnyActivation, eps: Any, n: int) -> Any:
    """Return `ln(er(K(C))/er(C)) = H(1 − K(1 − ε)) − H(ε)` for the standardised activation.

    Float64; as `ε → 0` the digits of `1 − K(1 − ε)` go, about `1e-16/ε` relatively.

    Args:
        phi: An activation, its name, or a callable without kinks.
        eps: `ε` in [0, 1], of any shape.
        n: Size of `C`.

    Raises:
        ValueError: As `equicorrelation_entropy` and `dual_kernel`.

    >>> shannon_gain("linear", 0.5, 2), shannon_gain("square", 0.5, 2) > 0
    (0.0, True)
    """
    eps = checked(eps)
    after = np.clip(1 - np.asarray(dual_kernel(phi, 1 - eps)), eps, 1.0)
    return equicorrelation_entropy(after, n) - equicorrelation_entropy(eps, n)


def shannon_gain_enclosure(phi: AnyActivation, eps: float | Fraction, n: int, prec: int = 64) -> arb:
    """Return a ball that contains `ln(er(K(C))/er(C))`.

    Args:
        phi: As for `dual_kernel_enclosure`.
        eps: In (0, 1); a float is taken as the rational that it is.
        n: Size of `C`.
        prec: Bits that are aimed at for the kernel.

    Raises:
        ValueError: `ε` is not in (0, 1), or so small that `prec` bits do not tell `K(1 − ε)` from 1; or as
            `dual_kernel_enclosure`.

    >>> float(shannon_gain_enclosure("square", Fraction(1, 2), 2).rad()) < 1e-15
    True
    """
    exact = rational(eps)
    if not 0 < exact < 1:
        raise ValueError(f"eps is {eps}; allowed are rationals in (0, 1)")
    with flint.ctx.workprec(prec + GUARD):
        after = 1 - dual_kernel_enclosure(phi, 1 - exact, prec)
        gain = equicorrelation_entropy(after, n) - equicorrelation_entropy(like(exact, after), n)
        if not gain.is_finite():
            raise ValueError(f"eps is {eps}, too small for prec = {prec} bits to tell K(1 − ε) from 1; raise prec")
        return gain


@dataclass(frozen=True)
class GainExpansion:
    """First order of `ln(er(K(C))/er(C))`.

    Attributes:
        published: `α ε ln(n/ε)`, the logarithm's share; never below the gain.
        prediction: `(1 − 1/n) ε (α ln(n/ε) + α − (1 + α) ln(1 + α))`.
        low: The gain is at least this.
        high: The gain is at most this: `(1 − 1/n) α ε ln(n/ε)`, or the prediction if `(1 + α) ε ≤ 1`.
    """

    published: Any
    prediction: Any
    low: Any
    high: Any


def gain_expansion(phi: AnyActivation, eps: Any, n: int) -> GainExpansion:
    """Return the first-order expansion of the gain of the standardised activation, with bounds.

    With `ε' = (1 + α) ε − R`, `0 ≤ R ≤ R̄` (`theory.strength`), and `H(ε) = (1 − 1/n) ε (ln(n/ε) + 1) + q(δ)`,
    `q(δ) = −(1 − δ) ln(1 − δ) − δ`, the gain falls short of the prediction by at most

        (1 − 1/n) R̄ ln(n/((1 + α) ε − R̄)) + α δ · (−ln(1 − (1 + α) δ)),     (1 + α) ε ≤ 1,

    and is never below 0 nor above `(1 − 1/n) α ε ln(n/ε)`, since `ε ≤ ε' ≤ (1 + α) ε`.

    Raises:
        ValueError: As `near_identity`; or an `ε` is 0.

    Args:
        phi: As `near_identity`.
        eps: `ε` in (0, 1], of any shape.
        n: Size of `C`.

    Source: JL25, section 5, corrected (claim R7).

    >>> found = gain_expansion("square", 0.01, 10)
    >>> bool(found.low <= shannon_gain("square", 0.01, 10) <= found.high <= found.published)
    True
    """
    _check(n)
    eps, alpha = np.asarray(checked(eps)), moments(get(phi).origin or get(phi)).strength
    if not (eps > 0).all():
        raise ValueError("eps contains 0, where there is nothing to expand: give numbers in (0, 1]")
    log, share = np.log(n / eps), 1 - 1 / n
    prediction = share * eps * (alpha * log + alpha - (1 + alpha) * np.log1p(alpha))
    small = (1 + alpha) * eps <= 1
    high = np.where(small, prediction, share * alpha * eps * log)
    low = np.where(small, np.maximum(prediction - _shortfall(phi, eps, n, alpha), 0), 0.0)
    return GainExpansion(alpha * eps * log, prediction, low, high)


def _shortfall(phi: AnyActivation, eps: Array, n: int, alpha: float) -> Array:
    """Return how far below the prediction the gain may be; infinite where the bound on `R` is of no use."""
    near = near_identity(phi, eps)
    after = np.asarray(near.prediction - near.error)
    remainder, share = (1 + alpha) * eps - after, 1 - 1 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        curved = -alpha * share * eps * np.log1p(-(1 + alpha) * share * eps)
        lost = np.where(after > 0, share * remainder * np.log(n / after), np.inf)
    return np.asarray(lost + curved)


def _float_entropy(eps: Array, n: int) -> Any:
    delta = (1 - 1 / n) * eps
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(eps > 0, delta * np.log(n / np.where(eps > 0, eps, 1.0)), 0.0)
    value = spread - (1 - delta) * np.log1p(-delta)
    return value if value.ndim else float(value)


def _check(n: int) -> None:
    if not isinstance(n, (int, np.integer)) or n < 2:
        raise ValueError(f"n is {n!r}; allowed are integers n ≥ 2")
