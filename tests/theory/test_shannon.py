"""The Shannon rank of equicorrelated features: its exact gain, bounds and first order (R7, first half)."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from theory.activations import moments, named
from theory.shannon import (
    equicorrelation_entropy,
    gain_expansion,
    shannon_gain,
    shannon_gain_enclosure,
    shannon_rank,
)
from theory.strength import near_identity

NAMES = tuple(name for name in named() if name not in ("one", "step", "sign"))
GRID = tuple(Fraction(m, 10**k) for k in (1, 2, 4, 6) for m in (1, 3))


@pytest.mark.claim("R7", "symbolic", step="entropy")
def test_the_entropy_and_its_slope():
    """`C 1 = (n − (n−1) ε) 1` and `C v = ε v` for `v ⊥ 1`; the slope; and its bounds, for `0 < t ≤ 1`."""
    t, n = sympy.Symbol("t", positive=True), sympy.Symbol("n", positive=True)
    delta = (1 - 1 / n) * t
    for size in (2, 3, 5):
        C = (1 - t) * sympy.ones(size) + t * sympy.eye(size)
        values = {sympy.simplify(value): times for value, times in C.eigenvals().items()}
        assert values == {sympy.expand(size - (size - 1) * t): 1, t: size - 1}
    H = -(1 - delta) * sympy.log(1 - delta) - (n - 1) * (t / n) * sympy.log(t / n)
    stated = delta * sympy.log(n / t) - (1 - delta) * sympy.log(1 - delta)
    assert sympy.simplify(sympy.expand_log(H - stated)) == 0
    slope = (1 - 1 / n) * (sympy.log(n / t) + sympy.log(1 - delta))
    assert sympy.simplify(sympy.expand_log(sympy.diff(stated, t) - slope)) == 0
    assert sympy.simplify(n * (1 - delta) / t - 1 - n * (1 - t) / t) == 0  # so H' ≥ 0; and 1 − δ ≤ 1
    assert sympy.simplify(equicorrelation_entropy(t, 7) - stated.subs(n, 7)) == 0
    witness(instances=7)


@pytest.mark.claim("R7", "symbolic", step="expansion")
def test_the_main_term_and_what_is_left():
    t, n, eps, alpha = sympy.symbols("t n epsilon alpha", positive=True)
    share, delta = 1 - 1 / n, sympy.Symbol("delta", positive=True)
    L = share * t * (sympy.log(n / t) + 1)
    assert sympy.simplify(sympy.expand_log(sympy.diff(L, t) - share * sympy.log(n / t))) == 0
    q = -(1 - delta) * sympy.log(1 - delta) - delta
    assert sympy.simplify(sympy.diff(q, delta) - sympy.log(1 - delta)) == 0
    H = delta * sympy.log(n / t) - (1 - delta) * sympy.log(1 - delta)
    assert sympy.simplify((H - L - q).subs(delta, share * t)) == 0
    main = share * eps * (alpha * sympy.log(n / eps) + alpha - (1 + alpha) * sympy.log(1 + alpha))
    difference = L.subs(t, (1 + alpha) * eps) - L.subs(t, eps)
    assert sympy.simplify(sympy.expand_log(sympy.expand(difference - main), force=True)) == 0
    loss = (1 + alpha) * sympy.log(1 + alpha) - alpha
    assert loss.subs(alpha, 0) == 0
    assert sympy.simplify(sympy.diff(loss, alpha) - sympy.log(1 + alpha)) == 0  # ≥ 0
    witness(instances=6)


@pytest.mark.claim("R7", "enclosure")
@pytest.mark.parametrize("name", ["relu", "abs", "tanh", "gelu", "sigmoid", "sin", "leaky_relu"])
@pytest.mark.parametrize("n", [2, 100, 10**6])
def test_balls_around_the_gain_are_within_the_bounds(name, n):
    for eps in GRID:
        ball, near = shannon_gain_enclosure(name, eps, n), gain_expansion(name, float(eps), n)
        slack = 1e-14 * float(eps) * math.log(n / eps)
        assert ball > 0
        assert near.low - slack < ball < near.high + slack
        assert ball < near.published
        residual = abs(ball - float(shannon_gain(name, float(eps), n))).upper()
        assert residual < 1e-13 * math.log(n / eps)
    witness(instances=len(GRID))


@pytest.mark.claim("R7", "property")
@pytest.mark.parametrize("name", NAMES)
@given(exponent=st.floats(-6, 0), n=st.integers(2, 10**9))
def test_the_gain_is_within_its_bounds(name, exponent, n):
    eps = 10**exponent
    gain, near = shannon_gain(name, eps, n), gain_expansion(name, eps, n)
    slack = 1e-13 * math.log(n / eps) + 1e-13
    assert near.low - slack <= gain <= near.high + slack
    assert near.prediction <= near.published + slack
    witness(residual=max(gain - near.high, near.low - gain, 0.0))


@pytest.mark.claim("R7", "counterexample")
def test_at_fixed_dimension_the_published_form_is_off_by_a_factor():
    """Two features under `erf`: gain over `α ε ln(n/ε)` tends to 1/2, not to 1."""
    previous = math.inf
    for exponent in (3, 6, 9, 12):
        eps = Fraction(1, 10**exponent)
        ball = shannon_gain_enclosure("erf", eps, 2, 128)
        published = arb(moments("erf").strength * float(eps) * math.log(2 / eps))
        ratio = (ball.exp() - 1) / published
        assert ratio < 0.5
        off = float(0.5 - ratio)
        assert 0 < off < previous
        previous = off
        witness()
    assert previous < 0.003


@pytest.mark.control("R7")
def test_the_raw_strength_predicts_a_loss_where_there_is_a_gain():
    raw = moments("sigmoid").strength_raw
    assert raw < -0.8
    assert shannon_gain("sigmoid", 1e-3, 100) > 0 > raw * 1e-3 * math.log(100 / 1e-3)


@pytest.mark.control("R7")
def test_without_its_constant_the_expansion_is_outside_the_bounds():
    near, alpha = gain_expansion("tanh", 1e-5, 100), moments("tanh").strength
    leading = 0.99 * alpha * 1e-5 * math.log(100 / 1e-5)
    assert leading > near.high + 10 * (near.high - near.low)


def test_the_rank_is_that_of_the_matrix():
    for n, eps in ((2, 0.3), (7, 0.2), (40, 0.01)):
        C = np.full((n, n), 1 - eps) + eps * np.eye(n)
        p = np.linalg.eigvalsh(C) / n
        assert shannon_rank(eps, n) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-12)
    assert shannon_rank(0.0, 9) == 1.0
    assert shannon_rank(1.0, 9) == pytest.approx(9)


def test_shapes():
    eps = np.array([[0.1, 0.2, 0.3]])
    near = gain_expansion("relu", eps, 10)
    assert near.low.shape == near.prediction.shape == shannon_gain("relu", eps, 10).shape == (1, 3)
    assert isinstance(equicorrelation_entropy(0.1, 3), float)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="n is 1; allowed are integers n ≥ 2"):
        shannon_rank(0.1, 1)
    with pytest.raises(ValueError, match="allowed are numbers"):
        shannon_rank(1.1, 3)
    with pytest.raises(ValueError, match="rationals in"):
        shannon_gain_enclosure("relu", Fraction(2), 3)
    with pytest.raises(ValueError, match="nothing to expand"):
        gain_expansion("relu", 0.0, 3)
    with pytest.raises(ValueError, match="raise prec"):
        shannon_gain_enclosure("tanh", Fraction(1, 10**30), 2)
    assert shannon_gain_enclosure("tanh", Fraction(1, 10**30), 2, 128) > 0
    assert shannon_gain_enclosure("relu", 0.25, 3).overlaps(shannon_gain_enclosure("relu", Fraction(1, 4), 3))
    with pytest.raises(ValueError, match="no finite real number"):
        shannon_gain_enclosure("relu", math.nan, 3)
    with pytest.raises(ValueError, match="constant"):
        gain_expansion("one", 0.1, 3)
    with pytest.raises(ValueError, match=r"n is 2\.5"):
        gain_expansion("relu", 0.1, 2.5)


@pytest.mark.parametrize("name", NAMES)
def test_rounding_makes_no_loss(name):
    """Below the rounding of `1 − K(1 − ε)` the gain is 0 or more, since `K(1 − ε) ≤ 1 − ε`."""
    eps = np.array([1e-18, 1e-17, 1e-16, 3e-16, 1e-15])
    assert (shannon_gain(name, eps, 10) >= 0).all()


@pytest.mark.parametrize("name", ["tanh", "relu", "selu"])
@pytest.mark.parametrize("eps", [1e-4, 1e-2, 0.1])
def test_the_lower_bound_is_the_stated_one(name, eps):
    near, alpha, n = gain_expansion(name, eps, 50), moments(name).strength, 50
    expansion = near_identity(name, eps)
    remainder = (1 + alpha) * eps - expansion.prediction + expansion.error
    delta = (1 - 1 / n) * eps
    lost = (1 - 1 / n) * remainder * math.log(n / ((1 + alpha) * eps - remainder))
    lost -= alpha * delta * math.log1p(-(1 + alpha) * delta)
    assert near.low == pytest.approx(max(near.prediction - lost, 0), rel=1e-9, abs=1e-15)
    assert near.low > 0 or eps > 1e-3
