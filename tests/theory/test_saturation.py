"""Strong nonlinearities that freeze, and one that does not (R7, second half)."""

import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from theory import gaussian
from theory.activations import get, modulate, moments
from theory.derivatives import derivative
from theory.pieces import normal_cdf, total
from theory.saturation import (
    LIVE,
    _troughs,
    escape_bound,
    frozen_fraction,
    live_interval,
    maps,
    rescaled_softsign,
    sine_frozen,
    sine_frozen_bound,
    sine_strength,
)
from theory.tolerances import float64_identity, monte_carlo

PLATEAUS = ("tanh", "sigmoid", "softsign")
HALF = ("relu", "elu", "selu", "gelu", "silu", "softplus")
w = sympy.Symbol("w", positive=True)
gains, thresholds = st.floats(-1, 3), st.floats(-4, 4)


def on_the_side(name, sign):
    """Return `φ` and `φ'` at `sign · w` for large `w`, as SymPy expressions."""
    phi, of = get(name), derivative(get(name), 1).regular
    if phi.pieces:
        part = -1 if sign > 0 else 0
        return total(phi.pieces.parts[part], sign * w), total(of.pieces.parts[part], sign * w)
    at = np.array([sign * w], dtype=object)
    return phi.value(at)[0], phi.slope(at)[0]


def limit_of(expression):
    """Return the limit at infinity, of `tanh`, `erfc` and `log` through exponentials that SymPy can order."""
    return sympy.limit(sympy.simplify(expression.rewrite(sympy.exp)), w, sympy.oo)


# ------------------------------------------------------------------------------------------------------- the proof


@pytest.mark.claim("R7", "symbolic", step="members")
@pytest.mark.parametrize("name", PLATEAUS)
def test_plateaus_have_integrable_slopes_of_one_sign_that_vanish(name):
    """`φ` has finite limits and `φ' > 0`, so that `∫|φ'|` is their difference; `φ' → 0` at both ends."""
    z = sympy.Symbol("z", real=True)
    for sign in (1, -1):
        value, slope = on_the_side(name, sign)
        assert limit_of(value).is_finite
        assert limit_of(slope) == 0
    shapes = {
        "tanh": 1 / sympy.cosh(z) ** 2,
        "sigmoid": 1 / (4 * sympy.cosh(z / 2) ** 2),
        "softsign": 1 / (1 + sympy.Abs(z)) ** 2,
    }
    shape = shapes[name]
    assert shape.is_positive
    for sign in (1, -1):
        difference = on_the_side(name, sign)[1] - shape.subs(z, sign * w)
        assert sympy.simplify(difference.rewrite(sympy.exp)) == 0
    assert sympy.simplify(1 - 1 / sympy.cosh(w) ** 2 - sympy.tanh(w) ** 2) == 0  # so that φ' is at most 1
    witness(instances=4)


@pytest.mark.claim("R7", "symbolic", step="members")
@pytest.mark.parametrize("name", HALF)
def test_half_vanishing_ones_are_flat_on_the_left_and_unbounded_on_the_right(name):
    _, slope = on_the_side(name, -1)
    if name == "gelu":  # |Φ(−w) − w γ(w)| ≤ Φ(−w) + w γ(w), and Φ(−w) ≤ γ(w)/w
        pdf = sympy.exp(-(w**2) / 2) / sympy.sqrt(2 * sympy.pi)
        assert sympy.simplify(sympy.diff(pdf / w - sympy.erfc(w / sympy.sqrt(2)) / 2, w) + pdf / w**2) == 0
        assert sympy.limit(w * (pdf / w + w * pdf), w, sympy.oo) == 0
        assert sympy.simplify(slope - (sympy.erfc(w / sympy.sqrt(2)) / 2 - w * pdf)) == 0
        gate = sympy.erfc(-w / sympy.sqrt(2)) / 2
        assert sympy.simplify(on_the_side(name, 1)[0] - w * gate) == 0
        assert sympy.limit(gate, w, sympy.oo) == 1
    else:
        assert limit_of(-w * slope) == 0
        above = on_the_side(name, 1)
        assert limit_of(above[0]) == sympy.oo
        assert limit_of(above[1]).is_finite
    witness()


