"""Cloned units: equal for ever under gradients, on manifolds of known dimension (claims C1 to C8)."""

from fractions import Fraction
from math import prod

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.descent import descend
from simulate.optimizers import adam, sgd
from simulate.quotient import quotient
from tests.theory.strategies import Drawn, clones, equitable_cases, exact, matrices, vectors
from theory.certificates import certify_cloned
from theory.manifolds import (
    cloned_manifold,
    column_residual,
    is_column_equitable,
    is_pattern_equitable,
    is_row_equitable,
    row_residual,
)
from theory.network import Network, SquaredError, backward, edge_gradient, forward, gradient, outputs
from theory.partitions import Partition

LABELS = np.array([0, 1, 1, 1, 2, 2, 2, 3])


def equal_in_blocks(values: np.ndarray, labels: np.ndarray) -> bool:
    return all((values[labels == b] == values[labels == b][0]).all() for b in np.unique(labels))


def pairs_of(drawn: Drawn) -> np.ndarray:
    labels = drawn.partition.labels
    return labels[drawn.network.source] * 1000 + labels[drawn.network.target]


def goal(columns: int, network: Network) -> SquaredError:
    return SquaredError(exact(range(columns * len(network.outputs))).reshape(-1, columns))


# ------------------------------------------------------------------------------------------------ C1, C2, C5


def induction_step(count: int) -> tuple[sympy.Expr, sympy.Expr]:
    """Return `Σ_j Σ_{k≤n_j} w_jk h_j` and `Σ_j h_j r_j` with `r_j = Σ_k w_jk`, block sizes `n_j` left symbolic."""
    k = sympy.Symbol("k", integer=True)
    n = sympy.symbols(f"n1:{count + 1}", integer=True, nonnegative=True)
    w, h = [sympy.IndexedBase(f"w{j}") for j in range(count)], sympy.symbols(f"h1:{count + 1}")
    z = sum(sympy.Sum(w[j][k] * h[j], (k, 1, n[j])) for j in range(count))
    return z, sum(h[j] * sympy.Sum(w[j][k], (k, 1, n[j])) for j in range(count))


@pytest.mark.claim("C1", "symbolic", step="induction")
@pytest.mark.claim("C2", "symbolic", step="induction")
@pytest.mark.claim("C5", "symbolic", step="induction")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_sum_of_equal_terms_depends_on_block_sums_only(count):
    """The step from smaller depth (C1) or height (C2): equal `h_j` leave the block factor out of the sum."""
    z, through_block_sums = induction_step(count)
    assert sympy.simplify(z - through_block_sums) == 0
    witness()


@pytest.mark.claim("C1", "exact")
@given(equitable_cases(columns=False), st.data())
def test_row_equitable_weights_clone_activations(drawn, data):
    h = forward(drawn.network, data.draw(matrices(1, 3))).h
    assert is_row_equitable(drawn.network, drawn.partition)
    assert equal_in_blocks(h, drawn.partition.labels)
    witness(instances=not drawn.is_trivial)


@pytest.mark.claim("C2", "exact")
@pytest.mark.claim("C5", "exact")
@given(equitable_cases(), st.data())
def test_equitable_weights_clone_errors_and_gradients(drawn, data):
    x = data.draw(matrices(1, 3))
    trace = forward(drawn.network, x)
    seed = goal(3, drawn.network).gradient(trace.h[list(drawn.network.outputs)])
    assert equal_in_blocks(backward(drawn.network, trace, seed), drawn.partition.labels)
    assert equal_in_blocks(edge_gradient(drawn.network, x, seed), pairs_of(drawn))
    witness(instances=not drawn.is_trivial)


@pytest.mark.claim("C2", "exact")
@given(clones(), st.data())
def test_planted_clones_have_equal_errors_and_gradients(drawn, data):
    x = data.draw(matrices(1, 2))
    trace = forward(drawn.network, x)
    seed = goal(2, drawn.network).gradient(trace.h[list(drawn.network.outputs)])
    assert equal_in_blocks(backward(drawn.network, trace, seed), drawn.partition.labels)
    assert equal_in_blocks(edge_gradient(drawn.network, x, seed), pairs_of(drawn))
    witness()


