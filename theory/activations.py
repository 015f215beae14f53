"""Activations by name, modulated and standardised, and what a standard Gaussian makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from theory import gaussian
from theory.activation_facts import (
    INFINITY,
    Activation,
    AnyActivation,
    Array,
    Number,
    Scaling,
    Strip,
    Symmetry,
    from_callable,
    hermite,
    polynomial,
    unspecified,
)
from theory.catalogue import get, named
from theory.closed_forms import Polynomial
from theory.enclosures import moment_balls
from theory.pieces import Term
from theory.scalars import elementwise, is_ball, rational, root, to_float
from theory.tolerances import CONSTANT, JUMP, KINK

__all__ = [
    "Activation",
    "AnyActivation",
    "Moments",
    "Scaling",
    "Strip",
    "Symmetry",
    "check_not_constant",
    "from_callable",
    "get",
    "hermite",
    "modulate",
    "moments",
    "named",
    "polynomial",
    "resolved",
    "standardise",
    "unspecified",
]


@dataclass(frozen=True)
class Moments:
    """What a standard Gaussian `Z` makes of an activation, in float64.

    Attributes:
        mean: `E f(Z)`.
        square: `E f(Z)²`.
        variance: `E (f(Z) − E f(Z))²`.
        slope_square: `E f'(Z)²`; infinite where `f` jumps.
        linear: `c₁ = E Z f(Z)`.

    >>> given = moments("square")
    >>> given.mean, given.square, given.variance, given.strength
    (1.0, 3.0, 2.0, 1.0)
    """

    mean: float
    square: float
    variance: float
    slope_square: float
    linear: float

    @property
    def linear_share(self) -> float:
        """`c₁² / Var f(Z)`, the share of the variance that is linear."""
        return self.linear**2 / self._nonzero(self.variance)

    @property
    def strength_raw(self) -> float:
        """`α = E f'² / E f² − 1` of the activation as it is."""
        return self.slope_square / self._nonzero(self.square) - 1

    @property
    def strength(self) -> float:
        """`α = E f'² / Var f − 1` of the centred activation."""
        return self.slope_square / self._nonzero(self.variance) - 1

    def _nonzero(self, size: float) -> float:
        if size == 0:
            raise ValueError(
                f"the activation is constant (mean {self.mean:.3g}, variance {self.variance:.3g}): it has no "
                "linear share and no strength"
            )
        return size


@lru_cache(maxsize=4096)
def modulate(phi: AnyActivation, a: Number, b: Number = 0) -> Activation:
    """Return `z ↦ φ(a z + b)`, with every fact of `φ` that survives.

    Args:
        phi: An activation, its name, or a callable.
        a: Gain; not zero.
        b: Shift.

    Raises:
        ValueError: `a` is zero, or one of them is not finite.

    >>> modulate("relu", 2, -1).value([0.0, 1.0]).tolist()
    [0.0, 1.0]
    """
    phi, gain, shift = get(phi), rational(a), rational(b)
    if not gain:
        raise ValueError("a is 0: φ(b) is a constant, not a modulation of φ; give a ≠ 0")

    def inner(z: Array) -> Array:
        z = np.asarray(z)
        if z.dtype != object:
            return float(gain) * z + float(shift)
        return elementwise(Term((shift, gain)))(z)

    def slope(z: Array) -> Array:
        z = np.asarray(z)
        outer = phi.slope(inner(z))
        return float(gain) * outer if z.dtype != object else elementwise(Term((Fraction(0), gain)))(outer)

    centred = not shift
    return Activation(
        f"{phi.name}({_short(gain)}·z{'' if centred else f' + {_short(shift)}'})",
        lambda z: phi.value(inner(z)),
        slope,
        kinks=tuple(sorted((kink - float(shift)) / float(gain) for kink in phi.kinks)),
        scaling=phi.scaling if centred else None,
        flat=tuple(_preimage(interval, float(gain), float(shift)) for interval in phi.flat),
        range=phi.range,
        symmetry=phi.symmetry if centred else None,
        degree=phi.degree if centred else None,
        tails=phi.tails,
        kernel=phi.kernel.compose(gain, shift) if phi.kernel else None,
        pieces=phi.pieces.compose(gain, shift) if phi.pieces else None,
        strip=phi.strip.compose(gain, shift) if phi.strip else None,
    )


def _short(number: Fraction) -> str:
    """Return the rational, or the shortest float that equals it."""
    return str(number) if number.denominator < 1000 else repr(float(number))


def _preimage(interval: tuple[float, float], a: float, b: float) -> tuple[float, float]:
    low, high = sorted(((interval[0] - b) / a, (interval[1] - b) / a))
    return low, high


@lru_cache(maxsize=4096)
def standardise(phi: AnyActivation) -> Activation:
    """Return `(φ − E φ)/√Var φ`, which has mean 0 and variance 1 under the standard Gaussian.

    On Arb balls the moments are enclosures; on SymPy expressions they are exact where the dual kernel is
    elementary.

    Raises:
        ValueError: `φ` is constant, or not square integrable under the Gaussian.

    >>> standardise("square").value([0.0, 1.0]).tolist()  # (z² − 1)/√2
    [-0.7071067811865475, 0.0]
    """
    phi = get(phi)
    if phi.origin:
        return phi
    floats = moments(phi)
    check_not_constant(phi, floats)

    def affine(function: Callable[[Array], Array], centre: bool) -> Callable[[Array], Array]:
        def applied(z: Array) -> Array:
            z = np.asarray(z)
            if z.dtype != object:
                return (function(z) - centre * floats.mean) / math.sqrt(floats.variance)
            mean, deviation = _moments_like(phi, z.flat[0]) if z.size else (0, 1)
            return (function(z) - (mean if centre else 0)) / deviation

        return applied

    low, high = ((end - floats.mean) / math.sqrt(floats.variance) for end in phi.range)
    centred = floats.mean == 0 or phi.symmetry == "odd"
    return Activation(
        f"standardised {phi.name}",
        affine(phi.value, True),
        affine(phi.slope, False),
        kinks=phi.kinks,
        scaling=phi.scaling if centred else None,
        flat=phi.flat,
        range=(low, high),
        symmetry=phi.symmetry,
        degree=phi.degree if centred else None,
        tails=phi.tails,
        origin=phi,
    )


def _moments_like(phi: Activation, z: Any) -> tuple[Any, Any]:
    """Return `E φ` and `√Var φ` as scalars that combine with `z`."""
    if is_ball(z):
        mean, square = moment_balls(phi)
        return mean, (square - mean * mean).sqrt()
    if isinstance(z, sympy.Basic) and phi.kernel:
        at_zero, at_one = (sympy.simplify(phi.kernel.formula(sympy.Integer(k))) for k in (0, 1))
        return sympy.simplify(phi.kernel.mean(sympy.Integer(0))), root(at_one - at_zero)
    raise TypeError(
        f"the moments of {phi.name!r} are not known exactly as {type(z).__name__}; use floats or Arb balls"
    )


@lru_cache(maxsize=4096)
def moments(phi: AnyActivation) -> Moments:
    """Return the Gaussian moments of an activation, by quadrature split at its kinks.

    The error is about 1e-14 of `√E φ²`; for slopes by interpolation (`from_callable` without `slope`) about 1e-10.

    Raises:
        ValueError: It is not square integrable under the Gaussian.

    >>> f"{moments('relu').mean:.12f}"  # 1/√(2π)
    '0.398942280401'
    """
    phi = get(phi)
    if isinstance(phi.kernel, Polynomial):
        return _polynomial_moments(phi.kernel)
    f = resolved(phi)
    mean = 0.0 if phi.symmetry == "odd" else gaussian.expectation(f.function, f)
    return Moments(
        mean=mean,
        square=gaussian.expectation(lambda z: f.function(z) ** 2, f),
        variance=gaussian.expectation(lambda z: (f.function(z) - mean) ** 2, f),
        slope_square=INFINITY if _jumps(f) else gaussian.expectation(lambda z: phi.slope(z) ** 2, f),
        linear=0.0 if phi.symmetry == "even" else gaussian.expectation(lambda z: z * f.function(z), f),
    )


def _polynomial_moments(kernel: Polynomial) -> Moments:
    """Return the moments of a polynomial, exact but for one rounding: `E φ'² = K'(1) = Σ k c_k²`."""
    mean, shares = kernel.means[0], kernel.shares
    given = Moments(
        mean=to_float(mean),
        square=to_float(Fraction(sum(shares))),
        variance=to_float(Fraction(sum(shares[1:]))),
        slope_square=to_float(Fraction(sum(k * share for k, share in enumerate(shares)))),
        linear=to_float(kernel.means[1]) if len(kernel.means) > 1 else 0.0,
    )
    if not math.isfinite(given.square + given.slope_square):
        raise ValueError(
            f"the moments of a polynomial of degree {len(shares) - 1} are too large for float64; scale it down"
        )
    return given


@lru_cache(maxsize=1024)
def resolved(phi: Activation) -> gaussian.Resolved:
    """Return the activation with the panels on which it is smooth.

    >>> resolved(get("relu")).kinks
    (0.0,)
    """

    def value(z: Array) -> Array:
        return phi.value(z)

    value.__name__ = phi.name
    return gaussian.resolve(value, phi.breaks)


def _jumps(f: gaussian.Resolved) -> bool:
    """Tell whether the function is discontinuous at a kink."""
    kinks = np.array(f.kinks)
    near = KINK * (1 + np.abs(kinks))
    leap = np.abs(f.function(kinks + near) - f.function(kinks - near))
    return bool((leap > JUMP * (1 + np.abs(f.function(kinks)))).any())


def check_not_constant(phi: Activation, given: Moments) -> None:
    """Check that an activation varies by more than rounding: `√Var φ > 64 eps √E φ²`.

    Args:
        phi: The activation, for its name.
        given: Its moments.

    Raises:
        ValueError: It does not, so that it cannot be standardised.

    >>> check_not_constant(get("one"), moments("one"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: the activation 'one' is constant (variance 0 at mean 1), so it cannot be standardised; ...
    """
    if given.variance <= CONSTANT**2 * given.square:
        raise ValueError(
            f"the activation {phi.name!r} is constant (variance {given.variance:.3g} at mean {given.mean:.3g}), so "
            "it cannot be standardised; use standardised=False, or an activation that varies"
        )
