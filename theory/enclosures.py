"""Balls that provably contain a dual kernel, in Arb arithmetic.

Three routes, in this order of preference:

- *closed form*: the formula in ball arithmetic;
- *pieces*: `K(ρ) = E f(X) P_ρ f(X)` with `P_ρ f` exact (`theory.pieces.smoothed`) and one rigorous integral, split
  at the knots; what lies beyond the reach is bounded by Cauchy and Schwarz;
- *strip*: `K(ρ) = Σ_{k≤n} c_k² ρᵏ` with an error of at most `|ρ|^{n+1} (E f² − Σ_{k≤n} c_k²)` by Parseval; the
  `c_k` come from the trapezoidal rule, whose error is bounded by the size of `f` in a strip of the complex plane
  (Trefethen and Weideman 2014, Theorem 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, wraps
from typing import Any

import flint
import numpy as np
import sympy
from flint import acb, arb

from theory.activation_facts import Activation, AnyActivation
from theory.catalogue import get
from theory.closed_forms import ClosedForm
from theory.pieces import (
    Part,
    Pieces,
    Reciprocal,
    Term,
    in_balls,
    normal_cdf,
    normal_pdf,
    outside,
    product,
    smoothed,
    total,
)
from theory.scalars import fraction, like, power
from theory.tolerances import correlation

GUARD = 32  # bits beyond those aimed at: a few thousand operations lose a dozen
PRECISION = 128  # of closed forms that are rounded to float64 afterwards, where differences may cancel half of them
CENTRE, PER_BIT = Fraction(12, 5), (0.28, 0.4, 0.6, 0.9)  # of exponential sums; 18 exponentials for 64 bits

LARGEST_DEGREE = 1024  # of a Hermite series; its cost grows like the square


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, run with some bits more than its last argument, `prec`, asks for.

    >>> @guarded
    ... def bits(prec):
    ...     return flint.ctx.prec
    >>> bits(64) == 64 + GUARD
    True
    """

    @wraps(function)
    def run(*args: Any) -> Any:
        with flint.ctx.workprec(args[-1] + GUARD):
            return function(*args)

    return run


def dual_kernel_enclosure(phi: AnyActivation, rho: Any, prec: int = 64, *, standardised: bool = True) -> arb:
    """Return a ball that contains `K(ρ) = E φ(X) φ(Y)`.

    Args:
        phi: A named activation, or one made from those by `modulate`, `standardise`, `polynomial` or `hermite`.
        rho: One correlation in [−1, 1]: an integer, a float (taken as the rational that it is; beyond ±1 by at most
            64 eps it counts as ±1), a `Fraction`, a rational of SymPy or FLINT, or a ball.
        prec: Bits that are aimed at: radii are near `2^−prec`, softsign's near `2^{−0.7 prec}`; larger where
            `φ(a z + b)` is so steep that 1024 Hermite coefficients do not exhaust it. Nearly constant activations
            are computed with as many bits more as their variance is small.
        standardised: Whether to centre and scale the activation.

    Raises:
        TypeError: `rho` is complex or no number.
        ValueError: The correlation is NaN or beyond ±1; `prec` is no integer from 2 on; the activation is constant
            and to be standardised, or nothing is known of it that could be proved (a callable).

    Source: JL25, section 5 (K1); Trefethen and Weideman 2014 for the route by strips.

    >>> dual_kernel_enclosure("relu", Fraction(1, 2)).str(12, radius=False)
    '0.426422342013'
    """
    if not isinstance(prec, (int, np.integer)) or prec < 2:
        raise ValueError(f"prec is {prec!r}; allowed are integers prec ≥ 2: the bits that are aimed at")
    phi = get(phi)
    if phi.origin:
        return dual_kernel_enclosure(phi.origin, rho, prec)
    with flint.ctx.workprec(prec + GUARD):
        ball = _correlation(rho)
        if not standardised:
            return _enclosed(phi, ball, prec)
        bits = _bits(phi, prec)
    with flint.ctx.workprec(bits + GUARD):
        at_zero, at_one = _ends(phi, bits)
        if not at_one > at_zero:
            raise ValueError(
                f"the activation {phi.name!r} is constant to {bits} bits, so it cannot be standardised"
            )
        if ball.is_exact() and ball in (0, 1):
            return ball
        return (_enclosed(phi, ball, bits) - at_zero) / (at_one - at_zero)


