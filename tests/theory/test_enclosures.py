"""Enclosures of dual kernels: independent routes overlap, and float64 stays within 1e-12 of them."""

from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from claims.evidence import witness
from tests.theory.strategies import floats
from theory import enclosures
from theory.activations import get, hermite, modulate, named, polynomial, standardise
from theory.enclosures import (
    StripSeries,
    by_pieces,
    by_strip,
    cut,
    dual_kernel_enclosure,
    end_balls,
    exponential_sum,
    hermite_balls,
    leak,
    moment_balls,
    strip_series,
    surrogate,
)
from theory.kernels import dual_kernel, hermite_coefficients
from theory.pieces import normal_cdf, normal_pdf
from theory.scalars import nearest

ALL = tuple(name for name in named() if name != "one")
SLOW = ("elu", "celu", "selu", "hardtanh", "hard_swish", "softsign")
INSIDE = (-0.9, -0.5, -0.1, 0.0, 1e-9, 0.25, 0.5, 0.75, 0.97)
NEAR = {k: tuple(sign * (1 - 10.0**-k) for sign in (1, -1)) for k in range(1, 13)}
REACH = 1e-12


def worst(name, correlations):
    """Return the largest distance of float64 from the centre of a ball, plus its radius."""
    balls = [dual_kernel_enclosure(name, r) for r in correlations]
    assert max(float(ball.rad()) for ball in balls) <= REACH
    found = dual_kernel(name, np.array(correlations))
    return max(float(abs(ball - float(x)).upper()) for ball, x in zip(balls, found, strict=True))


@pytest.mark.claim("K1", "enclosure")
@pytest.mark.parametrize("name", ALL)
def test_float64_is_within_1e12_of_enclosures(name):
    if name in SLOW:
        correlations = (-1.0, -0.5, 0.0, 0.5, 0.97, 1.0, NEAR[3][0], NEAR[6][1], NEAR[9][0], NEAR[12][0])
    else:
        correlations = (-1.0, 1.0, *INSIDE, *(r for pair in NEAR.values() for r in pair))
    error = worst(name, correlations)
    assert error <= REACH
    witness(residual=error, instances=len(correlations))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_float64_is_within_1e12_of_enclosures_on_the_whole_grid(name):
    assert worst(name, (-1.0, 1.0, *INSIDE, *(r for pair in NEAR.values() for r in pair))) <= REACH


@pytest.mark.control("K1")
def test_a_shift_of_2e12_is_seen():
    ball = dual_kernel_enclosure("tanh", 0.5)
    assert abs(ball - (dual_kernel("tanh", 0.5) + 2e-12)) > REACH


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "relu2", "abs", "step", "sign", "linear", "square", "cube"])
@pytest.mark.parametrize("rho", [-1.0, -0.75, 0.0, 0.3, 1 - 2.0**-30, 1.0])
def test_pieces_and_closed_form_overlap(name, rho):
    phi = get(name)
    closed, pieces = phi.kernel.formula(arb(rho)), by_pieces(phi, arb(rho), 64)
    assert closed.overlaps(pieces)
    assert float(pieces.rad()) <= 1e-16


@pytest.mark.parametrize("name", ["erf", "gelu", "sin", "cos", "gaussian"])
@pytest.mark.parametrize("rho", [-1.0, -0.75, 0.0, 0.3, 1 - 2.0**-30, 1.0])
def test_strip_and_closed_form_overlap(name, rho):
    phi = get(name)
    closed, strip = phi.kernel.formula(arb(rho)), by_strip(phi, arb(rho), 64)
    assert closed.overlaps(strip)
    assert float(strip.rad()) <= 1e-17


def test_a_known_value():
    """K_tanh(0.5) from nested rigorous integration, found apart from this code."""
    ball = dual_kernel_enclosure("tanh", 0.5, standardised=False)
    assert ball.overlaps(arb("0.18632441320344808610", "1e-20"))


@pytest.mark.parametrize("name", ["tanh", "mish", "gelu_tanh"])
def test_without_its_remainder_a_short_series_misses(name):
    """Negative control of the Parseval bound: the first eight terms alone do not reach the enclosure."""
    phi, rho = get(name), arb(0.9)
    shares = strip_series(phi, 64).shares[:8]
    short = sum((share * rho**k for k, share in enumerate(shares)), arb(0))
    assert not short.overlaps(by_strip(phi, rho, 64))


