"""Pairs of ReLU clones in one hidden layer, many seeds at once: predicted and measured escape (claims C10, E1).

A base unit `(w, a)` becomes two clones `(w, a/2)`. Normal to the cloned manifold are the differences
`ε = (w₁ − w₂)/√2` and `α = (a₁ − a₂)/√2` of each pair, and close to it descent moves them by

    ε ← ε − η b α,      α ← α − η b·ε,      b = E ℓ' σ'(z) x = ∂L/∂w / a  of the base unit:

one direction grows at the rate `‖b‖`, one shrinks, the others rest. The loss is the mean of `½ (f − y)²`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Convention = Literal["entry", "vector"]


@dataclass(frozen=True)
class Problem:
    """A base network, its data and a learning rate.

    Attributes:
        W: In-weights, shape (units, inputs).
        a: Out-weights, shape (units,).
        x: Inputs, shape (inputs, samples).
        y: Targets, shape (samples,).
        rate: Learning rate `η`.
    """

    W: Array
    a: Array
    x: Array
    y: Array
    rate: float


@dataclass(frozen=True)
class Disturbance:
    """What moves clones apart, beside where they start.

    Attributes:
        sigma, decay: Gradient noise `σ₀ λᵗ ‖g‖`, per entry or per vector as `convention` says; `g` is the gradient
            of the whole network.
        convention: `"entry"` is JL25's code, `√d` times stronger than `"vector"`.
        dropout: Probability with which a clone is silent for a sample; the others are scaled up.
        batch: Samples a step, drawn with replacement; all of them if `None`.

    >>> Disturbance(sigma=0.1, batch=8).convention
    'vector'
    """

    sigma: float = 0.0
    decay: float = 1.0
    convention: Convention = "vector"
    dropout: float = 0.0
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("sigma", self.sigma), ("decay", self.decay), ("dropout", self.dropout)):
            if not value >= 0 or (name != "sigma" and value > 1) or (name == "dropout" and value == 1):
                raise ValueError(f"{name} is {value!r}; allowed are sigma ≥ 0, decay in [0, 1], dropout in [0, 1)")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch is {self.batch!r}; allowed are integers ≥ 1, or None for all samples")


def random_problem(
    units: int, inputs: int, samples: int, rng: np.random.Generator, *, rate: float = 0.02
) -> Problem:
    """Return a random base network and targets of a random tanh network.

    Raises:
        ValueError: A number is below 1, or the rate is not positive.

    >>> random_problem(4, 3, 10, np.random.default_rng(0)).W.shape
    (4, 3)
    """
    for name, value in (("units", units), ("inputs", inputs), ("samples", samples)):
        if value < 1:
            raise ValueError(f"{name} is {value!r}; allowed are integers ≥ 1")
    if not rate > 0:
        raise ValueError(f"rate is {rate!r}; allowed are positive numbers")
    x = rng.standard_normal((inputs, samples))
    hidden = np.tanh(rng.standard_normal((8, inputs)) @ x / np.sqrt(inputs))
    y = rng.standard_normal(8) @ hidden
    W = rng.standard_normal((units, inputs)) * np.sqrt(2 / inputs)
    return Problem(W, rng.standard_normal(units) / np.sqrt(units), x, y, rate)


def base_path(problem: Problem, steps: int) -> tuple[Array, Array]:
    """Return `b` of every unit and the norm of the clone's gradient at each step of descent on the manifold.

    The clone of a base unit moves like it with half the rate of `w` (claim C7: `w₁ = w`, `a₁ = a/2`, so that
    `∂L/∂w₁ = (a/2) b` and `∂L/∂a₁ = ∂L/∂a`).

    Args:
        problem: Base network and data.
        steps: How many steps.

    Returns:
        `b` of shape (steps, units, inputs), and norms of shape (steps,).

    >>> one = Problem(np.array([[1.0]]), np.array([2.0]), np.array([[3.0]]), np.array([5.0]), 0.1)
    >>> b, norms = base_path(one, 1)
    >>> float(b[0, 0, 0]), f"{norms[0]:.6f}"  # (2 · 3 − 5) · 3, and √(2 · 3² + 2 · 3²)
    (3.0, '6.000000')
    """
    W, a = problem.W.copy(), problem.a.copy()
    b, norms = np.empty((steps, *W.shape)), np.empty(steps)
    for t in range(steps):
        z = W @ problem.x
        h = np.maximum(z, 0.0)
        error = (a @ h - problem.y) / len(problem.y)
        b[t] = ((z > 0) * error) @ problem.x.T
        slope_a = h @ error
        norms[t] = np.sqrt(2 * ((a[:, None] / 2 * b[t]) ** 2).sum() + 2 * (slope_a**2).sum())
        W, a = W - problem.rate * a[:, None] / 2 * b[t], a - 2 * problem.rate * slope_a
    return b, norms


def perturbations(problem: Problem, size: float, seeds: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return random normal perturbations of that length: `ε` of shape (seeds, units, inputs), `α` (seeds, units).

    Raises:
        ValueError: `size` is negative, or `seeds < 1`.

    >>> one = Problem(np.array([[1.0]]), np.array([2.0]), np.array([[3.0]]), np.array([5.0]), 0.1)
    >>> epsilon, alpha = perturbations(one, 0.1, 3, np.random.default_rng(0))
    >>> epsilon.shape, [f"{d:.3f}" for d in predicted_distances(np.zeros((0, 1, 1)), epsilon, alpha, 0.1)[0]]
    ((3, 1, 1), ['0.100', '0.100', '0.100'])
    """
    if not size >= 0 or seeds < 1:
        raise ValueError(f"size is {size!r} and seeds {seeds!r}; allowed are size ≥ 0 and seeds ≥ 1")
    epsilon = rng.standard_normal((seeds, *problem.W.shape))
    alpha = rng.standard_normal((seeds, len(problem.a)))
    length = np.sqrt((epsilon**2).sum(axis=(1, 2)) + (alpha**2).sum(axis=1))
    return size * epsilon / length[:, None, None], size * alpha / length[:, None]