@pytest.mark.claim("R7", "symbolic", step="gain")
def test_the_density_of_a_stretched_gaussian_is_flat():
    a, b, z = sympy.Symbol("a", positive=True), sympy.Symbol("b", real=True), sympy.Symbol("z", real=True)
    pdf = sympy.exp(-(((z - b) / a) ** 2) / 2) / (a * sympy.sqrt(2 * sympy.pi))
    top = 1 / (a * sympy.sqrt(2 * sympy.pi))
    assert sympy.simplify(sympy.log(pdf / top) + ((z - b) / a) ** 2 / 2) == 0
    assert (((z - b) / a) ** 2).is_nonnegative
    eta = sympy.Symbol("eta", positive=True)
    widths = {"tanh": 2 * sympy.acosh(1 / sympy.sqrt(eta)), "softsign": 2 * (1 / sympy.sqrt(eta) - 1)}
    s = sympy.Symbol("s", positive=True)  # η = 1/cosh² s, so that s is half the width for tanh, and η → 0 as s → ∞
    assert sympy.simplify(widths["tanh"].subs(eta, 1 / sympy.cosh(s) ** 2) - 2 * sympy.acosh(sympy.cosh(s))) == 0
    assert sympy.limit((2 * s / sympy.cosh(s) ** 2).rewrite(sympy.exp), s, sympy.oo) == 0
    assert sympy.limit(eta * widths["softsign"], eta, 0) == 0
    witness(instances=4)


@pytest.mark.claim("R7", "symbolic", step="cases")
def test_far_on_the_flat_side_the_gain_is_outweighed():
    """`a |φ'(w)| ≤ (2/t) |w φ'(w)|` if `w = a (z − t)` with `z < t/2`: then `|w| > a t/2`."""
    a, t, gap = sympy.symbols("a t gap", positive=True)
    z = t / 2 - gap
    size = -sympy.expand(a * (z - t))
    assert sympy.expand(size - a * t / 2 - a * gap) == 0
    assert (sympy.expand(2 * size / t) - a).simplify().is_positive
    witness(instances=2)


# ----------------------------------------------------------------------------------------------- the counterexample


@pytest.mark.claim("R7", "counterexample")
def test_the_strength_of_a_steep_sine_is_unbounded_and_its_size_is_not():
    """`E sin² (sZ) = e^{−s²} sinh s²`, `E s² cos² (sZ) = s² e^{−s²} cosh s²` from the closed kernel."""
    s = sympy.Symbol("s", positive=True)
    square, slope_square = (1 - sympy.exp(-2 * s**2)) / 2, s**2 * (1 + sympy.exp(-2 * s**2)) / 2
    stated = s**2 * sympy.coth(s**2) - 1
    assert sympy.simplify((slope_square / square - 1 - stated).rewrite(sympy.exp)) == 0
    assert sympy.limit(square, s, sympy.oo) == sympy.Rational(1, 2)
    assert sympy.limit(stated.rewrite(sympy.exp), s, sympy.oo) == sympy.oo
    for value in (0.3, 1.0, 2.0, 4.0):
        given_ = moments(modulate("sin", value))
        assert given_.strength == pytest.approx(sine_strength(value), rel=1e-10)
        assert given_.square == pytest.approx(float(square.subs(s, value)), rel=1e-12)
        witness()


