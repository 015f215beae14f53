"""The dual kernel `K(ρ) = E φ(X) φ(Y)` of an activation, for a million correlations as well as for one.

Elementary kernels are evaluated as they stand (`theory.closed_forms`). Every other one is interpolated once, in
`t = (2/π) arcsin ρ`: as a function of the angle the kernel is smooth up to both ends also for kinked activations.
The node values come from quadrature split at the kinks (`theory.gaussian`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import flint
import numpy as np
from flint import arb

from theory import gaussian
from theory.activations import Activation, AnyActivation, Moments, check_not_constant, get, moments, resolved
from theory.closed_forms import ClosedForm, Polynomial
from theory.derivatives import Derivative, derivative
from theory.enclosures import (
    PRECISION,
    certifiable,
    closed_form_balls,
    dual_kernel_enclosure,
    end_balls,
)
from theory.hermite import hermite_coefficients
from theory.loops import chebyshev_sum, fill, fill_polynomial, pin
from theory.scalars import nearest, to_float
from theory.tolerances import EPS, LEAST_SHARE, NODE, RESOLVED, VANISHED, correlation

__all__ = [
    "dual_kernel",
    "dual_kernel_derivative",
    "dual_kernel_enclosure",
    "hermite_coefficients",
    "report",
]

Array = np.ndarray[Any, Any]
Fill = Callable[[Array, Array], None]

BLOCK = 12288  # correlations at a time: 96 KB an array, so that the arrays of a block stay in cache
DEGREES = (16, 32, 64, 128, 256, 512, 1024)  # each has the nodes of the one before


@dataclass(frozen=True)
class Evaluator:
    """What is left of an activation once its kernel is known.

    Attributes:
        fill: Writes the kernel at a block of float64 correlations into a second array of the same shape.
        ends: Its exact values at −1, 0 and 1, in float64.
    """

    fill: Fill
    ends: tuple[float, float, float]


def dual_kernel(phi: AnyActivation, rho: Any, *, standardised: bool = True) -> Any:
    """Return `K(ρ) = E φ(X) φ(Y)` for standard Gaussians `X, Y` with correlation `ρ`.

    With `standardised`, `φ` is replaced by `(φ − E φ)/√Var φ`, so that `K(0) = 0` and `K(1) = 1`, both exactly. The
    absolute error is at most 1e-12, up to and at `ρ = ±1`; `tests/theory/test_enclosures.py` holds it against
    enclosures.

    Args:
        phi: An activation, its name, or a callable without kinks (`from_callable` takes kinks).
        rho: Correlations in [−1, 1], of any shape; beyond by at most 64 eps of their type they count as ±1.
        standardised: Whether to centre and scale the activation.

    Returns:
        float64 of the shape of `rho`; a float for a scalar.

    Raises:
        TypeError: `rho` is complex, masked, ragged or not numeric.
        ValueError: A correlation is NaN or beyond ±1; `phi` is unknown, not square integrable under the Gaussian,
            or to be standardised and constant, or nearly so that float64 leaves fewer than 12 digits.

    Source: JL25, section 5 (K1); Cho and Saul 2009 and Williams 1997 for the first closed forms.

    >>> f"{dual_kernel('relu', 0.5, standardised=False):.12f}"  # (sin θ + (π − θ) cos θ)/(2π) at θ = π/3
    '0.304498890522'
    """
    correlations = checked_correlations(rho)
    return _evaluated(evaluator(get(phi), standardised), correlations, np.shape(rho))


def dual_kernel_derivative(phi: AnyActivation, rho: Any, order: int = 1, *, standardised: bool = True) -> Any:
    """Return `K⁽ᵐ⁾(ρ) = E φ⁽ᵐ⁾(X) φ⁽ᵐ⁾(Y)`, Price's theorem read as a program.

    Where `φ⁽ᵐ⁻¹⁾` jumps, `φ⁽ᵐ⁾ = g + Σ_j J_j δ(z − κ_j)` and the point masses add
    `2 Σ_j J_j γ(κ_j) P_ρ g(κ_j) + Σ_ij J_i J_j p(κ_i, κ_j; ρ)`, infinite at `|ρ| = 1` where `p` is.

    Args:
        phi: An activation, its name, or a callable without kinks.
        rho: Correlations in [−1, 1], of any shape.
        order: `m ≥ 0`. A callable has order 1 at most; a kinked activation has one order more than continuous
            derivatives, plus one.
        standardised: Whether to centre and scale the activation.

    Returns:
        float64 of the shape of `rho`; a float for a scalar.

    Raises:
        TypeError: `rho` is complex.
        ValueError: As `dual_kernel`; or the order is negative, or too high for this activation.

    Source: Price 1958.

    >>> float(dual_kernel_derivative("relu", 0.0, standardised=False))  # P(X > 0, Y > 0)
    0.25
    """
    if not isinstance(order, (int, np.integer)) or order < 0:
        raise ValueError(f"order is {order!r}; allowed are integers order ≥ 0")
    if order == 0:
        return dual_kernel(phi, rho, standardised=standardised)
    phi = get(phi)
    correlations = checked_correlations(rho)
    of = derivative(phi, int(order))
    value = _evaluated(evaluator(of.regular, False), correlations, correlations.shape)
    if of.jumps:
        value = value + _point_masses(of, correlations)
    value = value / (_variance(phi) if standardised else 1.0)
    return float(value[0]) if np.ndim(rho) == 0 else value.reshape(np.shape(rho))


def checked_correlations(rho: Any) -> Array:
    """Return correlations as a contiguous float64 array of one axis, clipped to [−1, 1].

    Args:
        rho: Real numbers, of any shape.

    Raises:
        TypeError: They are complex, masked, ragged or no numbers.
        ValueError: One is NaN, or beyond ±1 by more than 64 eps of its type.

    >>> checked_correlations([[0.5], [1 + 1e-15]]).tolist()
    [0.5, 1.0]
    """
    flat, slack = _real(rho)
    if not flat.size:
        return flat
    low, high = float(flat.min()), float(flat.max())
    if low >= -1 and high <= 1:
        return flat
    if math.isnan(low):
        raise ValueError("rho contains NaN; a constant feature has no correlation: drop it first")
    if low < -1 - slack or high > 1 + slack:
        worst = low if -low > high else high
        raise ValueError(
            f"rho contains {worst!r}; allowed are correlations in [−1, 1] (up to {slack:.1e} for rounding)"
        )
    return np.clip(flat, -1.0, 1.0)


def _real(rho: Any) -> tuple[Array, float]:
    """Return real numbers as a float64 array of one axis, and how far rounding may carry them beyond ±1."""
    if isinstance(rho, np.ma.MaskedArray):
        raise TypeError("rho is a masked array; pass rho.compressed(), or rho.filled(0) for its shape")
    try:
        given = np.asarray(rho)
    except ValueError:
        raise TypeError("rho is ragged; give correlations in an array or in lists of equal length") from None
    objects = list(given.flat) if given.dtype == object else []
    if np.iscomplexobj(given) or any(isinstance(r, complex) for r in objects):
        raise TypeError(
            "rho is complex; correlations are real numbers in [−1, 1]: pass rho.real if it is what you mean"
        )
    try:
        if given.dtype.kind not in "biufO" or None in objects:
            raise TypeError
        flat = np.ascontiguousarray(given, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise TypeError(
            f"rho holds {given.dtype} such as {given.flat[0]!r}; give real numbers in [−1, 1]"
        ) from None
    return flat, correlation(given.dtype)


@lru_cache(maxsize=512)
def evaluator(phi: Activation, standardised: bool) -> Evaluator:
    """Return the kernel of an activation, ready for arrays; built once and kept.

    Args:
        phi: An activation.
        standardised: Whether it is to be centred and scaled.

    Raises:
        ValueError: The activation is not square integrable under the Gaussian, or constant and to be standardised.

    >>> evaluator(get("tanh"), True).ends
    (-1.0, 0.0, 1.0)
    """
    if phi.origin:
        return evaluator(phi.origin, True)
    if phi.kernel:
        low, zero, one = closed_form_balls(phi.kernel)
        if not standardised or one < 100 * (one - zero):  # else K(ρ) − K(0) loses more than two digits
            return _closed(phi, phi.kernel, (low, zero, one), standardised)
    if standardised:
        _check_digits(phi)
    series, given = interpolant(phi), moments(phi)
    shift, scale = (0.0, 1.0) if standardised else (given.mean**2, given.variance)

    def write(rho: Array, out: Array) -> None:
        chebyshev_sum(np.arcsin(rho), 2 / math.pi, series.coefficients, shift, scale, out)

    return Evaluator(write, (shift + scale * series.at_minus_one, shift, shift + scale))


def _closed(phi: Activation, kernel: ClosedForm, ends: tuple[arb, arb, arb], standardised: bool) -> Evaluator:
    """Return the evaluator of an elementary kernel.

    Raises:
        ValueError: The kernel, or the factor that standardises it, is beyond float64.
    """
    low, zero, one = ends
    with flint.ctx.workprec(PRECISION):
        shift, scale = (zero, 1 / (one - zero)) if standardised else (arb(0), arb(1))
        at = [nearest((end - shift) * scale) for end in (low, zero, one)]
        offset, factor = nearest(shift), nearest(scale)
    weights = _weights(kernel, standardised) if isinstance(kernel, Polynomial) else np.array([offset, factor])
    if not np.isfinite([*at, *weights]).all():
        raise ValueError(
            f"the {'variance' if standardised else 'kernel'} of the activation {phi.name!r} is too small or too "
            "large for float64; use dual_kernel_enclosure, or scale the activation"
        )
    ends_in_floats = (at[0], at[1], at[2])
    if isinstance(kernel, Polynomial):
        return Evaluator(lambda rho, out: fill_polynomial(rho, weights, out), ends_in_floats)
    return Evaluator(lambda rho, out: fill(kernel, rho, out, offset, factor), ends_in_floats)


def _weights(kernel: Polynomial, standardised: bool) -> Array:
    """Return the coefficients of a polynomial's kernel, divided by the variance before they are rounded."""
    constant, *shares = kernel.shares
    if standardised:
        variance = sum(shares)
        constant, shares = Fraction(0), [share / variance for share in shares]
    return np.array([to_float(share) for share in (constant, *shares)])


