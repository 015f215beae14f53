"""The type of a manifold (D2) and why cloned ones are never strictly stable (C10)."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate import stability
from simulate.stability import classify, inertia, kind_of, normal_basis, normal_hessian
from tests.theory.strategies import Drawn, clones, exact, vectors
from theory.curvature import hessian_vector
from theory.derivatives import derivative
from theory.manifolds import Manifold, cloned_manifold, frozen_manifold
from theory.network import Network, SquaredError, gradient, loss, outputs
from theory.partitions import coarsest_equitable_partition
from theory.tolerances import float64_identity

F = Fraction
SMOOTH = ("tanh", "softplus", "gelu", "sin")


def cloned(W: np.ndarray, a: np.ndarray, copies: int, activation: str) -> tuple[Network, Manifold]:
    """Return one hidden layer with every unit `(w, a)` as copies `(w, a/n)`, and its cloned manifold."""
    copy = np.ones(copies, dtype=object if W.dtype == object else float)
    out = np.kron(a, copy[None]) * (F(1, copies) if W.dtype == object else 1 / copies)
    net = Network.layered([np.kron(W, copy[:, None]), out], activation)
    return net, cloned_manifold(net, coarsest_equitable_partition(net), 0 if W.dtype == object else 1e-12)


def drawn(activation: str, seed: int = 0, copies: int = 2) -> tuple[Network, Manifold, np.ndarray, SquaredError]:
    rng = np.random.default_rng(seed)
    net, manifold = cloned(rng.standard_normal((2, 3)), rng.standard_normal((1, 2)), copies, activation)
    return net, manifold, rng.standard_normal((3, 6)), SquaredError(rng.standard_normal((1, 6)))


# ------------------------------------------------------------------------------------------ C10 (i), null cone


def zero_sum_out(drawing: Drawn, draw: np.ndarray) -> np.ndarray:
    """Return a perturbation of weights whose sum over the edges from one block into one unit is zero."""
    net, labels = drawing.network, drawing.partition.labels
    v = draw[: len(net.weights)].copy()
    cells: dict[tuple[int, int], list[int]] = {}
    for e, (u, t) in enumerate(zip(net.source, net.target, strict=True)):
        cells.setdefault((int(labels[u]), int(t)), []).append(e)
    for edges in cells.values():
        v[edges] = v[edges] - sum(v[edges]) / F(len(edges))
    return v


@pytest.mark.claim("C10", "symbolic", step="null-cone")
def test_a_zero_sum_over_equal_activations_adds_nothing():
    """`Σ_k (w_k + α_k) h = h Σ_k w_k + h Σ_k α_k` for copies with the activation `h`, for any number of them."""
    k, n = sympy.Symbol("k", integer=True), sympy.Symbol("n", integer=True, positive=True)
    w, alpha, h = sympy.IndexedBase("w"), sympy.IndexedBase("alpha"), sympy.Symbol("h")
    parts = (t.as_independent(k, as_Add=False) for t in sympy.expand((w[k] + alpha[k]) * h).args)
    received = sum(front * sympy.Sum(rest, (k, 1, n)) for front, rest in parts)
    assert received.subs(sympy.Sum(alpha[k], (k, 1, n)), 0) == h * sympy.Sum(w[k], (k, 1, n))
    witness()


@pytest.mark.claim("C10", "symbolic", step="null-cone")
@pytest.mark.parametrize("copies", [2, 3, 5])
def test_the_loss_is_bent_along_out_weights_by_the_square_of_their_sum(copies):
    """`d²/dt² L(Σ_k (w_k + t α_k) h + r) = (h Σ_k α_k)² L''` for any `L`: zero along a zero sum alone."""
    w, alpha = sympy.symbols(f"w:{copies}"), sympy.symbols(f"alpha:{copies}")
    h, t, r, L = *sympy.symbols("h t r"), sympy.Function("L")
    received = sum((w[k] + t * alpha[k]) * h for k in range(copies)) + r
    bent = sympy.diff(L(received), t, 2).doit().subs(t, 0)
    others = -sum(alpha[1:])
    assert sympy.simplify(bent.subs(alpha[0], others)) == 0
    assert sympy.simplify(bent.subs(alpha[0], others + 1).doit()) != 0
    witness()


@pytest.mark.claim("C10", "exact")
@given(drawing=clones(), draw=vectors(60), x=vectors(4))
def test_zero_sum_perturbations_keep_the_loss_and_have_no_curvature(drawing, draw, x):
    net = drawing.network
    v = zero_sum_out(drawing, draw)
    assert not any(cloned_manifold(net, drawing.partition).project_tangent(v))
    batch, goal = x[: len(net.inputs)][:, None], SquaredError(exact(range(len(net.outputs)))[:, None])
    assert loss(net.with_parameters(net.parameters + v), batch, goal) == loss(net, batch, goal)
    assert v @ hessian_vector(net, batch, goal, v) == 0
    witness()


@pytest.mark.control("C10")
def test_perturbations_with_another_sum_do_change_the_loss():
    net, _, x, goal = drawn("tanh")
    v = np.zeros(len(net.parameters))
    v[-1] = 1e-3
    assert abs(loss(net.with_parameters(net.parameters + v), x, goal) - loss(net, x, goal)) > 1e-6


# ---------------------------------------------------------------------------------- C10 (ii), closed form


@pytest.mark.claim("C10", "symbolic", step="second-order")
def test_to_second_order_the_output_changes_by_one_bilinear_and_one_quadratic_term():
    """`(a/n + α) σ(z + e)` to second order, for one copy; the first order sums to zero over the copies."""
    a, n, alpha, z, e, s = sympy.symbols("a n alpha z e s")
    sigma = sympy.Function("sigma")
    line = (a / n + s * alpha) * sigma(z + s * e)
    first = sympy.diff(line, s).subs(s, 0).doit()
    second = (sympy.diff(line, s, 2) / 2).subs(s, 0).doit()
    slopes = {k: sigma(z).diff(z, k) if k else sigma(z) for k in range(3)}
    assert sympy.simplify(first - (alpha * slopes[0] + a / n * e * slopes[1])) == 0
    assert sympy.simplify(second - (alpha * e * slopes[1] + a / (2 * n) * e**2 * slopes[2])) == 0
    witness(instances=2)


@pytest.mark.claim("C10", "symbolic", step="second-order")
def test_the_loss_feels_the_second_order_through_its_slope_alone():
    """`ℓ(y + s y₁ + s² y₂)` with `y₁ = 0`: `d²/ds² = 2 ℓ'(y) y₂`; so `q = 2 E ℓ' y₂`, as claimed."""
    y, s, y1, y2 = sympy.symbols("y s y1 y2")
    ell = sympy.Function("l")
    curve = ell(y + s * y1 + s**2 * y2)
    second = sympy.diff(curve, s, 2).subs(s, 0).doit()
    expected = 2 * y2 * ell(y).diff(y) + y1**2 * ell(y).diff(y, 2)
    assert sympy.simplify(second - expected) == 0
    witness()


@pytest.mark.claim("C10", "symbolic", step="both-signs")
def test_a_bilinear_term_takes_both_signs_beside_any_quadratic_one():
    """`(a/n) Q + 2 α B` with `B = b·ε ≠ 0` is linear in `α` and takes every value."""
    alpha, Q, c = sympy.symbols("alpha Q c", real=True)
    B = sympy.Symbol("B", real=True, nonzero=True)
    assert sympy.solve(sympy.Eq(Q + 2 * alpha * B, c), alpha) == [(c - Q) / (2 * B)]
    witness()


@pytest.mark.claim("C10", "symbolic", step="relu-spectrum")
@pytest.mark.parametrize("sign", [1, -1])
def test_on_one_side_of_the_kink_relu_is_linear(sign):
    """`z = ±p` and `z + t = ±q` for any positive `p, q`: what `|t| < |z|` leaves."""
    p, q = sympy.symbols("p q", positive=True)
    z, t = sign * p, sign * (q - p)
    assert sympy.expand(sympy.Max(z + t, 0) - sympy.Max(z, 0) - int(sign > 0) * t) == 0
    witness()


@pytest.mark.claim("C10", "checked", step="relu-spectrum")
@given(z=st.fractions(-3, 3).filter(bool), share=st.fractions(-1, 1))
def test_off_the_kink_relu_has_no_second_order(z, share):
    t = share * abs(z)
    assert max(z + t, 0) == max(z, 0) + (z > 0) * t
    witness()


@pytest.mark.control("C10")
def test_on_the_kink_relu_has_a_second_order():
    assert max(F(1), 0) + max(F(-1), 0) != 2 * max(F(0), 0)


@pytest.mark.control("C10")
def test_inputs_with_a_density_bend_the_loss_of_relu():
    """`x ~ N(0, I₂)`, `w = e₁`, `ℓ' = x₂² − 1`, clones moved by `±s e₂`: `b = 0` and the curvature is `2/√(2π)`.

    `E relu(x₁ + u) = u Φ(u) + φ(u)` has the second derivative `φ(u)`, and `E (x₂² − 1) x₂² = 2`.
    """
    u = sympy.Symbol("u", real=True)
    density = sympy.exp(-(u**2) / 2) / sympy.sqrt(2 * sympy.pi)
    mean = u * (1 + sympy.erf(u / sympy.sqrt(2))) / 2 + density
    assert sympy.simplify(sympy.diff(mean, u, 2) - density) == 0
    residual = sympy.integrate((u**2 - 1) * u**2 * density, (u, -sympy.oo, sympy.oo))
    assert residual == 2
    b = (sympy.integrate((u**2 - 1) * density, (u, -sympy.oo, sympy.oo)),
         sympy.integrate((u**2 - 1) * u * density, (u, -sympy.oo, sympy.oo)))  # fmt: skip
    assert b == (0, 0)
    assert float(density.subs(u, 0) * residual) == pytest.approx(0.797885, abs=1e-6)


@pytest.mark.claim("C10", "symbolic", step="relu-spectrum")
@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_without_a_quadratic_term_the_eigenvalues_are_plus_and_minus_b(inputs):
    """`[[0, b], [bᵀ, 0]]` has `(b/‖b‖, ±1)` for `±‖b‖` and everything orthogonal to `b` for 0."""
    b = sympy.Matrix(sympy.symbols(f"b1:{inputs + 1}", real=True))
    H = sympy.zeros(inputs + 1)
    H[:inputs, inputs], H[inputs, :inputs] = b, b.T
    size = sympy.sqrt(sum(x**2 for x in b))
    for sign in (1, -1):
        v = b.col_join(sympy.Matrix([sign * size]))
        assert all(sympy.simplify(x) == 0 for x in H * v - sign * size * v)
    t = sympy.Symbol("t")
    square = sum(x**2 for x in b)
    assert sympy.simplify(H.charpoly(t).as_expr() - t ** (inputs - 1) * (t**2 - square)) == 0
    witness()


@pytest.mark.claim("C10", "property")
@pytest.mark.parametrize("activation", ["relu", *SMOOTH])
@given(seed=st.integers(0, 9999), copies=st.integers(2, 4))
def test_the_normal_hessian_is_the_closed_form(activation, seed, copies):
    """All of it: `I_{n−1} ⊗ [[(a/n) A, b], [bᵀ, 0]]`, block by block of base units."""
    rng = np.random.default_rng(seed)
    w, a, x = rng.standard_normal((1, 3)), rng.standard_normal((1, 1)), rng.standard_normal((3, 6))
    goal = SquaredError(rng.standard_normal((1, 6)))
    net, manifold = cloned(w, a, copies, activation)
    phi = net.activations[net.index[1, 0]]
    z = w @ x
    error = a[0, 0] * phi.value(z) - goal.y
    b = (error * phi.slope(z)) @ x.T
    A = (x * (error * derivative(phi, 2).regular.value(z))) @ x.T
    one = np.block([[a[0, 0] / copies * A, b.T], [b, np.zeros((1, 1))]])
    found = np.linalg.eigvalsh(normal_hessian(net, manifold, x, goal))
    expected = np.sort(np.concatenate([np.tile(np.linalg.eigvalsh(one), copies - 1)]))
    # beside differences between copies, nothing is normal here: one weight a pair of units
    error = np.abs(found - expected).max() / (1 + np.abs(expected).max())
    assert error <= 1e-12
    witness(residual=error)


@pytest.mark.claim("C10", "property")
@pytest.mark.parametrize("activation", ["relu", *SMOOTH])
@given(seed=st.integers(0, 9999))
def test_cloned_manifolds_are_saddles_where_the_base_still_learns(activation, seed):
    net, manifold, x, goal = drawn(activation, seed)
    found = classify(net, manifold, x, goal)
    assert found.kind == "saddle"
    assert found.certified
    for v, value in ((found.ascent, found.highest), (found.descent, found.lowest)):
        assert abs(v @ hessian_vector(net, x, goal, v) - value) <= 1e-10 * (1 + abs(value))
        assert np.abs(manifold.project_tangent(v)).max() <= 1e-12
    witness()


@pytest.mark.claim("C10", "property")
@given(seed=st.integers(0, 9999))
def test_the_relu_rate_is_the_gradient_of_the_base_over_its_weight(seed):
    rng = np.random.default_rng(seed)
    W, a, x = rng.standard_normal((3, 4)), rng.standard_normal((1, 3)), rng.standard_normal((4, 9))
    goal = SquaredError(rng.standard_normal((1, 9)))
    net, manifold = cloned(W, a, 2, "relu")
    base = Network.layered([W, a], "relu")
    rates = np.linalg.norm(gradient(base, x, goal.gradient)[:12].reshape(3, 4), axis=1) / np.abs(a[0])
    found = classify(net, manifold, x, goal)
    error = max(abs(found.highest / rates.max() - 1), abs(found.lowest / rates.max() + 1)) if rates.max() else 0.0
    assert error <= 1e-10
    witness(residual=error)


@pytest.mark.claim("C10", "exact")
def test_at_a_global_minimum_of_a_convex_activation_the_type_is_degenerate():
    """All errors are zero there, so that `b = 0` and `A = 0`: every normal direction is flat."""
    net, manifold = cloned(np.array([[F(1), F(2)]]), np.array([[F(3)]]), 3, "square")
    x = exact([1, 0, 2, 1, -1, 3]).reshape(2, 3)
    found = classify(net, manifold, x, SquaredError(outputs(net, x)))
    assert found.kind == "degenerate"
    assert found.inertia == (0, 0, 6)
    witness()


@pytest.mark.claim("C10", "exact")
def test_a_critical_base_with_curvature_of_one_sign_is_degenerate_but_not_flat():
    """Two inputs ±1 with one target: for `φ = z²` and `b = 0` at `w = 0`, `A = −2 Σ y x xᵀ` has one sign."""
    net, manifold = cloned(np.array([[F(0)]]), np.array([[F(1)]]), 2, "square")
    x, goal = exact([1, -1])[None], SquaredError(exact([1, 1])[None])
    found = classify(net, manifold, x, goal)
    assert found.kind == "degenerate"
    assert found.inertia == (0, 1, 1)
    witness()


@pytest.mark.control("C10")
def test_a_manifold_that_is_no_cloned_one_can_be_stable():
    """A linear neuron at its minimum, held against its own weight: nothing degenerate about it."""
    net = Network.layered([np.array([[F(2)]])], "relu")
    x, goal = exact([1, 2])[None], SquaredError(exact([2, 4])[None])
    point = Manifold(net.parameters, np.array([-1]), net.parameters * 0 + 1)
    assert classify(net, point, x, goal).kind == "stable"
    assert classify(net, point, x, goal).inertia == (1, 0, 0)


@pytest.mark.claim("C10", "exact")
@pytest.mark.parametrize("activation", ["relu", "hardtanh"])
def test_frozen_manifolds_are_flat(activation):
    """A saturated unit's in-weights do not reach the loss: `q = 0` on the whole normal space."""
    W = np.array([[F(-2), F(-1)], [F(1), F(1)]], dtype=object)
    net = Network.layered([W, np.array([[F(1), F(2)]], dtype=object)], activation)
    x, goal = exact([1, 2, 2, 1]).reshape(2, 2), SquaredError(exact([3, 0])[None])
    found = classify(net, frozen_manifold(net, [(1, 0)]), x, goal)
    assert found.kind == "degenerate"
    assert found.inertia == (0, 0, 2)
    witness()