@pytest.mark.claim("R7", "counterexample")
@pytest.mark.parametrize("s", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("share", [1e-3, 0.1, 0.5, 0.9])
def test_its_slope_is_almost_never_small(s, share):
    """The probability enclosed by balls, cell by cell, is below the bound."""
    delta = share * s
    centres, width = _troughs(s, delta)
    step, half = arb.pi() / arb(s), (arb(share)).asin() / arb(s)
    count = len(centres) // 2
    total_mass = arb(0)
    for j in range(-count, count):
        middle = step * (arb(j) + arb(0.5))
        total_mass += normal_cdf(middle + half) - normal_cdf(middle - half)
    outside = 2 * normal_cdf(-arb(12))
    assert total_mass + outside < sine_frozen_bound(s, delta)
    assert abs(total_mass - sine_frozen(s, delta)) < 1e-12
    assert half.contains(width) or abs(half - width) < 1e-15
    witness()


@pytest.mark.claim("R7", "counterexample")
def test_rescaled_to_unit_variance_a_plateau_need_not_freeze():
    """`softsign(a (z + t))` over its standard deviation: strength grows without bound, slopes approach 1."""
    found = [rescaled_softsign(t) for t in (6.0, 8.0, 10.0)]
    strengths = [strength for strength, *_ in found]
    assert strengths == sorted(strengths)
    assert strengths[-1] > 1e8
    nearness = [max(abs(math.log(low)), abs(math.log(high))) for _, low, high in found]
    assert nearness == sorted(nearness, reverse=True)
    assert found[-1][1] > 0.7
    assert found[-1][2] < 1.2
    witness(instances=3)


@pytest.mark.control("R7")
def test_the_steep_sine_is_no_reparametrised_plateau():
    """Neither hypothesis holds for sine: its slope has no limit; so the bound for plateaus is not available."""
    with pytest.raises(ValueError, match="where 'sin' is steep is not known; allowed are relu"):
        escape_bound("sin", 10.0, 0.1)
    assert sympy.limit(sympy.cos(w), w, sympy.oo) == sympy.AccumBounds(-1, 1)


@pytest.mark.control("R7")
def test_at_equal_strength_tanh_freezes_and_sine_does_not():
    for s in (3.0, 10.0, 30.0):
        gains_ = np.geomspace(1, 1e5, 400)
        strength = maps("tanh", gains_, 0.0, 0.1).strength
        a = gains_[np.searchsorted(strength, sine_strength(s))]
        assert frozen_fraction("tanh", a, 0.0, 0.1) > 0.8
        assert sine_frozen(s, 0.1) < 0.05


# ------------------------------------------------------------------------------------------------ checks by numbers


@pytest.mark.claim("R7", "property")
@pytest.mark.parametrize("name", PLATEAUS)
@given(gain=gains, t=thresholds, level=st.floats(-3, 1))
def test_slopes_of_plateaus_are_bounded_in_probability_by_the_gain(name, gain, t, level):
    a, delta = 10**gain, 10**level
    live = 1 - frozen_fraction(name, a, a * t, delta)
    assert live <= escape_bound(name, a, delta) + 1e-15
    assert escape_bound(name, 1e9, delta) < 0.05 / math.sqrt(delta)
    witness()


@pytest.mark.claim("R7", "property")
@pytest.mark.parametrize("name", LIVE)
def test_where_the_strength_is_large_most_slopes_are_small(name):
    """The least frozen fraction among units stronger than a level rises with the level."""
    a, t = np.meshgrid(np.geomspace(0.1, 1e6, 60), np.linspace(-7, 3, 41))
    found = maps(name, a, a * t, 0.1)
    least = [found.frozen[found.strength > level].min() for level in (1, 4, 10)]
    assert least == sorted(least)
    assert least[-1] > (0.6 if name == "softsign" else 0.85)
    witness(instances=int((found.strength > 10).sum()))


@pytest.mark.claim("R7", "property")
@pytest.mark.parametrize("name", ["relu", "elu", "selu"])
@given(gain=st.floats(-1, 6), t=st.floats(0.1, 12), level=st.floats(-3, 1))
def test_far_on_the_flat_side_slopes_are_small(name, gain, t, level):
    """`P(|f'| ≥ δ) ≤ P(Z ≥ t/2)` once `(2/t) sup |w φ'(w)|` over `w ≤ −a t/2` is below `δ`."""
    a, delta = 10**gain, 10**level
    grid = -a * t / 2 - np.linspace(0, 60, 2001)
    outer = 2 / t * np.abs(grid * get(name).slope(grid)).max()
    live = 1 - frozen_fraction(name, a, -a * t, delta)
    if outer < delta:
        assert live <= 0.5 * math.erfc(t / 2 / math.sqrt(2)) + 1e-12
    witness(instances=int(outer < delta))


@pytest.mark.claim("R7", "property")
@pytest.mark.parametrize("name", LIVE)
def test_on_a_compact_set_of_gains_and_shifts_the_strength_is_bounded(name):
    """What excludes the compact case: over `[1/2, 8] × [−8, 8]` it stays below 60, and rises at the far end."""
    a, b = np.meshgrid(np.linspace(0.5, 8, 31), np.linspace(-8, 8, 33))
    inside = maps(name, a, np.maximum(b, -7 * a), 0.1).strength
    assert np.isfinite(inside).all()
    assert inside.max() < 60
    witness(instances=inside.size)


@pytest.mark.parametrize("name", LIVE)
@given(gain=st.floats(-1, 1.3), t=st.floats(-3, 3))
def test_maps_agree_with_the_moments_of_a_modulated_activation(name, gain, t):
    a, b = 10**gain, 10**gain * t
    found, given_ = maps(name, a, b, 0.1), moments(modulate(name, a, b))
    assert found.strength == pytest.approx(given_.strength, rel=1e-8, abs=1e-10)
    assert found.square == pytest.approx(given_.square, rel=1e-10)


@pytest.mark.parametrize("name", LIVE)
def test_the_live_interval_is_where_the_slope_is_large(name):
    grid, slope = np.linspace(-30, 30, 60_001), get(name).slope(np.linspace(-30, 30, 60_001))
    for eta in (1e-3, 0.1, 0.2, 0.9, 1.02, 1.5):
        low, high = live_interval(name, eta)
        inside = (grid > low + 1e-9) & (grid < high - 1e-9)
        beyond = (grid < low - 1e-9) | (grid > high + 1e-9)
        assert (slope[inside & (grid != 0)] >= eta).all()
        assert (slope[beyond] < eta).all() or low == high


def test_frozen_fractions_are_frequencies():
    z = np.random.default_rng(0).standard_normal(200_000)
    for name in LIVE:
        for a, b in ((0.5, 0.3), (3.0, -4.0), (20.0, 10.0)):
            expected = float(frozen_fraction(name, a, b, 0.1))
            found = (np.abs(a * get(name).slope(a * z + b)) < 0.1).mean()
            assert abs(found - expected) <= monte_carlo(math.sqrt(expected * (1 - expected) / z.size)) + 1e-5


def test_the_strength_of_relu_depends_on_the_threshold_alone():
    t = np.linspace(-3, 3, 13)
    one, other = maps("relu", 1.0, t, 0.1), maps("relu", 50.0, 50 * t, 0.1)
    np.testing.assert_allclose(one.strength, other.strength, rtol=1e-9)
    assert (np.diff(one.strength) < 0).all()


def test_shapes_and_blocks():
    a, b = np.ones((70, 1)), np.linspace(-1, 1, 60)
    found = maps("tanh", a, b, 0.1)
    assert found.strength.shape == found.frozen.shape == found.square.shape == (70, 60)
    np.testing.assert_allclose(found.strength, found.strength[:, ::-1], rtol=1e-9)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="both have to be positive"):
        maps("relu", -1.0, 0.0, 0.1)
    with pytest.raises(ValueError, match="both have to be positive"):
        frozen_fraction("relu", 1.0, 0.0, 0.0)
    for s, delta in ((0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="both have to be positive"):
            sine_frozen(s, delta)
    assert sine_frozen(0.5, 3.0) == 1.0
    for a, delta in ((0.0, 0.1), (-1.0, 0.1), (math.nan, 0.1), (1.0, 0.0)):
        with pytest.raises(ValueError, match=r"a is|delta is"):
            escape_bound("tanh", a, delta)
    for eta in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="eta is"):
            live_interval("tanh", eta)
    with pytest.raises(ValueError, match="b is nan; give finite numbers"):
        maps("tanh", 1.0, math.nan, 0.1)
    with pytest.raises(TypeError, match="a is 'steep'; give a real number"):
        maps("tanh", "steep", 0.0, 0.1)
    with pytest.raises(TypeError, match="delta is None"):
        frozen_fraction("tanh", 1.0, 0.0, None)
    for t in (-1.0, 40.0, math.nan):
        with pytest.raises(ValueError, match=r"t is .*allowed are thresholds between 1 and 11"):
            rescaled_softsign(t)
    with pytest.raises(ValueError, match="s is inf"):
        sine_strength(math.inf)
    assert sine_frozen_bound(0.5, 3.0) >= 1.0
    assert escape_bound("tanh", [1.0, 2.0], 0.1).shape == (2,)
    assert float(gaussian.density(np.array(0.0))) == pytest.approx(
        1 / math.sqrt(2 * math.pi), abs=float64_identity()
    )


def test_the_strength_of_a_gentle_sine_keeps_its_digits():
    assert sine_strength(0.0) == 0.0
    for s in (1e-5, 0.01, 0.1, 0.17, 0.18, 0.5):
        square = sympy.Rational(s) ** 2
        exact = (square * sympy.coth(square) - 1).evalf(40, maxn=1000)
        assert sine_strength(s) == pytest.approx(float(exact), rel=1e-9)
    assert sine_strength([0.0, 1.0]).shape == (2,)
