"""The network calculus: one definition, agreeing with autograd, with differences, and across scalars."""

from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.theory.strategies import dags, exact, majorant, vectors
from theory.activations import get, unspecified
from theory.network import Network, SquaredError, forward, gradient, loss, outputs
from theory.tolerances import float64_identity

SMOOTH = ("tanh", "sigmoid", "gelu", "sin", "linear", "square", "cube")


def as_floats(network: Network) -> Network:
    return network.with_parameters(network.parameters.astype(float))


def torch_layers(matrices, biases, activation, x):
    h = x
    for k, (W, b) in enumerate(zip(matrices, biases, strict=True)):
        h = W @ h + b[:, None]
        h = activation(h) if k < len(matrices) - 1 else h
    return h


@pytest.mark.parametrize(
    ("name", "function"),
    [("tanh", torch.tanh), ("relu", torch.relu), ("gelu", torch.nn.functional.gelu), ("sigmoid", torch.sigmoid),
     ("hardtanh", torch.nn.functional.hardtanh), ("leaky_relu", torch.nn.functional.leaky_relu)],
)  # fmt: skip
def test_gradient_is_that_of_autograd_on_layers(name, function):
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal(s) for s in ((5, 3), (4, 5), (2, 4))]
    biases = [rng.standard_normal(len(m)) for m in matrices]
    x, y = rng.standard_normal((3, 7)), rng.standard_normal((2, 7))
    network = Network.layered(matrices, name, biases=biases)
    parameters = [torch.tensor(p, requires_grad=True) for p in (*matrices, *biases)]
    h = torch_layers(parameters[:3], parameters[3:], function, torch.tensor(x))
    (((h - torch.tensor(y)) ** 2).sum() / 2).backward()
    expected = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    found = gradient(network, x, SquaredError(y).gradient)
    assert np.abs(found - expected).max() <= float64_identity(np.abs(expected).max())


def test_a_convolution_is_a_network_with_tied_weights():
    rng = np.random.default_rng(1)
    kernel, x = rng.standard_normal(3), rng.standard_normal((6, 1))
    edges = {((("x", p + k)), ("y", p)): kernel[k] for p in range(4) for k in range(3)}
    tied = {((("x", p + k)), ("y", p)): k for p in range(4) for k in range(3)}
    network = Network.from_edges(
        edges, "tanh", [("x", i) for i in range(6)], [("y", p) for p in range(4)], tied=tied
    )
    theta = torch.tensor(kernel, requires_grad=True)
    h = torch.tanh(torch.nn.functional.conv1d(torch.tensor(x.T[None]), theta[None, None]))
    (h**2).sum().div(2).backward()
    assert len(network.parameters) == 3
    assert np.allclose(outputs(network, x)[:, 0], h.detach().numpy().ravel(), atol=float64_identity())
    found = gradient(network, x, SquaredError(np.zeros((4, 1))).gradient)
    assert np.allclose(found, theta.grad.numpy(), atol=float64_identity(10))


@given(dags(), st.data())
def test_exact_gradient_is_that_of_autograd_on_any_dag(network, data):
    """Where float64 lands on the same side of every kink as the rationals do, up to what cancels in it."""
    x, goal = data.draw(vectors(1)), SquaredError(exact([1])[:, None])
    theta = torch.tensor(network.parameters.astype(float), requires_grad=True)
    z, value = _torch_dag(network, theta, float(x[0]))
    assume(_sides(network, forward(network, x).z[:, 0]) == _sides(network, z))
    (0.5 * (value - 1) ** 2).backward()
    terms = gradient(majorant(network), np.abs(x).astype(float), SquaredError(np.ones((1, 1))).magnitude().gradient)
    found = gradient(network, x, goal.gradient).astype(float)
    assert np.abs(found - theta.grad.numpy()).max() <= float64_identity(terms.max())


def _sides(network, z):
    """Return on which side of each kink every unit lies."""
    kinds = [f.kinks if f else () for f in network.activations]
    return [[(v > k) - (v < k) for k in kinks] for v, kinks in zip(z, kinds, strict=True)]


