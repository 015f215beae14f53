"""The strength of a nonlinearity, and the remainder of the expansion near identical pairs (R6)."""

import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from claims.evidence import witness
from theory.activations import from_callable, get, modulate, moments, named, polynomial, standardise
from theory.catalogue import SELU_ALPHA, SELU_SCALE
from theory.derivatives import derivative
from theory.enclosures import dual_kernel_enclosure
from theory.kernels import dual_kernel, hermite_coefficients
from theory.pieces import Term
from theory.price import density, rho, x, y
from theory.strength import (
    PER_KINK,
    _largest_term,
    _slope,
    bracket,
    kink_coefficient,
    near_identity,
    strength_enclosure,
)

JUMP = ("step", "sign", "one")
NAMES = tuple(name for name in named() if name not in JUMP)
KINKED = ("relu", "leaky_relu", "abs", "selu", "hardtanh", "hard_swish")
TABLE = {  # E φ, E φ², E φ'², α raw, α centred, c₁²/var, to the digits given
    "relu": (0.398942, 0.500000, 0.500000, 0.000000, 0.466942, 0.733471),
    "tanh": (0, 0.394294, 0.464403, 0.177807, 0.177807, 0.930470),
    "gelu": (0.282095, 0.425221, 0.455851, 0.072032, 0.318845, 0.723288),
    "sigmoid": (0.500000, 0.293379, 0.044836, -0.847173, 0.033592, 0.984167),
    "silu": (0.206621, 0.355776, 0.379482, 0.066634, 0.212081, 0.798510),
    "elu": (0.160521, 0.644945, 0.668102, 0.035905, 0.079013, 0.936727),
    "erf(z/√2)": (0, 0.333333, 0.367553, 0.102658, 0.102658, 0.954930),
    "sin": (0, 0.432332, 0.567668, 0.313035, 0.313035, 0.850918),
}
DIGITS = 5.01e-7


def activation(name):
    return modulate("erf", 1 / math.sqrt(2)) if name == "erf(z/√2)" else name


def true_gap(phi, eps, standardised):
    K = dual_kernel(phi, 1 - eps, standardised=standardised)
    return 1 - K / dual_kernel(phi, 1.0, standardised=standardised)


# ------------------------------------------------------------------------------------------------------- the proof


@pytest.mark.claim("R6", "symbolic", step="convexity")
def test_each_power_lies_between_its_tangent_and_its_chord():
    """`kε(1−ε)^{k−1} ≤ 1 − (1−ε)ᵏ ≤ kε` for all `k ≥ 1`, by induction: each step adds a term that is no less than
    0.

    With `r = 1 − ε`, the lower gap `u_k = 1 − rᵏ − k ε r^{k−1}` has `u_{k+1} − u_k = k ε² r^{k−1}`, the upper one
    `v_k = k ε − 1 + rᵏ` has `v_{k+1} − v_k = ε (1 − rᵏ)`.
    """
    r, k = sympy.Symbol("r", positive=True), sympy.Symbol("k", integer=True, positive=True)
    u = 1 - r**k - k * (1 - r) * r ** (k - 1)
    v = k * (1 - r) - 1 + r**k
    assert u.subs(k, 1) == 0
    assert v.subs(k, 1) == 0
    assert sympy.simplify(u.subs(k, k + 1) - u - k * (1 - r) ** 2 * r ** (k - 1)) == 0
    assert sympy.simplify(v.subs(k, k + 1) - v - (1 - r) * (1 - r**k)) == 0
    witness(instances=4)


