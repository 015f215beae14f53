"""Near-clones under stochastic steps: scales are never forgotten (C14), several outputs make saddles (C15).

And what one state of training tells about them.
"""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.descent import descend
from simulate.near_clones import forecast, forecast_of_clone
from simulate.optimizers import adam, sgd
from simulate.stability import classify, normal_hessian
from tests.theory.strategies import exact
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError, gradient, loss
from theory.partitions import coarsest_equitable_partition

RATE, DECAY, MOMENTUM = Fraction(1, 16), Fraction(1, 5), Fraction(1, 2)
small = st.integers(-4, 4).map(lambda x: Fraction(x, 2))


def one_unit(w, c, activation="relu") -> Network:
    return Network.layered([np.array([w], dtype=object), np.array([[x] for x in c], dtype=object)], activation)


def parts(network: Network, inputs: int):
    """Return in-weights and out-weights of the unit."""
    return network.parameters[:inputs], network.parameters[inputs:]


def cross(network: Network, x, criterion):
    """Return `m = E φ'(z) x δᵀ`, with `δ` of the loss that `criterion` measures (a mean over samples)."""
    w, c = parts(network, len(x))
    z = w @ x
    f = np.outer(c, [max(value, 0) for value in z])
    active = exact([int(value > 0) for value in z])
    return (x * active) @ criterion.gradient(f).T


# ----------------------------------------------------------------------------------------------------------- C14


@pytest.mark.claim("C14", "symbolic", step="euler")
def test_the_matrix_of_near_clones_takes_the_weights_to_their_gradient():
    d, m = 3, 2
    x, w = sympy.Matrix(sympy.symbols(f"x1:{d + 1}")), sympy.Matrix(sympy.symbols(f"w1:{d + 1}"))
    c, delta = sympy.Matrix(sympy.symbols(f"c1:{m + 1}")), sympy.Matrix(sympy.symbols(f"delta1:{m + 1}"))
    slope = sympy.Symbol("slope")  # φ' of a homogeneous φ: φ(z) = φ'(z) z
    value = slope * (w.T * x)[0]
    M = slope * x * delta.T
    assert sympy.simplify(M * c - slope * (c.T * delta)[0] * x) == sympy.zeros(d, 1)
    assert sympy.simplify(M.T * w - value * delta) == sympy.zeros(m, 1)
    witness(instances=2)


@pytest.mark.claim("C14", "symbolic", step="rules")
def test_momentum_and_decay_are_one_linear_map():
    """`b' = μ b + H v + λ v`, `v' = (1 − η κ) v − η b'`: linear in `(v, b)` with coefficients of `H` alone."""
    v, b, H, rate, momentum, coupled, decoupled = sympy.symbols("v b H eta mu lambda kappa")
    after = momentum * b + H * v + coupled * v
    step = (1 - rate * decoupled) * v - rate * after
    for out in (after, step):
        assert sympy.expand(out.subs({v: 2 * v, b: 2 * b}) - 2 * out) == 0
        assert sympy.diff(out, v, 2) == sympy.diff(out, b, 2) == 0
    witness(instances=2)


