"""A saturated softmax: derivatives for any number of logits, bounds on drawn ones, and the time of a flow (F4)."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from theory.softmax import escape_time, gap, score_bound, softmax

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
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(1, 6))
def test_no_policy_gradient_flow_is_faster_than_its_time(values, start):
    """The flow of three logits by the values that close the gap fastest and by drawn ones, in small steps."""
    c, n = np.array(values), 3
    spread = max(np.ptp(c), 1e-3)
    for values_then in (c, c[::-1], np.array([-spread, 0.0, 0.0]) / 1):
        z, t = np.array([start, 0.0, -0.5]), 0.0
        R = max(np.ptp(values_then), 1e-3)
        for _ in range(200):
            pi = softmax(z)
            step = 0.02 / R
            z, t = z + step * pi * (values_then - values_then @ pi), t + step
            left = math.exp(start) - n * R * t
            if left <= 1 or np.argmax(z) != 0:
                break
            assert float(gap(z)) >= math.log(left) - 1e-2
    witness()


@pytest.mark.control("F4")
def test_a_rate_below_that_of_the_statement_is_broken():
    """At a thirtieth of n R a flow of three logits beats the bound, so that the test above can fail."""
    z, t, beaten = np.array([1.0, 0.0, 0.0]), 0.0, False
    c = np.array([-1.0, 0.0, 0.0])
    for _ in range(400):
        pi = softmax(z)
        z, t = z + 0.01 * pi * (c - c @ pi), t + 0.01
        beaten |= math.exp(float(gap(z))) < math.exp(1.0) - 0.1 * t
    assert beaten


def test_an_escape_takes_exponential_time():
    assert escape_time(20, 1, 3, 1.0) > 1e8 / 3
    assert escape_time(5.0, 5.0, 2, 1.0) == 0
    with pytest.raises(ValueError, match="to: got 6"):
        escape_time(5.0, 6.0, 2, 1.0)
    with pytest.raises(ValueError, match="n, spread"):
        escape_time(5.0, 1.0, 1, 1.0)
    with pytest.raises(ValueError, match="two logits"):
        gap([1.0])