@pytest.mark.control("C1")
@pytest.mark.control("C2")
def test_weights_outside_the_equations_separate_clones():
    network = three_by_three(np.ones((3, 3), dtype=bool))
    broken = perturbed(network)
    assert row_residual(broken, Partition(LABELS)) == 1
    assert not equal_in_blocks(forward(broken, exact([1])).h, LABELS)


# ---------------------------------------------------------------------------------------------------- C3, C4, C6


def three_by_three(pattern: np.ndarray) -> Network:
    """Return x → three units → three units → y, the middle layers joined by a pattern, in RE ∩ CE for LABELS."""
    rows, columns = np.nonzero(pattern)
    weights = _equitable_on(pattern)
    edges = {(0, 1 + k): Fraction(1) for k in range(3)}
    edges |= {(1 + int(c), 4 + int(r)): weights[r, c] for r, c in zip(rows, columns, strict=True)}
    edges |= {(4 + k, 7): Fraction(1) for k in range(3)}
    kinds = dict.fromkeys(range(1, 7), "relu") | {7: "linear"}
    return Network.from_edges(edges, kinds, [0], [7])


def _equitable_on(pattern: np.ndarray) -> np.ndarray:
    if pattern.all():
        return np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2]], dtype=object) * Fraction(1, 2)
    return np.array([[1, 1, 0], [1, -1, 2], [0, 2, 0]], dtype=object) * Fraction(1)


PATTERN = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)


@pytest.mark.claim("C6", "counterexample")
def test_an_uneven_pattern_parts_the_clones_after_one_step():
    network, partition = three_by_three(PATTERN), Partition(LABELS)
    assert is_row_equitable(network, partition)
    assert is_column_equitable(network, partition)
    assert not is_pattern_equitable(network, partition)
    x = exact([1])[:, None]
    assert equal_in_blocks(forward(network, x).h, LABELS)
    _, after = descend(network, [(x, goal(1, network))], sgd(Fraction(1, 1000)))
    assert not equal_in_blocks(forward(after, x).h, LABELS)
    witness()


@pytest.mark.claim("C3", "exact")
@pytest.mark.claim("C6", "exact")
@given(clones(), st.data())
def test_descent_never_leaves_the_coset(drawn, data):
    network, manifold = drawn.network, cloned_manifold(drawn.network, drawn.partition)
    stream = [(data.draw(matrices(1, 2)), goal(2, network)) for _ in range(2)]
    for step in descend(network, stream, sgd(Fraction(1, 8))):
        assert manifold.contains(step.parameters)
        assert is_row_equitable(step, drawn.partition)
        assert is_column_equitable(step, drawn.partition)
    witness()


@pytest.mark.claim("C3", "property")
@given(clones(), st.integers(0, 2**32))
def test_momentum_and_adam_keep_the_coset_in_floats(drawn, seed):
    network = drawn.network.with_parameters(drawn.network.parameters.astype(float) / 4)
    manifold = cloned_manifold(network, drawn.partition, tol=1e-12)
    rng = np.random.default_rng(seed)
    stream = [(rng.standard_normal((1, 4)), SquaredError(rng.standard_normal((1, 4)))) for _ in range(20)]
    for rule in (sgd(1e-3, momentum=0.9), adam(1e-3)):
        *_, last = descend(network, stream, rule)
        relative = manifold.distance(last.parameters) / (1 + np.abs(last.parameters).max())
        assert relative <= 1e-9
        witness(residual=relative)


@pytest.mark.control("C3")
@given(clones(), st.integers(0, 2**32))
def test_noise_leaves_the_coset(drawn, seed):
    manifold = cloned_manifold(drawn.network, drawn.partition)
    noise = np.random.default_rng(seed).standard_normal(len(drawn.network.parameters))
    assert manifold.codimension > 0
    assert manifold.distance(drawn.network.parameters.astype(float) + noise) > 1e-6


