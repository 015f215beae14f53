"""Correlations with depth (R5): fixed points, basins and rates of the iterated kernel."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from tests.theory.strategies import floats
from theory.activations import from_callable, get, modulate, moments, named, polynomial
from theory.closed_forms import ArcCosine
from theory.depth import (
    correlation_flow,
    correlation_map,
    critical_bound,
    critical_law,
    fixed_point_enclosure,
    fixed_points,
    iterate,
    limit,
    slope_at_one,
)
from theory.enclosures import dual_kernel_enclosure
from theory.strength import kink_coefficient
from theory.tolerances import float64_identity

LINEAR = ("linear", "one")
NAMES = tuple(name for name in named() if name not in LINEAR)
INNER = ("relu2", "elu", "gelu", "silu", "mish", "step", "hard_swish", "square")
TO_ONE = ("sigmoid", "softplus", "cos", "gaussian")
RAMPS = ("relu", "leaky_relu", "abs")
inside = floats(-0.999999, 0.999999)


# ------------------------------------------------------------------------------------------------------- the proof


@pytest.mark.claim("R5", "symbolic", step="contraction")
def test_powers_beyond_the_first_are_at_most_the_square():
    """`r² − r^{k+1} = (r² − rᵏ) + rᵏ (1 − r)`: induction on `k ≥ 2`; then `q` is below 1 and falls with `r`."""
    r, c = sympy.symbols("r c", positive=True)
    k = sympy.Symbol("k", integer=True, positive=True)
    gap = r**2 - r**k
    assert gap.subs(k, 2) == 0
    assert sympy.simplify(gap.subs(k, k + 1) - gap - r**k * (1 - r)) == 0
    q = c + (1 - c) * r  # c = c₁² in [0, 1), r = |ρ| in [0, 1)
    assert sympy.factor(1 - q) == sympy.factor((1 - c) * (1 - r))
    assert sympy.diff(q, r) == 1 - c
    assert sympy.limit((c * r + (1 - c) * r ** (k + 1)) / r, r, 0) == c
    witness(instances=5)


@pytest.mark.claim("R5", "symbolic", step="ends")
def test_the_slope_at_one_exceeds_one_and_minus_one_depends_on_parity():
    k, c = sympy.Symbol("k", integer=True, positive=True), sympy.Symbol("c", nonnegative=True)
    r = sympy.Symbol("r", positive=True)
    assert sympy.simplify(sympy.diff(c * r**k, r).subs(r, 1) - c - (k - 1) * c) == 0
    even, odd = sympy.symbols("even odd", nonnegative=True)  # Σ c_k² over either parity; they sum to 1
    at_minus_one = (even - odd).subs(odd, 1 - even)
    assert sympy.expand(1 - at_minus_one - 2 * (1 - even)) == 0  # zero iff nothing is odd
    assert sympy.expand(1 + at_minus_one - 2 * even) == 0  # zero iff nothing is even
    witness(instances=3)


@pytest.mark.claim("R5", "symbolic", step="dichotomy")
def test_powers_are_convex_and_negative_starts_rise():
    """`K'' > 0` termwise; `D(−r) ≥ c₀²` termwise, since `r Σ c_k² = r`: no term is negative for `r` in [0, 1]."""
    r, s = sympy.Symbol("r", positive=True), sympy.Symbol("s", nonnegative=True)
    m = sympy.Symbol("m", integer=True, nonnegative=True)
    assert sympy.simplify(sympy.diff(r ** (m + 2), r, 2) / r**m - (m + 1) * (m + 2)) == 0
    unit = s / (1 + s)  # [0, 1)
    assert ((-r) ** (2 * m + 2) + r).subs(r, unit).simplify().is_nonnegative  # K(−r) + r of an even degree
    gap = r - r ** (2 * m + 1)  # of an odd degree, by induction as the step `contraction`
    assert gap.subs(m, 0) == 0
    assert sympy.simplify(gap.subs(m, m + 1) - gap - r ** (2 * m + 1) * (1 - r) * (1 + r)) == 0
    shares = sympy.symbols("c0:6", nonnegative=True)  # c_k², with sum 1
    rise = sum(c * (-r) ** k for k, c in enumerate(shares)) + r * sum(shares)
    terms = [c * (r**k + r if k % 2 == 0 else r - r**k) for k, c in enumerate(shares)]
    assert sympy.expand(rise - sum(terms)) == 0
    assert terms[0] == shares[0] * (1 + r)  # ≥ c₀²
    witness(instances=6)


@pytest.mark.claim("R5", "symbolic", step="power-law")
def test_the_map_of_a_ramp_is_the_identity_plus_an_angle():
    """From the closed kernel with the slopes left open, `r` above and `s` below zero (`left = −s`)."""
    theta, pi = sympy.Symbol("theta", positive=True), sympy.pi
    r, s = sympy.symbols("r s", real=True)
    sine, cosine = sympy.sin(theta), sympy.cos(theta)
    same, opposite = (sine + (pi - theta) * cosine) / (2 * pi), (sine - theta * cosine) / (2 * pi)
    kernel = (r**2 + s**2) * same + 2 * r * (-s) * opposite
    mu = (r - s) ** 2 / (r**2 + s**2)
    stated = cosine + mu * (sine - theta * cosine) / pi
    assert sympy.simplify(kernel / kernel.subs(theta, 0) - stated) == 0
    for right, left in ((1, 0), (2, -1), (1, 1)):  # the same formula as the one in use
        used = ArcCosine(1, right, left).formula(sympy.cos(sympy.Rational(7, 5)))
        ours = kernel.subs({r: right, s: -left, theta: sympy.Rational(7, 5)})
        assert abs(sympy.N(used - ours, 30)) < 1e-25
    witness(instances=4)


@pytest.mark.claim("R5", "symbolic", step="power-law")
def test_the_distance_from_one_shrinks_by_a_power_of_three_halves():
    theta, half = sympy.Symbol("theta", positive=True), sympy.Symbol("h", positive=True)
    left, right = sympy.sin(theta) - theta * sympy.cos(theta), sympy.Rational(8, 3) * sympy.sin(theta / 2) ** 3
    assert left.subs(theta, 0) == right.subs(theta, 0) == 0
    assert sympy.simplify(sympy.diff(left, theta) - theta * sympy.sin(theta)) == 0
    slope = sympy.diff(right, theta) - 2 * sympy.sin(theta / 2) * sympy.sin(theta)
    assert sympy.simplify(sympy.expand_trig(slope.subs(theta, 2 * half))) == 0
    assert sympy.integrate(1 - sympy.cos(half), (half, 0, theta)) == theta - sympy.sin(theta)  # ≥ 0: sin θ ≤ θ
    eps = 2 * sympy.sin(theta / 2) ** 2
    assert sympy.simplify(eps - 1 + sympy.cos(theta)) == 0
    k = 2 * sympy.sqrt(2) / (3 * sympy.pi)  # times μ
    S = sympy.Symbol("S", positive=True)  # sin(θ/2) on (0, π]
    cube = eps.subs(sympy.sin(theta / 2), S) ** sympy.Rational(3, 2)
    assert sympy.simplify(right.subs(sympy.sin(theta / 2), S) / sympy.pi - k * cube) == 0
    x = sympy.Symbol("x")
    assert sympy.factor(1 / (1 - x) - (1 + x / 2) ** 2 - x**2 * (x + 3) / (4 * (1 - x))) == 0
    e, c = sympy.symbols("e c", positive=True)  # e = √ε
    growth = (1 / sympy.sqrt(1 - c * e) - 1) / e  # of ε^{−1/2} when ε becomes ε − c ε^{3/2}
    assert sympy.simplify(sympy.sqrt(e**2 - c * e**3) - e * sympy.sqrt(1 - c * e)) == 0
    assert sympy.limit(growth, e, 0) == c / 2
    assert sympy.simplify(4 / k**2 - 9 * sympy.pi**2 / 2) == 0
    witness(instances=9)


# ------------------------------------------------------------------------------------------------ checks by numbers


@pytest.mark.claim("R5", "property")
@pytest.mark.parametrize("name", NAMES)
@given(rho=inside)
def test_standardised_correlations_shrink_at_least_geometrically(name, rho):
    flow = correlation_flow(name, rho, 60)
    share = moments(name).linear_share
    q = share + (1 - share) * abs(rho)
    assert (np.abs(flow) <= q ** np.arange(61) * abs(rho) + 1e-12).all()
    assert limit(name, rho) == 0.0
    witness()


@pytest.mark.claim("R5", "property")
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "silu", "relu2", "erf"])
def test_the_last_ratio_is_the_linear_share(name):
    flow = correlation_flow(name, 0.9, 400)
    layer = int(np.flatnonzero(np.abs(flow) > 1e-7)[-1])
    ratio = flow[layer] / flow[layer - 1]
    assert abs(ratio - moments(name).linear_share) < 1e-5
    witness()


@pytest.mark.claim("R5", "property")
@pytest.mark.parametrize("name", NAMES)
def test_the_ends_stay_or_go_by_symmetry(name):
    ends = correlation_flow(name, np.array([-1.0, 1.0]), 3)
    assert (ends[:, 1] == 1).all()
    centred_odd = get(name).symmetry == "odd" or name in ("sigmoid", "step")
    expected = -1.0 if centred_odd else 1.0 if get(name).symmetry == "even" else 0.0
    assert limit(name, -1.0) == expected
    assert (abs(ends[1, 0]) > 1 - 1e-12) == (expected != 0)
    assert slope_at_one(name) > 1
    witness()


@pytest.mark.claim("R5", "property")
@pytest.mark.parametrize("name", NAMES)
@given(rho=inside)
def test_raw_correlations_end_where_the_slope_at_one_says(name, rho):
    end = limit(name, rho, normalisation="raw")
    assert (end == 1.0) == (slope_at_one(name, "raw") <= 1 + 1e-13)
    flow = correlation_flow(name, np.array([rho, end]), 40, normalisation="raw")
    assert abs(flow[-1, 1] - end) < 1e-9
    distance = np.abs(flow[:, 0] - end)
    assert distance[-1] <= distance[0] + 1e-12
    late = flow[np.flatnonzero(flow[:, 0] >= 0)[0] :, 0] if (flow[:, 0] >= 0).any() else flow[-1:, 0]
    assert (np.sign(late[-1] - end) in (0.0, np.sign(late[0] - end))) or distance[-1] < 1e-9
    witness()


@pytest.mark.parametrize("name", [*TO_ONE, *RAMPS])
def test_these_go_to_one(name):
    (one,) = (point for point in fixed_points(name, normalisation="raw") if point.attracts)
    assert one.value == 1.0
    assert one.rate <= 1 + float64_identity(10)


@pytest.mark.claim("R5", "enclosure")
@pytest.mark.parametrize("name", INNER)
def test_the_inner_fixed_point_is_enclosed(name):
    ball = fixed_point_enclosure(name)
    low, attractor, one = 0.0, *fixed_points(name, normalisation="raw")
    assert ball.contains(arb(attractor.value))
    assert low < attractor.value < one.value == 1.0
    assert abs(attractor.rate) < 1 < one.rate
    size = dual_kernel_enclosure(name, 1, standardised=False)
    image = dual_kernel_enclosure(name, ball, standardised=False) / size
    assert image.overlaps(ball)
    witness(residual=float(ball.rad()))


@pytest.mark.claim("R5", "property")
@pytest.mark.parametrize("name", RAMPS)
@given(rho=st.floats(-1, 0.999999))
def test_ramps_are_never_above_their_bound(name, rho):
    flow = correlation_flow(name, rho, 50, normalisation="raw")
    excess = (1 - flow) / critical_bound(name, rho, np.arange(51)) - 1
    assert excess.max() < 1e-9
    witness(residual=max(float(excess.max()), 0))


@pytest.mark.claim("R5", "property")
@pytest.mark.parametrize("name", RAMPS)
def test_ramps_follow_the_inverse_square_law(name):
    layers = np.array([10**3, 10**4])
    flow = correlation_flow(name, 0.0, 10**4, normalisation="raw")
    off = np.abs((1 - flow[layers]) / critical_law(name, layers) - 1)
    assert off[1] < 0.005
    assert off[1] < off[0] / 5
    witness()


@pytest.mark.control("R5")
def test_the_linear_activation_keeps_every_correlation():
    assert (correlation_flow("linear", np.array([-0.5, 0.3]), 50)[-1] == [-0.5, 0.3]).all()
    for normalisation in ("standardised", "raw"):
        with pytest.raises(ValueError, match="linear"):
            fixed_points("linear", normalisation=normalisation)


@pytest.mark.control("R5")
def test_without_centring_zero_does_not_attract():
    assert correlation_flow("relu", 1e-3, 1, normalisation="raw")[-1] > 0.3
    assert limit("gelu", 0.0, normalisation="raw") > 0.7


@pytest.mark.control("R5")
def test_another_constant_or_power_in_the_law_is_seen():
    flow = correlation_flow("relu", 0.0, 10**4, normalisation="raw")
    law = critical_law("relu", 10**4)
    assert abs((1 - flow[-1]) / (law / 2) - 1) > 0.5
    ratio = (1 - flow[10**4]) / (1 - flow[10**3])
    assert ratio == pytest.approx(10**-2, rel=0.05)
    assert abs(ratio - 10**-1.5) > 0.02


def test_the_constant_of_relu_is_nine_pi_squared_over_two():
    assert critical_law("relu", 1.0) == pytest.approx(9 * math.pi**2 / 2, rel=1e-14)
    assert kink_coefficient("abs", standardised=False) == pytest.approx(2 * 2 * math.sqrt(2) / (3 * math.pi))


def test_selu_is_made_to_have_mean_zero_and_gelu_is_not():
    assert limit("selu", 0.5, normalisation="raw") == pytest.approx(0, abs=1e-6)
    assert limit("gelu", 0.5, normalisation="raw") == pytest.approx(0.7604019049, abs=1e-9)
    assert limit(modulate("gelu", 1, -3), 0.5, normalisation="raw") == pytest.approx(0.422807, abs=1e-6)


def test_shapes_names_and_callables():
    flow = iterate("relu", np.zeros((2, 3)), 4, normalisation="raw")
    assert flow.shape == (5, 2, 3)
    assert iterate is correlation_flow
    assert isinstance(correlation_map("tanh", 0.5), float)
    assert correlation_flow("tanh", 0.5, 0).tolist() == [0.5]
    arctan = from_callable(np.arctan)
    assert [point.value for point in fixed_points(arctan)] == [-1.0, 0.0, 1.0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="normalisation 'none' is unknown; allowed are standardised, raw"):
        correlation_map("relu", 0.5, normalisation="none")
    with pytest.raises(ValueError, match="depth is -1"):
        correlation_flow("relu", 0.5, -1)
    with pytest.raises(ValueError, match="vanishes"):
        correlation_map(polynomial((0,)), 0.5, normalisation="raw")
    with pytest.raises(ValueError, match="no fixed point below 1"):
        fixed_point_enclosure("relu")
    with pytest.raises(ValueError, match=r"slope 1\.18 at 1 and kink coefficient 0"):
        critical_law("tanh", 3)
    with pytest.raises(ValueError, match="not one slope"):
        critical_bound("selu", 0.5, 3)
    with pytest.raises(ValueError, match=r"\[−1, 1\]"):
        limit("relu", 1.5)
    with pytest.raises(ValueError, match=r"rho contains 7\.0"):
        correlation_flow("relu", 7.0, 0)
    for rho in (2.0, math.nan):
        with pytest.raises(ValueError, match="rho contains"):
            critical_bound("relu", rho, 3)
    with pytest.raises(ValueError, match="depth is -5; allowed are numbers ≥ 0"):
        critical_bound("relu", 0.5, -5)
    for depth in (0, -3, [1, 0]):
        with pytest.raises(ValueError, match=r"depth is .* allowed are numbers > 0"):
            critical_law("relu", depth)
    with pytest.raises(TypeError, match="depth is 'deep'; give a real number"):
        critical_law("relu", "deep")
    with pytest.raises(ValueError, match="vanishes"):
        slope_at_one(polynomial((0,)), "raw")


@pytest.mark.filterwarnings("error")
def test_the_bound_of_identical_inputs_is_zero():
    assert critical_bound("relu", 1.0, 3) == 0
    assert critical_bound("relu", [1.0, 0.0], 0).tolist() == [0.0, 1.0]


def test_a_fixed_point_close_to_one_is_found():
    """`φ = b + He₂` has `K = b² + 2ρ²`, whose fixed points are 1 and `b²/2`."""
    for b in (Fraction(7, 5), Fraction(1414213, 10**6)):
        inner, one = fixed_points(polynomial((b - 1, 0, 1)), normalisation="raw")
        assert inner.value == pytest.approx(float(b * b / 2), abs=1e-8)
        assert one.value == 1.0


def test_an_enclosure_does_not_reach_one():
    with pytest.raises(ValueError, match=r"radius is 0\.5, which reaches from .* up to 1"):
        fixed_point_enclosure("gelu", radius=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_raw_correlations_are_correlations(name):
    near = 1 - np.arange(1, 400) * 2.0**-53
    image = correlation_map(name, np.concatenate([near, -near]), normalisation="raw")
    assert np.abs(image).max() <= 1
    assert correlation_map(name, float(near[0]), normalisation="raw") <= 1
