"""Dual kernels `K(ρ) = E φ(X) φ(Y)` in closed form, each formula written once for floats, balls and symbols.

`theory.price` derives every one of them anew: it differentiates by Price's theorem until the expectation is
elementary, and the tests hold the formulas below against that derivation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import comb, factorial, perm
from typing import Any

import flint

from theory.scalars import is_ball, like, nearest, pi_like, root, root_of_product, transcendental

ONE, ZERO = Fraction(1), Fraction(0)
_exp, _asin, _acos = transcendental("exp"), transcendental("asin"), transcendental("acos")


class ClosedForm(ABC):
    """A dual kernel that is elementary: a formula for balls and for symbols.

    >>> ArcCosine(1, ONE, ZERO).compose(Fraction(2), ZERO)  # relu(2 z)
    ArcCosine(degree=1, right=Fraction(2, 1), left=Fraction(0, 1))
    """

    @abstractmethod
    def formula(self, rho: Any) -> Any:
        """Return `K(ρ) = E φ(X) φ(Y)` for a ball or a SymPy expression in [−1, 1]."""

    @abstractmethod
    def mean(self, scalar: Any) -> Any:
        """Return `E φ(Z)` as a number of the kind of `scalar`, a ball or a SymPy expression."""

    def compose(self, a: Fraction, b: Fraction) -> ClosedForm | None:
        """Return the kernel of `φ(a z + b)`, or `None` if it is not of the same family."""
        return None

    def derivative(self, order: int) -> ClosedForm | None:
        """Return the kernel of `φ⁽ᵐ⁾` between its knots, or `None` if it is not of the same family."""
        return None


@dataclass(frozen=True)
class ArcCosine(ClosedForm):
    """`φ(z) = right · zᵐ` for `z > 0` and `left · (−z)ᵐ` for `z < 0`, `m = degree ≤ 2`.

    `K(ρ) = (right² + left²) J_m(ρ) + 2 right left J_m(−ρ)`, `J_m(ρ) = E X₊ᵐ Y₊ᵐ`. Source: Cho and Saul 2009.

    >>> import sympy
    >>> ArcCosine(0, ONE, -ONE).formula(sympy.Rational(1, 2))  # of the sign: (2/π) arcsin ρ
    1/3
    """

    degree: int
    right: Fraction
    left: Fraction

    def formula(self, rho: Any) -> Any:
        """Return `K(ρ)`."""
        sine = root_of_product(1 - rho, 1 + rho)
        angle, pi, J = _acos(rho), pi_like(rho), ORTHANT_MOMENTS[self.degree]
        same, opposite = like(self.right**2 + self.left**2, rho), like(2 * self.right * self.left, rho)
        return same * J(rho, sine, angle, pi) + opposite * J(-rho, sine, pi - angle, pi)

    def mean(self, scalar: Any) -> Any:
        """Return `(right + left) E Z₊ᵐ`, where `E Z₊ᵐ` is 1/2, 1/√(2π) and 1/2."""
        size = like(self.right + self.left, scalar)
        return size / root(2 * pi_like(scalar)) if self.degree == 1 else size / 2

    def compose(self, a: Fraction, b: Fraction) -> ClosedForm | None:
        """Return the kernel of `φ(a z)`, `a ≠ 0`; a shift leaves the family."""
        right, left = (self.right, self.left) if a > 0 else (self.left, self.right)
        size = abs(a) ** self.degree
        return ArcCosine(self.degree, right * size, left * size) if b == 0 else None

    def derivative(self, order: int) -> ClosedForm | None:
        """Return the kernel of `φ⁽ᵐ⁾` between its knots for `m` up to the degree, else `None`."""
        falling = perm(self.degree, order)
        return (
            ArcCosine(self.degree - order, self.right * falling, self.left * (-1) ** order * falling)
            if falling
            else None
        )


def orthant_mass(rho: Any, sine: Any, angle: Any, pi: Any) -> Any:
    """Return `J₀(ρ) = P(X > 0, Y > 0) = (π − θ)/(2π)` with `θ = arccos ρ`.

    Args:
        rho, sine, angle, pi: `ρ`, `sin θ`, `θ` and `π` in any arithmetic; `orthant_product` and `orthant_squares`
            take the same.

    >>> orthant_mass(0.0, 1.0, 0.5, 1.0)  # in units where π = 1
    0.25
    """
    return (pi - angle) / (2 * pi)


def orthant_product(rho: Any, sine: Any, angle: Any, pi: Any) -> Any:
    """Return `J₁(ρ) = E X₊ Y₊ = (sin θ + (π − θ) cos θ)/(2π)`.

    >>> import sympy
    >>> orthant_product(0, 1, sympy.pi / 2, sympy.pi)
    1/(2*pi)
    """
    return (sine + (pi - angle) * rho) / (2 * pi)


def orthant_squares(rho: Any, sine: Any, angle: Any, pi: Any) -> Any:
    """Return `J₂(ρ) = E X₊² Y₊² = (3 sin θ cos θ + (π − θ)(1 + 2 cos² θ))/(2π)`.

    >>> import sympy
    >>> orthant_squares(0, 1, sympy.pi / 2, sympy.pi)  # (E X₊²)²
    1/4
    """
    return (3 * sine * rho + (pi - angle) * (1 + 2 * rho * rho)) / (2 * pi)


ORTHANT_MOMENTS = (orthant_mass, orthant_product, orthant_squares)


@dataclass(frozen=True)
class Sine(ClosedForm):
    """`φ(z) = sin(a z + b)`, or `cos(a z + b)`.

    `K(ρ) = ½ (e^{−a²(1−ρ)} ∓ cos(2b) e^{−a²(1+ρ)})`, with − for the sine and + for the cosine.

    >>> import sympy
    >>> Sine().formula(sympy.Integer(0)), Sine(cosine=True).formula(sympy.Integer(0))
    (0, exp(-1))
    """

    a: Fraction = ONE
    b: Fraction = ZERO
    cosine: bool = False

    def formula(self, rho: Any) -> Any:
        """Return `K(ρ)`."""
        square = like(self.a**2, rho)
        return (_exp(-square * (1 - rho)) + self._phase(rho) * _exp(-square * (1 + rho))) / 2

    def mean(self, scalar: Any) -> Any:
        """Return `e^{−a²/2} sin b`, or `e^{−a²/2} cos b`."""
        return _exp(-like(self.a**2 / 2, scalar)) * _wave("cos" if self.cosine else "sin", self.b, scalar)

    def _phase(self, rho: Any) -> Any:
        cosine = _wave("cos", 2 * self.b, rho)
        return cosine if self.cosine else -cosine

    @cached_property
    def float_phase(self) -> float:
        """`∓cos(2b)` of the exact `b`, which may be far beyond float64's grasp of angles."""
        with flint.ctx.workprec(128):
            return nearest(self._phase(flint.arb(0)))

    def compose(self, a: Fraction, b: Fraction) -> ClosedForm:
        """Return the kernel of `φ(a z + b)`."""
        return Sine(self.a * a, self.a * b + self.b, self.cosine)