@pytest.mark.claim("C14", "exact")
@pytest.mark.parametrize("rule", ["sgd", "momentum", "coupled", "decoupled"])
@given(data=st.data())
def test_the_units_weights_obey_the_recursion_of_its_near_clones(rule, data):
    d, m = 2, 2
    network = one_unit(
        data.draw(st.lists(small, min_size=d, max_size=d)), data.draw(st.lists(small, min_size=m, max_size=m))
    )
    coupled = DECAY if rule == "coupled" else 0
    momentum = MOMENTUM if rule == "momentum" else 0
    kept = 1 - RATE * DECAY if rule == "decoupled" else 1
    vector, buffer, state = network.parameters.copy(), 0 * network.parameters, None
    update = sgd(RATE, momentum=momentum, decay=coupled)
    for _ in range(3):
        x = np.array(
            data.draw(st.lists(st.lists(small, min_size=2, max_size=2), min_size=d, max_size=d)), dtype=object
        )
        criterion = SquaredError(
            np.array(
                data.draw(st.lists(st.lists(small, min_size=2, max_size=2), min_size=m, max_size=m)), dtype=object
            )
        )
        M = cross(network, x, criterion)
        applied = np.concatenate([M @ vector[d:], M.T @ vector[:d]])
        buffer = momentum * buffer + applied + coupled * vector
        vector = kept * vector - RATE * buffer
        state, stepped = update(state, network.parameters, gradient(network, x, criterion.gradient))
        network = network.with_parameters(stepped - (1 - kept) * network.parameters)
        assert all(network.parameters == vector)
    witness()


@pytest.mark.control("C14")
def test_adam_and_a_bias_that_is_left_out_break_the_recursion():
    x, criterion = exact([1, 2]).reshape(2, 1).astype(float), SquaredError(np.array([[1.0], [-1.0]]))
    network = one_unit([1.0, 0.5], [0.5, 2.0])
    network = network.with_parameters(network.parameters.astype(float))
    M = np.array(cross(network, x, criterion), dtype=float)
    w = network.parameters
    expected = w - 1e-3 * np.concatenate([M @ w[2:], M.T @ w[:2]])
    *_, sgd_step = descend(network, [(x, criterion)], sgd(1e-3))
    *_, adam_step = descend(network, [(x, criterion)], adam(1e-3))
    assert sgd_step.parameters == pytest.approx(expected, abs=1e-12)
    assert np.abs(adam_step.parameters - expected).max() > 1e-4
    without = np.concatenate([M[:1] @ w[2:], [0.0], M[:1].T @ w[:1]])  # the second input is a bias, not scaled
    assert np.abs(w - 1e-3 * without - sgd_step.parameters).max() > 1e-4


# ----------------------------------------------------------------------------------------------------------- C15

X, Y = exact([1, 1, 1, -1]).reshape(2, 2), exact([1, 1, -1, 1]).reshape(2, 2)  # (1,1) → (1,−1), (1,−1) → (1,1)


def pair(h=Fraction(0)) -> Network:
    """Return two clones of the unit `w = c = (1, 0)`, moved by `±h` in `w₂` and `∓h` in `c₂`."""
    half = Fraction(1, 2)
    W = np.array([[Fraction(1), h], [Fraction(1), -h]], dtype=object)
    return Network.layered([W, np.array([[half, half], [-h, h]], dtype=object)], "relu")


@pytest.mark.claim("C15", "symbolic", step="second-order")
def test_the_second_order_of_a_moved_clone():
    t, n = sympy.symbols("t n", positive=True)
    c, alpha, e, z, delta = sympy.symbols("c alpha e z delta")
    phi = sympy.Function("phi")
    moved = delta * (c / n + t * alpha) * phi(z + t * e)
    second = sympy.diff(moved, t, 2).subs(t, 0).doit() / 2
    slope, bend = sympy.diff(phi(z), z), sympy.diff(phi(z), z, 2)
    assert sympy.simplify(second - delta * (alpha * slope * e + c / (2 * n) * bend * e**2)) == 0
    witness()


@pytest.mark.claim("C15", "symbolic", step="both-signs")
def test_a_bilinear_form_takes_both_signs():
    alpha, Q, c = sympy.symbols("alpha Q c", real=True)
    B = sympy.Symbol("B", real=True, nonzero=True)
    assert sympy.solve(sympy.Eq(Q + 2 * alpha * B, c), alpha) == [(c - Q) / (2 * B)]
    witness()