def predicted_distances(b: Array, epsilon: Array, alpha: Array, rate: float) -> Array:
    """Return the distance from the manifold after each linearised step, shape (steps + 1, seeds).

    Args:
        b: As `base_path` returns it, shape (steps, units, inputs).
        epsilon, alpha: As `perturbations` returns them.
        rate: Learning rate.

    >>> b, epsilon, alpha = np.ones((2, 1, 1)), np.full((1, 1, 1), 0.6), np.full((1, 1), -0.6)
    >>> (predicted_distances(b, epsilon, alpha, 0.5)[:, 0] / (0.6 * np.sqrt(2))).round(6).tolist()
    [1.0, 1.5, 2.25]
    """
    distances = [_length(epsilon, alpha)]
    for slope in b:
        step = np.einsum("kd,skd->sk", slope, epsilon)
        epsilon, alpha = epsilon - rate * slope * alpha[:, :, None], alpha - rate * step
        distances.append(_length(epsilon, alpha))
    return np.array(distances)


def predicted_noise(b: Array, norms: Array, rate: float, disturbance: Disturbance) -> Array:
    """Return the root mean square distance under gradient noise from a start on the manifold, shape (steps + 1,).

    The covariance of `(ε, α)` of each pair obeys `C ← (1 − ηH) C (1 − ηH)ᵀ + η² s² I`, `s` the noise of an entry.

    Args:
        b, norms: As `base_path` returns them.
        rate: Learning rate `η`.
        disturbance: Its `sigma`, `decay` and `convention` count.

    >>> found = predicted_noise(np.zeros((2, 1, 1)), np.ones(2), 0.5, Disturbance(sigma=1.0, convention="entry"))
    >>> found.round(6).tolist()  # η √(2 t)
    [0.0, 0.707107, 1.0]
    """
    units, inputs = b.shape[1:]
    C, distances = np.zeros((units, inputs + 1, inputs + 1)), [0.0]
    entries = 2 * units * (inputs + 1)
    for t, (slope, norm) in enumerate(zip(b, norms, strict=True), start=1):
        step = np.tile(np.eye(inputs + 1), (units, 1, 1))
        step[:, :inputs, inputs] = step[:, inputs, :inputs] = -rate * slope
        scale = rate * entry_noise(disturbance, t, norm, entries)
        C = step @ C @ step + scale**2 * np.eye(inputs + 1)
        distances.append(float(np.sqrt(np.trace(C, axis1=1, axis2=2).sum())))
    return np.array(distances)