def _bits(phi: Activation, prec: int) -> int:
    """Return the bits that leave `prec` of them after division by a small variance; 16 times `prec` at most."""
    bits = prec
    while bits < 16 * prec:
        at_zero, at_one = _ends(phi, bits)
        variance = arb((at_one - at_zero).upper())
        needed = prec - math.floor(float(variance.log()) / math.log(2)) if variance > 0 else prec
        if needed <= bits + 8:
            break
        bits = needed
    return bits


def certifiable(phi: Activation) -> bool:
    """Tell whether enough is known of an activation to enclose its kernel.

    >>> certifiable(get("tanh")), certifiable(get(np.tanh))
    (True, False)
    """
    return bool(phi.kernel or phi.pieces or phi.strip)


def moment_balls(phi: Activation, prec: int = 64) -> tuple[arb, arb]:
    """Return balls that contain `E φ(Z)` and `E φ(Z)²`.

    Args:
        phi: An activation.
        prec: Bits that are aimed at.

    Raises:
        ValueError: Nothing is known of the activation that could be proved.

    >>> [ball.str(9, radius=False) for ball in moment_balls(get("square"))]
    ['1.00000000', '3.00000000']
    """
    with flint.ctx.workprec(prec + GUARD):
        _, at_one = _ends(phi, prec)
        return _mean(phi, prec), at_one


def end_balls(phi: Activation, prec: int = 64) -> tuple[arb, arb]:
    """Return balls that contain `K(0) = (E φ)²` and `K(1) = E φ²` of the activation as it is.

    Arguments and errors as `moment_balls`.

    >>> [ball.str(9, radius=False) for ball in end_balls(get("square"))]
    ['1.00000000', '3.00000000']
    """
    with flint.ctx.workprec(prec + GUARD):
        return _ends(phi, prec)


def _mean(phi: Activation, prec: int) -> arb:
    """Return a ball around `E φ`, by the route that `_at` takes; a surrogate's mean is off by at most `δ`."""
    if phi.symmetry == "odd":
        return arb(0)
    if phi.kernel:
        return arb(phi.kernel.mean(arb(0)))
    if phi.pieces:
        g = surrogate(phi.pieces, prec)
        return arb(smoothed(g.balls, arb(0), arb(1)) + arb(0, g.distance.upper()))
    return strip_series(phi, prec).mean


def closed_form_balls(kernel: ClosedForm, prec: int = PRECISION) -> tuple[arb, arb, arb]:
    """Return balls that contain the closed form at −1, 0 and 1.

    >>> [ball.str(9, radius=False) for ball in closed_form_balls(get("cube").kernel)]  # 9 ρ + 6 ρ³
    ['-15.0000000', '0', '15.0000000']
    """
    with flint.ctx.workprec(prec + GUARD):
        low, zero, one = (kernel.formula(arb(end)) for end in (-1, 0, 1))
        return low, zero, one


def _correlation(rho: Any) -> arb:
    """Return a correlation as a ball in [−1, 1]."""
    if isinstance(rho, (complex, acb, np.complexfloating)):
        raise TypeError(
            "rho is complex; correlations are real numbers in [−1, 1]: pass rho.real if it is what you mean"
        )
    ball = _ball(rho)
    if isinstance(rho, (float, np.floating)) and 1 < abs(float(rho)) <= 1 + correlation():
        return arb(1 if rho > 0 else -1)
    if not ball.is_finite() or ball > 1 or ball < -1:
        raise ValueError(f"rho is {rho!r}; allowed are correlations in [−1, 1]")
    return ball if -1 <= ball <= 1 else ball.intersection(arb(0, 1))


def _ball(number: Any) -> arb:
    if isinstance(number, (arb, flint.fmpz, flint.fmpq)):
        return arb(number)
    if isinstance(number, (Fraction, int, np.integer)):
        return like(Fraction(int(number) if isinstance(number, np.integer) else number), arb(0))
    if isinstance(number, (float, np.floating)):
        return arb(float(number))
    if isinstance(number, sympy.Rational):
        return like(Fraction(int(number.p), int(number.q)), arb(0))
    raise TypeError(f"rho is {number!r}; give a float, a rational or an Arb ball")