@pytest.mark.claim("R6", "symbolic", step="smooth")
def test_the_second_order_gap_of_each_power_is_at_most_half_its_curvature():
    """`w_k = k(k−1)ε²/2 − v_k` has `w_1 = 0` and `w_{k+1} − w_k = ε (kε − 1 + rᵏ) = ε v_k ≥ 0`."""
    r, k = sympy.Symbol("r", positive=True), sympy.Symbol("k", integer=True, positive=True)
    eps = 1 - r
    v = k * eps - 1 + r**k
    w = k * (k - 1) * eps**2 / 2 - v
    assert w.subs(k, 1) == 0
    assert sympy.simplify(w.subs(k, k + 1) - w - eps * v) == 0
    witness(instances=2)


@pytest.mark.claim("R6", "symbolic", step="kinks")
def test_point_masses_of_the_second_derivative_give_a_root_and_bounded_rests():
    """The formula of `K''`, its diagonal near 1, the rest bounded, and both integrations."""
    assert sympy.simplify((sympy.diff(density, rho) - sympy.diff(density, x, y)) / density) == 0
    witness()

    t, kappa, d = sympy.symbols("t kappa d", positive=True)
    h = sympy.exp(-(kappa**2) / (2 - t)) / sympy.sqrt(2 - t)
    diagonal = density.subs({x: kappa, y: kappa}).subs(rho, 1 - t)
    assert sympy.simplify(diagonal / h * (2 * sympy.pi * sympy.sqrt(t))) == 1
    gamma = sympy.exp(-(kappa**2) / 2) / sympy.sqrt(2 * sympy.pi)
    assert sympy.simplify(h.subs(t, 0) / (2 * sympy.pi) - gamma / (2 * sympy.sqrt(sympy.pi))) == 0
    slope = 1 / (2 * (2 - t)) - kappa**2 / (2 - t) ** 2  # h'/h, a difference of two positive terms for t ≤ 1:
    assert sympy.simplify(sympy.diff(h, t) / h - slope) == 0  # the first ≤ 1/2, the second ≤ κ², h ≤ e^{−κ²/2}
    s = sympy.Symbol("s", nonnegative=True)
    inside = s / (1 + s)  # [0, 1)
    for bounded in (
        sympy.Rational(1, 2) - 1 / (2 * (2 - inside)),
        1 - 1 / (2 - inside) ** 2,
        1 / (2 - inside) - sympy.Rational(1, 2),
    ):
        assert sympy.factor(sympy.together(bounded)).is_nonnegative
    witness(instances=6)

    off = (x**2 - 2 * rho * x * y + y**2) / (1 - rho**2) - (x - y) ** 2 / (2 * (1 - rho))
    assert sympy.simplify(off - (x + y) ** 2 / (2 * (1 + rho))) == 0  # so p ≤ e^{−d²/(4t)}/(2π√(t(2−t)))
    bump = sympy.exp(-(d**2) / (4 * t)) / sympy.sqrt(t)
    assert sympy.solve(sympy.diff(sympy.log(bump), t), t) == [d**2 / 2]
    top = bump.subs(t, d**2 / 2) / (2 * sympy.pi)
    assert sympy.simplify(top - sympy.exp(-sympy.Rational(1, 2)) / (sympy.sqrt(2) * sympy.pi * d)) == 0
    witness(instances=3)

    eps, u = sympy.symbols("epsilon u", positive=True)
    for power, twice in (
        (-sympy.Rational(1, 2), sympy.Rational(4, 3) * eps ** sympy.Rational(3, 2)),
        (0, eps**2 / 2),
        (sympy.Rational(1, 2), sympy.Rational(4, 15) * eps ** sympy.Rational(5, 2)),
    ):
        once = sympy.integrate(t**power, (t, 0, u))
        assert sympy.simplify(sympy.integrate(once, (u, 0, eps)) - twice) == 0
        witness()
    assert sympy.simplify(sympy.Rational(4, 3) / (2 * sympy.sqrt(sympy.pi)) - 2 / (3 * sympy.sqrt(sympy.pi))) == 0
    witness()