def entry_noise(disturbance: Disturbance, step: int, norm: Any, entries: int) -> Any:
    """Return the standard deviation of the noise on one entry of the gradient: `σ₀ λᵗ ‖g‖`, over `√d` per vector.

    Args:
        disturbance: Its `sigma`, `decay` and `convention` count.
        step: `t`.
        norm: `‖g‖`, a number or an array.
        entries: `d`.

    >>> float(entry_noise(Disturbance(sigma=0.5, decay=0.5), 2, 8.0, 4))  # per vector
    0.5
    """
    size = disturbance.sigma * disturbance.decay**step * norm
    return size if disturbance.convention == "entry" else size / np.sqrt(entries)


def measured_distances(
    problem: Problem,
    epsilon: Array,
    alpha: Array,
    steps: int,
    disturbance: Disturbance = Disturbance(),
    rng: np.random.Generator | None = None,
) -> Array:
    """Return the distance from the manifold after each step of descent of the perturbed clones.

    Each seed is a network of its own: `2 · units` hidden units, perturbed by its `ε` and `α`. A step costs
    `O(seeds · units · inputs · samples)`.

    Args:
        problem: Base network and data.
        epsilon, alpha: As `perturbations` returns.
        steps: How many steps.
        disturbance: Noise, dropout, batch size.
        rng: Source of randomness; needed if there is any disturbance.

    Returns:
        float64 of shape (steps + 1, seeds).

    Raises:
        ValueError: A disturbance needs `rng`.

    >>> one = Problem(np.array([[1.0]]), np.array([2.0]), np.array([[3.0]]), np.array([5.0]), 0.1)
    >>> epsilon, alpha = perturbations(one, 0.1, 3, np.random.default_rng(0))
    >>> measured_distances(one, epsilon, alpha, 5).shape
    (6, 3)
    """
    if rng is None and disturbance != replace(Disturbance(), decay=disturbance.decay):
        raise ValueError("a disturbance is random: give rng=numpy.random.default_rng(seed)")
    W = np.stack([problem.W + sign * epsilon / np.sqrt(2) for sign in (1, -1)], axis=1)
    a = np.stack([problem.a / 2 + sign * alpha / np.sqrt(2) for sign in (1, -1)], axis=1)
    distances = [_apart(W, a)]
    for t in range(1, steps + 1):
        slope_W, slope_a = _slopes(problem, W, a, disturbance, rng)
        if disturbance.sigma and rng is not None:
            norm = np.sqrt((slope_W**2).sum(axis=(1, 2, 3)) + (slope_a**2).sum(axis=(1, 2)))
            scale = entry_noise(disturbance, t, norm, slope_W[0].size + slope_a[0].size)
            slope_W = slope_W + scale[:, None, None, None] * rng.standard_normal(slope_W.shape)
            slope_a = slope_a + scale[:, None, None] * rng.standard_normal(slope_a.shape)
        W, a = W - problem.rate * slope_W, a - problem.rate * slope_a
        distances.append(_apart(W, a))
    return np.array(distances)


def _slopes(
    problem: Problem, W: Array, a: Array, disturbance: Disturbance, rng: np.random.Generator | None
) -> tuple[Array, Array]:
    x, y = problem.x, problem.y
    if disturbance.batch is not None and rng is not None:
        chosen = rng.integers(0, len(y), disturbance.batch)
        x, y = x[:, chosen], y[chosen]
    z = W @ x
    gate = (z > 0) * 1.0
    if disturbance.dropout and rng is not None:
        gate *= (rng.random(z.shape) >= disturbance.dropout) / (1 - disturbance.dropout)
    h = z * gate
    error = (np.einsum("snk,snkm->sm", a, h) - y) / len(y)
    slope_a = np.einsum("snkm,sm->snk", h, error)
    slope_W = (gate * error[:, None, None, :]) @ x.T * a[..., None]
    return slope_W, slope_a


def first_passage(distances: Array, goal: float) -> Array:
    """Return the first step at which each seed's distance is `goal` or more; −1 where it never is.

    Args:
        distances: Shape (steps + 1, seeds).
        goal: `δ₁`.

    >>> first_passage(np.array([[0.0, 0.0], [1.0, 0.5], [2.0, 0.0]]), 1.0).tolist()
    [1, -1]
    """
    beyond = np.asarray(distances) >= goal
    return np.where(beyond.any(axis=0), beyond.argmax(axis=0), -1)


def _apart(W: Array, a: Array) -> Array:
    return _length((W[:, 0] - W[:, 1]) / np.sqrt(2), (a[:, 0] - a[:, 1]) / np.sqrt(2))


def _length(epsilon: Array, alpha: Array) -> Array:
    return np.sqrt((epsilon**2).sum(axis=(1, 2)) + (alpha**2).sum(axis=1))