@lru_cache(maxsize=512)
@guarded
def _ends(phi: Activation, prec: int) -> tuple[arb, arb]:
    """Return `K(0) = (E φ)²` and `K(1) = E φ²` of the activation as it is."""
    return _at(phi, arb(0), prec), _at(phi, arb(1), prec)


def _enclosed(phi: Activation, rho: arb, prec: int) -> arb:
    """Return the kernel on a ball: directly if it is small and inside (−1, 1), else from its ends.

    Coefficients are non-negative, so that `K = even + odd` where the odd part increases, and the even part does so
    in `|ρ|`.
    """
    small = rho.is_exact() or (abs(rho) < 1 and rho.rad() <= arb(2) ** (-prec))
    if small:
        return _at(phi, rho, prec)
    low, high = arb(rho.lower()).max(arb(-1)), arb(rho.upper()).min(arb(1))
    odd = _part(phi, low, -1, prec).union(_part(phi, high, -1, prec))
    even = _part(phi, low, 1, prec).union(_part(phi, high, 1, prec))
    return odd + (even.union(_at(phi, arb(0), prec)) if rho.contains(0) else even)


def _part(phi: Activation, rho: arb, sign: int, prec: int) -> arb:
    return (_at(phi, rho, prec) + sign * _at(phi, -rho, prec)) / 2


def _at(phi: Activation, rho: arb, prec: int) -> arb:
    """Return the kernel of the activation as it is, by the first route that is open."""
    if phi.kernel:
        return phi.kernel.formula(rho)
    if phi.pieces:
        return by_pieces(phi, rho, prec)
    if phi.strip:
        return by_strip(phi, rho, prec)
    raise ValueError(
        f"nothing is known of the activation {phi.name!r} that could be proved: give it `pieces`, or a `strip` "
        "where it is analytic, or use dual_kernel without a certificate"
    )


@guarded
def by_pieces(phi: Activation, rho: arb, prec: int) -> arb:
    """Return the kernel of a piecewise exponential polynomial `f`, possibly with reciprocals.

    With `g` its surrogate without reciprocals, `δ ≥ ‖f − g‖` and the reach `L`,
    `|K_f(ρ) − ∫_{−L}^{L} f P_ρ g γ| ≤ (‖g 1_{|z|>L}‖ + δ) ‖g‖ + (‖g‖ + δ) δ`. At `ρ ∈ {−1, 0, 1}` no integral is
    left.

    Args:
        phi: An activation with pieces.
        rho: A ball in [−1, 1].
        prec: Bits that are aimed at.

    Raises:
        ArithmeticError: Arb found no finite enclosure of an integral.

    >>> by_pieces(get("hardtanh"), arb(-1), 64).str(9, radius=False)
    '-0.516058551'
    """
    assert phi.pieces is not None
    g = surrogate(phi.pieces, prec)
    if rho.is_exact() and rho in (-1, 0, 1):
        return g.end(rho) + arb(0, g.end_error.upper())
    spread, inside = ((1 - rho) * (1 + rho)).sqrt(), arb(0)
    for low, high, part in _clipped(in_balls(phi.pieces), g.reach, bool(phi.symmetry)):

        def integrand(x: acb, _: bool, part: Part = part) -> acb:
            return total(part, x) * smoothed(g.balls, rho * x, spread) * normal_pdf(x)

        inside += _integral(integrand, low, high, arb(2) ** -prec + g.distance / 16)
    return inside * (2 if phi.symmetry else 1) + arb(0, g.error.upper())


def _clipped(f: Pieces, reach: int, half: bool) -> Iterator[tuple[arb, arb, Part]]:
    """Yield the pieces within `[−reach, reach]`, or within `[0, reach]`, that are not zero."""
    least = arb(0) if half else arb(-reach)
    for low, high, part in f.intervals:
        low = least if low is None else low.max(least)
        high = arb(reach) if high is None else high
        if part and high > low:
            yield low, high, part


def _integral(integrand: Callable[[acb, bool], acb], low: arb, high: arb, tolerance: arb) -> arb:
    """Return a ball around the integral of a meromorphic function that is real on the real line.

    Raises:
        ArithmeticError: Arb found no finite enclosure.
    """
    value = acb.integral(integrand, low, high, abs_tol=tolerance, rel_tol=tolerance).real
    if not value.is_finite():
        raise ArithmeticError("no finite enclosure of an integral was found; raise prec")
    return value


