"""Leaving a cloned manifold: predicted and measured times, noise, escape that keeps the function."""

from itertools import repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.clones import (
    Disturbance,
    base_path,
    first_passage,
    measured_distances,
    perturbations,
    predicted_distances,
    predicted_noise,
    random_problem,
)
from simulate.escape import (
    function_preserving_split,
    measure_escape_time,
    per_entry,
    per_vector,
    predict_by_rate,
    predict_escape_time,
    unstable_rate,
)
from tests.theory.strategies import clones, majorant
from theory.manifolds import cloned_manifold, frozen_manifold
from theory.network import Network, SquaredError, gradient, loss, outputs
from theory.partitions import coarsest_equitable_partition

SEEDS = 24


def small(seed=0):
    """Return a problem, and its clones as a network of `theory` on its manifold, with the same loss."""
    p = random_problem(3, 4, 30, np.random.default_rng(seed), rate=0.05)
    net = Network.layered([np.repeat(p.W, 2, axis=0), np.repeat(p.a[None] / 2, 2, axis=1)], "relu")
    manifold = cloned_manifold(net, coarsest_equitable_partition(net), 1e-12)
    scale = np.sqrt(len(p.y))  # the loss is a mean there, and a sum here: x/√m reaches ReLU outputs, y/√m targets
    return p, net, manifold, p.x / scale, SquaredError(p.y[None] / scale)


def perturbed(p, net, epsilon, alpha):
    W = np.repeat(p.W, 2, axis=0) + np.kron(epsilon / np.sqrt(2), [[1], [-1]])
    a = np.repeat(p.a / 2, 2) + np.kron(alpha / np.sqrt(2), [1, -1])
    return net.with_parameters(np.concatenate([W.ravel(), a]))


def test_many_seeds_at_once_are_single_runs():
    p, net, manifold, x, goal = small()
    epsilon, alpha = perturbations(p, 0.1, 3, np.random.default_rng(1))
    distances = measured_distances(p, epsilon, alpha, 40)
    for s in range(3):
        one, found = perturbed(p, net, epsilon[s], alpha[s]), []
        for _ in range(41):
            found.append(manifold.distance(one.parameters))
            one = one.with_parameters(one.parameters - p.rate * gradient(one, x, goal.gradient))
        assert np.abs(distances[:, s] - found).max() <= 1e-12


def test_the_prediction_in_bulk_is_the_prediction_by_curvature():
    p, net, manifold, x, goal = small()
    epsilon, alpha = perturbations(p, 1e-3, 1, np.random.default_rng(1))
    start = perturbed(p, net, epsilon[0], alpha[0]).parameters - net.parameters
    slow = predict_escape_time(net, manifold, x, goal, rate=p.rate, start=start, goal=1.0, longest=60)
    b, _ = base_path(p, 60)
    fast = predicted_distances(b, epsilon, alpha, p.rate)[:, 0]
    assert slow.steps is None
    assert np.abs(slow.distances / fast - 1).max() <= 1e-10


def test_measured_steps_are_first_passages():
    p, net, manifold, x, goal = small()
    epsilon, alpha = perturbations(p, 1e-2, 1, np.random.default_rng(2))
    expected = first_passage(measured_distances(p, epsilon, alpha, 400), 0.03)[0]
    found = measure_escape_time(
        perturbed(p, net, epsilon[0], alpha[0]), manifold, repeat((x, goal)), rate=p.rate, goal=0.03, longest=400
    )
    assert found == expected > 0
    assert first_passage(np.zeros((5, 2)), 1.0).tolist() == [-1, -1]


def test_the_rate_is_that_of_the_closed_form():
    p, *_, x, goal = small()
    b, _ = base_path(p, 1)
    base = Network.layered([p.W, p.a[None]], "relu")
    assert unstable_rate(base, x, goal) == pytest.approx(np.linalg.norm(b[0], axis=1).max(), rel=1e-12)
    with pytest.raises(ValueError, match="one hidden layer"):
        unstable_rate(Network.layered([np.eye(2), np.eye(2), np.ones((1, 2))], "relu"), np.ones((2, 1)), goal)


def test_at_a_constant_rate_the_time_is_the_logarithm_over_the_rate():
    steps = predict_by_rate(np.full(20_000, 0.5), 1e-3, 1e-6, 1e-2)
    assert steps == pytest.approx(np.log(1e4) / np.log1p(5e-4), abs=1)
    assert predict_by_rate(np.full(10, 0.5), 1e-3, 1e-6, 1e-2) is None