def _wave(name: str, angle: Fraction, scalar: Any) -> Any:
    """Return the sine or cosine of a rational; a ball gets as many more bits as the angle has before the point."""
    function = transcendental(name)
    if not is_ball(scalar):
        return function(like(angle, scalar))
    with flint.ctx.workprec(flint.ctx.prec + int(abs(angle)).bit_length()):
        return function(like(angle, scalar))


@dataclass(frozen=True)
class ErrorFunction(ClosedForm):
    """`φ(z) = erf(a z)`: `K(ρ) = (2/π) arcsin(2a²ρ / (1 + 2a²))`. Source: Williams 1997.

    Floats and balls take `arctan2(2a²ρ, √((1 + 2a²(1 − ρ))(1 + 2a²(1 + ρ))))`, which keeps its digits as the
    ratio nears 1.

    >>> import sympy
    >>> ErrorFunction(Fraction(1)).formula(sympy.Rational(3, 4))
    1/3
    """

    a: Fraction = ONE

    def formula(self, rho: Any) -> Any:
        """Return `K(ρ)`."""
        if not is_ball(rho):
            return 2 * _asin(like(self.ratio, rho) * rho) / pi_like(rho)
        square = like(2 * self.a**2, rho)
        cosine = root_of_product(1 + square * (1 - rho), 1 + square * (1 + rho))
        return 2 * flint.arb.atan2(square * rho, cosine) / pi_like(rho)

    def mean(self, scalar: Any) -> Any:
        """Return 0."""
        return scalar * 0

    @property
    def ratio(self) -> Fraction:
        """`2a²/(1 + 2a²)`."""
        return 2 * self.a**2 / (1 + 2 * self.a**2)

    def compose(self, a: Fraction, b: Fraction) -> ClosedForm | None:
        """Return the kernel of `erf(a z)`."""
        return ErrorFunction(self.a * a) if b == 0 else None


