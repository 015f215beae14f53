"""Closed dual kernels derived from Price's theorem, with SymPy and without a single guess.

`K⁽ᵐ⁾(ρ) = E φ⁽ᵐ⁾(X) φ⁽ᵐ⁾(Y)` (Price 1958): differentiate until `φ⁽ᵐ⁾` is a point mass or a polynomial times a
Gaussian, whose expectation is elementary; then integrate back from `K⁽ʲ⁾(0) = (E φ⁽ʲ⁾)²`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sympy
from sympy import Expr, Rational, asin, diff, exp, factorial, pi, sqrt

from theory.closed_forms import ArcCosine, ClosedForm, ErrorFunction, GaussianUnit, Gelu, Polynomial, Sine

rho = sympy.Symbol("rho", real=True)
x, y, z = sympy.symbols("x y z", real=True)
density = exp(-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho) * (1 + rho))) / (
    2 * pi * sqrt(1 - rho) * sqrt(1 + rho)
)


@dataclass(frozen=True)
class Derivation:
    """How a closed form comes about.

    Attributes:
        order: How often `φ` was differentiated, `m`.
        top: The elementary expectation `K⁽ᵐ⁾(ρ)`.
        initial: `K⁽ʲ⁾(0) = (E φ⁽ʲ⁾(Z))²` for `j < m`.
        kernel: `K(ρ)`, integrated back.
    """

    order: int
    top: Expr
    initial: tuple[Expr, ...]
    kernel: Expr


@cache
def derive(kernel: ClosedForm) -> Derivation:
    """Derive a closed form from the definition of its activation; the formula itself is not used.

    Raises:
        TypeError: The family is unknown.

    >>> derive(Polynomial((0, 0, 1))).kernel  # of z²
    2*rho**2 + 1
    """
    if isinstance(kernel, ArcCosine):
        return _integrated(_point_mass(kernel), tuple(_half_line_mean(kernel, j) for j in range(kernel.degree + 1)))
    if isinstance(kernel, ErrorFunction):
        a = _symbolic(kernel.a)
        return _integrated(expectation(2 * a / sqrt(pi), 2 * a**2), (sympy.S.Zero,))
    if isinstance(kernel, Gelu):
        means = (expectation_of_one(1 / sqrt(2 * pi), 1), Rational(1, 2))
        return _integrated(expectation((2 - z**2) / sqrt(2 * pi), 1), means)
    if isinstance(kernel, (Sine, GaussianUnit, Polynomial)):
        top = _elementary(kernel)
        return Derivation(0, top, (), top)
    raise TypeError(f"no derivation is known for {kernel!r}")


def expectation(polynomial: Expr, curvature: Expr | int, rate: Expr | int = 0) -> Expr:
    """Return `E f(X) f(Y)` for `f(z) = polynomial(z) exp(−curvature z²/2 + rate z)`.

    From `E exp(uX + vY − α(X² + Y²)/2) = det(I + αΣ)^{−1/2} exp(½ wᵀ Σ (I + αΣ)^{−1} w)`, `w = (u, v)`, by
    differentiating in `u` and `v`.

    >>> expectation(z, 0)
    rho
    """
    return pair_expectation((polynomial, rate), (polynomial, rate), curvature)


def pair_expectation(f: tuple[Expr, Expr | int], g: tuple[Expr, Expr | int], curvature: Expr | int) -> Expr:
    """Return `E f(X) g(Y)` for `f = (p, r)` that stands for `p(z) exp(−curvature z²/2 + r z)`, `g` likewise.

    >>> sympy.expand(pair_expectation((z**2, 0), (z**2, 0), 0))
    2*rho**2 + 1
    """
    u, v = sympy.symbols("u v", real=True)
    spread, product = 1 + curvature, curvature * rho
    determinant = (spread - product) * (spread + product)
    size = sqrt(spread - product) * sqrt(spread + product)
    quadratic = ((spread - curvature * rho**2) * (u**2 + v**2) + 2 * rho * u * v) / (2 * determinant)
    generating = exp(quadratic)
    value = sympy.S.Zero
    for (i,), c in sympy.Poly(f[0], z).terms():
        for (j,), d in sympy.Poly(g[0], z).terms():
            value += c * d * diff(generating, u, i, v, j).subs({u: f[1], v: g[1]})
    return sympy.together(value) / size


def expectation_of_one(polynomial: Expr, curvature: Expr | int) -> Expr:
    """Return `E p(Z) exp(−curvature Z²/2)` by the integral that defines it.

    >>> expectation_of_one(z**2, 0)
    1
    """
    integrand = polynomial * exp(-(1 + curvature) * z**2 / 2) / sqrt(2 * pi)
    return sympy.integrate(integrand, (z, -sympy.oo, sympy.oo))


def _point_mass(kernel: ArcCosine) -> Expr:
    """Return `E φ⁽ᵐ⁺¹⁾(X) φ⁽ᵐ⁺¹⁾(Y)` where `φ⁽ᵐ⁺¹⁾` is a multiple of the point mass at 0."""
    left = (-1) ** kernel.degree * _symbolic(kernel.left)
    jump = factorial(kernel.degree) * (_symbolic(kernel.right) - left)
    return jump**2 * density.subs({x: 0, y: 0})


def _half_line_mean(kernel: ArcCosine, j: int) -> Expr:
    """Return `E φ⁽ʲ⁾(Z)` from both half lines."""
    m = kernel.degree
    both = _symbolic(kernel.right) + (-1) ** j * _symbolic(kernel.left)
    moment = sympy.integrate(z ** (m - j) * exp(-(z**2) / 2) / sqrt(2 * pi), (z, 0, sympy.oo))
    return factorial(m) / factorial(m - j) * both * moment


def _elementary(kernel: Sine | GaussianUnit | Polynomial) -> Expr:
    """Return `E φ(X) φ(Y)` where no differentiation is needed."""
    if isinstance(kernel, Polynomial):
        return sympy.expand(expectation(sum(_symbolic(c) * z**j for j, c in enumerate(kernel.coefficients)), 0))
    a, b = _symbolic(kernel.a), _symbolic(kernel.b)
    if isinstance(kernel, GaussianUnit):
        return expectation(exp(-(b**2) / 2), a**2, -a * b)
    phase = exp(sympy.I * b) if kernel.cosine else -sympy.I * exp(sympy.I * b)
    waves = ((phase / 2, sympy.I * a), (sympy.conjugate(phase) / 2, -sympy.I * a))
    return sympy.Add(*(pair_expectation(f, g, 0) for f in waves for g in waves))


def _symbolic(number: object) -> Expr:
    return sympy.Rational(str(number))


def _integrated(top: Expr, means: tuple[Expr, ...]) -> Derivation:
    initial = tuple(mean**2 for mean in means)
    kernel = Tower.of(top)
    for value in reversed(initial):
        kernel = kernel.integral(value)
    return Derivation(len(means), top, initial, kernel.expression)


@dataclass(frozen=True)
class Tower:
    """`P(ρ) + A(ρ) arcsin(ρ/κ) + R(ρ)/w^{2n−1}` with `w = √(κ² − ρ²)`: closed under integration.

    `P`, `A` and `R` are polynomials, `n ≥ 1`.
    """

    kappa: Expr
    P: Expr
    A: Expr
    R: Expr
    n: int

    @classmethod
    def of(cls, expression: Expr) -> Tower:
        """Read `R(ρ)/w^{2n−1}`.

        Raises:
            ValueError: The expression is of another form.
        """
        kappa = _singularity(expression)
        for n in range(1, 5):
            R = sympy.simplify(expression * (sqrt(kappa - rho) * sqrt(kappa + rho)) ** (2 * n - 1))
            if R.is_polynomial(rho):
                return cls(kappa, sympy.S.Zero, sympy.S.Zero, R, n)
        raise ValueError(f"{expression} is no polynomial over an odd power of √(κ² − ρ²)")

    @property
    def expression(self) -> Expr:
        """The function itself, with `w` as `√(κ − ρ) √(κ + ρ)`, which loses no digits at `ρ = ±κ`."""
        w = sqrt(self.kappa - rho) * sqrt(self.kappa + rho)
        quotient, rest = sympy.div(self.R, self.kappa**2 - rho**2, rho)
        R, power = (self.R, 2 * self.n - 1) if rest else (quotient, 2 * self.n - 3)
        return self.P + self.A * asin(rho / self.kappa) + sympy.factor(R) / w**power

    def integral(self, constant: Expr) -> Tower:
        """Return the antiderivative that is `constant` at 0.

        `∫ A arcsin = Q arcsin − ∫ Q/w` with `Q' = A`; the powers of `w` come down one by one.
        """
        Q, square = sympy.integrate(self.A, rho), self.kappa**2 - rho**2
        R, S = self.R - Q * square ** (self.n - 1), sympy.S.Zero
        for n in range(self.n, 1, -1):
            R, step = _lowered(R, self.kappa, n)
            S += step * square ** (self.n - n)
        low = max(self.n - 1, 1)
        factor, arc = _over_root(R, self.kappa)
        S = sympy.expand(S + factor * square**low)
        P = sympy.integrate(self.P, rho) + constant - S.subs(rho, 0) / self.kappa ** (2 * low - 1)
        return Tower(self.kappa, P, Q + arc, S, low)


def _singularity(expression: Expr) -> Expr:
    """Return the positive `κ` at which the expression is singular."""
    poles = sympy.solve(sympy.denom(sympy.together(expression)), rho)
    return max(poles)


def _lowered(R: Expr, kappa: Expr, n: int) -> tuple[Expr, Expr]:
    """Return `(R₁, S)` with `∫ R/w^{2n−1} = S/w^{2n−3} + ∫ R₁/w^{2n−3}`, for `n ≥ 2`."""
    quotient, rest = sympy.div(sympy.Poly(R, rho), sympy.Poly(kappa**2 - rho**2, rho))
    r0, r1 = rest.coeff_monomial(1), rest.coeff_monomial(rho)
    odd = 2 * n - 3
    return quotient.as_expr() + r0 * Rational(odd - 1, odd) / kappa**2, (r1 + r0 * rho / kappa**2) / odd


def _over_root(R: Expr, kappa: Expr) -> tuple[Expr, Expr]:
    """Return `(S, c)` with `∫ R/w = S w + c arcsin(ρ/κ)`, from `∫ ρᵐ/w = −ρ^{m−1} w/m + κ² (m−1)/m ∫ ρ^{m−2}/w`."""
    coefficients, S = sympy.Poly(R, rho).all_coeffs()[::-1], sympy.S.Zero
    for m in range(len(coefficients) - 1, 0, -1):
        S -= coefficients[m] * rho ** (m - 1) / m
        if m > 1:
            coefficients[m - 2] += coefficients[m] * kappa**2 * Rational(m - 1, m)
    return S, coefficients[0]