@pytest.mark.claim("C10", "simulation")
def test_measured_escape_follows_the_prediction_over_two_decades():
    """Twenty-four seeds each: log-log slope of measured against predicted times, and their correlation."""
    p = random_problem(4, 5, 60, np.random.default_rng(0), rate=0.05)
    b, _ = base_path(p, 3000)
    predicted, measured = [], []
    for size in (1e-2, 1e-3, 1e-4):
        epsilon, alpha = perturbations(p, size, SEEDS, np.random.default_rng(1))
        predicted.append(first_passage(predicted_distances(b, epsilon, alpha, p.rate), 0.1))
        measured.append(first_passage(measured_distances(p, epsilon, alpha, 3000), 0.1))
    t, m = np.concatenate(predicted), np.concatenate(measured)
    both = (t > 0) & (m > 0)
    assert both.sum() >= 2 * SEEDS
    x, y = np.log(t[both]), np.log(m[both])
    slope = np.polyfit(x, y, 1)[0]
    assert abs(slope - 1) <= 0.1
    assert np.corrcoef(x, y)[0, 1] ** 2 >= 0.98
    witness(residual=float(np.abs(y - x).max()), instances=int(both.sum()))


@pytest.mark.control("C10")
def test_half_the_rate_predicts_far_too_late():
    p = random_problem(4, 5, 60, np.random.default_rng(0), rate=0.05)
    b, _ = base_path(p, 3000)
    epsilon, alpha = perturbations(p, 1e-3, SEEDS, np.random.default_rng(1))
    wrong = first_passage(predicted_distances(b / 2, epsilon, alpha, p.rate), 0.1)
    measured = first_passage(measured_distances(p, epsilon, alpha, 3000), 0.1)
    late = (wrong < 0) | (wrong > 1.3 * measured)
    assert late[measured > 0].mean() > 0.9


@pytest.mark.claim("E1", "simulation")
@pytest.mark.parametrize("convention", ["entry", "vector"])
@pytest.mark.parametrize("decay", [1.0, 0.99])
def test_noise_leaves_as_the_covariance_predicts(convention, decay):
    p = random_problem(4, 5, 60, np.random.default_rng(0), rate=0.05)
    disturbance = Disturbance(sigma=1e-3, decay=decay, convention=convention)
    b, norms = base_path(p, 400)
    predicted = predicted_noise(b, norms, p.rate, disturbance)
    none = perturbations(p, 0.0001, 200, np.random.default_rng(1))
    epsilon, alpha = none[0] * 0, none[1] * 0
    distances = measured_distances(p, epsilon, alpha, 400, disturbance, np.random.default_rng(2))
    found = np.sqrt((distances**2).mean(axis=1))
    ratio = found[[1, 10, 100, 400]] / predicted[[1, 10, 100, 400]]
    assert np.abs(np.log(ratio)).max() <= 0.25
    assert (distances[1] > 0).all()
    witness(residual=float(np.abs(np.log(ratio)).max()), instances=200)


@pytest.mark.claim("E1", "simulation")
def test_dropout_leaves_at_once_and_batches_do_not():
    p = random_problem(3, 4, 40, np.random.default_rng(0), rate=0.05)
    epsilon, alpha = np.zeros((SEEDS, *p.W.shape)), np.zeros((SEEDS, len(p.a)))
    dropped = measured_distances(p, epsilon, alpha, 50, Disturbance(dropout=0.1), np.random.default_rng(1))
    batches = measured_distances(p, epsilon, alpha, 50, Disturbance(batch=8), np.random.default_rng(1))
    assert (dropped[1] > 1e-6).all()
    assert (batches == 0).all()
    witness(instances=SEEDS)


@pytest.mark.control("E1")
def test_without_noise_nobody_leaves():
    p = random_problem(3, 4, 40, np.random.default_rng(0), rate=0.05)
    epsilon, alpha = np.zeros((2, *p.W.shape)), np.zeros((2, len(p.a)))
    assert (measured_distances(p, epsilon, alpha, 300) == 0).all()


@pytest.mark.claim("E2", "property")
@given(drawing=clones(), seed=st.integers(0, 999), size=st.floats(1e-3, 1.0))
def test_splitting_clones_keeps_the_function(drawing, seed, size):
    net = drawing.network.with_parameters(drawing.network.parameters.astype(np.float64))
    manifold = cloned_manifold(net, drawing.partition, 1e-12)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((len(net.inputs), 5))
    try:
        split = function_preserving_split(net, manifold, size, rng)
    except ValueError:
        return  # no unit receives two edges from one block
    terms = outputs(majorant(split), np.abs(x)).max()  # they cancel, and so do not their rounding errors
    error = float(np.abs(outputs(split, x) - outputs(net, x)).max() / (1 + terms))
    assert error <= 1e-12
    assert manifold.distance(split.parameters) == pytest.approx(size, rel=1e-9)
    witness(residual=error)


@pytest.mark.claim("E2", "simulation")
def test_splitting_beats_isotropic_noise_at_equal_distance():
    """At the same distance from the manifold the loss moves by rounding alone, and the clones part all the same."""
    p, net, manifold, x, goal = small()
    rng, start = np.random.default_rng(1), loss(net, x, goal)
    for _ in range(20):
        split = function_preserving_split(net, manifold, 0.1, rng)
        noise = manifold.project_normal(rng.standard_normal(len(net.parameters)))
        noisy = net.with_parameters(net.parameters + 0.1 * noise / np.linalg.norm(noise))
        rise = abs(loss(split, x, goal) - start) / start
        assert rise <= 1e-12 < abs(loss(noisy, x, goal) - start) / start
        options = {"rate": p.rate, "goal": 0.15, "longest": 400}
        times = [measure_escape_time(one, manifold, repeat((x, goal)), **options) for one in (split, noisy)]
        assert times[0] is not None
        witness(residual=float(rise))


