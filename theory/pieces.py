"""Piecewise exponential polynomials, and what the Gaussian does to them, in ball arithmetic.

Between its knots such a function is a sum of terms `p(z) e^{rz + q}`, `p` a polynomial, and of reciprocals
`c / (p + q z)^m`. ReLU and its relatives, ELU, SELU, hard tanh, hard swish, |z|, the step and every polynomial are
of this kind without reciprocals, softsign with one. Without reciprocals the class is closed under the
Ornstein-Uhlenbeck semigroup `P_ρ f(x) = E f(ρ x + √(1−ρ²) Z)` up to the normal distribution function, which is what
makes kinked activations certifiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import comb
from typing import Any

import flint
import numpy as np
import sympy

from theory.scalars import Array, is_ball, like, pi_like, power, root, transcendental

ZERO, ONE, TWO = Fraction(0), Fraction(1), Fraction(2)
_exp, _erfc = transcendental("exp"), transcendental("erfc")


@dataclass(frozen=True)
class Term:
    """`p(z) exp(rate · z + shift)` with `p(z) = Σ_j polynomial[j] zʲ`.

    >>> Term((Fraction(1), Fraction(2))).derivative()(Fraction(5))
    Fraction(2, 1)
    """

    polynomial: tuple[Fraction, ...]
    rate: Fraction = ZERO
    shift: Fraction = ZERO

    def __call__(self, z: Any) -> Any:
        """Return the value at one exact scalar."""
        value = z * 0
        for coefficient in reversed(self.polynomial):
            value = value * z + like(coefficient, z) if coefficient else value * z
        return value * self.exponential(z) if self.rate or self.shift else value

    def exponential(self, z: Any) -> Any:
        """Return `exp(rate · z + shift)`."""
        return _exp(like(self.rate, z) * z + like(self.shift, z)) if self.rate or self.shift else z * 0 + 1

    def derivative(self) -> Term:
        """Return `(p' + rate · p) exp(rate · z + shift)`."""
        p = (*self.polynomial, ZERO)
        raised = [(j + 1) * p[j + 1] if j + 1 < len(p) else ZERO for j in range(len(self.polynomial))]
        return replace(self, polynomial=tuple(d + self.rate * c for d, c in zip(raised, p, strict=False)))

    def compose(self, a: Fraction, b: Fraction) -> Term:
        """Return the term at `a z + b`.

        >>> Term((ZERO, ZERO, ONE)).compose(Fraction(2), ONE).polynomial  # (2 z + 1)²
        (Fraction(1, 1), Fraction(4, 1), Fraction(4, 1))
        """
        powers = range(len(self.polynomial))
        shifted = [
            sum((self.polynomial[i] * comb(i, j) * a**j * b ** (i - j) for i in powers if i >= j), ZERO)
            for j in powers
        ]
        return Term(tuple(shifted), self.rate * a, self.shift + self.rate * b)

    def times(self, other: Term) -> Term:
        """Return the product of two terms."""
        product = [ZERO] * (len(self.polynomial) + len(other.polynomial) - 1)
        for i, c in enumerate(self.polynomial):
            for j, d in enumerate(other.polynomial):
                product[i + j] += c * d
        return Term(tuple(product), self.rate + other.rate, self.shift + other.shift)


@dataclass(frozen=True)
class Reciprocal:
    """`c / (p + q z)^power`, with `p + q z ≥ 1` on the piece to which it belongs.

    >>> Reciprocal(ONE, ONE, ONE)(Fraction(1))
    Fraction(1, 2)
    """

    c: Fraction
    p: Fraction
    q: Fraction
    power: int = 1

    def __call__(self, z: Any) -> Any:
        """Return the value at one exact scalar."""
        return like(self.c, z) / power(like(self.p, z) + like(self.q, z) * z, self.power)

    def derivative(self) -> Reciprocal:
        """Return `−power · q · c / (p + q z)^{power + 1}`."""
        return replace(self, c=-self.power * self.q * self.c, power=self.power + 1)

    def compose(self, a: Fraction, b: Fraction) -> Reciprocal:
        """Return the reciprocal at `a z + b`."""
        return replace(self, p=self.p + self.q * b, q=self.q * a)


Part = tuple[Term | Reciprocal, ...]


@dataclass(frozen=True)
class Pieces:
    """A function that is the sum of `parts[j]` between `knots[j − 1]` and `knots[j]`.

    Attributes:
        knots: Where one piece ends and the next begins, ascending.
        parts: One sum of terms for each piece, from left to right; one more than there are knots.
        at: The value at each knot: of the piece on the left (−1), on the right (1), or the mean of both (0).

    >>> relu = Pieces((ZERO,), ((), (Term((ZERO, ONE)),)))
    >>> relu(Fraction(-1)), relu(Fraction(2)), relu.derivative().jumps()
    (Fraction(0, 1), Fraction(2, 1), ((Fraction(0, 1), 1),))
    """

    knots: tuple[Fraction, ...]
    parts: tuple[Part, ...]
    at: tuple[int, ...] = ()

    @cached_property
    def intervals(self) -> tuple[tuple[Any, Any, Part], ...]:
        """Lower end, upper end and sum of each piece; `None` stands for an infinite end."""
        ends = (None, *self.knots, None)
        return tuple(zip(ends, ends[1:], self.parts, strict=False))

    @property
    def sides(self) -> tuple[int, ...]:
        """`at`, or the left piece at every knot where it was not given."""
        return self.at or (-1,) * len(self.knots)

    def __call__(self, z: Any) -> Any:
        """Return the value at one exact scalar; on a ball that meets a knot, a ball around all values."""
        if isinstance(z, sympy.Basic) and not z.is_number:
            return self._symbolic(z)
        if isinstance(z, flint.acb):
            raise TypeError("a function in pieces has no value at a complex ball; evaluate one of its parts")
        first, last = self._meets(z)
        values = [total(part, z) for part in self.parts[first : last + 1]]
        if len(values) == 1:
            return values[0]
        if not is_ball(z) or (z.is_exact() and len(values) == 2):
            return _chosen(values, self.sides[first])
        hull = values[0]
        for value in values[1:]:
            hull = hull.union(value)
        return hull

    def _meets(self, z: Any) -> tuple[int, int]:
        """Return the first and the last piece whose closure may contain `z`."""
        knots = [like(knot, z) for knot in self.knots]
        first = sum(bool(z > knot) for knot in knots)
        return first, len(knots) - sum(bool(z < knot) for knot in knots)

    def _symbolic(self, z: sympy.Expr) -> sympy.Expr:
        cases: list[tuple[Any, Any]] = []
        for knot, side, left, right in zip(self.knots, self.sides, self.parts, self.parts[1:], strict=False):
            at = like(knot, z)
            cases.append((total(left, z), z <= at if side < 0 else z < at))
            if side == 0:
                cases.append(((total(left, at) + total(right, at)) / 2, sympy.Eq(z, at)))
        return sympy.Piecewise(*cases, (total(self.parts[-1], z), True))

    def floats(self) -> Callable[[Array], Array]:
        """Return the function on float64 arrays."""
        parts = [[_float_term(term) for term in part] for part in self.parts]
        knots, sides = np.array([float(k) for k in self.knots]), self.sides

        def function(z: Array) -> Array:
            z = np.asarray(z, dtype=np.float64)
            out = _float_total(parts[0], np.minimum(z, knots[0]) if len(knots) else z)
            for j, (knot, side) in enumerate(zip(knots, sides, strict=True), start=1):
                upper = knots[j] if j < len(knots) else np.inf
                right = _float_total(parts[j], np.clip(z, knot, upper))
                out = np.where(z > knot, right, np.where(z == knot, _chosen([out, right], side), out))
            return out

        return function

    def derivative(self) -> Pieces:
        """Return the derivative between the knots; the same sides count at the knots."""
        return replace(self, parts=tuple(tuple(term.derivative() for term in part) for part in self.parts))

    def compose(self, a: Fraction, b: Fraction) -> Pieces:
        """Return `z ↦ f(a z + b)` for `a ≠ 0`."""
        parts = tuple(tuple(term.compose(a, b) for term in part) for part in self.parts)
        knots = tuple((knot - b) / a for knot in self.knots)
        if a > 0:
            return Pieces(knots, parts, self.sides)
        return Pieces(knots[::-1], parts[::-1], tuple(-side for side in self.sides[::-1]))

    def jumps(self) -> tuple[tuple[Fraction, Any], ...]:
        """Return each knot with `f(κ+) − f(κ−)`, exact as a SymPy number, where that is not zero."""
        z = [sympy.Rational(knot.numerator, knot.denominator) for knot in self.knots]
        leaps = [
            sympy.nsimplify(total(right, at) - total(left, at))
            for at, left, right in zip(z, self.parts, self.parts[1:], strict=False)
        ]
        return tuple((knot, leap) for knot, leap in zip(self.knots, leaps, strict=True) if leap != 0)


def total(part: Sequence[Term | Reciprocal], z: Any) -> Any:
    """Return the sum of the terms of one piece at one exact scalar, wherever that lies.

    >>> total((Term((ONE,)), Term((ZERO, ONE))), Fraction(1, 2))
    Fraction(3, 2)
    """
    value = z * 0
    for term in part:
        value = value + term(z)
    return value


def _chosen(values: list[Any], side: int) -> Any:
    left, right = values
    return left if side < 0 else right if side > 0 else (left + right) / 2


def _float_term(term: Term | Reciprocal) -> Callable[[Array], Array]:
    if isinstance(term, Reciprocal):
        c, p, q, power = float(term.c), float(term.p), float(term.q), term.power
        return lambda z: c / (p + q * z) ** power
    polynomial = np.polynomial.Polynomial([float(c) for c in term.polynomial])
    rate, shift = float(term.rate), float(term.shift)
    if not rate and not shift:
        return lambda z: np.asarray(polynomial(z))
    return lambda z: np.asarray(polynomial(z) * np.exp(rate * z + shift))


def _float_total(terms: list[Callable[[Array], Array]], z: Array) -> Array:
    return np.asarray(sum((term(z) for term in terms), np.zeros_like(z)))


def normal_cdf(z: Any) -> Any:
    """Return `Φ(z) = ½ erfc(−z/√2)` of a ball or of a SymPy expression.

    >>> normal_cdf(sympy.Integer(0))
    1/2
    """
    return _erfc(-z / root(like(TWO, z))) / 2


def normal_pdf(z: Any) -> Any:
    """Return `γ(z) = e^{−z²/2}/√(2π)` of a ball or of a SymPy expression.

    >>> normal_pdf(sympy.Integer(0))
    sqrt(2)/(2*sqrt(pi))
    """
    return _exp(-z * z / 2) / root(2 * pi_like(z))


def smoothed(pieces: Pieces, mean: Any, deviation: Any) -> Any:
    """Return `E f(Y)` for `Y ~ N(mean, deviation²)`, as a ball.

    Each term is shifted by completing the square, `E p(Y) e^{rY + q} = e^{rμ + r²s²/2 + q} E p(Y + r s²)`, and the
    moments of a truncated Gaussian follow by integration by parts.

    Args:
        pieces: A function without reciprocals.
        mean: A real or complex ball.
        deviation: A positive ball.

    Raises:
        ValueError: There is a reciprocal.

    >>> square = Pieces((), ((Term((ZERO, ZERO, ONE)),),))
    >>> smoothed(square, flint.arb(1), flint.arb(2)) == 5  # mean² + deviation²
    True
    """
    value = mean * 0
    for lower, upper, part in pieces.intervals:
        for term in part:
            if isinstance(term, Reciprocal):
                raise ValueError(f"{term} has no elementary Gaussian expectation; use its surrogate")
            if any(term.polynomial):
                value = value + _smoothed_term(term, lower, upper, mean, deviation)
    return value


def _smoothed_term(term: Term, lower: Fraction | None, upper: Fraction | None, mean: Any, s: Any) -> Any:
    front = term.exponential(mean)
    if term.rate:
        pull = like(term.rate, s) * s
        mean, front = mean + pull * s, front * (pull * pull / 2).exp()
    alpha = None if lower is None else (like(lower, s) - mean) / s
    beta = None if upper is None else (like(upper, s) - mean) / s
    moments = truncated_moments(alpha, beta, len(term.polynomial), mean)
    if len(term.polynomial) == 1:
        return front * like(term.polynomial[0], s) * moments[0]
    return front * _of_moments(term.polynomial, moments, mean, s)


def _of_moments(polynomial: Sequence[Fraction], moments: Sequence[Any], mean: Any, s: Any) -> Any:
    """Return `E p(mean + s Z)` from the moments of a truncated `Z`."""
    means, scaled = [mean * 0 + 1], list(moments)
    for j in range(1, len(polynomial)):
        means.append(means[-1] * mean)
        scaled[j] = power(s, j) * moments[j]
    value = mean * 0
    for j, coefficient in enumerate(polynomial):
        if coefficient:
            terms = (comb(j, i) * means[j - i] * scaled[i] for i in range(j + 1))
            value = value + like(coefficient, s) * sum(terms, mean * 0)
    return value


def truncated_moments(alpha: Any, beta: Any, count: int, scalar: Any) -> list[Any]:
    """Return `m_k = ∫_α^β zᵏ γ(z) dz` for `k < count` by `m_k = (k−1) m_{k−2} + α^{k−1} γ(α) − β^{k−1} γ(β)`.

    Args:
        alpha, beta: Balls, or `None` for an infinite end.
        count: How many moments.
        scalar: A ball of the kind wanted, for constants.

    >>> [m == k for m, k in zip(truncated_moments(None, None, 5, flint.arb(0)), (1, 0, 1, 0, 3))]
    [True, True, True, True, True]
    """
    moments = [_mass(alpha, beta, scalar)]
    left = scalar * 0 if alpha is None or count < 2 else normal_pdf(alpha)
    right = scalar * 0 if beta is None or count < 2 else normal_pdf(beta)
    for k in range(1, count):
        moments.append((k - 1) * moments[k - 2] + left - right if k > 1 else left - right)
        left = left if alpha is None else left * alpha
        right = right if beta is None else right * beta
    return moments


def _mass(alpha: Any, beta: Any, scalar: Any) -> Any:
    if alpha is None:
        return scalar * 0 + 1 if beta is None else normal_cdf(beta)
    if beta is None:
        return normal_cdf(-alpha)
    right_of_zero = (alpha.real if isinstance(alpha, flint.acb) else alpha) > 0
    return normal_cdf(-alpha) - normal_cdf(-beta) if right_of_zero else normal_cdf(beta) - normal_cdf(alpha)


def product(f: Pieces, g: Pieces) -> Pieces:
    """Return `f g` for functions without reciprocals.

    >>> relu = Pieces((ZERO,), ((), (Term((ZERO, ONE)),)))
    >>> product(relu, relu)(Fraction(3))
    Fraction(9, 1)
    """
    knots = tuple(sorted({*f.knots, *g.knots}))
    marks = [*knots, None]
    parts = tuple(_part_product(_part_below(f, mark), _part_below(g, mark)) for mark in marks)
    return Pieces(knots, parts)


def _part_below(f: Pieces, mark: Fraction | None) -> Part:
    """Return the piece of `f` whose interval ends at or contains the left neighbourhood of `mark`."""
    return f.parts[len(f.knots) if mark is None else sum(knot < mark for knot in f.knots)]


def _part_product(one: Part, other: Part) -> Part:
    return tuple(s.times(t) for s in one for t in other)  # type: ignore[union-attr, arg-type]


def in_balls(f: Pieces) -> Pieces:
    """Return the function with balls for all constants but zeros, so that an integrand need not convert them.

    >>> in_balls(Pieces((), ((Term((ONE,)),),))).parts[0][0].polynomial[0] == 1
    True
    """

    def ball(constant: Any) -> Any:
        return like(constant, flint.arb(0)) if constant else 0

    def converted(term: Any) -> Any:
        if isinstance(term, Reciprocal):
            return Reciprocal(ball(term.c), ball(term.p), ball(term.q), term.power)
        return Term(tuple(ball(c) for c in term.polynomial), ball(term.rate), ball(term.shift))

    parts = tuple(tuple(converted(term) for term in part) for part in f.parts)
    return Pieces(tuple(like(knot, flint.arb(0)) for knot in f.knots), parts, f.sides)


def outside(f: Pieces, reach: Fraction) -> Pieces:
    """Return `f(z) 1{|z| > reach}`, for `reach` beyond every knot.

    >>> one = Pieces((), ((Term((ONE,)),),))
    >>> outside(one, ONE)(Fraction(1, 2)), outside(one, ONE)(Fraction(2))
    (Fraction(0, 1), Fraction(1, 1))
    """
    return Pieces((-reach, reach), (f.parts[0], (), f.parts[-1]))
