"""Theorem 2.1 and the remark on optimizers as they were submitted (F3, C12, C13), each by its own wording."""

from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.descent import descend
from simulate.optimizers import sgd
from tests.theory.strategies import clones, exact, matrices
from tests.theory.test_cloned import LABELS, PATTERN, goal, three_by_three
from tests.theory.test_frozen import CHAIN, batches, dags, leaves
from theory.manifolds import cloned_manifold, is_column_equitable, is_pattern_equitable, is_row_equitable
from theory.network import Network, forward, gradient
from theory.partitions import Partition


def equitable(network: Network, partition: Partition) -> bool:
    return is_row_equitable(network, partition) and is_column_equitable(network, partition)


# ------------------------------------------------------------------------------------------------------------ F3


@pytest.mark.claim("F3", "exact")
@given(dags(activation="relu"), st.data())
def test_weights_into_units_that_stay_saturated_keep_their_values(network, data):
    x, y = data.draw(matrices(1, 2)), data.draw(matrices(1, 2))
    path = list(descend(network, batches(x, y, 4), sgd(Fraction(1, 8))))
    dead = [(forward(at, x).z <= 0).all(axis=1) for at in path[:-1]]
    for now, later, saturated in zip(path, path[1:], np.logical_and.accumulate(dead), strict=False):
        held = saturated[network.target]
        assert all(now.parameters[held] == later.parameters[held])
    assert len(path) == 5
    witness(instances=int(np.logical_and.reduce(dead)[1:].sum()))


@pytest.mark.control("F3")
def test_saturation_at_the_start_is_not_enough():
    assert leaves({**CHAIN, ("a", "y"): 1})


# ----------------------------------------------------------------------------------------------------------- C12


@pytest.mark.claim("C12", "counterexample")
def test_with_an_uneven_pattern_the_gradient_leaves_the_set():
    """Three units into three, with two, three and two edges: equal sums at the start, and not in the gradient."""
    network, partition = three_by_three(PATTERN), Partition(LABELS)
    assert equitable(network, partition)
    x = exact([1])[:, None]
    slope = gradient(network, x, goal(1, network).gradient)
    assert not equitable(network.with_parameters(slope), partition)
    witness()


@pytest.mark.claim("C12", "exact")
@given(clones(), st.data())
def test_with_an_equitable_pattern_gradients_lie_in_the_set(drawn, data):
    network, x = drawn.network, data.draw(matrices(1, 2))
    assert is_pattern_equitable(network, drawn.partition)
    assert equitable(network, drawn.partition)
    slope = gradient(network, x, goal(2, network).gradient)
    assert equitable(network.with_parameters(slope), drawn.partition)
    manifold = cloned_manifold(network, drawn.partition)
    assert manifold.contains(network.parameters + slope)  # in BC, so even in the coset
    witness()


@pytest.mark.control("C12")
def test_with_the_full_pattern_the_gradient_stays_in_the_set():
    network, partition = three_by_three(np.ones((3, 3), dtype=bool)), Partition(LABELS)
    slope = gradient(network, exact([1])[:, None], goal(1, network).gradient)
    assert equitable(network.with_parameters(slope), partition)
    assert not equitable(network.with_parameters(slope + exact(range(len(slope)))), partition)


# ----------------------------------------------------------------------------------------------------------- C13


def sign_sgd(rate: Fraction, decay: Fraction):
    """Return `w ← w − η sign(g + λ w)`."""

    def rule(state, w, g):
        moved = g + decay * w
        return state, w - rate * exact([(x > 0) - (x < 0) for x in moved])

    return rule


def decoupled(rate: Fraction, decay: Fraction):
    """Return `w ← (1 − η λ) w − η sign(g)`."""

    def rule(state, w, g):
        return state, (1 - rate * decay) * w - rate * exact([(x > 0) - (x < 0) for x in g])

    return rule


MU, ETA, LAMBDA = sympy.symbols("mu eta lambda", positive=True)
RATE, DECAY = Fraction(1, 8), Fraction(1, 2)
DECAYING = {
    "sgd": sgd(RATE, decay=DECAY),
    "momentum": sgd(RATE, momentum=Fraction(1, 2), decay=DECAY),
    "sign, coupled": sign_sgd(RATE, DECAY),
    "sign, decoupled": decoupled(RATE, DECAY),
}