@pytest.mark.claim("C4", "exact")
@given(clones())
def test_the_dimension_is_the_number_of_connected_block_pairs(drawn):
    """Indicators of distinct pairs have disjoint supports, so their Gram matrix is diagonal and not singular."""
    manifold = cloned_manifold(drawn.network, drawn.partition)
    basis = np.array([manifold.expand(row) for row in np.eye(manifold.dimension, dtype=int)], dtype=int)
    gram = sympy.Matrix(basis @ basis.T)
    assert gram.is_diagonal()
    assert all(entry > 0 for entry in gram.diagonal())
    assert manifold.dimension == len(set(pairs_of(drawn).tolist()))
    witness()


@pytest.mark.claim("C4", "exact")
@given(clones(), st.data())
def test_the_projectors_are_orthogonal_and_complementary(drawn, data):
    manifold = cloned_manifold(drawn.network, drawn.partition)
    a, b = (data.draw(vectors(len(manifold.base))) for _ in range(2))
    tangent, normal = manifold.project_tangent(a), manifold.project_normal(b)
    assert tangent @ normal == 0
    assert (manifold.project_tangent(tangent) == tangent).all()
    assert (manifold.project_normal(normal) == normal).all()
    assert manifold.contains(manifold.base + tangent)
    away = manifold.base + tangent + normal
    assert manifold.distance(away) == pytest.approx(float(normal @ normal) ** 0.5)
    witness()


@pytest.mark.control("C4")
def test_unconnected_pairs_add_no_dimension():
    manifold = cloned_manifold(three_by_three(np.ones((3, 3), dtype=bool)), Partition(LABELS))
    assert manifold.dimension == 3 != len(set(LABELS.tolist())) ** 2


def test_tied_weights_move_together():
    """A convolution with two cloned channels: blocks are copies at one position, parameters taps."""
    edges, tied = {}, {}
    for channel in range(2):
        for p in range(3):
            for k in range(2):
                edges[("x", p + k), (channel, p)] = Fraction(k + 1)
                tied[("x", p + k), (channel, p)] = ("in", channel, k)
            edges[(channel, p), "y"] = Fraction(1, 2)
            tied[(channel, p), "y"] = ("out", channel)
    network = Network.from_edges(edges, "relu", [("x", i) for i in range(4)], ["y"], tied=tied)
    partition = Partition.from_blocks(network, [[(0, p), (1, p)] for p in range(3)])
    manifold = cloned_manifold(network, partition)
    assert (len(manifold.base), manifold.dimension) == (6, 3)
    stream = [(exact([1, 2, -1, 1])[:, None], SquaredError(exact([3])[:, None]))] * 3
    for step in descend(network, stream, sgd(Fraction(1, 64))):
        assert manifold.contains(step.parameters)
    assert (step.parameters != network.parameters).any()


# -------------------------------------------------------------------------------------------------------- C7


@pytest.mark.claim("C7", "symbolic", step="identity")
def test_the_base_error_is_the_block_size_times_the_clone_error_and_the_rate_follows():
    """`δ̃_j = n_j δ_j` solves the base's recursion, hence `dw̃/dt = −d g = −(d/n_i) g̃`.

    Column sums follow from row sums, `c_ij n_j = w̃_ij n_i`, as both count the weights between two blocks.
    """
    w, slope, h, delta_i = sympy.symbols("w slope h delta_i")
    n_i, n_j, d = sympy.symbols("n_i n_j d", positive=True)
    column_sum = w * n_i / n_j
    delta_j = delta_i * slope * column_sum
    base_delta_j = (n_i * delta_i) * slope * w
    assert sympy.simplify(base_delta_j - n_j * delta_j) == 0
    clone_gradient, base_gradient = h * slope * delta_i, h * slope * (n_i * delta_i)
    assert sympy.simplify(-d * clone_gradient + (d / n_i) * base_gradient) == 0
    witness()


