"""Gradient flow: an exact solution, conserved quantities, the loss budget, and events at a manifold."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.flow import balances, energy_drift, gradient_flow
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError, loss
from theory.partitions import coarsest_equitable_partition
from theory.tolerances import ode

RTOL = 1e-9


def problem(activation: str, seed: int = 0, copies: int = 1) -> tuple[Network, np.ndarray, SquaredError]:
    rng = np.random.default_rng(seed)
    W = np.repeat(rng.standard_normal((2, 3)) / 2, copies, axis=0)
    a = np.repeat(rng.standard_normal((1, 2)) / copies, copies, axis=1)
    net = Network.layered([W, a], activation)
    return net, rng.standard_normal((3, 6)) / 3, SquaredError(rng.standard_normal((1, 6)))


def test_a_linear_neuron_relaxes_exponentially():
    """`ẇ = −x² (w − y/x)`: `w(t) = y/x + (w₀ − y/x) e^{−x² t}`."""
    net, x, goal = (
        Network.layered([np.array([[3.0]])], "linear"),
        np.array([[0.5]]),
        SquaredError(np.array([[1.0]])),
    )
    flow = gradient_flow(net, x, goal, 8.0)
    for t in (0.0, 0.3, 4.0, 8.0):
        exact = 2 + (3 - 2) * np.exp(-0.25 * t)
        assert abs(flow.parameters(t)[0] - exact) <= ode(RTOL) * exact


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_balances_of_homogeneous_units_are_conserved(activation, seed):
    net, x, goal = problem(activation, seed)
    x, goal = x[:, :2], SquaredError(goal.y[:, :2])
    options = {} if activation == "linear" else {"method": "RK23", "rtol": 1e-5, "atol": 1e-7}
    flow = gradient_flow(net, x, goal, 0.5, **options)
    drift = np.abs(balances(flow.at(0.5)) - balances(net)).max()
    assert drift <= ode(options.get("rtol", RTOL))
    assert np.abs(flow.parameters(0.5) - net.parameters).max() > 1e-4


def test_balances_of_other_units_are_not_there_and_not_conserved():
    net, x, goal = problem("tanh")
    assert balances(net).size == 0
    later = gradient_flow(net, x, goal, 1.0).at(1.0)
    relabelled = [
        Network.layered([one.parameters[:6].reshape(2, 3), one.parameters[6:][None]], "relu")
        for one in (net, later)
    ]
    assert np.abs(balances(relabelled[1]) - balances(relabelled[0])).max() > 1e-4


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_the_loss_that_is_lost_is_the_length_of_the_gradient(activation):
    net, x, goal = problem(activation)
    flow = gradient_flow(net, x, goal, 2.0)
    assert loss(flow.at(2.0), x, goal) < loss(net, x, goal)
    assert energy_drift(flow, x, goal) <= ode(RTOL)


@pytest.mark.claim("C10", "property")
@settings(max_examples=5)
@given(seed=st.integers(0, 999))
def test_the_flow_stays_on_a_cloned_manifold(seed):
    net, x, goal = problem("tanh", seed, copies=2)
    manifold = cloned_manifold(net, coarsest_equitable_partition(net), 1e-12)
    flow = gradient_flow(net, x, goal, 3.0, manifold=manifold, leave=1e-6)
    distance = max(manifold.distance(flow.parameters(t)) for t in np.linspace(0, 3, 7))
    assert flow.left is None
    assert distance <= 1e-9
    witness(residual=distance)


def test_events_tell_when_a_tube_is_left_and_reached():
    net, x, goal = problem("tanh", copies=2)
    manifold = cloned_manifold(net, coarsest_equitable_partition(net), 1e-12)
    start = net.parameters + manifold.project_normal(1e-3 * np.arange(len(net.parameters)))
    off, first = net.with_parameters(start), manifold.distance(start)
    flow = gradient_flow(off, x, goal, 40.0, manifold=manifold, leave=3 * first, stop=True)
    assert flow.left == pytest.approx(flow.end)
    assert manifold.distance(flow.parameters(flow.left)) == pytest.approx(3 * first, rel=1e-6)
    back = gradient_flow(off, x, goal, 2.0, manifold=manifold, reach=0.999 * first)
    assert back.left is None
    assert back.reached is None or manifold.distance(back.parameters(back.reached)) < first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 0.0}, "duration is 0"),
        ({"duration": float("nan")}, "duration is nan"),
        ({"leave": 1.0}, "give `manifold`, too"),
        ({"reach": -1.0, "manifold": True}, "reach is -1"),
    ],
)
def test_bad_input_is_named(options, message):
    net, x, goal = problem("tanh", copies=2)
    if options.get("manifold"):
        options = {**options, "manifold": cloned_manifold(net, coarsest_equitable_partition(net), 1e-12)}
    with pytest.raises(ValueError, match=message):
        gradient_flow(net, x, goal, **{"duration": 1.0, **options})


def test_a_flow_that_costs_too_much_says_so():
    net, x, goal = problem("tanh")
    with pytest.raises(ArithmeticError, match="20 gradients took the flow to"):
        gradient_flow(net, x, goal, 50.0, longest=20)


def test_exact_weights_and_ties_are_refused():
    exact = Network.layered([np.array([[Fraction(1)]])], "linear")
    with pytest.raises(ValueError, match="float weights"):
        gradient_flow(exact, np.ones((1, 1)), SquaredError(np.ones((1, 1))), 1.0)
    weights = {("x", "a"): 1.0, ("x", "b"): 1.0, ("a", "y"): 1.0, ("b", "y"): 1.0}
    tied = Network.from_edges(weights, "relu", ["x"], ["y"], tied={("x", "a"): 0, ("x", "b"): 0})
    with pytest.raises(ValueError, match="untie"):
        balances(tied)