@pytest.mark.claim("C13", "exact")
@pytest.mark.parametrize("name", DECAYING)
@given(drawn=clones(constant=True), data=st.data())
def test_identical_clones_stay_on_their_manifold_with_decay_too(name, drawn, data):
    network, manifold = drawn.network, cloned_manifold(drawn.network, drawn.partition)
    assume(manifold.contains(0 * network.parameters))  # w₀ ∈ BC: one weight for each pair of blocks
    stream = [(data.draw(matrices(1, 2)), goal(2, network)) for _ in range(2)]
    for step in descend(network, stream, DECAYING[name]):
        assert manifold.contains(step.parameters)
    witness()


@pytest.mark.claim("C13", "symbolic", step="identical")
@pytest.mark.parametrize("rule", [sgd, partial(sgd, momentum=MU), partial(sgd, momentum=MU, nesterov=True)])
def test_entries_with_equal_weight_gradient_and_state_get_equal_updates(rule):
    """With symbols for all three, beside an entry that has others; sign-SGD and Adam act on entries too (C9)."""
    w, g, b, w2, g2, b2 = sympy.symbols("w g b w2 g2 b2")
    weights, gradients, buffers = (np.array(pair, dtype=object) for pair in ((w, w, w2), (g, g, g2), (b, b, b2)))
    state, after = rule(ETA, decay=LAMBDA)(buffers, weights, gradients)
    assert sympy.expand(after[0] - after[1]) == sympy.expand(state[0] - state[1]) == 0
    assert sympy.expand(after[0] - after[2]) != 0
    witness()


@pytest.mark.claim("C13", "symbolic", step="linear")
def test_equal_sums_stay_equal_where_weights_shrink_and_gradients_are_block_constant():
    """`Σ_k ((1 − ηλ) w_k − η g) = (1 − ηλ) Σ_k w_k − η n g` for any number of edges `n`: the old sum decides."""
    k, n = sympy.Symbol("k", integer=True), sympy.Symbol("n", integer=True, positive=True)
    w, g = sympy.IndexedBase("w"), sympy.Symbol("g")
    _, after = sgd(ETA, decay=LAMBDA)(None, w[k], g)
    parts = (term.as_independent(k, as_Add=False) for term in sympy.expand(after).args)
    total = sum(front * sympy.Sum(rest, (k, 1, n)).doit() for front, rest in parts)
    assert sympy.expand(total - (1 - ETA * LAMBDA) * sympy.Sum(w[k], (k, 1, n)) + ETA * n * g) == 0
    witness()


@pytest.mark.claim("C13", "counterexample")
def test_decay_is_no_exception_for_identical_clones():
    network, partition = three_by_three(np.ones((3, 3), dtype=bool)), Partition(LABELS)
    network = network.with_parameters(exact([1] * len(network.parameters)))
    manifold = cloned_manifold(network, partition)
    stream = [(exact([1])[:, None], goal(1, network))] * 3
    for rule in DECAYING.values():
        path = list(descend(network, stream, rule))
        assert all(manifold.contains(step.parameters) for step in path)
        assert all(any(a.parameters != b.parameters) for a, b in pairwise(path))
    witness(instances=len(DECAYING))


@pytest.mark.claim("C13", "exact")
@pytest.mark.parametrize("name", ["sgd", "momentum", "sign, decoupled"])
@given(drawn=clones(), data=st.data())
def test_linear_and_decoupled_decay_keep_the_equations_of_equitable_clones(name, drawn, data):
    stream = [(data.draw(matrices(1, 2)), goal(2, drawn.network)) for _ in range(2)]
    assert all(equitable(step, drawn.partition) for step in descend(drawn.network, stream, DECAYING[name]))
    witness()


@pytest.mark.control("C13")
def test_coupled_decay_under_a_sign_breaks_equitable_clones_and_linear_decay_leaves_the_coset():
    network, partition = three_by_three(np.ones((3, 3), dtype=bool)), Partition(LABELS)
    stream = [
        (exact([0])[:, None], goal(1, network))
    ] * 2  # no input, no gradient of the hidden weights: decay alone
    *_, last = descend(network, stream, sign_sgd(RATE, DECAY))
    uneven = network.parameters.copy()
    uneven[[3, 4, 5]] = exact([2, 0, 0])
    assert not equitable(network.with_parameters(uneven), partition)
    *_, plain = descend(network, stream, DECAYING["sgd"])
    assert not cloned_manifold(network, partition).contains(plain.parameters)
    assert equitable(plain, partition)
    assert last.parameters.shape == plain.parameters.shape