@pytest.mark.claim("C15", "symbolic", step="spectrum")
@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 2), (2, 3), (3, 2)])
def test_the_eigenvalues_are_singular_values_with_both_signs(d, m):
    """`det(t − [[0, m], [mᵀ, 0]]) = t^{d−m} det(t² − mᵀ m)`, for `d ≥ m` and by transposition else."""
    M = sympy.Matrix(d, m, lambda i, j: sympy.Symbol(f"m{i}{j}", real=True))
    t = sympy.Symbol("t")
    H = sympy.zeros(d + m)
    H[:d, d:], H[d:, :d] = M, M.T
    square = M.T * M if m <= d else M * M.T
    expected = t ** abs(d - m) * (t**2 * sympy.eye(min(d, m)) - square).det()
    assert sympy.expand(H.charpoly(t).as_expr() - expected) == 0
    witness()


@pytest.mark.claim("C15", "exact")
def test_a_critical_point_whose_clones_lower_the_loss():
    """The base's gradient is zero, `m = [[0, 0], [0, 1]]`, and the loss falls from 1/2 to 24990001/50000000.

    Means over the two samples: `SquaredError` sums.
    """
    criterion = SquaredError(Y)
    base = one_unit([Fraction(1), Fraction(0)], [Fraction(1), Fraction(0)])
    assert not any(gradient(base, X, criterion.gradient))
    assert (cross(base, X, criterion) / 2).tolist() == [[0, 0], [0, 1]]
    assert loss(pair(), X, criterion) / 2 == Fraction(1, 2)
    assert loss(pair(Fraction(1, 100)), X, criterion) / 2 == Fraction(24990001, 50000000)
    witness()


@pytest.mark.claim("C15", "property")
def test_the_normal_spectrum_at_that_point_is_that_of_m():
    network = pair().with_parameters(pair().parameters.astype(float))
    manifold = cloned_manifold(network, coarsest_equitable_partition(network), 1e-12)
    x, criterion = X.astype(float), SquaredError(Y.astype(float))
    assert classify(network, manifold, x, criterion).kind == "saddle"
    found = np.linalg.eigvalsh(normal_hessian(network, manifold, x, criterion)) / 2
    assert found[[0, -1]] == pytest.approx([-1, 1])
    assert found[1:-1] == pytest.approx(np.zeros(len(found) - 2))
    witness(residual=float(np.abs(found[1:-1]).max()))


@pytest.mark.control("C15")
def test_with_one_output_that_critical_point_is_no_saddle():
    """Of the second output alone `m c` is `m` times a number, so a critical base has `m = 0`."""
    network = one_unit([Fraction(1), Fraction(0)], [Fraction(1)])
    criterion = SquaredError(Y[:1])
    assert not any(gradient(network, X, criterion.gradient))
    assert not cross(network, X, criterion).any()


# ------------------------------------------------------------------------------------------ what one state tells


def drawn(inputs, outputs, samples=50, seed=0):
    """Return inputs, errors, slopes, bends and a unit."""
    rng = np.random.default_rng(seed)
    x, delta = rng.standard_normal((samples, inputs)), rng.standard_normal((samples, outputs))
    slope, bend = rng.standard_normal((2, samples))
    return x, delta, slope, bend, rng.standard_normal(inputs), rng.standard_normal(outputs)


def matrices(x, delta, slope, bend, c):
    """Return `H_i` of every sample, one after the other."""
    found = []
    for xi, di, si, bi in zip(x, delta, slope, bend, strict=True):
        cross = si * np.outer(xi, di)
        found.append(np.block([[c @ di * bi * np.outer(xi, xi), cross], [cross.T, np.zeros((len(di),) * 2)]]))
    return np.array(found)


@pytest.mark.parametrize("outputs", [1, 3])
def test_sizes_are_those_of_the_matrices_of_samples(outputs):
    x, delta, slope, bend, w, c = drawn(4, outputs)
    H = matrices(x, delta, slope, bend, c)
    found = forecast(x, delta, slope, bend, w, c, rate=0.01, batch=4)
    assert found.now == pytest.approx(np.log1p(-0.01 * np.linalg.eigvalsh(H.mean(axis=0))[0]))
    spread = (H @ H).mean(axis=0) - H.mean(axis=0) @ H.mean(axis=0)
    assert found.noise == pytest.approx(0.01**2 / 8 * np.linalg.norm(spread, 2))


