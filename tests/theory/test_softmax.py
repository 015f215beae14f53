"""A saturated softmax: derivatives for any number of logits, bounds on drawn ones, and the time of a flow (F4)."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from claims.evidence import witness
from theory.softmax import escape_time, gap, score_bound

logits = st.lists(st.floats(-30, 30), min_size=2, max_size=6)


@pytest.mark.claim("F4", "symbolic", step="derivatives")
def test_derivatives_of_choice_and_entropy_whatever_the_other_logits_are():
    a, b = sympy.symbols("a b", real=True)
    S, T = sympy.symbols("S T", positive=True)  # sums of e^z and of z e^z over all other logits
    Z = sympy.exp(a) + sympy.exp(b) + S
    pi = {z: sympy.exp(z) / Z for z in (a, b)}
    log = {z: z - sympy.log(Z) for z in (a, b)}
    H = sympy.log(Z) - (a * sympy.exp(a) + b * sympy.exp(b) + T) / Z
    assert sympy.simplify(sympy.diff(log[a], a) - (1 - pi[a])) == 0
    assert sympy.simplify(sympy.diff(log[a], b) + pi[b]) == 0
    assert sympy.simplify(sympy.diff(H, a) + pi[a] * (log[a] + H)) == 0
    assert sympy.simplify(sympy.diff(pi[a], a) - pi[a] * (1 - pi[a])) == 0
    assert sympy.simplify(sympy.diff(pi[a], b) + pi[a] * pi[b]) == 0
    c, d, rest = sympy.symbols("c d rest", real=True)  # a loss that is linear in π, `rest` of the other logits
    loss = c * pi[a] + d * pi[b] + rest / Z
    assert sympy.simplify(sympy.diff(loss, a) - pi[a] * (c - loss)) == 0
    witness(instances=6)


@pytest.mark.claim("F4", "symbolic", step="escape")
def test_at_the_bound_the_exponential_of_the_gap_falls_at_a_constant_rate():
    t, start, n, R = sympy.symbols("t start n R", positive=True)
    g = sympy.log(sympy.exp(start) - n * R * t)
    assert sympy.simplify(sympy.diff(g, t) + n * R * sympy.exp(-g)) == 0
    assert g.subs(t, 0) == start
    assert sympy.simplify(sympy.exp(g) - (sympy.exp(start) - n * R * t)) == 0
    witness(instances=3)


@pytest.mark.claim("F4", "property")
@given(logits, st.data())
def test_the_bounds_hold_for_drawn_logits_and_losses(z, data):
    n, m, pi = len(z), int(np.argmax(z)), softmax(z)
    others = np.delete(pi, m).sum()  # 1 − π_m without its rounding
    bound = score_bound(float(gap(z)), n) / 2
    slack = 1e-12
    assert others <= bound * (1 + slack)
    a = data.draw(st.integers(0, n - 1))
    score = np.abs(np.eye(n)[a] - pi).sum()
    assert a == m or pi[a] == pi[m] or score >= 1 - slack
    c = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=n, max_size=n)))
    passed = np.abs(pi * (c - c @ pi)).sum()
    assert passed <= 2 * others * np.ptp(c) + slack
    logs = np.array(z) - max(z) - math.log(np.exp(np.array(z) - max(z)).sum())
    H = -(pi * logs).sum()
    assert np.abs(pi * (logs + H)).sum() <= 2 * H + slack
    witness()


@pytest.mark.claim("F4", "property")
@given(logits, st.floats(1e-6, 1), st.floats(-3, 3), st.data())
def test_the_ratio_of_the_surrogate_scales_both_bounds(z, old, advantage, data):
    n, m, pi = len(z), int(np.argmax(z)), softmax(z)
    a, q = data.draw(st.integers(0, n - 1)), math.exp(-float(gap(z)))
    rest = np.delete(pi, a).sum()
    norm = abs(pi[a] / old * advantage) * (rest + np.delete(pi, a).sum())
    bound = 2 * abs(advantage) * ((n - 1) * q if a == m else q) / old
    assert norm <= bound * (1 + 1e-12)
    witness()


def flowed(start, bound, seed, n=4):
    """Follow logits under values in [0, 1] that change in time; return the least slack of the bound, relative."""
    rng = np.random.default_rng(seed)
    z, t, least = np.concatenate([[start], rng.uniform(-1, 0, n - 1)]), 0.0, math.inf
    first = math.exp(float(gap(z)))
    while bound * t < first - 1:
        worst = np.where(np.arange(n) == z.argmax(), 0.0, 1.0)  # pulls the largest down and all others up
        c = worst if rng.uniform() < 0.8 else rng.uniform(0, 1, n)
        pi = softmax(z)
        step = 0.01 * math.exp(float(gap(z))) / n
        z, t = z + step * pi * (c - c @ pi), t + step
        least = min(least, (math.exp(float(gap(z))) - (first - bound * t)) / first)
    return least


@pytest.mark.claim("F4", "property")
@given(st.floats(1, 6), st.integers(0, 2**32 - 1))
def test_no_policy_gradient_flow_is_faster_than_its_time(start, seed):
    """All the way to the gap of zero, with values that change and a second largest that does."""
    assert flowed(start, bound=4.0, seed=seed) > -1e-2  # n R, and the error of the steps
    witness()


@pytest.mark.control("F4")
def test_a_rate_below_that_of_the_statement_is_broken():
    assert flowed(3.0, bound=0.5, seed=0) < -0.1


def test_an_escape_takes_exponential_time():
    assert escape_time(20, 1, 3, 1.0) > 1e8 / 3
    assert escape_time(5.0, 5.0, 2, 1.0) == 0
    assert escape_time(800, 1, 2, 1.0) == math.inf
    with pytest.raises(ValueError, match="to: got 6"):
        escape_time(5.0, 6.0, 2, 1.0)
    with pytest.raises(ValueError, match="n, spread"):
        escape_time(5.0, 1.0, 1, 1.0)
    with pytest.raises(ValueError, match="two logits"):
        gap([1.0])
