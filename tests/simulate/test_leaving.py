"""One step of noise or of dropout leaves the cloned manifold (E1), and drawn units learn (E2): exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from claims.evidence import witness
from tests.theory.strategies import Drawn, clones, exact, vectors
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError, gradient
from theory.partitions import Partition

RATE, NEVER = Fraction(1, 10), Fraction(1, 10**6)  # a normal number is smaller than that once in a million draws
HALF = Fraction(1, 2)


def batch(network, x):
    """Return one sample, and a target that is far from the output."""
    return x[: len(network.inputs)][:, None], SquaredError(exact([1000] * len(network.outputs))[:, None])


def square(vector):
    return sum(value * value for value in vector)


def dropout_gradient(network: Network, x, goal, mask):
    """Return the gradient where unit `u` sends `mask[u]` times its activation: masked weights' gradient, masked."""
    sent = mask[network.source]
    return gradient(network.with_parameters(network.parameters * sent), x, goal.gradient) * sent


def largest_block(drawing: Drawn):
    blocks = [np.flatnonzero(drawing.partition.labels == k) for k in range(drawing.partition.labels.max() + 1)]
    return max(blocks, key=len)


def mask_of(drawing, kept):
    """Return the masks of dropout at one half: 0 or 2, and 1 for inputs and outputs."""
    ends = [*drawing.network.inputs, *drawing.network.outputs]
    return exact([1 if u in ends else 2 * kept[u] for u in range(len(drawing.network.units))])


def evidence_of_departure(network, manifold, slope, dropped):
    """Return the largest `g²/2` over gradients `g` of edges in whose pair of blocks an edge has a dropped source.

    That edge has the gradient 0, and entries 0 and `g` are at least at distance `|g|/√2` from a constant vector.
    """
    touched = np.isin(manifold.group, manifold.group[dropped[network.source]])
    return max((g * g / 2 for g in slope[touched]), default=0)


@pytest.mark.claim("E1", "property")
@given(drawing=clones(), x=vectors(4), seed=st.integers(0, 2**32), sigma=st.sampled_from([Fraction(1, 1000), HALF]))
def test_noise_leaves_by_the_normal_part_of_what_it_adds(drawing, x, seed, sigma):
    """The distance is `η σ ‖P_N n‖`, exactly, and at least that of one normal coordinate of the noise."""
    network, manifold = drawing.network, cloned_manifold(drawing.network, drawing.partition)
    inputs, goal = batch(network, x)
    noise = exact([Fraction(v) for v in np.random.default_rng(seed).standard_normal(len(network.parameters))])
    after = network.parameters - RATE * (gradient(network, inputs, goal.gradient) + sigma * noise)
    offset = manifold.offset(after)
    assert (offset == -RATE * sigma * manifold.project_normal(noise)).all()
    assert square(offset) > (RATE * sigma * NEVER) ** 2
    witness()


@pytest.mark.claim("E1", "property")
@given(drawing=clones(), x=vectors(4), kept=st.lists(st.booleans(), min_size=30, max_size=30))
def test_dropout_leaves_as_soon_as_it_parts_two_clones_with_a_gradient(drawing, x, kept):
    network, manifold = drawing.network, cloned_manifold(drawing.network, drawing.partition)
    inputs, goal = batch(network, x)
    first, second, *_ = largest_block(drawing)
    mask = mask_of(drawing, {**dict(enumerate(kept)), first: False, second: True})
    slope = dropout_gradient(network, inputs, goal, mask)
    least = evidence_of_departure(network, manifold, slope, mask == 0)
    assume(least > 0)
    assert square(manifold.offset(network.parameters - RATE * slope)) >= RATE**2 * least
    witness()


@pytest.mark.control("E1")
@given(drawing=clones(), x=vectors(4), kept=st.lists(st.booleans(), min_size=30, max_size=30))
def test_dropout_of_whole_blocks_stays(drawing, x, kept):
    network, manifold = drawing.network, cloned_manifold(drawing.network, drawing.partition)
    inputs, goal = batch(network, x)
    mask = mask_of(drawing, np.array(kept)[drawing.partition.labels])
    slope = dropout_gradient(network, inputs, goal, mask)
    assert manifold.contains(network.parameters - RATE * slope)


@pytest.mark.control("E1")
@given(drawing=clones(), x=vectors(4), draw=vectors(200))
def test_noise_that_is_equal_on_clones_stays(drawing, x, draw):
    """Noise without a density: one number for each pair of blocks."""
    network, manifold = drawing.network, cloned_manifold(drawing.network, drawing.partition)
    inputs, goal = batch(network, x)
    noise = manifold.expand(draw[: manifold.dimension])
    assert manifold.contains(network.parameters - RATE * (gradient(network, inputs, goal.gradient) + noise))


@pytest.mark.control("E1")
def test_masks_that_cancel_over_a_batch_stay():
    """A batch that holds a sample twice, once with each of two clones dropped: their mean gradients are equal."""
    edges = {("x", "u"): 1, ("x", "v"): 1, ("u", "y"): HALF, ("v", "y"): HALF}
    network = Network.from_edges(
        {edge: Fraction(w) for edge, w in edges.items()}, {"u": "relu", "v": "relu", "y": "linear"}, ["x"], ["y"]
    )
    manifold = cloned_manifold(network, Partition(np.array([0, 1, 1, 2])))
    inputs, goal = batch(network, exact([1]))
    drops = [exact([1, 2, 0, 1]), exact([1, 0, 2, 1])]
    slopes = [dropout_gradient(network, inputs, goal, mask) for mask in drops]
    assert not any(manifold.contains(network.parameters - RATE * slope) for slope in slopes)
    assert manifold.contains(network.parameters - RATE * sum(slopes) / 2)


# ------------------------------------------------------------------------------------------------------------ E2


def gradient_out_of_a_drawn_unit(into_target, samples, targets):
    """Return the gradient on `v → t` at weight zero, `v` active, in `x → v → t → y` with a bias into `t`."""
    edges = {("x", "v"): 1, ("v", "t"): 0, ("1", "t"): into_target, ("t", "y"): 1}
    network = Network.from_edges(
        {edge: Fraction(w) for edge, w in edges.items()},
        {"v": "relu", "t": "relu", "y": "linear", "1": "one"},
        ["x"],
        ["y"],
    )
    goal = SquaredError(exact(targets)[None])
    found = gradient(network, exact(samples)[None], goal.gradient)
    edge = (network.source == network.index["v"]) & (network.target == network.index["t"])
    return found[edge].item()


@pytest.mark.claim("E2", "exact")
@given(x=st.lists(st.integers(1, 9), min_size=1, max_size=4), gap=st.integers(1, 5))
def test_a_drawn_unit_gets_a_gradient_where_its_target_has_errors_of_one_sign(x, gap):
    assert gradient_out_of_a_drawn_unit(1, x, [1 + gap] * len(x)) != 0
    witness()


@pytest.mark.control("E2")
def test_a_drawn_unit_gets_none_from_a_dead_target_or_samples_that_cancel():
    assert gradient_out_of_a_drawn_unit(-1, [1, 2], [5, 5]) == 0
    assert gradient_out_of_a_drawn_unit(1, [1, 1], [0, 2]) == 0