@pytest.mark.control("E2")
def test_splitting_with_another_sum_changes_the_function():
    _, net, _, x, goal = small()
    draw = np.zeros(len(net.parameters))
    draw[-6:] = np.random.default_rng(0).standard_normal(6)
    assert abs(loss(net.with_parameters(net.parameters + 0.1 * draw), x, goal) / loss(net, x, goal) - 1) > 1e-4


def test_splitting_refuses_what_is_no_cloned_manifold_of_this_network():
    _, net, manifold, *_ = small()
    rng = np.random.default_rng(0)
    off = net.with_parameters(net.parameters + np.arange(len(net.parameters)))
    for network, where, size, message in (
        (off, manifold, 0.1, "not on the manifold"),
        (net, frozen_manifold(net, [(1, 0)]), 0.1, "without ties, fixed weights or scales"),
        (net, manifold, np.inf, "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            function_preserving_split(network, where, size, rng)


def test_splitting_parts_the_gradients_into_clones_where_the_base_learns():
    p, net, manifold, x, goal = small()
    split = function_preserving_split(net, manifold, 0.1, np.random.default_rng(0))
    into = gradient(split, x, goal.gradient)[: p.W.size * 2].reshape(-1, 2, p.W.shape[1])
    assert np.abs(into[:, 0] - into[:, 1]).max() > 1e-3
    before = gradient(net, x, goal.gradient)[: p.W.size * 2].reshape(-1, 2, p.W.shape[1])
    assert np.abs(before[:, 0] - before[:, 1]).max() <= 1e-14


def test_what_a_measurement_cannot_do_is_named():
    _, net, manifold, x, goal = small()
    off = net.with_parameters(net.parameters + manifold.project_normal(np.arange(float(len(net.parameters)))))
    options = {"rate": 0.05, "goal": 1.0, "longest": 5}
    assert measure_escape_time(off, manifold, repeat((x, goal)), **options) == 0
    with pytest.raises(ValueError, match="batches ended after 2 of 5 steps"):
        measure_escape_time(net, manifold, iter([(x, goal)] * 2), **options)
    with pytest.raises(ArithmeticError, match="descent diverged at step"), np.errstate(all="ignore"):
        measure_escape_time(net, manifold, repeat((x, goal)), rate=1e60, goal=1e300, longest=50)
    with pytest.raises(ValueError, match="not on the manifold"):
        predict_escape_time(
            off, manifold, x, goal, start=off.parameters - net.parameters, **{**options, "goal": 1e9}
        )


def test_noise_has_the_length_that_its_convention_says():
    g, rng = np.ones(10_000), np.random.default_rng(0)
    for noise, expected in ((per_entry(0.01), 0.01 * 100 * 100), (per_vector(0.01), 0.01 * 100)):
        assert np.linalg.norm(noise(1, g, rng) - g) == pytest.approx(expected, rel=0.05)
    assert np.linalg.norm(per_vector(0.01, 0.5)(3, g, rng) - g) == pytest.approx(0.125, rel=0.05)
    assert np.linalg.norm(per_entry(0.01, 0.5)(3, g, rng) - g) == pytest.approx(12.5, rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, *_: Disturbance(sigma=-1), "sigma is -1"),
        (lambda p, *_: Disturbance(dropout=1), "dropout is 1"),
        (lambda p, *_: Disturbance(batch=0), "batch is 0"),
        (lambda p, *_: random_problem(0, 1, 1, np.random.default_rng(0)), "units is 0"),
        (lambda p, *_: random_problem(1, 1, 1, np.random.default_rng(0), rate=0), "rate is 0"),
        (lambda p, *_: perturbations(p, -1, 1, np.random.default_rng(0)), "size is -1"),
        (
            lambda p, *_: measured_distances(
                p, *perturbations(p, 0, 1, np.random.default_rng(0)), 1, Disturbance(0.1)
            ),
            "give rng",
        ),
        (lambda p, *_: per_entry(0), "sigma is 0"),
        (lambda p, *_: per_vector(1, 2), "decay is 2"),
        (lambda p, net, m, *_: function_preserving_split(net, m, 0, np.random.default_rng(0)), "size is 0"),
        (
            lambda p, net, m, x, g: predict_escape_time(
                net, m, x, g, rate=1, start=np.zeros(len(m.base)), goal=1, longest=1
            ),
            "normal part of length 0",
        ),
        (
            lambda p, net, m, x, g: measure_escape_time(
                net, m, repeat((x, g)), rate=1, goal=1, longest=1, noise=per_entry(1)
            ),
            "give rng",
        ),
        (
            lambda p, net, m, x, g: measure_escape_time(net, m, repeat((x, g)), rate=-1, goal=1, longest=1),
            "rate is -1",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*small())