def _check_digits(phi: Activation) -> None:
    """Check that the standardised kernel can be had to 12 digits.

    Raises:
        ValueError: The activation is nearly constant, and nothing is known of it but its float64 values.
    """
    if certifiable(phi):
        return
    check_not_constant(phi, moments(phi))
    share = _share(moments(phi))
    if share < LEAST_SHARE:
        raise ValueError(
            f"the activation {phi.name!r} is nearly constant: it varies by {share:.1e} of its size, so float64 "
            "leaves its standardised kernel fewer than 12 digits; subtract the constant, or use standardised=False"
        )


@dataclass(frozen=True)
class Interpolant:
    """`K(ρ) = Σ_n coefficients[n] T_n((2/π) arcsin ρ)` of the standardised activation, and `K(−1)`.

    Attributes:
        coefficients: float64 of shape (degree + 1,), degree ≤ 1024.
        at_minus_one: `E f(Z) f(−Z)`; ±1 exactly for even and odd activations.
    """

    coefficients: Array
    at_minus_one: float


@lru_cache(maxsize=512)
def interpolant(phi: Activation) -> Interpolant:
    """Return the kernel of the standardised activation as a Chebyshev series in `t = (2/π) arcsin ρ`.

    Raises:
        ValueError: The activation is not square integrable under the Gaussian, or not resolved.

    >>> len(interpolant(get("silu")).coefficients) < 64
    True
    """
    parity, given = {"odd": -1, "even": 1}.get(phi.symmetry or "", 0), moments(phi)
    f, node, noise = _standardised(phi), None, NODE / max(_share(given), EPS)
    if _share(given) < LEAST_SHARE and certifiable(phi):
        node, noise = partial(_certified_node, phi), 0.0
    at_minus_one = float(parity) or (node(math.pi) if node else gaussian.reflected(f))
    known = {0.0: 1.0, 1.0: at_minus_one}
    return Interpolant(
        chebyshev_series(node or partial(gaussian.correlated, f), known, parity, noise), at_minus_one
    )


