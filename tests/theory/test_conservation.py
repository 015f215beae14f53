"""Quadrics that gradient flow cannot leave (N1), and that small two-layer networks have no others (N2)."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.descent import descend
from simulate.optimizers import adam, sgd
from tests.theory.strategies import exact, matrices
from tests.theory.test_frozen import dags
from theory.activations import get, named
from theory.conservation import (
    balanced_units,
    balances,
    independent_laws,
    laws,
    reachable_dimension,
    signed_sum,
)
from theory.network import Network, SquaredError, edge_gradient, gradient

HOMOGENEOUS = ("linear", "relu", "leaky_relu", "abs")
KNOWN = HOMOGENEOUS[:3]  # by their `scaling`, which `balanced_units` reads
SIZES = tuple(product((1, 2, 3), repeat=3))


def goal(network, columns):
    return SquaredError(exact(range(1, 1 + columns * len(network.outputs))).reshape(-1, columns))


def float_network(seed, activation="relu"):
    rng = np.random.default_rng(seed)
    matrices_ = [rng.standard_normal((4, 3)), rng.standard_normal((3, 4)), rng.standard_normal((1, 3))]
    network = Network.layered(matrices_, activation)
    return network, rng.standard_normal((3, 8)), SquaredError(rng.standard_normal((1, 8)))


# ------------------------------------------------------------------------------------------------- N1, the flow


@pytest.mark.claim("N1", "symbolic", step="euler")
def test_sums_of_weights_times_gradients_are_z_slope_and_value():
    k, n, m = sympy.Symbol("k", integer=True), *sympy.symbols("n m", integer=True, positive=True)
    w, h, slope, delta = (sympy.IndexedBase(name) for name in ("w", "h", "slope", "delta"))
    f, d, value = sympy.symbols("f d value")
    into = sympy.Sum(w[k] * (h[k] * f * d), (k, 1, n)) - f * d * sympy.Sum(w[k] * h[k], (k, 1, n))
    out = sympy.Sum(w[k] * (value * slope[k] * delta[k]), (k, 1, m))
    out -= value * sympy.Sum(delta[k] * slope[k] * w[k], (k, 1, m))
    assert sympy.simplify(into) == 0
    assert sympy.simplify(out) == 0
    z = sympy.Symbol("z")
    assert sympy.expand((z * f - value) * d).subs(value, z * f).simplify() == 0
    witness(instances=3)


@pytest.mark.claim("N1", "property", step="euler")
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_the_activations_are_homogeneous(name):
    z = np.array([-3.0, -0.5, 0.0, 0.25, 4.0])
    assert (z * get(name).slope(z) == get(name).value(z)).all()
    witness()


@pytest.mark.control("N1")
def test_other_named_activations_are_not_homogeneous():
    z = np.linspace(-2, 2, 41)
    found = {
        name
        for name in named()
        if get(name).slope is not None and np.allclose(z * get(name).slope(z), get(name).value(z))
    }
    assert found == set(HOMOGENEOUS)


@pytest.mark.claim("N1", "exact")
@pytest.mark.parametrize("activation", KNOWN)
@given(data=st.data())
def test_on_any_graph_gradients_conserve_and_descent_drifts_by_the_square_of_its_rate(activation, data):
    network = data.draw(dags(activation=activation))
    x = data.draw(matrices(1, 2))
    criterion, rate = goal(network, 2), Fraction(1, 8)
    g = edge_gradient(network, x, criterion.gradient)
    assert all(signed_sum(network, network.weights * g) == 0)
    before, after = descend(network, [(x, criterion)], sgd(rate))
    assert all(balances(after) - balances(before) == rate**2 * signed_sum(network, g**2))
    witness(instances=len(balanced_units(network)))


@pytest.mark.claim("N1", "symbolic", step="descent")
def test_a_step_of_descent_adds_the_square_of_the_gradient():
    w, g, rate = sympy.symbols("w g eta")
    assert sympy.expand((w - rate * g) ** 2 - w**2 - (-2 * rate * w * g + rate**2 * g**2)) == 0
    witness()


@pytest.mark.claim("N1", "symbolic", step="adam")
def test_a_step_of_signs_adds_at_first_order():
    w, g = sympy.symbols("w g", real=True, nonzero=True)
    rate = sympy.Symbol("eta", positive=True)
    change = sympy.expand((w - rate * sympy.sign(g)) ** 2 - w**2)
    assert sympy.simplify(change - (rate**2 - 2 * rate * w * sympy.sign(g))) == 0
    for a, b in product((-2, 3), repeat=2):
        assert a * sympy.sign(b) == abs(a) * sympy.sign(a * b)
    witness(instances=5)


@pytest.mark.claim("N1", "symbolic", step="momentum")
def test_the_momentum_flow_leaves_at_the_fourth_order():
    """`P' + c P = 2 q t² + O(t³)` from `P(0) = 0` has `P = (2/3) q t³ + …`, and `Q = (1/6) q t⁴ + …`."""
    t, c, q, e = sympy.symbols("t c q e")
    a = sympy.symbols("a1:6")
    P = sum(x * t**k for k, x in enumerate(a, start=1))
    equation = sympy.expand(sympy.diff(P, t) + c * P - 2 * q * t**2 - e * t**3)
    found = sympy.solve([equation.coeff(t, k) for k in range(4)], a[:4], dict=True)[0]
    assert (found[a[0]], found[a[1]], sympy.expand(found[a[2]])) == (0, 0, 2 * q / 3)
    Q = sympy.integrate(P.subs(found), (t, 0, t))
    assert sympy.expand(Q).coeff(t, 4) == q / 6
    witness(instances=2)


def drift(network, x, criterion, rule, steps):
    *_, last = descend(network, [(x, criterion)] * steps, rule)
    return float(np.abs(balances(last) - balances(network)).max())


def order(values):
    """Return the exponent with which values grow with a rate that doubles."""
    return float(np.polyfit(np.arange(len(values)) * np.log(2), np.log(values), 1)[0])


@pytest.mark.claim("N1", "simulation")
@pytest.mark.parametrize("seed", range(5))
def test_drifts_have_the_orders_that_are_stated(seed):
    network, x, criterion = float_network(seed)
    rates = [1e-5 * 2**k for k in range(5)]
    one = order([drift(network, x, criterion, sgd(rate), 1) for rate in rates])
    path = order([drift(network, x, criterion, sgd(rate), round(1e-3 / rate)) for rate in rates])
    first = order([drift(network, x, criterion, adam(rate), 1) for rate in rates])
    assert one == pytest.approx(2, abs=0.05)
    assert path == pytest.approx(1, abs=0.05)
    assert first == pytest.approx(1, abs=0.05)
    witness(residual=max(abs(one - 2), abs(path - 1), abs(first - 1)))


@pytest.mark.claim("N1", "simulation")
@pytest.mark.parametrize("seed", range(3))
def test_the_momentum_flow_moves_as_the_fourth_power_of_time(seed):
    """Integrated by many small steps of `w'' + w' = −g` from rest."""
    network, x, criterion = float_network(seed)
    g = gradient(network, x, criterion.gradient)
    expected = signed_sum(network, g**2) / 6
    found = []
    for end in (0.005, 0.01):
        steps, w, velocity = 1000, network.parameters.copy(), np.zeros_like(network.parameters)
        h = end / steps
        for _ in range(steps):
            velocity = velocity + h * (-velocity - gradient(network.with_parameters(w), x, criterion.gradient))
            w = w + h * velocity
        found.append((balances(network.with_parameters(w)) - balances(network)) / end**4)
    assert found[0] == pytest.approx(expected, rel=0.1)
    assert np.abs(found[0] - expected).max() < np.abs(found[1] - expected).max() + 1e-3 * np.abs(expected).max()
    witness()


@pytest.mark.control("N1")
def test_tanh_networks_conserve_nothing_of_the_kind():
    network, x, criterion = float_network(0, "tanh")
    assert not len(balanced_units(network))
    g = edge_gradient(network, x, criterion.gradient)
    hidden = list(range(3, 7))
    sums = [
        (network.weights * g)[network.target == u].sum() - (network.weights * g)[network.source == u].sum()
        for u in hidden
    ]
    assert min(map(abs, sums)) > 1e-6


@pytest.mark.control("N1")
def test_a_unit_that_is_an_output_too_is_not_balanced():
    edges = {("x", "u"): Fraction(1), ("u", "y"): Fraction(2)}
    network = Network.from_edges(edges, "linear", ["x"], ["u", "y"])
    assert not len(balanced_units(network))
    g = edge_gradient(network, exact([3])[:, None], goal(network, 1).gradient)
    assert network.weights[0] * g[0] != network.weights[1] * g[1]


# --------------------------------------------------------------------------------------------- N2, completeness


def at_random(widths, seed):
    rng = np.random.default_rng(seed)
    n, h, m = widths
    return [
        Fraction(int(p), int(q))
        for p, q in zip(rng.choice([-7, -3, 2, 5, 9], h * (n + m)), rng.integers(1, 8, h * (n + m)), strict=True)
    ]


@pytest.mark.claim("N2", "exact")
@pytest.mark.parametrize("kind", ["relu", "linear"])
@pytest.mark.parametrize("widths", SIZES)
def test_what_is_reached_and_the_known_laws_make_up_all_weights(kind, widths):
    weights = at_random(widths, 0)
    assert reachable_dimension(widths, kind, weights) + independent_laws(widths, kind, weights) == len(weights)
    witness()


@pytest.mark.control("N2")
def test_at_clones_and_dead_units_less_is_reached():
    widths = (2, 2, 1)
    clones = [1, 2, 1, 2, 3, 3]
    assert reachable_dimension(widths, "linear", clones) < 6 - independent_laws(
        widths, "linear", at_random(widths, 1)
    )
    assert reachable_dimension(widths, "relu", [0, 0, 1, 2, 0, 3]) == 2  # the first unit is dead: weights all zero


@pytest.mark.control("N2")
def test_with_the_laws_of_relu_a_linear_network_is_not_complete():
    widths = (2, 2, 2)
    weights = at_random(widths, 2)
    assert reachable_dimension(widths, "linear", weights) + independent_laws(widths, "relu", weights) < len(weights)


def test_laws_are_conserved_by_every_output():
    """`⟨∇law, ∇f⟩ = 0` for the bilinear outputs of a linear network, as polynomials."""
    for law in laws((2, 2, 2), "linear"):
        names = sorted(
            law.free_symbols | set(sympy.symbols("U0_0 U0_1 U1_0 U1_1 V0_0 V0_1 V1_0 V1_1", real=True)), key=str
        )
        for i, k in product(range(2), repeat=2):
            f = sum(sympy.Symbol(f"V{k}_{j}", real=True) * sympy.Symbol(f"U{j}_{i}", real=True) for j in range(2))
            assert sympy.expand(sum(law.diff(x) * f.diff(x) for x in names)) == 0