@pytest.mark.claim("R6", "symbolic", step="kinks")
def test_the_coefficient_of_relu_is_that_of_its_closed_kernel():
    theta = sympy.Symbol("theta", positive=True)
    gap = 1 - (sympy.sin(theta) + (sympy.pi - theta) * sympy.cos(theta)) / sympy.pi
    eps = 1 - sympy.cos(theta)
    k = sympy.limit((eps - gap) / eps ** sympy.Rational(3, 2), theta, 0)
    assert sympy.simplify(k - 2 * sympy.sqrt(2) / (3 * sympy.pi)) == 0
    formula = 2 / (3 * sympy.sqrt(sympy.pi)) / sympy.sqrt(2 * sympy.pi) / sympy.Rational(1, 2)
    assert sympy.simplify(k - formula) == 0
    assert abs(kink_coefficient("relu", standardised=False) - float(k)) < 1e-14
    witness(instances=2)


@pytest.mark.claim("R6", "symbolic", step="centring")
def test_the_centred_strength_is_a_mean_of_degrees_and_the_raw_one_has_a_larger_denominator():
    share = sympy.Symbol("c_k2", nonnegative=True)
    degree = sympy.Symbol("j", integer=True, nonnegative=True) + 1  # any k ≥ 1
    assert ((degree - 1) * share).is_nonnegative
    assert sympy.simplify(degree * share - share - (degree - 1) * share) == 0
    slope, variance, mean = sympy.symbols("S V m", positive=True)
    assert (slope / variance - slope / (variance + mean**2)).together().is_positive
    witness(instances=3)


@pytest.mark.claim("R6", "enclosure", step="numbers")
@pytest.mark.parametrize("name", TABLE)
def test_the_strengths_of_the_table_are_enclosed(name):
    raw, centred = strength_enclosure(activation(name))
    _, _, _, alpha_raw, alpha, _ = TABLE[name]
    assert max(float(raw.rad()), float(centred.rad())) < 1e-13
    assert abs(raw - alpha_raw) < DIGITS
    assert abs(centred - alpha) < DIGITS
    assert centred > -1e-13
    given = moments(activation(name))
    residual = max(abs(raw - given.strength_raw).upper(), abs(centred - given.strength).upper())
    assert residual < 1e-13
    witness(residual=float(residual), instances=2)


# ------------------------------------------------------------------------------------------------ checks by numbers


@pytest.mark.parametrize("name", TABLE)
def test_moments_are_those_of_the_table(name):
    given = moments(activation(name))
    found = (given.mean, given.square, given.slope_square, given.strength_raw, given.strength, given.linear_share)
    np.testing.assert_allclose(found, TABLE[name], rtol=0, atol=DIGITS)


@pytest.mark.claim("R6", "property")
@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize("name", NAMES)
@given(exponent=st.floats(-8, 0))
def test_the_gap_is_within_the_error_of_its_prediction(name, standardised, exponent):
    eps = 10**exponent
    found, near = true_gap(name, eps, standardised), near_identity(name, eps, standardised=standardised)
    slack = 1e-12 / min(1.0, moments(name).square)
    assert abs(found - near.prediction) <= near.error + slack
    low, high = bracket(name, eps, standardised=standardised)
    assert low - slack <= found <= high + slack
    witness(residual=max(abs(found - near.prediction) - near.error, 0))


@pytest.mark.claim("R6", "enclosure")
@pytest.mark.parametrize("name", ["relu", "abs", "hardtanh", "selu", "tanh", "gelu", "sigmoid", "sin"])
def test_balls_are_within_the_error_of_the_prediction(name):
    for exponent in (4, 12, 20):
        eps = 2.0**-exponent
        ball = 1 - dual_kernel_enclosure(name, 1 - eps, 96)
        near = near_identity(name, eps)
        miss = abs(ball - arb(near.prediction))
        assert miss < near.error + 1e-14 * eps
        witness(instances=1)