def _torch_dag(network, theta, x):
    """Return the pre-activations of all units, as floats, and the output."""
    functions = {
        "relu": torch.relu, "leaky_relu": torch.nn.functional.leaky_relu, "linear": lambda z: z,
        "square": lambda z: z * z, "cube": lambda z: z * z * z, "hardtanh": torch.nn.functional.hardtanh,
    }  # fmt: skip
    h = {i: torch.tensor(x, dtype=torch.float64) for i in network.inputs}
    sums = [0.0] * len(network.units)
    for v in np.argsort(network.depth, kind="stable"):
        into = np.flatnonzero(network.target == v)
        if network.activations[v] is not None:
            z = sum((theta[e] * h[network.source[e]] for e in into), torch.zeros((), dtype=torch.float64))
            sums[v], h[v] = float(z.detach()), functions[network.activations[v].name](z)
    return sums, h[network.outputs[0]]


@given(dags(activation="sin", max_units=5), st.data())
def test_gradient_is_the_limit_of_central_differences(network, data):
    network, x = as_floats(network), data.draw(vectors(1)).astype(float)
    criterion = SquaredError(np.ones((1, 1)))
    found, step = gradient(network, x, criterion.gradient), 1e-5
    for p in range(len(found)):
        shift = step * (np.arange(len(found)) == p)
        high = loss(network.with_parameters(network.parameters + shift), x, criterion)
        low = loss(network.with_parameters(network.parameters - shift), x, criterion)
        assert abs((high - low) / (2 * step) - found[p]) <= 1e-4 * (1 + abs(high) + abs(found[p]))


@pytest.mark.parametrize("name", SMOOTH)
def test_symbolic_gradient_is_the_derivative_of_the_symbolic_loss(name):
    w, (x, y) = sympy.symbols("w1:4"), sympy.symbols("x y")
    edges = dict(zip([("x", "a"), ("a", "y"), ("x", "y")], w, strict=True))
    network = Network.from_edges(edges, name, ["x"], ["y"])
    criterion = SquaredError(np.array([[y]]))
    value = loss(network, np.array([x]), criterion)
    for found, symbol in zip(gradient(network, np.array([x]), criterion.gradient), w, strict=True):
        assert sympy.simplify(found - sympy.diff(value, symbol)) == 0


def test_unspecified_activations_stay_functions():
    w, x = sympy.symbols("w1:3"), sympy.Symbol("x")
    edges = dict(zip([("x", "a"), ("a", "y")], w, strict=True))
    network = Network.from_edges(edges, {"a": unspecified("f"), "y": unspecified("g")}, ["x"], ["y"])
    f, g, df, dg = (sympy.Function(n) for n in ("f", "g", "df", "dg"))
    z = w[1] * f(w[0] * x)
    assert outputs(network, np.array([x]))[0, 0] == g(z)
    found = gradient(network, np.array([x]), np.array([1]))
    assert sympy.expand(found[0] - x * df(w[0] * x) * w[1] * dg(z)) == 0


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "hardtanh", "tanh", "sigmoid", "gelu", "sin", "square", "one"]
)
def test_balls_contain_the_floats(name):
    rng = np.random.default_rng(2)
    matrices = [rng.standard_normal(s) for s in ((4, 2), (3, 4))]
    network = Network.layered(matrices, name)
    balls = np.array([flint.arb(w, 1e-3) for w in network.parameters], dtype=object)
    x = rng.standard_normal(2)
    enclosed = forward(network.with_parameters(balls), np.array([flint.arb(v, 1e-3) for v in x])).h[:, 0]
    for _ in range(20):
        nearby = network.with_parameters(network.parameters + rng.uniform(-1e-3, 1e-3, len(balls)))
        h = forward(nearby, x + rng.uniform(-1e-3, 1e-3, 2)).h[:, 0]
        assert all(bool(ball.contains(flint.arb(v))) for ball, v in zip(enclosed, h, strict=True))


@pytest.mark.parametrize("name", ["relu", "hardtanh", "leaky_relu"])
def test_the_slope_of_a_ball_contains_every_slope(name):
    slope = get(name).slope
    for middle in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5):
        (ball,) = slope(np.array([flint.arb(middle, 0.25)], dtype=object))
        assert all(bool(ball.contains(flint.arb(s))) for s in slope(np.linspace(middle - 0.25, middle + 0.25, 9)))