@dataclass(frozen=True)
class Surrogate:
    """A function `g` without reciprocals near the function `f` in question.

    Attributes:
        pieces: `g`, with rational constants.
        balls: `g`, with balls for constants.
        norm: A ball around `√E g²`.
        distance: At least `√E (f − g)²`; zero where `f` has no reciprocals.
        beyond: A ball around `√E g² 1_{|Z| > reach}`.
        reach: Where the integral stops.

    >>> g = surrogate(get("relu").pieces, 64)  # ReLU itself: E g² = 1/2
    >>> g.distance == 0, g.norm.str(9, radius=False)
    (True, '0.707106781')
    """

    pieces: Pieces
    balls: Pieces
    norm: arb
    distance: arb
    beyond: arb
    reach: int

    @property
    def error(self) -> arb:
        """At least `|K_f(ρ) − ∫_{−L}^{L} f P_ρ g γ|`: `(‖g 1_{|z|>L}‖ + δ) ‖g‖ + (‖g‖ + δ) δ`."""
        return (self.beyond + self.distance) * self.norm + (self.norm + self.distance) * self.distance

    @property
    def end_error(self) -> arb:
        """At least `|K_f(ρ) − K_g(ρ)|`: `(2 ‖g‖ + δ) δ`."""
        return (2 * self.norm + self.distance) * self.distance

    def end(self, rho: arb) -> arb:
        """Return `K_g(ρ)` at −1, 0 or 1."""
        zero, one = arb(0), arb(1)
        if rho.is_zero():
            return power(smoothed(self.balls, zero, one), 2)
        other = self.pieces if rho > 0 else self.pieces.compose(Fraction(-1), Fraction(0))
        return smoothed(product(self.pieces, other), zero, one)


@lru_cache(maxsize=512)
@guarded
def surrogate(f: Pieces, prec: int) -> Surrogate:
    """Return `f` itself, or `f` with every reciprocal as a sum of exponentials: enough that `δ < 2^{−0.7 prec}`.

    Args:
        f: A function in pieces, its reciprocals of the first power.
        prec: Bits that are aimed at.

    Raises:
        ValueError: A reciprocal has another power.

    >>> surrogate(get("softsign").pieces, 32).distance < arb(2) ** -22
    True
    """
    reach = math.ceil(max([2 * math.sqrt(prec * math.log(2)) + 1, *(float(abs(knot)) + 1 for knot in f.knots)]))
    for count in (math.ceil(share * prec) for share in PER_BIT):
        g = _without_reciprocals(f, count, prec)
        distance = _distance(f, g, reach)
        if distance < arb(2) ** (-0.7 * prec):
            break
    zero, one, tails = arb(0), arb(1), outside(g, Fraction(reach))
    return Surrogate(
        pieces=g,
        balls=in_balls(g),
        norm=smoothed(product(g, g), zero, one).sqrt(),
        distance=distance,
        beyond=smoothed(product(tails, tails), zero, one).nonnegative_part().sqrt(),
        reach=reach,
    )


def _without_reciprocals(f: Pieces, count: int, prec: int) -> Pieces:
    parts = (tuple(s for t in part for s in _exponentials(t, count, prec)) for part in f.parts)
    return replace(f, parts=tuple(parts))


def _exponentials(term: Term | Reciprocal, count: int, prec: int) -> tuple[Term, ...]:
    if isinstance(term, Term):
        return (term,)
    if term.power != 1:
        raise ValueError(f"{term} has no surrogate; only first powers of reciprocals have")
    return tuple(
        Term((term.c * weight,), -rate * term.q, -rate * term.p)
        for weight, rate in exponential_sum(count, prec + 8 * count)
    )