@pytest.mark.control("R6")
@pytest.mark.parametrize("name", KINKED)
def test_without_its_kink_term_the_expansion_fails(name):
    """A quadratic bound cannot hold: the dropped term is larger than the error, and the true gap is not near."""
    near, k = near_identity(name, 1e-6), kink_coefficient(name)
    linear = (1 + moments(name).strength) * 1e-6
    assert k * 1e-9 > 3 * near.error
    assert abs(true_gap(name, 1e-6, True) - linear) > near.error


@pytest.mark.control("R6")
def test_the_raw_strength_is_not_the_centred_one():
    gap = true_gap("sigmoid", 1e-3, True)
    raw = 1e-3 * (1 + moments("sigmoid").strength_raw)
    near = near_identity("sigmoid", 1e-3)
    assert abs(gap - raw) > 100 * near.error
    assert abs(gap - near.prediction) <= near.error


@pytest.mark.control("R6")
def test_the_coefficient_of_a_kink_two_per_cent_off_is_seen():
    for name in ("relu", "leaky_relu", "abs", "selu", "hardtanh"):
        eps, k = 1e-7, kink_coefficient(name)
        ball = 1 - dual_kernel_enclosure(name, 1 - eps, 96)
        near = near_identity(name, eps)
        wrong = near.prediction - 0.02 * k * eps**1.5
        assert abs(ball - wrong) > near.error


@pytest.mark.parametrize("name", ["relu", "tanh", "cube", "selu"])
def test_strength_is_the_mean_degree_less_one(name):
    """`α = Σ (k − 1) c_k²/Σ c_k²` over `k ≥ 1`; what is cut off is positive."""
    shares = hermite_coefficients(name, 400) ** 2
    k = np.arange(401)
    partial = ((k - 1) * shares)[1:].sum() / moments(name).variance
    assert partial <= moments(name).strength + 1e-12
    assert partial == pytest.approx(moments(name).strength, abs=0.05)


def test_modulated_kinks_and_pairs_of_kinks_are_bounded_too():
    pair = modulate("hardtanh", 3, 1)
    for phi in (pair, modulate("relu", 2, -1), modulate("abs", 1, 2), modulate("selu", 1, -1)):
        for eps in (1e-6, 1e-3, 0.1, 1.0):
            near = near_identity(phi, eps)
            assert abs(true_gap(phi, eps, True) - near.prediction) <= near.error + 1e-12


def test_shapes_and_standardised_activations():
    eps = np.array([[1e-3, 1e-2], [0.1, 1.0]])
    assert near_identity("relu", eps).error.shape == (2, 2)
    once, twice = near_identity("relu", eps), near_identity(standardise("relu"), eps, standardised=False)
    np.testing.assert_allclose(once.prediction, twice.prediction)
    assert isinstance(near_identity("tanh", 0.1).prediction, float)
    assert pytest.approx(2 / (3 * math.sqrt(math.pi))) == PER_KINK


@pytest.mark.parametrize("name", ["step", "sign"])
def test_jumps_have_no_expansion(name):
    with pytest.raises(ValueError, match=f"{name}.*jumps"):
        near_identity(name, 0.1)
    with pytest.raises(ValueError, match="jumps"):
        strength_enclosure(name)


def test_bad_input_is_refused():
    for eps in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"allowed are numbers in \[0, 1\]"):
            near_identity("relu", eps)
    with pytest.raises(ValueError, match="only the first derivative is known"):
        near_identity(from_callable(np.arctan), 0.1)
    low, high = bracket(from_callable(np.arctan, slope=lambda z: 1 / (1 + z * z)), 0.1)
    assert low < high
    with pytest.raises(ValueError, match="constant"):
        near_identity(polynomial((2,)), 0.1)
    for function in (near_identity, bracket):
        with pytest.raises(ValueError, match="vanishes"):
            function(polynomial((0,)), 0.1, standardised=False)
    with pytest.raises(ValueError, match="'one' is constant to 64 bits"):
        strength_enclosure("one")