# ----------------------------------------------------------------------------------------------------- the tools


@given(entries=st.lists(st.integers(-3, 3), min_size=10, max_size=10))
def test_inertia_is_that_of_the_eigenvalues(entries):
    A = np.zeros((4, 4), dtype=object)
    A[np.triu_indices(4)] = [F(x) for x in entries]
    A = A + A.T
    positive, negative, zero = inertia(A)
    values = np.linalg.eigvalsh(A.astype(float))
    assert (positive, negative) == (int((values > 1e-9).sum()), int((values < -1e-9).sum()))
    assert positive + negative + zero == 4


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ((3, 0, 0), "stable"),
        ((0, 2, 0), "unstable"),
        ((1, 1, 0), "saddle"),
        ((1, 1, 5), "saddle"),
        ((1, 0, 1), "degenerate"),
        ((0, 1, 1), "degenerate"),
        ((0, 0, 3), "degenerate"),
    ],
)
def test_types_by_signs(counts, kind):
    assert kind_of(counts) == kind


@given(drawing=clones())
def test_the_basis_spans_the_normal_space(drawing):
    manifold = cloned_manifold(drawing.network, drawing.partition)
    if not manifold.codimension:
        return
    B = normal_basis(manifold)
    assert B.shape == (len(manifold.base), manifold.codimension)
    assert all(not manifold.project_tangent(column).any() for column in B.T)
    gram = B.T @ B
    assert not (gram - np.diag(np.diag(gram))).any()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_lanczos_finds_the_ends_of_the_whole_spectrum(activation, monkeypatch):
    net, manifold, x, goal = drawn(activation, seed=3, copies=3)
    dense = classify(net, manifold, x, goal)
    monkeypatch.setattr(stability, "LARGEST_DENSE", 1)
    found = classify(net, manifold, x, goal)
    assert found.inertia is None
    assert found.kind == dense.kind == "saddle"
    assert found.lowest == pytest.approx(dense.lowest, rel=1e-8)
    assert found.highest == pytest.approx(dense.highest, rel=1e-8)


