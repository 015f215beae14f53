"""Strength `α` of a nonlinearity: how fast its kernel leaves 1, with what is left of the expansion bounded.

`K(ρ) = Σ_k c_k² ρᵏ` is convex on [0, 1], so that `1 − K(1−ε)/K(1) = (1 + α) ε − R(ε)` with `R ≥ 0`. Smooth
activations have `R ≤ K''(1) ε²/(2 K(1))`; every kink of the activation adds a term of order `ε^{3/2}`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from flint import arb

from theory import gaussian
from theory.activations import INFINITY, Activation, AnyActivation, Strip, get, moments, standardise
from theory.derivatives import Derivative, derivative
from theory.enclosures import GUARD, end_balls
from theory.kernels import dual_kernel_derivative
from theory.pieces import Part, Pieces, Reciprocal, Term

Array = np.ndarray[Any, Any]

PER_KINK = 2 / (3 * math.sqrt(math.pi))
APART = math.exp(-0.5) / (math.sqrt(2) * math.pi)


@dataclass(frozen=True)
class NearIdentity:
    """What `1 − K(1−ε)/K(1)` is for small `ε`.

    Attributes:
        prediction: `(1 + α) ε − k ε^{3/2}`, of the shape of `ε`.
        error: It is off by at most this, of the shape of `ε`.
    """

    prediction: Any
    error: Any


def near_identity(phi: AnyActivation, eps: Any, *, standardised: bool = True) -> NearIdentity:
    """Return `(1 + α) ε − k ε^{3/2}` and a bound on its distance from `1 − K(1−ε)/K(1)`.

    `K''` is `E g(X) g(Y) + 2 Σ_j J_j γ(κ_j) P_ρ g(κ_j) + Σ_ij J_i J_j p(κ_i, κ_j; ρ)`, where
    `φ'' = g + Σ_j J_j δ(z − κ_j)`; integrated twice from 1, the diagonal of the last sum gives `k`
    (`kink_coefficient`), and the rest at most

        error · E φ² = ½ ε² (E g² + 2 G Σ_j |J_j| γ(κ_j) + Σ_{i≠j} |J_i J_j| e^{−1/2}/(√2 π |κ_i − κ_j|))
                       + (4/15) ε^{5/2} Σ_j J_j² γ(κ_j) max(½, κ_j²)/√(2π),     G = sup |g|.

    Args:
        phi: A named activation, or one made from those; a callable's second derivative is not known.
        eps: In [0, 1], of any shape.
        standardised: Whether to centre the activation first.

    Raises:
        ValueError: An `ε` is outside [0, 1]; `φ` jumps, or has kinks and an unbounded second derivative; or only
            its first derivative is known (`bracket` needs no more).

    >>> near = near_identity("square", 0.5)  # K(ρ) = ρ²: 1 − K(1 − ε) = 2 ε − ε²
    >>> near.prediction, near.error
    (1.0, 0.25)
    """
    phi, eps = get(phi), checked(eps)
    of, size = _second(phi), _size(phi, standardised)
    linear = moments(_origin(phi)).slope_square / size
    prediction = linear * eps - kink_coefficient(phi, standardised=standardised) * eps**1.5
    quadratic = _square(of) + 2 * _supremum(of) * sum(abs(J) * _density(k) for k, J in of.jumps)
    quadratic += sum(abs(J * M) * APART / abs(k - m) for k, J in of.jumps for m, M in of.jumps if m != k)
    higher = sum(J * J * _density(k) * max(0.5, k * k) for k, J in of.jumps) / math.sqrt(2 * math.pi)
    return NearIdentity(prediction, (quadratic * eps**2 / 2 + 4 / 15 * higher * eps**2.5) / size)


def kink_coefficient(phi: AnyActivation, *, standardised: bool = True) -> float:
    """Return `k = 2/(3√π) · Σ_j J_j² γ(κ_j) / E φ²`, the coefficient of `−ε^{3/2}` in `1 − K(1−ε)/K(1)`.

    `J_j` is the jump of `φ'` at `κ_j`. As `ρ → 1`, `p(κ, κ; ρ) ~ γ(κ)/(2√π √(1−ρ))`, and two integrations of
    `(1−ρ)^{−1/2}` give `(4/3) ε^{3/2}`. For ReLU `k = 2√2/(3π)` as it is.

    Raises:
        ValueError: `φ` jumps, or only its first derivative is known.

    >>> f"{kink_coefficient('relu', standardised=False):.6f}", kink_coefficient("tanh")  # 2√2/(3π)
    ('0.300105', 0.0)
    """
    phi = get(phi)
    jumps = _second(phi).jumps
    return PER_KINK * sum(J * J * _density(k) for k, J in jumps) / _size(phi, standardised)


def bracket(phi: AnyActivation, eps: Any, *, standardised: bool = True) -> tuple[Any, Any]:
    """Return bounds on `1 − K(1−ε)/K(1)` from convexity alone: `ε K'(1−ε)/K(1)` and `ε K'(1)/K(1)`.

    Args:
        phi: An activation, its name, or a callable without kinks.
        eps: In [0, 1], of any shape.
        standardised: Whether to centre the activation first.

    Raises:
        ValueError: An `ε` is outside [0, 1], or the activation is constant.

    >>> bracket("square", 0.5)  # around 3/4
    (0.5, 1.0)
    """
    phi, eps = get(phi), checked(eps)
    size = _size(phi, standardised)
    slope = dual_kernel_derivative(_origin(phi), 1 - eps, standardised=False)
    return eps * slope / size, eps * moments(_origin(phi)).slope_square / size


def strength_enclosure(phi: AnyActivation, prec: int = 64) -> tuple[arb, arb]:
    """Return balls that contain `α = E f'²/E f² − 1` of the activation as it is, and of the centred one.

    The slope of an activation that is analytic in a strip of width `w` is analytic in half of it, where it is at
    most the bound on `φ` over `w/2` (Cauchy).

    Args:
        phi: A named activation, or one made from those.
        prec: Bits that are aimed at.

    Raises:
        ValueError: Nothing is known of the activation, or of its slope (softsign), that could be proved; or it
            jumps, or is constant to `prec` bits.

    >>> raw, centred = strength_enclosure("square")  # 4/3 − 1 and 4/2 − 1
    >>> (3 * raw).contains(1), centred.contains(1)
    (True, True)
    """
    phi = _origin(get(phi))
    if derivative(phi, 1).jumps:
        raise ValueError(f"the activation {phi.name!r} jumps, so that its strength is infinite")
    with flint.ctx.workprec(prec + GUARD):
        (mean_square, square), (_, slope_square) = end_balls(phi, prec), end_balls(_slope(phi), prec)
        if not square > mean_square:
            raise ValueError(
                f"the activation {phi.name!r} is constant to {prec} bits, so its strength is not known; raise "
                "prec, or use an activation that varies"
            )
        return slope_square / square - 1, slope_square / (square - mean_square) - 1


def checked(eps: Any) -> Any:
    """Return `ε` as a float64 array, or as a float if it is a scalar.

    Raises:
        ValueError: One is outside [0, 1], or NaN.

    >>> checked([0.5, 1]).tolist(), checked(0)
    ([0.5, 1.0], 0.0)
    """
    given = np.asarray(eps, dtype=np.float64)
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError(
            f"eps is {eps!r}; allowed are numbers in [0, 1], so that correlations 1 − ε are not negative"
        )
    return given if given.ndim else float(given)


def _slope(phi: Activation) -> Activation:
    regular = derivative(phi, 1).regular
    if phi.pieces or not phi.strip:
        return regular
    half = phi.strip.width / 2
    strip = Strip(half, phi.strip.offset / half + phi.strip.growth, phi.strip.growth / half)
    return replace(regular, strip=strip)


def _second(phi: Activation) -> Derivative:
    phi = _origin(phi)
    if moments(phi).slope_square == INFINITY:
        raise ValueError(f"the activation {phi.name!r} jumps, so that its strength is infinite")
    return derivative(phi, 2)


def _origin(phi: Activation) -> Activation:
    return phi.origin or phi


def _size(phi: Activation, standardised: bool) -> float:
    """Return `K(1)` of the activation as it is, or centred."""
    given = moments(_origin(phi))
    standardised = standardised or phi.origin is not None
    if standardised:
        standardise(phi)
    elif given.square == 0:
        raise ValueError(f"the activation {phi.name!r} vanishes, so that its correlations are not defined")
    return given.variance if standardised else given.square


def _square(of: Derivative) -> float:
    return 0.0 if of.regular.range == (0.0, 0.0) else moments(of.regular).square


def _supremum(of: Derivative) -> float:
    """Return at least `sup |g|` where there are kinks, else 0, for it is not needed then."""
    if not of.jumps or of.regular.range == (0.0, 0.0):
        return 0.0
    pieces = of.regular.pieces or Pieces((), ((Term((Fraction(0),)),),))
    bound = max(_largest(low, high, part) for low, high, part in pieces.intervals)
    if bound == INFINITY:
        raise ValueError(f"{of.regular.name!r} is unbounded, and there are kinks: no bound is known; use `bracket`")
    return bound


def _largest(low: Fraction | None, high: Fraction | None, part: Part) -> float:
    """Return at least the supremum of a sum of terms over an interval."""
    start, stop = -INFINITY if low is None else float(low), INFINITY if high is None else float(high)
    return sum(_largest_term(term, start, stop) for term in part)


def _largest_term(term: Term | Reciprocal, low: float, high: float) -> float:
    if isinstance(term, Reciprocal):
        return abs(float(term.c))
    if not any(term.polynomial):
        return 0.0
    rate, reach = float(term.rate), max(abs(low), abs(high))
    top = max(rate * low, rate * high) if rate else 0.0
    degree = max(j for j, c in enumerate(term.polynomial) if c)
    if top == INFINITY or (degree and reach == INFINITY):
        return INFINITY
    return sum(abs(float(c)) * reach**j for j, c in enumerate(term.polynomial) if c) * math.exp(
        top + float(term.shift)
    )


def _density(z: float) -> float:
    return float(gaussian.density(np.array(z)))