def test_several_outputs_and_outputs_with_out_edges():
    edges = {("x", "y1"): 2.0, ("y1", "y2"): 3.0}
    network = Network.from_edges(edges, "linear", ["x"], ["y1", "y2"])
    assert outputs(network, np.array([1.0])).ravel().tolist() == [2.0, 6.0]
    assert gradient(network, np.array([1.0]), np.array([1.0, 1.0])).tolist() == [4.0, 2.0]


def test_integer_matrices_become_floats():
    network = Network.layered([np.array([[1]]), np.array([[1]])], "tanh")
    assert outputs(network, np.array([1.0]))[0, 0] == np.tanh(1.0)


def test_a_bias_is_an_edge_from_a_constant_one_unit():
    network = Network.from_edges(
        {("1", "y"): Fraction(1, 3), ("x", "y"): 1}, {"1": "one", "y": "linear"}, ["x"], ["y"]
    )
    assert outputs(network, exact([2]))[0, 0] == Fraction(7, 3)


BAD = {
    "cycle, a → b → a": lambda: Network.from_edges(
        {("x", "a"): 1.0, ("a", "b"): 1.0, ("b", "a"): 1.0}, "relu", ["x"], ["b"]
    ),
    r"\('x', 'z'\), which is no edge": lambda: Network.from_edges(
        [("x", "y")], "relu", ["x"], ["y"], weights={("x", "y"): 1.0, ("x", "z"): 1.0}
    ),
    "has no weight": lambda: Network.from_edges([("x", "y")], "relu", ["x"], ["y"]),
    "more than once": lambda: Network.from_edges(
        [("x", "y"), ("x", "y")], "relu", ["x"], ["y"], weights={("x", "y"): 1.0}
    ),
    "given twice": lambda: Network.from_edges({("x", "y"): 1.0}, "relu", ["x"], ["y"], weights={("x", "y"): 1.0}),
    "is nan; weights must be finite": lambda: Network.from_edges({("x", "y"): float("nan")}, "relu", ["x"], ["y"]),
    "is inf; weights must be finite": lambda: Network.from_edges({("x", "y"): float("inf")}, "relu", ["x"], ["y"]),
    "must be finite": lambda: Network.from_edges({("x", "y"): flint.arb("nan")}, "relu", ["x"], ["y"]),
    "arrives at an input": lambda: Network.from_edges({("y", "x"): 1.0}, "relu", ["x"], ["y"]),
    "has no activation": lambda: Network.from_edges({("x", "y"): 1.0}, {}, ["x"], ["y"]),
    "no unit of the network": lambda: Network.from_edges(
        {("x", "y"): 1.0}, {"y": "relu", "q": "relu"}, ["x"], ["y"]
    ),
    "did you mean one of relu": lambda: Network.from_edges({("x", "y"): 1.0}, "rellu", ["x"], ["y"]),
    "but has weight": lambda: Network.from_edges(
        {("x", "a"): 1.0, ("x", "b"): 2.0}, "relu", ["x"], ["a"], tied={("x", "a"): 0, ("x", "b"): 0}
    ),
    "has 3 targets but": lambda: Network.layered([np.ones((3, 2)), np.ones((1, 4))], "relu"),
    r"give \(2, samples\)": lambda: outputs(Network.layered([np.ones((3, 2))], "relu"), np.ones((3, 1))),
    "biases have lengths": lambda: Network.layered([np.ones((3, 2))], "relu", biases=[np.ones(2)]),
    "two activations are named 'f'": lambda: Network.from_edges(
        {("x", "a"): 1.0, ("a", "y"): 1.0}, {"a": unspecified("f"), "y": unspecified("f")}, ["x"], ["y"]
    ),
    "no real numbers": lambda: Network.layered([np.ones((1, 1)) * 1j], "relu"),
    "is 1; weights must be finite": lambda: Network.from_edges({("x", "y"): "1"}, "relu", ["x"], ["y"]),
    "at least one unit": lambda: Network.from_edges({("x", "y"): 1.0}, "relu", ["x"], []),
    "repeats a unit": lambda: Network.from_edges({("x", "y"): 1.0}, "relu", ["x"], ["y", "y"]),
    "has length 2; the network has 6": lambda: Network.layered([np.ones((3, 2))], "relu").with_parameters(
        np.ones(2)
    ),
    "is no rational number": lambda: outputs(
        Network.from_edges({("x", "y"): Fraction(1)}, "tanh", ["x"], ["y"]), exact([1])
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_names_the_offender(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()