@pytest.mark.claim("C7", "exact")
@given(clones(), st.data())
def test_the_clone_moves_as_its_quotient_with_rescaled_rates(drawn, data):
    network, rate = drawn.network, Fraction(1, 8)
    base, multiplier = quotient(network, drawn.partition)
    stream = [(data.draw(matrices(1, 2)), goal(2, network)) for _ in range(2)]
    x = data.draw(matrices(1, 2))
    clone_path = descend(network, stream, sgd(rate))
    base_path = descend(base, stream, sgd(rate * multiplier))
    for clone, small in zip(clone_path, base_path, strict=True):
        assert (outputs(clone, x) == outputs(small, x)).all()
        assert (quotient(clone, drawn.partition)[0].parameters == small.parameters).all()
    witness()


@pytest.mark.claim("C7", "exact")
def test_between_sparse_blocks_the_rate_counts_edges_not_units():
    """1 → 2 → 2 → 1, where each unit feeds its own partner only: `d_ij = 1` though `n_j = 2`."""
    edges = {("x", "a"): 1, ("x", "b"): 1, ("a", "c"): 2, ("b", "d"): 2, ("c", "y"): 1, ("d", "y"): 1}
    network = Network.from_edges({e: Fraction(w) for e, w in edges.items()}, "linear", ["x"], ["y"])
    partition = Partition.from_blocks(network, [["a", "b"], ["c", "d"]])
    base, multiplier = quotient(network, partition)
    assert multiplier.tolist() == [Fraction(1, 2), Fraction(1, 2), 2]
    stream = [(exact([1])[:, None], goal(1, network))] * 2
    *_, clone = descend(network, stream, sgd(Fraction(1, 64)))
    *_, small = descend(base, stream, sgd(multiplier / 64))
    assert (clone.parameters != network.parameters).all()
    assert (outputs(clone, exact([1])) == outputs(small, exact([1]))).all()
    witness()


@pytest.mark.control("C7")
def test_with_equal_rates_the_quotient_moves_differently():
    network = three_by_three(np.ones((3, 3), dtype=bool))
    base, multiplier = quotient(network, Partition(LABELS))
    assert multiplier.tolist() == [Fraction(1, 3), 1, 3]
    stream = [(exact([1])[:, None], goal(1, network))] * 2
    *_, clone = descend(network, stream, sgd(Fraction(1, 1000)))
    *_, small = descend(base, stream, sgd(Fraction(1, 1000)))
    assert outputs(clone, exact([1])) != outputs(small, exact([1]))


# -------------------------------------------------------------------------------------------------------- C8


@pytest.mark.claim("C8", "symbolic", step="induction")
def test_scales_factor_out_of_both_recursions():
    """With `Σ_u w s_u = s_v c` and `Σ_v s_v w = s_u d`, `z = s_v Σ c h̃` and `δ(u) = s_u Σ d f' δ̃`."""
    k = sympy.Symbol("k", integer=True)
    n = sympy.Symbol("n", integer=True, nonnegative=True)
    w, s = sympy.IndexedBase("w"), sympy.IndexedBase("s")
    h, s_v, s_u, c, d, slope, delta = sympy.symbols("h s_v s_u c d slope delta")
    z = sympy.Sum(w[k] * (s[k] * h), (k, 1, n))
    error = sympy.Sum((s[k] * delta) * slope * w[k], (k, 1, n))
    block_sum = sympy.Sum(w[k] * s[k], (k, 1, n))
    assert sympy.simplify(z - h * block_sum) == 0
    assert sympy.simplify(error - delta * slope * block_sum) == 0
    assert sympy.expand((h * block_sum).subs(block_sum, s_v * c) - s_v * (c * h)) == 0
    assert sympy.expand((delta * slope * block_sum).subs(block_sum, s_u * d) - s_u * (d * slope * delta)) == 0
    assert sympy.expand((s_u * h) * slope * (s_v * delta) - s_u * s_v * (h * slope * delta)) == 0
    witness()