def test_the_supremum_of_a_term_is_bounded_or_infinite():
    assert _largest_term(Term((0, 2)), -math.inf, 0.0) == math.inf
    assert _largest_term(Term((0, 2)), -3.0, 1.0) == 6.0
    assert _largest_term(Term((5,), 1, 0), -math.inf, 0.0) == 5.0


STEEP = [
    ("sigmoid", 50),
    ("mish", 30),
    ("softplus", 40),
    ("silu", 60),
    ("tanh", 50),
    ("gelu_tanh", 5),
    ("gelu", 40),
]


@pytest.mark.parametrize(("name", "gain"), STEEP)
def test_steep_smooth_activations_have_an_expansion(name, gain):
    phi = modulate(name, gain, 1)
    for eps in (1e-9, 1e-5, 1e-2):
        near = near_identity(phi, eps)
        assert math.isfinite(near.error)
        assert abs(true_gap(phi, eps, True) - near.prediction) <= near.error + 1e-12


@pytest.mark.parametrize(("name", "gain"), STEEP)
def test_second_derivatives_of_any_size_are_those_to_60_digits(name, gain):
    z, phi = sympy.Symbol("z", real=True), modulate(name, gain, 1)
    exact = sympy.diff(phi.value(np.array([z], dtype=object))[0], z, 2)
    points = np.array([-38.0, -3.0, -0.25, -0.015625, 0.0, 0.0625, 0.5, 2.0, 38.0])
    found = derivative(phi, 2).regular.value(points)
    expected = [float(exact.subs(z, sympy.Rational(float(at))).evalf(60, maxn=20000)) for at in points]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * gain**2)


# ----------------------------------------------------------------------------------------- every part of the errors


@pytest.mark.parametrize("eps", [1e-4, 0.01, 0.5, 1.0])
def test_the_error_of_two_kinks_is_the_stated_sum(eps):
    """Hard tanh: `g = 0`, jumps ±1 of the slope at ∓1, two apart."""
    gamma = math.exp(-0.5) / math.sqrt(2 * math.pi)
    pair = 2 * math.exp(-0.5) / (math.sqrt(2) * math.pi * 2)
    expected = eps**2 / 2 * pair + 4 / 15 * eps**2.5 * 2 * gamma / math.sqrt(2 * math.pi)
    assert near_identity("hardtanh", eps).error == pytest.approx(expected / moments("hardtanh").square, rel=1e-12)


@pytest.mark.parametrize("eps", [1e-4, 0.01, 0.5, 1.0])
def test_the_error_of_a_kink_on_a_curve_is_the_stated_sum(eps):
    """SELU: `g = s α eᶻ` below 0, `G = s α`, and the slope jumps by `s − s α` at 0, where `max(½, κ²) = ½`."""
    s, steep = float(SELU_SCALE), float(SELU_SCALE * SELU_ALPHA)
    gamma, jump = 1 / math.sqrt(2 * math.pi), abs(s - steep)
    square = steep**2 * math.exp(2) * float(ndtr(-2.0))
    quadratic = square + 2 * steep * jump * gamma
    higher = jump**2 * gamma / 2 / math.sqrt(2 * math.pi)
    expected = eps**2 / 2 * quadratic + 4 / 15 * eps**2.5 * higher
    assert near_identity("selu", eps).error == pytest.approx(expected / moments("selu").variance, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "softplus", "mish", "sin", "erf"])
def test_discs_around_the_strip_of_the_slope_stay_in_the_strip_of_the_activation(name):
    """Cauchy: `|φ'(z)| ≤ max |φ|/r` over a disc of radius `r`, where `|φ| ≤ offset + growth (|x| + r)`."""
    strip, slope = get(name).strip, _slope(get(name)).strip
    r = strip.offset / (slope.offset - strip.growth)
    assert r > 0
    assert slope.width + r <= strip.width
    assert slope.growth == strip.growth / r
