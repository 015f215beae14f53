"""Closed dual kernels against their derivation by Price's theorem, symbol for symbol."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sympy
from flint import arb
from scipy.integrate import dblquad
from sympy import Rational, diff, simplify

from claims.evidence import witness
from theory.activations import get, modulate
from theory.closed_forms import ArcCosine, ErrorFunction, GaussianUnit, Gelu, Polynomial, Sine
from theory.kernels import dual_kernel
from theory.loops import fill
from theory.price import density, derive, pair_expectation, rho, x, y

Q = Fraction
ONE, ZERO = Q(1), Q(0)
KERNELS = (
    ArcCosine(0, ONE, ZERO),
    ArcCosine(0, ONE, -ONE),
    ArcCosine(1, ONE, ZERO),
    ArcCosine(1, ONE, ONE),
    ArcCosine(1, ONE, Q(-1, 100)),
    ArcCosine(2, ONE, ZERO),
    ArcCosine(2, Q(2), Q(-1, 3)),
    ErrorFunction(),
    ErrorFunction(Q(3, 2)),
    Gelu(),
    Sine(),
    Sine(Q(2), Q(1, 3)),
    Sine(cosine=True),
    Sine(Q(1, 2), Q(-1), cosine=True),
    GaussianUnit(),
    GaussianUnit(Q(2), Q(1, 3)),
    Polynomial((ZERO, ONE)),
    Polynomial((ONE, Q(-2), Q(1, 2), ZERO, Q(1, 3))),
)


def is_zero(expression, kernel):
    """Tell whether an expression in ρ is identically 0 on (−κ, κ), with κ where the kernel is singular.

    `ρ = κ (1 − u²)/(1 + u²)` with `u > 0` makes every root of κ ± ρ rational in `u`, up to constants.
    """
    u = sympy.Symbol("u", positive=True)
    rational = singularity(kernel) * (1 - u**2) / (1 + u**2)
    value = expression.replace(sympy.acos, lambda z: sympy.pi / 2 - sympy.asin(z)).subs(rho, rational)
    value = value.replace(lambda e: e.is_Pow and not e.exp.is_integer, lambda e: sympy.factor(e.base) ** e.exp)
    return simplify(sympy.expand_complex(simplify(value))) == 0


def singularity(kernel):
    if isinstance(kernel, (ErrorFunction, GaussianUnit)):
        square = Rational(str(kernel.a)) ** 2 * (2 if isinstance(kernel, ErrorFunction) else 1)
        return (1 + square) / square
    return 2 if isinstance(kernel, Gelu) else 1


@pytest.mark.claim("K1", "symbolic")
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_formula_is_what_prices_theorem_gives(kernel):
    assert is_zero(kernel.formula(rho) - derive(kernel).kernel, kernel)
    witness()


@pytest.mark.claim("K1", "symbolic")
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_derivatives_of_the_formula_are_expectations_of_derivatives(kernel):
    derivation = derive(kernel)
    formula = kernel.formula(rho)
    assert is_zero(diff(formula, rho, derivation.order) - derivation.top, kernel)
    for order, value in enumerate(derivation.initial):
        assert simplify(diff(formula, rho, order).subs(rho, 0) - value) == 0
    witness(instances=1 + len(derivation.initial))


@pytest.mark.control("K1")
def test_a_mutated_formula_is_not_what_prices_theorem_gives():
    for kernel, other in (
        (ErrorFunction(), ErrorFunction(Q(2))),
        (ArcCosine(1, ONE, ZERO), ArcCosine(1, ONE, Q(1, 9))),
    ):
        assert not is_zero(kernel.formula(rho) - derive(other).kernel, kernel)
    assert derive(Gelu()).kernel.subs(rho, 1) != Gelu().formula(rho).subs(rho, 1) + Rational(1, 10**9)


def test_unknown_families_have_no_derivation():
    with pytest.raises(TypeError, match="no derivation"):
        derive("relu")


def test_elementary_expectations_are_integrals_against_the_density():
    """The generating function that all derivations rest on, at rational points, against numerical integration."""
    for f, g, curvature, r in (
        ((x**2, 1), (x, -1), 1, Rational(1, 3)),
        ((2 - x**2, 0), (1 + x, 0), 2, Rational(-4, 5)),
    ):
        z = sympy.Symbol("z", real=True)
        exact = pair_expectation((f[0].subs(x, z), f[1]), (g[0].subs(x, z), g[1]), curvature).subs(rho, r)
        bump = [p.subs(x, v) * sympy.exp(-curvature * v**2 / 2 + s * v) for (p, s), v in ((f, x), (g, y))]
        integrand = sympy.lambdify((y, x), bump[0] * bump[1] * density.subs(rho, r))
        found, error = dblquad(integrand, -9, 9, -9, 9, epsabs=1e-9)
        assert abs(found - float(exact)) <= 10 * error + 1e-9


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_blocks_agree_with_balls(kernel):
    correlations = np.array([-1.0, -1 + 1e-12, -0.7, -1e-9, 0.0, 0.25, 0.999, 1 - 1e-9, 1.0])
    out = np.empty_like(correlations)
    fill(kernel, correlations, out, 0.125, 3.0)
    for r, found in zip(correlations, out, strict=True):
        ball = (kernel.formula(arb(r)) - arb(0.125)) * 3
        assert abs(ball - found) <= 1e-14 * (1 + abs(ball))


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "relu2", "abs", "sign", "sin", "cos", "erf", "gaussian", "cube"]
)
@pytest.mark.parametrize("a", [Q(2), Q(-1, 3)])
def test_modulated_closed_forms_are_those_of_the_modulated_activation(name, a):
    """The closed form of φ(a z) against one derived anew from quadrature, which knows nothing of it."""
    phi = modulate(name, a)
    bare = replace(phi, name=f"bare {phi.name}", kernel=None)
    correlations = np.array([-1.0, -0.6, 0.0, 0.3, 0.99, 1.0])
    assert phi.kernel is not None
    assert np.abs(dual_kernel(phi, correlations) - dual_kernel(bare, correlations)).max() <= 1e-12


@pytest.mark.parametrize("name", ["sin", "cos", "gaussian", "cube"])
def test_shifted_closed_forms_too(name):
    phi = modulate(name, Q(3, 2), Q(-1, 2))
    bare = replace(phi, name=f"bare {phi.name}", kernel=None)
    correlations = np.linspace(-1, 1, 9)
    assert phi.kernel is not None
    assert np.abs(dual_kernel(phi, correlations) - dual_kernel(bare, correlations)).max() <= 1e-12


def test_kinked_activations_lose_their_closed_form_when_shifted():
    assert modulate("relu", 1, Q(1, 2)).kernel is None
    assert modulate("erf", 1, Q(1, 2)).kernel is None
    assert modulate("gelu", 2).kernel is None
    assert get("gelu").kernel is not None