def _certified_node(phi: Activation, theta: float) -> float:
    """Return `K(cos θ)` from its enclosure, for an activation so near a constant that float64 loses its digits."""
    with flint.ctx.workprec(4 * PRECISION):
        rho = arb(theta).cos() if theta < math.pi else arb(-1)
        return nearest(dual_kernel_enclosure(phi, rho, 80))


def _share(given: Moments) -> float:
    """Return `√(Var φ / E φ²)`; rounding of `φ` moves its standardised form by `eps` over it."""
    return math.sqrt(given.variance / given.square) if given.square else 0.0


def chebyshev_series(
    node: Callable[[float], float], known: dict[float, float], parity: int = 0, noise: float = 0.0
) -> Array:
    """Return the coefficients of a function of the angle `θ ∈ [0, π]` in `T_n(1 − 2θ/π)`.

    The degree is doubled, keeping all values, until the last eighth of the coefficients is below 1e-14 of the
    largest, or below the noise.

    Args:
        node: The function, for `0 < θ < π`.
        known: Its values at `θ = 0` and `θ = π`, as `{0.0: …, 1.0: …}`; the others are added.
        parity: 1 or −1 if the value at `π − θ` is that at `θ` times this, else 0.
        noise: How far rounding moves the coefficients.

    Raises:
        ValueError: 1024 polynomials are not enough.

    >>> c = chebyshev_series(math.cos, {0.0: 1.0, 1.0: -1.0}, parity=-1)
    >>> f"{sum(c):.12f}"  # the value at θ = 0
    '1.000000000000'
    """
    for degree in DEGREES:
        for j in range(degree + 1):
            place = j / degree
            if place not in known:
                mirrored = parity and 1 - place in known
                theta = math.pi * (1 - math.cos(math.pi * place)) / 2
                known[place] = parity * known[1 - place] if mirrored else node(theta)
        values = [known[j / degree] for j in range(degree + 1)]
        coefficients = np.fft.rfft([*values, *values[-2:0:-1]]).real / degree
        coefficients[[0, -1]] /= 2
        size = np.abs(coefficients).max()
        if np.abs(coefficients[-degree // 8 :]).max() <= max(RESOLVED * size, noise):
            kept = np.flatnonzero(np.abs(coefficients) > VANISHED * size)
            return coefficients[: kept[-1] + 1] if kept.size else coefficients[:1]
    raise ValueError(
        f"the kernel is not resolved by {DEGREES[-1]} Chebyshev polynomials: the activation has a kink that is not "
        "given (from_callable takes kinks), is singular or so steep that it nearly jumps, or its kinks almost "
        "coincide with each other or with mirror images"
    )


def _standardised(phi: Activation) -> gaussian.Resolved:
    given, f = moments(phi), resolved(phi)
    deviation = math.sqrt(given.variance) or 1.0
    return gaussian.Resolved(lambda z: (phi.value(z) - given.mean) / deviation, f.edges, f.kinks)


def _variance(phi: Activation) -> float:
    if phi.kernel or (certifiable(phi) and _share(moments(phi)) < LEAST_SHARE):
        with flint.ctx.workprec(PRECISION):
            at_zero, at_one = end_balls(phi, PRECISION)
            return nearest(at_one - at_zero)
    check_not_constant(phi, moments(phi))
    return moments(phi).variance


def _evaluated(of: Evaluator, rho: Array, shape: tuple[int, ...]) -> Any:
    out = np.empty_like(rho)
    with np.errstate(under="ignore"):
        for start in range(0, rho.size, BLOCK):
            block = slice(start, start + BLOCK)
            of.fill(rho[block], out[block])
            pin(rho[block], out[block], *of.ends)
    return float(out[0]) if shape == () else out.reshape(shape)


def _point_masses(of: Derivative, rho: Array) -> Array:
    """Return what point masses of `φ⁽ᵐ⁾` add to the regular part of `K⁽ᵐ⁾`."""
    value = np.zeros_like(rho)
    for knot, jump in of.jumps:
        value += sum(jump * leap * pair_density(knot, other, rho) for other, leap in of.jumps)
        if of.regular.range != (0.0, 0.0):
            value += 2 * jump * float(gaussian.density(np.array(knot))) * _conditional_mean(of.regular, knot, rho)
    return value


def pair_density(x: float, y: float, rho: Array) -> Array:
    """Return the density of two Gaussians of correlation `ρ` at `(x, y)`; its limit 0 or infinity at `|ρ| = 1`.

    `p(x, y; ρ) = exp(−(x² − 2ρxy + y²)/(2(1 − ρ²)))/(2π√(1 − ρ²))`; the exponent is summed as
    `(x ∓ y)²/(2(1 − ρ²)) ± xy/(1 + |ρ|)`, which keeps its digits as `ρ → ±1`.

    Args:
        x, y: Numbers.
        rho: Correlations in [−1, 1], float64 of any shape.

    >>> [f"{p:.6f}" for p in pair_density(0.0, 0.0, np.array([0.0, 0.6, 1.0]))]
    ['0.159155', '0.198944', 'inf']
    """
    r, same = np.abs(rho), np.where(rho < 0, -y, y)
    square, gap = (1 - r) * (1 + r), (x - same) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.where(gap == 0, 0.0, gap / (2 * square)) + x * same / (1 + r)
        inside = np.exp(-exponent) / (2 * math.pi * np.sqrt(square))
    return np.asarray(np.where(square > 0, inside, np.where(gap == 0, np.inf, 0.0)))


def _conditional_mean(g: Activation, x: float, rho: Array) -> Array:
    """Return `P_ρ g(x) = E[g(Y) | X = x]` for an array of correlations, by interpolation in the angle."""
    f, out = resolved(g), np.empty_like(rho)
    limit = replace(g.pieces, at=(0,) * len(g.pieces.knots)).floats() if g.pieces else g.value
    known = {place: float(limit(np.array(sign * x))) for place, sign in ((0.0, 1.0), (1.0, -1.0))}

    def node(theta: float) -> float:
        return float(gaussian.semigroup(f, np.array([x]), theta)[0])

    chebyshev_sum(np.arcsin(rho), 2 / math.pi, chebyshev_series(node, known), 0.0, 1.0, out)
    return out


def report(phi: AnyActivation, *rho: Any, certify: bool = False, prec: int = 64) -> str:
    """Return what `lop kernel NAME --rho RHO ... [--certify]` prints: moments, then the kernel at each correlation.

    Args:
        phi: An activation, its name, or a callable without kinks.
        rho: Correlations: floats or rationals.
        certify: Whether to add the ball that contains the standardised kernel; its decimals are rounded outwards.
        prec: Bits of the balls.

    Raises:
        TypeError, ValueError: As `dual_kernel` and `dual_kernel_enclosure`.

    >>> print(report("linear", 0.5))
    linear: E φ = 0, Var φ = 1, E φ'² = 1, c₁²/Var φ = 1
    K(0.5) = 0.5, E φ(X)φ(Y) = 0.5
    """
    phi = get(phi)
    lines = [line for r in rho for line in _report_lines(phi, r, certify, prec)]
    given = moments(phi)
    facts = (
        f"{phi.name}: E φ = {given.mean:.12g}, Var φ = {given.variance:.12g}, E φ'² = {given.slope_square:.12g}, "
        f"c₁²/Var φ = {given.linear_share:.12g}"
    )
    return "\n".join([facts, *lines])


def _report_lines(phi: Activation, rho: Any, certify: bool, prec: int) -> Iterator[str]:
    standardised, raw = (dual_kernel(phi, float(rho), standardised=flag) for flag in (True, False))
    yield f"K({_shown(rho)}) = {standardised:.16g}, E φ(X)φ(Y) = {raw:.16g}"
    if certify:
        ball = dual_kernel_enclosure(phi, rho, prec).str(max(20, prec * 3 // 10)).replace("+/-", "±")
        yield f"K({_shown(rho)}) ∈ {ball}, certified"


def _shown(number: Any) -> str:
    """Return a float as it is, and a rational as the decimal that it equals, if that is short."""
    decimal = str(float(number))
    return decimal if isinstance(number, float) or Fraction(decimal) == number else str(number)