@dataclass(frozen=True)
class GaussianUnit(ClosedForm):
    """`φ(z) = exp(−(a z + b)²/2)`: `K(ρ) = exp(−b²/(1 + a² + a²ρ)) / √((1 + a²(1 − ρ))(1 + a²(1 + ρ)))`.

    >>> import sympy
    >>> GaussianUnit().formula(sympy.Integer(0))
    1/2
    """

    a: Fraction = ONE
    b: Fraction = ZERO

    def formula(self, rho: Any) -> Any:
        """Return `K(ρ)`."""
        square = like(self.a**2, rho)
        near, far = 1 + square * (1 - rho), 1 + square * (1 + rho)
        size = 1 / root_of_product(near, far)
        return size * _exp(-like(self.b**2, rho) / far) if self.b else size

    def mean(self, scalar: Any) -> Any:
        """Return `e^{−b²/(2(1 + a²))}/√(1 + a²)`."""
        spread = 1 + self.a**2
        size = 1 / root(like(spread, scalar))
        return size * _exp(-like(self.b**2 / (2 * spread), scalar)) if self.b else size

    def compose(self, a: Fraction, b: Fraction) -> ClosedForm:
        """Return the kernel of `φ(a z + b)`."""
        return GaussianUnit(self.a * a, self.a * b + self.b)


@dataclass(frozen=True)
class Gelu(ClosedForm):
    """`φ(z) = z Φ(z)`; the formula is that of `gelu_kernel`. Source: Tsuchida et al. 2021.

    >>> import sympy
    >>> Gelu().formula(sympy.Integer(0))  # (E φ)²
    1/(4*pi)
    """

    def formula(self, rho: Any) -> Any:
        """Return `K(ρ)`."""
        return gelu_kernel(rho, root_of_product(2 - rho, 2 + rho), _asin(rho / 2), pi_like(rho))

    def mean(self, scalar: Any) -> Any:
        """Return `1/(2√π)`."""
        return 1 / (2 * root(pi_like(scalar)))


def gelu_kernel(rho: Any, root: Any, angle: Any, pi: Any) -> Any:
    """Return `ρ/4 + (ρ arcsin(ρ/2) + 1/√(4 − ρ²))/(2π)` from `root = √(4 − ρ²)` and `angle = arcsin(ρ/2)`.

    >>> gelu_kernel(0.0, 2.0, 0.0, 1.0)  # in units where π = 1
    0.25
    """
    return rho / 4 + (rho * angle + 1 / root) / (2 * pi)


@dataclass(frozen=True)
class Polynomial(ClosedForm):
    """`φ(z) = Σ_j coefficients[j] zʲ`: `K(ρ) = Σ_k b_k² ρᵏ / k!` with `b_k = E φ⁽ᵏ⁾(Z)`, a rational.

    >>> cube = Polynomial((ZERO, ZERO, ZERO, ONE))  # z³ = He₃ + 3 He₁
    >>> [str(share) for share in cube.shares], cube.formula(Fraction(1, 2))
    (['0', '9', '0', '6'], Fraction(21, 4))
    """

    coefficients: tuple[Fraction, ...]

    def formula(self, rho: Any) -> Any:
        """Return `K(ρ)`."""
        value = rho * 0
        for share in reversed(self.shares):
            value = value * rho + like(share, rho)
        return value

    def mean(self, scalar: Any) -> Any:
        """Return `b₀`."""
        return like(self.means[0], scalar)

    @cached_property
    def means(self) -> tuple[Fraction, ...]:
        """`b_k = E φ⁽ᵏ⁾(Z) = √k! c_k = Σ_j a_{k+2j} (k+2j)!/(2ʲ j!)`."""
        a = self.coefficients
        return tuple(
            sum(
                (
                    a[i] * Fraction(factorial(i), 2 ** ((i - k) // 2) * factorial((i - k) // 2))
                    for i in range(k, len(a), 2)
                ),
                ZERO,
            )
            for k in range(len(a))
        )

    @cached_property
    def shares(self) -> tuple[Fraction, ...]:
        """The coefficients `c_k² = b_k²/k!` of `K`."""
        return tuple(mean**2 / factorial(k) for k, mean in enumerate(self.means))

    def compose(self, a: Fraction, b: Fraction) -> ClosedForm:
        """Return the kernel of `φ(a z + b)`."""
        c = self.coefficients
        powers = range(len(c))
        return Polynomial(
            tuple(sum((c[i] * comb(i, j) * a**j * b ** (i - j) for i in powers if i >= j), ZERO) for j in powers)
        )