def test_float_and_exact_weights_agree():
    W, a = np.array([[F(1), F(-2)], [F(3), F(1)]]), np.array([[F(2), F(4)]])
    x, goal = exact([1, 2, -1, 0, 1, 2]).reshape(2, 3), SquaredError(exact([1, 0, 3])[None])
    ours = classify(*cloned(W, a, 2, "relu"), x, goal)
    floats = cloned(W.astype(float), a.astype(float), 2, "relu")
    theirs = classify(*floats, x.astype(float), SquaredError(goal.y.astype(float)))
    assert ours.kind == theirs.kind
    assert ours.inertia == theirs.inertia
    assert ours.highest == pytest.approx(theirs.highest, rel=1e-12)
    assert ours.noise == 0 < theirs.noise <= float64_identity() * 1e4
    assert math.isfinite(theirs.noise)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize("seed", range(3))
def test_rounding_of_a_solved_problem_is_no_saddle(activation, seed):
    """The targets are the base network's: the clone's errors are rounding alone."""
    rng = np.random.default_rng(seed)
    W, a, x = rng.standard_normal((2, 3)), rng.standard_normal((1, 2)), rng.standard_normal((3, 20))
    goal = SquaredError(outputs(Network.layered([W, a], activation), x))
    net, manifold = cloned(W, a, 3, activation)
    found = classify(net, manifold, x, goal)
    assert found.kind == "degenerate"
    assert not found.certified
    assert found.noise < 1e-8


