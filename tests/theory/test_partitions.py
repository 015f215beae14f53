"""The coarsest two-sided equitable partition: existence, computation and cost (claim C11)."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from tests.theory.strategies import clones, dags, equitable_cases, exact
from theory.manifolds import column_residual, is_column_equitable, is_row_equitable, row_residual
from theory.network import Network
from theory.partitions import (
    Partition,
    admissible_partitions,
    coarsest_equitable_partition,
    initial_partition,
    partitions_of,
)

labelings = st.lists(st.integers(0, 4), min_size=1, max_size=9).map(np.array)


@st.composite
def coarse_dags(draw: st.DrawFn) -> Network:
    """Draw a DAG with few distinct weights and activations, on which equitable partitions abound."""
    units = draw(st.integers(4, 7))
    pairs = [(u, v) for v in range(1, units) for u in range(v)]
    edges = {e: draw(st.sampled_from([-1, 1, 1])) for e in pairs if draw(st.booleans())} or {(0, units - 1): 1}
    named = {v for e in edges for v in e if v} | {units - 1}
    network = Network.from_edges(
        edges, {v: draw(st.sampled_from(["relu", "tanh", "relu"])) for v in named}, [0], [units - 1]
    )
    return network.with_parameters(exact(network.parameters.astype(int)))  # fmt: skip


def is_equitable(network: Network, partition: Partition) -> bool:
    return is_row_equitable(network, partition) and is_column_equitable(network, partition)


def check_coarsest(network: Network) -> None:
    found = coarsest_equitable_partition(network)
    equitable = [p for p in admissible_partitions(network) if is_equitable(network, p)]
    assert found in equitable
    assert all(p.refines(found) for p in equitable)


def indicators(partition: Partition) -> np.ndarray:
    return np.eye(len(partition), dtype=int)[partition.labels]


def every_partition(n: int) -> list[Partition]:
    return [labelled(blocks, n) for blocks in partitions_of(range(n))]


def labelled(blocks: list[list[int]], n: int) -> Partition:
    return Partition(np.array([next(k for k, block in enumerate(blocks) if i in block) for i in range(n)]))


@pytest.mark.claim("C11", "checked", step="join")
def test_functions_constant_on_the_join_are_those_constant_on_both():
    """`F_{P∨Q} = F_P ∩ F_Q` for all pairs of partitions of up to five units.

    So a matrix that maps `F_P` and `F_Q` into themselves maps `F_{P∨Q}` into itself.
    """
    for n in range(1, 6):
        spaces = [(p, indicators(p)) for p in every_partition(n)]
        for (p, fp), (q, fq) in combinations_with_replacement(spaces, 2):
            joined = p.join(q)
            assert p.refines(joined)
            assert q.refines(joined)
            assert len(p) + len(q) - np.linalg.matrix_rank(np.hstack([fp, fq])) == len(joined)
            witness()


@pytest.mark.claim("C11", "checked", step="refinement")
@pytest.mark.parametrize(("units", "weights"), [(4, (None, -1, 1)), (5, (None, 1))])
def test_refinement_finds_the_coarsest_on_every_small_network(units, weights):
    """All networks with one input, one output and these weights, each against all its partitions."""
    pairs = [(u, v) for v in range(1, units) for u in range(v)]
    for chosen in product(weights, repeat=len(pairs)):
        edges = {e: w for e, w in zip(pairs, chosen, strict=True) if w is not None}
        check_coarsest(Network.from_edges(edges, "relu", [0], [units - 1]))
        witness()


@pytest.mark.claim("C11", "exact")
@given(coarse_dags())
def test_the_join_of_equitable_partitions_is_equitable(network):
    equitable = [p for p in admissible_partitions(network) if is_equitable(network, p)]
    for p in equitable:
        for q in equitable:
            assert is_equitable(network, p.join(q))
    witness(instances=len(equitable) ** 2)


@pytest.mark.claim("C11", "exact")
@given(coarse_dags())
def test_refinement_finds_the_coarsest_among_all_partitions(network):
    check_coarsest(network)
    witness()


@pytest.mark.claim("C11", "exact")
@given(equitable_cases())
def test_refinement_is_never_finer_than_a_planted_partition(drawn):
    start = initial_partition(drawn.network)
    if drawn.partition.refines(start):
        assert drawn.partition.refines(coarsest_equitable_partition(drawn.network))
        witness(instances=not drawn.is_trivial)


@pytest.mark.claim("C11", "property")
@given(clones(), st.integers(0, 2**32))
def test_floats_with_a_tolerance_find_the_exact_partition(drawn, seed):
    exactly = coarsest_equitable_partition(drawn.network)
    noise = np.random.default_rng(seed).uniform(-1e-13, 1e-13, len(drawn.network.parameters))
    floats = drawn.network.with_parameters(drawn.network.parameters.astype(float) + noise)
    found = coarsest_equitable_partition(floats, tol=1e-11)
    assert found == exactly
    residual = max(row_residual(floats, found), column_residual(floats, found))
    assert residual <= 1e-11
    witness(residual=residual)


@pytest.mark.control("C11")
@given(st.data())
def test_one_sided_refinement_is_coarser_than_the_truth(data):
    """Equal in-weights alone would merge `a` and `b`, whose out-weights differ."""
    network = Network.from_edges(
        {("x", "a"): 1, ("x", "b"): 1, ("a", "y"): 1, ("b", "y"): data.draw(st.integers(2, 9))},
        "linear", ["x"], ["y"],
    )  # fmt: skip
    merged = Partition.from_blocks(network, [["a", "b"]])
    assert is_row_equitable(network, merged)
    assert coarsest_equitable_partition(network) != merged


def test_zero_tolerance_on_floats_is_exact():
    network = Network.layered([np.ones((4, 1)), np.array([[0.1, 0.2, 0.3, 0.6], [0.3, 0.2, 0.1, 0.6]])], "relu")
    ends = Network.layered([np.ones((2, 1)), np.array([[0.1, 0.1]])], "relu")
    assert len(coarsest_equitable_partition(ends)) == 3
    assert len(coarsest_equitable_partition(network)) == len(network.units)
    nearly = Network.layered([np.ones((2, 1)), np.array([[0.3, 0.1 + 0.2]])], "relu")
    assert len(coarsest_equitable_partition(nearly)) == 4
    assert len(coarsest_equitable_partition(nearly, tol=1e-12)) == 3


def test_sums_do_not_depend_on_the_order_of_edges():
    """Three floats whose sum depends on the order in which it is taken, in two orders: exact sums agree."""
    a, b, c = 0.1, 0.2, 0.3
    assert (a + b) + c != (c + b) + a
    middle = np.array([[a, b, c], [c, a, b], [b, c, a]])
    network = Network.layered([np.ones((3, 1)), middle, np.ones((1, 3))], "relu")
    assert len(coarsest_equitable_partition(network)) == 4


@given(dags())
def test_the_pattern_option_only_refines(network):
    assert coarsest_equitable_partition(network, pattern=True).refines(coarsest_equitable_partition(network))


@given(labelings)
def test_a_partition_is_numbered_by_first_appearance(labels):
    canonical = Partition(labels).labels
    assert [canonical[: i + 1].max() for i in range(len(canonical))] == [
        len(set(labels[: i + 1].tolist())) - 1 for i in range(len(labels))
    ]
    assert Partition(canonical) == Partition(labels)


def test_all_partitions_are_counted_by_bell_numbers():
    assert [sum(1 for _ in partitions_of(range(n))) for n in range(7)] == [1, 1, 2, 5, 15, 52, 203]


def test_a_negative_tolerance_is_refused():
    network = Network.layered([np.ones((1, 1))], "relu")
    with pytest.raises(ValueError, match="tol = -1 must be zero or positive"):
        coarsest_equitable_partition(network, tol=-1)


def test_weights_without_order_are_refused():
    network = Network.from_edges(
        {("x", "a"): sympy.Symbol("w"), ("x", "b"): sympy.Symbol("v")}, "relu", ["x"], ["a"]
    )
    with pytest.raises(ValueError, match="have no order"):
        coarsest_equitable_partition(network)
