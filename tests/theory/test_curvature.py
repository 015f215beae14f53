"""Hessian-vector products against differences of gradients, and exactly on rational networks."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.theory.strategies import exact, matrices, vectors
from theory.activations import from_callable, named
from theory.curvature import hessian, hessian_vector
from theory.network import Network, SquaredError, gradient

SMOOTH = [name for name in named() if name not in ("step", "sign", "one")]


def network(activation: str, seed: int = 0) -> tuple[Network, np.ndarray, SquaredError]:
    rng = np.random.default_rng(seed)
    shapes = [(4, 3), (3, 4), (2, 3)]
    biases = [rng.standard_normal(rows) for rows, _ in shapes]
    net = Network.layered([rng.standard_normal(shape) / 2 for shape in shapes], activation, biases=biases)
    return net, rng.standard_normal((3, 5)), SquaredError(rng.standard_normal((2, 5)))


@pytest.mark.parametrize("name", SMOOTH)
def test_products_are_differences_of_gradients(name):
    net, x, goal = network(name)
    v, step = np.random.default_rng(1).standard_normal(len(net.parameters)), 1e-5
    ends = [gradient(net.with_parameters(net.parameters + s * step * v), x, goal.gradient) for s in (1, -1)]
    found = hessian_vector(net, x, goal, v)
    assert np.abs(found - (ends[0] - ends[1]) / (2 * step)).max() <= 1e-7 * (1 + np.abs(found).max())


@given(A=matrices(2, 2), B=matrices(1, 2), x=vectors(2), v=vectors(6))
def test_products_with_squares_are_exact(A, B, x, v):
    """`y = Σ_k b_k (a_k·x)²` is a polynomial: its Hessian is that of second differences, which are exact here."""
    net, goal = Network.layered([A, B], "square"), SquaredError(exact([0])[None])

    def along(t: Fraction) -> Fraction:
        moved = net.with_parameters(net.parameters + t * v)
        return gradient(moved, x[:, None], goal.gradient) @ v

    # d/dt of a polynomial of degree 5 in t, at 0, from values at ±1, ±2, ±3
    c = {1: Fraction(3, 4), 2: Fraction(-3, 20), 3: Fraction(1, 60)}
    derivative = sum(w * (along(Fraction(k)) - along(Fraction(-k))) for k, w in c.items())
    assert hessian_vector(net, x[:, None], goal, v) @ v == derivative


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_the_hessian_is_symmetric_and_agrees_with_torch(name):
    torch = pytest.importorskip("torch")
    net, x, goal = network(name)
    H = hessian(net, x, goal)
    assert np.abs(H - H.T).max() <= 1e-13 * np.abs(H).max()
    functions = {"tanh": torch.tanh, "relu": torch.relu, "gelu": torch.nn.functional.gelu}
    shapes, inputs, targets = [(4, 3), (3, 4), (2, 3)], torch.tensor(x), torch.tensor(goal.y)

    def loss(theta):
        h, at, bias = inputs, 0, sum(a * b for a, b in shapes)
        for k, (rows, columns) in enumerate(shapes):
            W = theta[at : at + rows * columns].reshape(rows, columns)
            h = W @ h + theta[bias : bias + rows, None]
            h = functions[name](h) if k < 2 else h
            at, bias = at + rows * columns, bias + rows
        return ((h - targets) ** 2).sum() / 2

    theirs = torch.autograd.functional.hessian(loss, torch.tensor(net.parameters)).numpy()
    assert np.abs(H - theirs).max() <= 1e-12 * np.abs(theirs).max()


@given(seed=st.integers(0, 99))
def test_tied_weights_share_their_row(seed):
    rng = np.random.default_rng(seed)
    weights = {("x", "a"): 0.5, ("x", "b"): 0.5, ("a", "y"): 1.5, ("b", "y"): -0.7}
    kinds = {"a": "tanh", "b": "sigmoid", "y": "linear"}
    tied = Network.from_edges(weights, kinds, ["x"], ["y"], tied={("x", "a"): "w", ("x", "b"): "w"})
    free = Network.from_edges(weights, kinds, ["x"], ["y"])
    x, goal = rng.standard_normal((1, 4)), SquaredError(rng.standard_normal((1, 4)))
    S = np.eye(3)[tied.tie]
    assert np.abs(S.T @ hessian(free, x, goal) @ S - hessian(tied, x, goal)).max() <= 1e-12


def test_bad_input_is_named():
    net, x, goal = network("tanh")
    with pytest.raises(ValueError, match=r"vector has shape \(3,\)"):
        hessian_vector(net, x, goal, np.ones(3))
    bare = Network.layered([np.ones((2, 3)), np.ones((2, 2))], from_callable(np.tanh))
    with pytest.raises(ValueError, match="only the first derivative is known"):
        hessian_vector(bare, x, goal, np.ones(10))