@pytest.mark.control("C10")
def test_tied_weights_out_of_a_block_can_make_it_stable():
    """They cannot move with zero sum: a strictly stable cloned manifold. So C10 speaks of untied weights."""
    weights = {("x", "a"): F(0), ("x", "b"): F(0), ("a", "y"): F(1), ("b", "y"): F(1)}
    kinds, tied = {"a": "square", "b": "square", "y": "linear"}, {("a", "y"): 0, ("b", "y"): 0}
    net = Network.from_edges(weights, kinds, ["x"], ["y"], tied=tied)
    manifold = cloned_manifold(net, coarsest_equitable_partition(net))
    found = classify(net, manifold, exact([1, -1])[None], SquaredError(exact([-1, -1])[None]))
    assert found.kind == "stable"


def test_on_a_kink_nothing_is_certified():
    net, manifold = cloned(np.array([[1.0, -1.0]]), np.array([[1.0]]), 2, "relu")
    x, goal = np.array([[1.0, 2.0], [1.0, 1.0]]), SquaredError(np.array([[3.0, 0.0]]))
    assert not classify(net, manifold, x, goal).certified
    assert classify(net, manifold, x + 0.1 * np.eye(2), goal).certified


def test_exact_weights_want_exact_data():
    net, manifold = cloned(np.array([[F(1)]]), np.array([[F(2)]]), 2, "square")
    with pytest.raises(ValueError, match="x or the targets are floats"):
        classify(net, manifold, np.ones((1, 2)), SquaredError(np.ones((1, 2))))