@pytest.mark.claim("C8", "symbolic", step="coset")
def test_adding_a_multiple_of_the_scales_keeps_the_scaled_equations():
    """`Σ_u (c s_u s_v) s_u = s_v c Σ s_u²`, the same constant for every `v`; and so for the columns."""
    k = sympy.Symbol("k", integer=True)
    n = sympy.Symbol("n", integer=True, nonnegative=True)
    s, s_v, c = sympy.IndexedBase("s"), sympy.Symbol("s_v"), sympy.Symbol("c")
    added = sympy.Sum(c * s[k] * s_v * s[k], (k, 1, n))
    assert sympy.simplify(added - s_v * c * sympy.Sum(s[k] ** 2, (k, 1, n))) == 0
    witness()


@pytest.mark.claim("C8", "exact")
@pytest.mark.parametrize("scaling", ["positive", "sign"])
@given(st.data())
def test_scaled_clones_stay_scaled_under_descent_and_momentum(scaling, data):
    drawn = data.draw(clones(scaling=scaling))
    network, s = drawn.network, drawn.scales
    manifold = cloned_manifold(network, drawn.partition, scales=s)
    stream = [(data.draw(matrices(1, 2)), goal(2, network)) for _ in range(2)]
    for rule in (sgd(Fraction(1, 64)), sgd(Fraction(1, 64), momentum=Fraction(1, 2))):
        for step in descend(network, stream, rule):
            h = forward(step, stream[0][0]).h
            assert equal_in_blocks(h / s[:, None], drawn.partition.labels)
            assert manifold.contains(step.parameters)
    witness()


def scaled_layers(activation: str, scales: tuple[float, ...]) -> tuple[Network, Partition, np.ndarray]:
    s = np.array([1.0, *scales, 1.0])
    inner = np.array(scales)
    network = Network.layered([inner[:, None], inner[None] / (inner @ inner)], activation)
    return network, Partition(np.array([0, *[1] * len(scales), 2])), s


@pytest.mark.claim("C8", "property")
@given(st.integers(0, 2**32))
def test_adam_keeps_signs_and_breaks_general_scales(seed):
    rng = np.random.default_rng(seed)
    stream = [(rng.standard_normal((1, 4)), SquaredError(rng.standard_normal((1, 4)))) for _ in range(20)]
    network, partition, s = scaled_layers("tanh", (1.0, -1.0, 1.0))
    *_, last = descend(network, stream, adam(0.01))
    kept = cloned_manifold(network, partition, 1e-12, s).distance(last.parameters)
    assert kept <= 1e-12
    witness(residual=kept)
    network, partition, s = scaled_layers("relu", (1.0, 0.5, 2.0))
    *_, last = descend(network, stream, adam(0.01))
    assert cloned_manifold(network, partition, 1e-12, s).distance(last.parameters) > 1e-4


@pytest.mark.control("C8")
@pytest.mark.parametrize("name", ["gelu", "tanh", "sigmoid"])
def test_activations_that_are_not_equivariant_part_scaled_clones(name):
    network, partition, s = scaled_layers(name, (1.0, 0.5, 2.0))
    h = forward(network, np.array([1.0])).h[1:4, 0] / s[1:4]
    assert np.ptp(h) > 1e-2
    with pytest.raises(ValueError, match="is not allowed for"):
        cloned_manifold(network, partition, 1e-12, s)


# --------------------------------------------------------------------------------------- certificates, bad input


@given(clones())
def test_the_certificate_finds_the_planted_manifold_or_a_coarser_one(drawn):
    certificate = certify_cloned(drawn.network)
    assert drawn.partition.refines(certificate.partition)
    assert (certificate.row_residual, certificate.column_residual) == (0, 0)
    assert certificate.manifold is not None
    assert certificate.manifold.contains(drawn.network.parameters)
    assert 0 < certificate.free_fraction <= 1


def test_a_random_network_is_not_called_cloned():
    rng = np.random.default_rng(0)
    network = Network.layered([rng.standard_normal(s) for s in ((6, 3), (6, 6), (2, 6))], "tanh")
    certificate = certify_cloned(network, tol=1e-9)
    assert (certificate.blocks, certificate.manifold, certificate.free_fraction) == ((), None, 1.0)
    assert "nothing is trapped" in certificate.validity


