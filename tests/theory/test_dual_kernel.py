"""The properties of the dual kernel (K1): every step of the proof, then the kernels of named activations."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from sympy import I, Rational, Sum, cos, diff, exp, expand, factorial, oo, simplify, sin, sqrt

from claims.evidence import witness
from tests.theory.strategies import floats
from theory.activations import get, moments, named
from theory.hermite import hermite_coefficients
from theory.kernels import dual_kernel
from theory.price import density, pair_expectation, rho, x, y, z
from theory.tolerances import float64_identity

ALL = tuple(name for name in named() if name != "one")
s, t, u, v = sympy.symbols("s t u v", real=True)
theta = sympy.Symbol("theta", real=True)  # ρ = cos θ: all of [−1, 1], the ends too
generating = exp(s * x - s**2 / 2)
gaussian = exp(-(x**2) / 2) / sqrt(2 * sympy.pi)


def he(k):
    """Return SymPy's Hermite polynomial in the probabilists' normalisation."""
    return expand(sympy.hermite(k, x / sqrt(2)) / sqrt(2) ** k)


def exponent(function):
    """Return the logarithm of an exponential, up to the constants in front, expanded."""
    return expand(sympy.expand_log(sympy.log(function), force=True))


# ----------------------------------------------------------------------------------------------------- the proof


@pytest.mark.claim("K1", "symbolic", step="generating")
def test_the_generating_function_is_that_of_the_hermite_polynomials():
    """`∂G/∂s = (x − s) G` and `∂G/∂x = s G` are the two recurrences in all degrees at once."""
    assert simplify(diff(generating, s) - (x - s) * generating) == 0
    assert simplify(diff(generating, x) - s * generating) == 0
    witness(instances=2)
    for k in range(8):
        assert expand(diff(generating, s, k).subs(s, 0) / exp(0) - he(k)) == 0
        witness()


@pytest.mark.claim("K1", "symbolic", step="biorthogonality")
def test_hermite_polynomials_of_correlated_gaussians_are_biorthogonal():
    """`E G(X, s) G(Y, t) = e^{stρ}` with `Y = cos θ X + sin θ Z`, the ends `ρ = ±1` included."""
    assert simplify(sympy.integrate(exp(s * x) * gaussian, (x, -oo, oo)) - exp(s**2 / 2)) == 0
    of_x, of_z = s + t * cos(theta), t * sin(theta)
    assert simplify((of_x**2 + of_z**2 - s**2 - t**2) / 2 - s * t * cos(theta)) == 0
    witness(instances=2)
    for j in range(5):
        for k in range(5):
            expected = factorial(k) * rho**k if j == k else 0
            assert diff(exp(s * t * rho), s, j, t, k).subs({s: 0, t: 0}) == expected
            witness()


@pytest.mark.claim("K1", "symbolic", step="parseval")
def test_parseval_holds_for_every_complex_exponential():
    """`c_k = e^{w²/2} wᵏ/√k!` for `e^{wz}`, `w = u + iv`, and `Σ |c_k|² = e^{2u²} = E |e^{wZ}|²`."""
    w, k = u + I * v, sympy.Symbol("k", integer=True, nonnegative=True)
    assert expand((w + t) ** 2 / 2 - t**2 / 2 - (w**2 / 2 + w * t)) == 0  # E e^{wZ} G(Z, t) = e^{w²/2 + wt}
    shares = Sum((u**2 + v**2) ** k / factorial(k), (k, 0, oo)).doit()
    squared = exp(sympy.re(expand(w**2))) * shares
    assert simplify(squared - exp((2 * u) ** 2 / 2)) == 0
    witness(instances=2)


@pytest.mark.claim("K1", "symbolic", step="signs")
def test_each_term_of_the_series_is_bounded_and_has_derivatives_of_one_sign():
    """From `d^m ρᵏ = f ρʲ`, `f ≥ 0` and `j = k − m ≥ 0`, to `d^{m+1} ρᵏ = f j ρ^{j−1}`: the induction on `m`."""
    k = sympy.Symbol("k", integer=True, positive=True)
    j, c, f, r, a = (sympy.Symbol(name, nonnegative=True, integer=name == "j") for name in "jcfra")
    term = c**2 * r**k
    assert term.subs(r, 0) == 0
    assert term.subs(r, 1) == c**2
    inside = a / (1 + a)  # [0, 1)
    assert (1 - inside).simplify().is_positive  # so |ρ|^{k−1} ≤ 1 and |c² ρᵏ| ≤ c² |ρ|
    assert simplify(term / r - c**2 * r ** (k - 1)) == 0
    assert simplify(diff(f * r**j, r) - f * j * r ** (j - 1)) == 0
    assert (f * j).is_nonnegative
    witness(instances=6)


@pytest.mark.claim("K1", "symbolic", step="price")
def test_the_derivative_of_a_hermite_function_is_the_next_one():
    """`∂(G γ)/∂x = −∂G/∂s γ`: `(He_k γ)' = −He_{k+1} γ` for all `k`."""
    assert simplify(diff(generating * gaussian, x) + diff(generating, s) * gaussian) == 0
    witness()
    for k in range(7):
        assert simplify((diff(he(k) * gaussian, x) + he(k + 1) * gaussian) / gaussian) == 0
        witness()


@pytest.mark.claim("K1", "symbolic", step="price")
def test_the_density_turns_a_derivative_in_rho_into_one_in_both_arguments():
    assert simplify((diff(density, rho) - diff(density, x, y)) / density) == 0
    witness()


@pytest.mark.claim("K1", "symbolic")
def test_a_polynomial_with_free_coefficients_has_the_kernel_of_its_expansion():
    """The whole statement for degree 4, with `E` from differentiating `E e^{uX + vY}`: series, `K(1)` and `K'`."""
    a = sympy.symbols("a0:5", real=True)
    phi = sum(c * z**j for j, c in enumerate(a))
    means = [pair_expectation((diff(phi, z, k), 0), (sympy.S.One, 0), 0) for k in range(5)]  # c_k √k!
    K = expand(pair_expectation((phi, 0), (phi, 0), 0))
    assert expand(K - sum(m**2 * rho**k / factorial(k) for k, m in enumerate(means))) == 0
    assert expand(K.subs(rho, 1) - pair_expectation((phi**2, 0), (sympy.S.One, 0), 0)) == 0
    slope = diff(phi, z)
    assert expand(diff(K, rho) - pair_expectation((slope, 0), (slope, 0), 0)) == 0
    witness(instances=3)


# ------------------------------------------------------------------------------------------------------ controls


@pytest.mark.control("K1")
def test_without_its_square_the_generating_function_is_another():
    plain = exp(s * x)
    assert simplify(diff(plain, s) - (x - s) * plain) != 0
    assert diff(plain, s, 2).subs(s, 0) != he(2)


@pytest.mark.control("K1")
def test_with_half_the_mixed_derivative_prices_identity_fails():
    assert simplify((diff(density, rho) - diff(density, x, y) / 2) / density).subs({x: 0, y: 0}) != 0


@pytest.mark.control("K1")
def test_without_centring_the_kernel_is_not_zero_at_zero():
    raw = get("relu").kernel.formula(sympy.Integer(0))
    assert simplify(raw - 1 / (2 * sympy.pi)) == 0
    assert dual_kernel("relu", 0.0, standardised=False) > 0.15


@pytest.mark.control("K1")
def test_without_gaussians_the_bound_fails():
    """Four points on which `X Y` is zero, yet `φ(z) = z² − 1` correlates them: the bound needs Gaussians."""
    pairs = [(1, 0), (0, 1), (-1, 0), (0, -1)]  # uniform, times √2: uncorrelated, not Gaussian
    phi = [(2 * a**2 - 1, 2 * b**2 - 1) for a, b in pairs]
    assert sum(a * b for a, b in pairs) == 0
    assert Rational(sum(f * g for f, g in phi), sum(f * f for f, _ in phi)) == -1


# ------------------------------------------------------------------------------------------- the named activations


@pytest.mark.claim("K1", "property")
@pytest.mark.parametrize("name", ALL)
@given(a=floats(0, 1), b=floats(0, 1))
def test_the_kernel_is_bounded_increasing_and_convex(name, a, b):
    low, high = sorted((a, b))
    K = dual_kernel(name, np.array([low, (low + high) / 2, high, -low, -high]))
    excess = max(0.0, abs(K[4]) - high, abs(K[2]) - high, K[0] - K[2], K[1] - (K[0] + K[2]) / 2)
    assert excess <= float64_identity(1)
    witness(residual=excess)


@pytest.mark.claim("K1", "property")
@pytest.mark.parametrize("name", ALL)
@given(r=floats(-0.85, 0.85))
def test_the_hermite_series_is_the_kernel(name, r):
    """With the truncation error below `|ρ|^{n+1}` times the energy that is left."""
    n, square = 80, moments(name).square
    c = hermite_coefficients(name, n)
    left = max(square - (c**2).sum(), 0.0)
    error = abs(np.polynomial.polynomial.polyval(r, c**2) - dual_kernel(name, r, standardised=False))
    beyond = max(0.0, error - abs(r) ** (n + 1) * left)
    assert beyond <= float64_identity(8 * square)
    witness(residual=beyond)


@pytest.mark.parametrize("name", ALL)
def test_values_at_zero_and_one_are_exact(name):
    assert dual_kernel(name, np.array([0.0, 1.0])).tolist() == [0, 1]
    assert math.copysign(1, dual_kernel(name, 0.0)) == 1