@lru_cache(maxsize=8)
@guarded
def exponential_sum(count: int, prec: int) -> tuple[tuple[Fraction, Fraction], ...]:
    """Return weights and rates with `1/w ≈ Σ_j weight_j exp(−rate_j w)` for `w ≥ 1`.

    Gauss-Laguerre quadrature of `1/w = ∫ e^{−uw} du` after `u = v/c`: its error falls like `|(w − c)/(w + c)|^{2
    count}`, and the Gaussian lets the centre `c` lie near the left end.

    Args:
        count: How many exponentials.
        prec: Bits of weights and rates.

    >>> f"{sum(weight * math.exp(-2 * rate) for weight, rate in exponential_sum(8, 96)):.6f}"
    '0.500000'
    """
    centre, n = CENTRE, count
    coefficients = [(-1) ** k * math.comb(n, k) * (math.factorial(n) // math.factorial(k)) for k in range(n + 1)]
    roots: Any = flint.fmpz_poly(coefficients).complex_roots()
    nodes = [root.real for root, _ in roots]
    weights = [x * x.exp() / power((n + 1) * x.laguerre_l(n + 1), 2) for x in nodes]
    return tuple((fraction(w) / centre, fraction(x) / centre) for w, x in zip(weights, nodes, strict=True))


def _distance(f: Pieces, g: Pieces, reach: int) -> arb:
    """Return at least `√E (f − g)²`.

    Beyond the reach `|f − g| ≤ 2 |c|` for each reciprocal `c/w`: `w ≥ 1`, and Gauss quadrature of a function whose
    even derivatives are positive stays below the integral, here `1/w`, but for the rounding of its weights.
    """
    square = arb(0)
    for (low, high, exact), near in zip(in_balls(f).intervals, in_balls(g).parts, strict=True):
        if not any(isinstance(term, Reciprocal) for term in exact):
            continue

        def integrand(x: acb, _: bool, exact: Part = exact, near: Part = near) -> acb:
            return power(total(exact, x) - total(near, x), 2) * normal_pdf(x)

        start, stop = arb(-reach) if low is None else low, arb(reach) if high is None else high
        square += _integral(integrand, start, stop, arb(2) ** (-2 * flint.ctx.prec)).nonnegative_part()
        if low is None or high is None:
            size = sum(
                (abs(like(2 * term.c, square)) for term in exact if isinstance(term, Reciprocal)), square * 0
            )
            square += size * size * normal_cdf(arb(-reach))
    return square.sqrt()


@guarded
def by_strip(phi: Activation, rho: arb, prec: int) -> arb:
    """Return the kernel of an analytic activation: its Hermite series, within `|ρ|^{n+1} · remainder`.

    Arguments as `by_pieces`, of an activation with a strip.

    >>> by_strip(get("sin"), arb(1), 64).str(9, radius=False)  # (1 − e⁻²)/2
    '0.432332358'
    """
    assert phi.strip is not None
    series = strip_series(phi, prec)
    value = arb(0)
    for share in reversed(series.shares):
        value = value * rho + share
    return value + arb(0, (power(abs(rho), len(series.shares)) * series.remainder).upper())


@dataclass(frozen=True)
class StripSeries:
    """Balls around `c_k²` for `k ≤ n` and around `c₀`, and an upper bound of `E f² − Σ_{k≤n} c_k²`.

    Attributes:
        shares: `c_k²`, of length `n + 1`.
        remainder: The bound, exact.
        mean: `c₀`.
    """

    shares: tuple[arb, ...]
    remainder: arb
    mean: arb


@lru_cache(maxsize=512)
@guarded
def strip_series(phi: Activation, prec: int) -> StripSeries:
    """Return the Hermite series, doubling `n` until the remainder is below `2^−prec E f²` or `n` is 1024.

    Args:
        phi: An activation with a strip.
        prec: Bits that are aimed at.

    Raises:
        ValueError: The activation has no strip.

    >>> series = strip_series(get("sin"), 32)  # c₁² = 1/e
    >>> series.shares[1].str(9, radius=False), bool(series.remainder < arb(2) ** -32)
    ('0.367879441', True)
    """
    degree = 32
    while True:
        coefficients, square = hermite_balls(phi, degree, prec)
        shares = tuple(c * c for c in coefficients)
        remainder = (square - sum(shares, arb(0))).upper()
        if remainder <= square * arb(2) ** -prec or degree >= LARGEST_DEGREE:
            return StripSeries(shares, remainder.max(arb(0)), coefficients[0])
        degree *= 2


@guarded
def hermite_balls(phi: Activation, n: int, prec: int) -> tuple[list[arb], arb]:
    """Return balls around `c_k = E f(Z) h_k(Z)` for `k ≤ n`, and around `E f(Z)²`, for an activation with a strip.

    The trapezoidal rule with step `h` errs by at most `2M/(e^{2πa/h} − 1)` if `∫ |F(x + iy)| dx ≤ M` for `|y| < a`.
    For `F = f h_k γ`, `|f| ≤ α + β|x|`: `M = e^{a²/2} (α + β) √L_n(−a²)` by Cauchy and Schwarz, with the Laguerre
    polynomial `L_k(−y²) = E |h_k(Z + iy)|²`, which increases with `k`. Leaving out `|x| > L` costs at most `2 (α +
    β) e^{−L²/4}`, by Cramér's bound `|h_k| < 1.0865 e^{x²/4}`. For `F = f² γ` they are `M = e^{a²/2} (α + β)²` and
    `2 (α + β)² L e^{−L²/2}`.

    Raises:
        ValueError: The activation has no strip.

    >>> c, square = hermite_balls(get("sin"), 3, 32)
    >>> c[1].str(9, radius=False), square.str(9, radius=False)
    ('0.606530660', '0.432332358')
    """
    if phi.strip is None:
        raise ValueError(f"the activation {phi.name!r} has no strip in which it is known to be analytic")
    bits = prec + GUARD
    size = like(phi.strip.offset + phi.strip.growth, arb(0))
    widest = Fraction(math.isqrt(2 * bits))  # beyond, e^{a²/2} costs more than the strip gains
    width = like(min(phi.strip.width, widest), size)
    growth = _laguerre(n, width * width).sqrt()
    reach = math.ceil(2 * math.sqrt((bits + 4) * math.log(2) + math.log(float(size)))) + 1
    log_M = float((growth * size * size).log() + width * width / 2)
    step = 2 * math.pi * float(width) / ((bits + 4) * math.log(2) + log_M)
    with flint.ctx.workprec(bits + 32 + math.ceil(1.5 * reach * math.sqrt(n + 1))):
        sums, square = _trapezoid(phi, n, arb(step), math.ceil(reach / step))
    aliased = leak(width, arb(step))
    error = (aliased * size * growth + cut(size, reach)).upper()
    square_error = aliased * size * size + 2 * size * size * reach * (-(arb(reach) ** 2) / 2).exp()
    return [c + arb(0, error) for c in sums], square + arb(0, square_error.upper())


def leak(width: arb, step: arb) -> arb:
    """Return `2 e^{a²/2}/(e^{2πa/h} − 1)`: by how much the trapezoidal rule may err for `f = 1`, `F = γ`.

    >>> float(leak(arb(2), arb(1) / 4)) < 1e-20
    True
    """
    return 2 * (width * width / 2).exp() / ((2 * arb.pi() * width / step).exp() - 1)


def cut(size: arb, reach: int) -> arb:
    """Return `2 (α + β) e^{−L²/4}`, never below `∫_{|x|>L} |f h_k γ|` for any `k` and `L ≥ 2`.

    >>> cut(arb(1), 20) < 1e-42
    True
    """
    return 2 * size * (-(arb(reach) ** 2) / 4).exp()


def _laguerre(n: int, square: arb) -> arb:
    """Return `L_n(−y²) = Σ_m C(n, m) y^{2m}/m!` at `square = y²`; no term is negative."""
    value, term = arb(1), arb(1)
    for m in range(n):
        term = term * square * (n - m) / (m + 1) ** 2
        value += term
    return value


def _trapezoid(phi: Activation, n: int, step: arb, count: int) -> tuple[list[arb], arb]:
    """Return the sums of `f h_k γ` for `k ≤ n`, and of `f² γ`, over `j · step`, `|j| ≤ count`.

    `h_k` is even or odd as `k` is, so that it is met with the even or the odd part of `f`, on the right half alone.
    """
    x = np.array([j * step for j in range(count + 1)], dtype=object)
    weight = np.array([step * normal_pdf(point) for point in x], dtype=object)
    right, left = phi.value(x), phi.value(-x)
    left[0] = arb(0)  # the point 0 is one
    even, odd = (right + left) * weight, (right - left) * weight
    sums, current, previous, factorial = [], x * 0 + 1, x * 0, arb(1)
    for k in range(n + 1):  # He_k = √k! h_k, by He_{k+1} = x He_k − k He_{k−1}
        sums.append(((odd if k % 2 else even) @ current) / factorial.sqrt())
        current, previous, factorial = x * current - previous * k, current, factorial * (k + 1)
    return sums, (right * right + left * left) @ weight