def test_without_its_distance_a_coarse_surrogate_misses():
    phi = get("softsign")
    coarse = surrogate(phi.pieces, 24)
    assert coarse.distance > 1e-8
    with flint.ctx.workprec(96):
        bare = replace(coarse, distance=arb(0)).end(arb(1))
        assert not bare.overlaps(by_pieces(phi, arb(1), 64))
        assert by_pieces(phi, arb(1), 24).overlaps(by_pieces(phi, arb(1), 64))


@given(w=st.floats(1, 12))
def test_a_sum_of_exponentials_is_near_its_reciprocal_and_below_it(w):
    total = sum(float(weight) * np.exp(-float(rate) * w) for weight, rate in exponential_sum(18, 96))
    assert -1e-14 <= 1 / w - total <= (1e-12 if w <= 6 else 1e-6)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "softplus", "mish", "gelu_tanh", "gelu", "sin"])
def test_float64_hermite_coefficients_lie_in_their_balls(name):
    balls, _ = hermite_balls(get(name), 40, 64)
    for ball, c in zip(balls, hermite_coefficients(name, 40), strict=True):
        assert abs(ball - float(c)) <= 1e-14


@pytest.mark.parametrize("name", ALL)
def test_moment_balls_are_those_of_quadrature(name):
    from theory.activations import moments

    mean, square = moment_balls(get(name))
    assert abs(mean - moments(name).mean) <= 1e-12
    assert abs(square - moments(name).square) <= 1e-12 * (1 + abs(square))


@settings(max_examples=15)
@given(low=floats(-1, 1), width=floats(0, 0.5), share=floats(0, 1))
@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "hermite(3)"])
def test_the_image_of_a_ball_contains_the_image_of_its_points(name, low, width, share):
    phi = hermite(3) if name == "hermite(3)" else get(name)
    high = min(low + width, 1.0)
    ball, point = arb(low).union(arb(high)), low + share * (high - low)
    assert dual_kernel_enclosure(phi, ball).overlaps(dual_kernel_enclosure(phi, min(max(point, low), high)))


@pytest.mark.parametrize("name", ["relu", "tanh", "selu", "softsign"])
def test_the_ends_are_exact(name):
    assert dual_kernel_enclosure(name, 0) == 0
    assert dual_kernel_enclosure(name, 1) == 1


@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "softsign"])
def test_more_bits_give_smaller_balls_that_overlap(name):
    coarse, fine = dual_kernel_enclosure(name, Fraction(1, 3), 40), dual_kernel_enclosure(name, Fraction(1, 3), 100)
    assert coarse.overlaps(fine)
    assert float(fine.rad()) < 1e-6 * float(coarse.rad())


@pytest.mark.parametrize(
    "phi",
    [
        modulate("relu", -2, Fraction(1, 2)),
        modulate("hardtanh", Fraction(1, 2), 1),
        modulate("selu", 1, Fraction(1, 4)),
        modulate("tanh", 2, Fraction(-1, 2)),
        modulate("gelu", Fraction(1, 2)),
        modulate("softsign", Fraction(1, 2)),
        polynomial((1, 0, -3, Fraction(1, 2))),
        standardise("mish"),
    ],
    ids=repr,
)
def test_made_activations_have_enclosures_too(phi):
    for rho in (-0.9, 0.4, 1 - 1e-9):
        ball = dual_kernel_enclosure(phi, rho)
        assert float(ball.rad()) <= 1e-12
        assert abs(ball - dual_kernel(phi, rho)) <= 2e-12


def test_all_kinds_of_rationals_are_one_correlation():
    third = dual_kernel_enclosure("relu", Fraction(1, 3))
    for same in (sympy.Rational(1, 3), flint.fmpq(1, 3), arb(flint.fmpq(1, 3))):
        assert dual_kernel_enclosure("relu", same).overlaps(third)
    assert dual_kernel_enclosure("relu", np.int64(1)) == dual_kernel_enclosure("relu", 1 + 1e-15) == 1


@pytest.mark.parametrize(
    ("phi", "rho", "error", "message"),
    [
        ("relu", 1.1, ValueError, "allowed are correlations"),
        ("relu", Fraction(-11, 10), ValueError, "allowed are correlations"),
        ("relu", float("nan"), ValueError, "allowed are correlations"),
        ("relu", 0.5 + 0j, TypeError, "complex"),
        ("relu", flint.acb(0.5), TypeError, "complex"),
        ("relu", "0.5", TypeError, "give a float, a rational or an Arb ball"),
        ("one", 0.5, ValueError, "constant"),
        ("rellu", 0.5, ValueError, "did you mean"),
        (np.tanh, 0.5, ValueError, "nothing is known .* that could be proved"),
    ],
)
def test_bad_input_is_named(phi, rho, error, message):
    with pytest.raises(error, match=message):
        dual_kernel_enclosure(phi, rho)