def test_the_certificate_shows_its_inequality():
    certificate = certify_cloned(three_by_three(np.ones((3, 3), dtype=bool)))
    assert certificate.blocks == ((1, 2, 3), (4, 5, 6))
    assert "max |Δ row sums| = 0" in certificate.inequality
    assert "3-dimensional manifold" in certificate.validity
    assert certificate.free_fraction == 3 / prod((3, 5))


def perturbed(network: Network) -> Network:
    return network.with_parameters(network.parameters + exact([1] + [0] * (len(network.parameters) - 1)))


BAD = {
    "not row-equitable": lambda n: cloned_manifold(perturbed(n), Partition(LABELS)),
    "covers 3 units": lambda n: cloned_manifold(n, Partition(np.zeros(3, dtype=int))),
    "stay alone": lambda n: cloned_manifold(n, Partition(np.zeros(8, dtype=int))),
    "not spread evenly": lambda n: cloned_manifold(three_by_three(PATTERN), Partition(LABELS)),
    "misses unit 5": lambda n: Partition.exactly(n, [[0], [1, 2, 3], [4], [6], [7]]),
    "repeats unit 2, in blocks 0 and 1": lambda n: Partition.from_blocks(n, [[1, 2], [2, 3]]),
    "no unit of the network": lambda n: Partition.from_blocks(n, [[1, "q"]]),
    "scale 2 of unit 0": lambda n: cloned_manifold(n, Partition(LABELS), scales=exact([2, *[1] * 7])),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_names_the_offender(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](three_by_three(np.ones((3, 3), dtype=bool)))


def test_a_large_scale_elsewhere_does_not_hide_an_uneven_pattern():
    uneven = three_by_three(PATTERN)
    edges = dict(zip(uneven.edges, uneven.weights.astype(float), strict=True)) | {(0, 8): 1e8, (8, 7): 1e-8}
    network = Network.from_edges(edges, dict.fromkeys((*range(1, 7), 8), "relu") | {7: "linear"}, [0], [7])
    scales = np.where(np.array(network.units) == 8, 1e8, 1.0)
    partition = Partition.from_blocks(network, [[1, 2, 3], [4, 5, 6]])
    assert not is_pattern_equitable(network, partition, scales)


def test_a_tolerance_that_chains_gives_no_manifold():
    network = Network.layered([np.ones((5, 1)), np.array([[1.0, 1.9, 2.8, 3.7, 4.6]])], "relu")
    certificate = certify_cloned(network, tol=1)
    assert certificate.manifold is None
    assert "further apart than tol" in certificate.validity


def test_mixed_activations_in_a_block_are_named():
    network = Network.from_edges(
        {("x", "a"): 1.0, ("x", "b"): 1.0, ("a", "y"): 1.0, ("b", "y"): 1.0},
        {"a": "relu", "b": "tanh", "y": "linear"},
        ["x"],
        ["y"],
    )
    with pytest.raises(ValueError, match="mixes the activations relu, tanh"):
        cloned_manifold(network, Partition.from_blocks(network, [["a", "b"]]))


def test_column_residual_sees_what_row_residual_does_not():
    network = Network.from_edges(
        {("x", "a"): 1, ("x", "b"): 1, ("a", "y"): 1, ("b", "y"): 2}, "linear", ["x"], ["y"]
    )
    partition = Partition.from_blocks(network, [["a", "b"]])
    assert (row_residual(network, partition), column_residual(network, partition)) == (0, 1)


def test_gradient_of_a_clone_is_constant_on_block_pairs_in_floats():
    network = three_by_three(np.ones((3, 3), dtype=bool))
    network = network.with_parameters(network.parameters.astype(float))
    found = gradient(network, np.array([0.7]), np.array([1.3]))
    assert found.reshape(-1, 3).std(axis=1).max() <= 1e-15