def test_lanczos_tells_stable_from_degenerate_and_finds_flat_ones(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 200))
    neuron = Network.layered([rng.standard_normal((1, 40))], "linear")
    goal = SquaredError(outputs(neuron, x))
    group = np.arange(40)
    group[:20] = -1  # half of the weights are normal, the other half tangent
    half = Manifold(neuron.parameters, np.where(group < 0, -1, group - 20), np.ones(40))
    dense = classify(neuron, half, x, goal)
    monkeypatch.setattr(stability, "LARGEST_DENSE", 1)
    found = classify(neuron, half, x, goal)
    assert dense.kind == found.kind == "stable"
    assert not found.certified
    assert found.lowest == pytest.approx(dense.lowest, rel=1e-6)
    assert np.linalg.norm(found.descent) == pytest.approx(1)
    dead = Network.layered([-np.ones((3, 2)), np.ones((1, 3))], "relu")
    flat = classify(dead, frozen_manifold(dead, [(1, 0), (1, 1)]), np.ones((2, 4)), SquaredError(np.ones((1, 4))))
    assert flat.kind == "degenerate"
    assert flat.lowest == flat.highest == 0


def test_bad_input_is_named():
    net, manifold, x, goal = drawn("tanh")
    off = net.with_parameters(net.parameters + np.arange(len(net.parameters)))
    with pytest.raises(ValueError, match=r"at distance .* from the manifold"):
        classify(off, manifold, x, goal)
    whole = Manifold(net.parameters, np.arange(len(net.parameters)), np.ones(len(net.parameters)))
    with pytest.raises(ValueError, match="no normal direction"):
        classify(net, whole, x, goal)