@pytest.mark.parametrize(
    ("name", "shift"), [("tanh", 1e-18), ("hardtanh", -1e-20), ("sin", 1e-17), ("softsign", 1e-12), ("cube", 1e-19)]
)
def test_the_ball_of_a_tiny_mean_has_its_sign_and_holds_it(name, shift):
    """`E φ(Z + b) = b E φ'(Z)` to first order in `b`, here to 24 digits."""
    mean, square = moment_balls(modulate(name, 1, shift), 128)
    slope = shift * dual_kernel_slope_root(name)
    assert abs(mean - slope) <= 1e-12 * abs(slope)
    assert mean.rad() <= 1e-3 * abs(slope)
    assert square > mean * mean


def dual_kernel_slope_root(name):
    """Return `E φ' = c₁`."""
    return float(hermite_coefficients(name, 1)[1])


@pytest.mark.parametrize("name", ALL)
def test_the_square_of_the_mean_is_the_kernel_at_zero(name):
    for phi in (get(name), modulate(name, -2, Fraction(1, 3))):
        mean, square = moment_balls(phi)
        at_zero, at_one = end_balls(phi)
        assert (mean * mean).overlaps(at_zero)
        assert square.overlaps(at_one)
        assert mean.rad() <= 1e-12


@pytest.mark.parametrize(
    ("ball", "expected"),
    [
        (arb(1) / 3, 1 / 3),
        (arb(2) ** -1070, 2.0**-1070),
        ((arb(-(10**12))).exp(), 0.0),
        (arb(10**12).exp(), np.inf),
        (-(arb(10**12).exp()), -np.inf),
        (arb(2) ** 1024, np.inf),
        (arb(0), 0.0),
        (arb("inf"), np.inf),
    ],
)
def test_the_nearest_float_of_any_ball(ball, expected):
    assert nearest(ball) == expected


# ----------------------------------------------------------------------------------------- every part of the errors


@pytest.mark.parametrize("step", [1, 1.5, 2])
def test_the_error_of_the_trapezoidal_rule_is_below_its_bound_but_not_below_half_of_it(step):
    """For `F = γ` the error is `2 Σ_j e^{−2π²j²/h²}`, and the bound at `a = 2π/h` is sharp."""
    with flint.ctx.workprec(256):
        h = arb(step)
        error = sum((h * normal_pdf(j * h) for j in range(-40, 41)), arb(0)) - 1
        bound = leak(2 * arb.pi() / h, h)
    assert 0.9 * bound < error
    assert error < bound


@pytest.mark.parametrize("reach", [2, 4, 8])
def test_what_lies_beyond_the_reach_is_below_its_bound(reach):
    """For `f = 3 + 2|x|`, `k = 0`: `∫_{|x|>L} f γ = 6 Φ(−L) + 4 γ(L)`."""
    tail = 6 * normal_cdf(arb(-reach)) + 4 * normal_pdf(arb(reach))
    assert tail < cut(arb(5), reach) < 40 * (-(arb(reach) ** 2) / 4).exp()


def test_the_remainder_of_a_series_has_the_power_after_its_last():
    """`K(ρ) = ρ`, known up to degree 0: what is left is `1 · |ρ|`, not `|ρ|²`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enclosures, "strip_series", lambda phi, prec: StripSeries((arb(0),), arb(1), arb(0)))
        for rho in (-0.5, 0.5):
            assert by_strip(get("tanh"), arb(rho), 64).contains(arb(rho))


def test_every_part_of_the_error_of_a_surrogate_counts():
    """`‖g‖ = 2`, `δ = 3`, `‖g 1_{|z|>L}‖ = 5`: `(5 + 3) · 2 + (2 + 3) · 3`, and `(4 + 3) · 3` at the ends."""
    g = replace(surrogate(get("relu").pieces, 24), norm=arb(2), distance=arb(3), beyond=arb(5))
    assert g.error == 31
    assert g.end_error == 21


@pytest.mark.parametrize("name", ["square", "abs", "cos"])
def test_the_image_of_a_ball_around_zero_holds_the_value_at_zero(name):
    assert dual_kernel_enclosure(name, arb(0, 0.25)).contains(arb(0))
    assert dual_kernel_enclosure(name, arb(0.125, 0.25)).contains(arb(0))
