"""Random networks of finite width: correlations fluctuate by about `1/√width` around the recursion (R5)."""

import math

import numpy as np
import pytest

from claims.evidence import witness
from simulate.width import _pairs, random_networks
from theory.activations import get, moments, standardise
from theory.depth import correlation_flow
from theory.tolerances import float64_identity, monte_carlo

CASES = [("relu", "raw"), ("relu", "standardised"), ("gelu", "raw"), ("tanh", "standardised"), ("erf", "raw")]


def with_weights(phi, rho, depth, width, runs, normalisation, seed):
    """The slow oracle: draw every weight, `N(0, 1/width)`, and apply it."""
    generator = np.random.default_rng(seed)
    given = moments(phi)
    layer = standardise(phi).value if normalisation == "standardised" else lambda z: get(phi).value(z)
    size = 1.0 if normalisation == "standardised" else math.sqrt(given.square)
    found = []
    for _ in range(runs):
        z = np.linalg.cholesky([[1, rho], [rho, 1]]) @ generator.standard_normal((2, width))
        for _ in range(depth - 1):
            z = layer(z) / size @ generator.standard_normal((width, width)) / math.sqrt(width)
        h = layer(z) / size
        found.append(h[0] @ h[1] / math.sqrt((h[0] @ h[0]) * (h[1] @ h[1])))
    return np.array(found)


@pytest.mark.claim("R5", "simulation")
@pytest.mark.parametrize(("name", "normalisation"), CASES)
def test_wide_networks_follow_the_recursion(name, normalisation):
    width, depth = 4096, 6
    sample = random_networks(name, 0.9, depth, width=width, runs=300, normalisation=normalisation)
    flow = correlation_flow(name, 0.9, depth, normalisation=normalisation)
    off = np.abs(sample.mean - flow)
    assert (off <= monte_carlo(1) * sample.standard_error + 20 / width).all()
    witness(residual=float(off.max()), instances=300)


@pytest.mark.claim("R5", "simulation")
@pytest.mark.parametrize(("name", "normalisation"), CASES)
def test_deep_networks_follow_the_recursion_if_norms_are_kept(name, normalisation):
    width, depth = 1024, 30
    sample = random_networks(name, 0.9, depth, width=width, runs=100, normalisation=normalisation, keep_norm=True)
    flow = correlation_flow(name, 0.9, depth, normalisation=normalisation)
    off = np.abs(sample.mean - flow)
    assert (off <= monte_carlo(1) * sample.standard_error + 20 / width).all()
    assert sample.spread.max() < 5 / math.sqrt(width)
    witness(residual=float(off.max()), instances=100)


def test_without_kept_norms_raw_gelu_wanders_off():
    """Its variance map repels 1, so that plain networks end anywhere between dead and linear."""
    plain, kept = (
        random_networks("gelu", 0.95, 60, width=1000, runs=40, normalisation="raw", keep_norm=keep).spread[-1]
        for keep in (False, True)
    )
    assert plain > 2 * kept


@pytest.mark.claim("R5", "simulation")
@pytest.mark.parametrize(("name", "normalisation"), CASES)
def test_fluctuations_fall_like_one_over_the_root_of_the_width(name, normalisation):
    widths = np.array([64, 256, 1024])
    spreads = [
        random_networks(name, 0.9, 6, width=int(width), runs=400, normalisation=normalisation).spread[[1, 6]]
        for width in widths
    ]
    slopes = np.polyfit(np.log(widths), np.log(spreads), 1)[0]
    assert (np.abs(slopes + 0.5) < 0.1).all()
    witness(residual=float(np.abs(slopes + 0.5).max()), instances=1200)


@pytest.mark.parametrize(("name", "normalisation"), [("relu", "raw"), ("tanh", "standardised")])
def test_drawing_pairs_is_drawing_weights(name, normalisation):
    """Mean and spread agree with those of networks whose weights are drawn one by one."""
    runs = 500
    slow = with_weights(name, 0.5, 4, 32, runs, normalisation, seed=1)
    fast = random_networks(name, 0.5, 4, width=32, runs=runs, normalisation=normalisation, seed=2).correlations[
        :, -1
    ]
    error = math.hypot(slow.std(), fast.std()) / math.sqrt(runs)
    assert abs(slow.mean() - fast.mean()) <= monte_carlo(error)
    assert abs(math.log(slow.std() / fast.std())) <= monte_carlo(1 / math.sqrt(runs))


@pytest.mark.control("R5")
def test_a_recursion_without_centring_is_told_apart():
    sample = random_networks("relu", 0.9, 3, width=4096, runs=100)
    raw = correlation_flow("relu", 0.9, 3, normalisation="raw")
    assert abs(sample.mean[-1] - raw[-1]) > 10 * sample.spread[-1]


def test_pairs_have_the_covariance_that_is_asked_for():
    Q = np.array([[[2.0, -0.6], [-0.6, 0.5]]])
    normal = np.random.default_rng(0).standard_normal((1, 2, 5))
    expected = np.linalg.cholesky(Q[0]) @ normal[0]
    np.testing.assert_allclose(_pairs(Q, normal)[0], expected, atol=float64_identity(2))


def test_samples_have_shapes_a_seed_and_blocks():
    one = random_networks("tanh", 0.3, 4, width=2**19, runs=3, seed=5)
    assert one.correlations.shape == (3, 5)
    assert one.mean.shape == one.spread.shape == one.standard_error.shape == (5,)
    assert (one.correlations[:, 0] == 0.3).all()
    same, other = (random_networks("tanh", 0.3, 2, width=50, runs=3, seed=seed) for seed in (5, 6))
    assert (same.correlations == random_networks("tanh", 0.3, 2, width=50, runs=3, seed=5).correlations).all()
    assert (same.correlations[:, 1:] != other.correlations[:, 1:]).all()


def test_equal_and_opposite_inputs_stay_so_under_odd_activations():
    for rho in (1.0, -1.0):
        np.testing.assert_allclose(random_networks("tanh", rho, 3, width=20, runs=2).correlations, rho, atol=1e-14)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="allowed are correlations"):
        random_networks("relu", 1.5, 3, width=10, runs=2)
    with pytest.raises(ValueError, match="allowed are integers ≥ 1"):
        random_networks("relu", 0.5, 3, width=0, runs=2)
    with pytest.raises(ValueError, match="'relu2' diverges within 60 layers"):
        random_networks("relu2", 0.5, 60, width=10, runs=20)