def test_what_a_base_at_rest_keeps():
    """Errors that are orthogonal to `m c` change nothing; with one output and no bend nothing is kept."""
    x, delta, slope, bend, w, c = drawn(4, 3)
    kept = forecast(x, delta, slope, 0 * bend, w, c, rate=0.01, batch=1)
    m = (x * slope[:, None]).T @ delta / len(x)
    off = m - np.outer(m @ c, c) / (c @ c)
    off = off - np.outer(w, w @ off) / (w @ w)
    assert kept.rest == pytest.approx(np.log1p(0.01 * np.linalg.norm(off, 2)))
    assert kept.rest < kept.now
    x, delta, slope, bend, w, c = drawn(4, 1)
    assert forecast(x, delta, slope, 0 * bend, w, c, rate=0.01, batch=1).rest == pytest.approx(0, abs=1e-15)


def test_rate_and_batch_decide_who_decides():
    x, delta, slope, bend, w, c = drawn(4, 2)
    cases = {(1e-4, 50): "hessian", (10.0, 1): "trajectory"}
    for (rate, batch), expected in cases.items():
        assert forecast(x, delta, slope, bend, w, c, rate=rate, batch=batch).decides == expected
    centred = delta[:, :1] - slope[:, None] * x @ np.linalg.lstsq(slope[:, None] * x, delta[:, :1], rcond=None)[0]
    rest = forecast(x, centred, slope, 0 * bend, w, c[:1], rate=0.01, batch=1)
    assert rest.decides == "noise"
    assert not rest.parts


def test_definite_curvature_holds_with_one_output():
    x, _, slope, _, w, _ = drawn(2, 1)
    one = np.ones((len(x), 1))
    found = forecast(x, one, 0 * slope, np.ones(len(x)), w, np.ones(1), rate=0.001, batch=50)
    assert (found.decides, found.parts, found.rest) == ("hessian", False, 0.0)
    assert found.held == pytest.approx(0.001 * np.linalg.eigvalsh(x.T @ x / len(x))[0])


def test_a_forecast_of_what_does_not_fit_is_named():
    x, delta, slope, bend, w, c = drawn(4, 2)
    with pytest.raises(ValueError, match="got shapes"):
        forecast(x, delta[:-1], slope, bend, w, c, rate=0.1, batch=1)
    for options in ({"rate": 0.0, "batch": 1}, {"rate": 0.1, "batch": 0}):
        with pytest.raises(ValueError, match="positive rates"):
            forecast(x, delta, slope, bend, w, c, **options)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_forecast_of_a_clone_is_that_of_the_normal_hessian(activation):
    """`classify` has the sum over 30 samples, and a step descends on the mean."""
    rng = np.random.default_rng(0)
    W, a = np.repeat(rng.standard_normal((1, 3)), 2, axis=0), np.repeat(rng.standard_normal((2, 1)), 2, axis=1)
    network, x = Network.layered([W, a], activation, output="linear"), rng.standard_normal((3, 30))
    criterion = SquaredError(rng.standard_normal((2, 30)))
    lowest = classify(network, cloned_manifold(network, coarsest_equitable_partition(network)), x, criterion).lowest
    found = forecast_of_clone(network, network.units[3], x, criterion, rate=0.01, batch=4)
    assert found.now == pytest.approx(np.log1p(-0.01 * lowest / 30))
    for unit, message in ((network.units[0], "0 edges in"), ("nobody", "is none of the network")):
        with pytest.raises(ValueError, match=message):
            forecast_of_clone(network, unit, x, criterion, rate=0.01, batch=4)
