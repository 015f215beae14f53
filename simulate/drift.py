"""Training drives pre-activations into saturation, normalised ones it does not (claims R7, E3).

Inputs are `(s, x)`: signs `s` that hold for a task and then change, and fast `x`, standard normal. A hidden unit
with in-weights `(p, q)` and bias `c` then has the pre-activation `a Z + b` with a standard normal `Z`,

    a = ‖q‖,      b = p·s + c,

so that `theory.saturation` tells from gain and shift on which share of inputs it is frozen:
`P(a |φ'(a Z + b)| < δ)`. Normalised over the population it is `φ(a' Z)` with `a' = a/√(a² + ε)`, wherever training
drives `a` and `b`. Training normalises over the batch, as BatchNorm does with affine parameters fixed at 1 and 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from theory.activations import get
from theory.saturation import LIVE, frozen_fraction

Array = np.ndarray[Any, Any]

HUGE = 1e100  # a mean loss beyond it is a divergence


@dataclass(frozen=True)
class Config:
    """A learner and its world.

    Attributes:
        activation: One whose saturation is known: a name of `theory.saturation.LIVE`.
        normalised: Whether pre-activations are standardised over the batch.
        hidden, teacher: Units of the learner, and threshold units of the target.
        size: Standard deviation of targets.
        slow, fast: Inputs that hold for a task, and others.
        tasks, hold, batch: Number of tasks, steps of a task, samples a step.
        redrawn: Whether all signs are drawn anew after a task; otherwise one flips.
        rate: Learning rate of SGD on half the mean squared error.
        seeds: Networks that are trained at once, each in a world of its own.
        epsilon: Added to the variance.
        delta: A slope below this counts as frozen.
        probe: Samples on which frozen shares are measured.
    """

    activation: str = "tanh"
    normalised: bool = False
    hidden: int = 10
    teacher: int = 50
    size: float = 3.0
    slow: int = 15
    fast: int = 5
    tasks: int = 100
    hold: int = 100
    redrawn: bool = True
    batch: int = 16
    rate: float = 0.1
    seeds: int = 20
    epsilon: float = 1e-5
    delta: float = 0.1
    probe: int = 400

    def __post_init__(self) -> None:
        if self.activation not in LIVE:
            raise ValueError(f"activation is {self.activation!r}; allowed are {', '.join(LIVE)}")
        for name in ("hidden", "teacher", "slow", "fast", "tasks", "hold", "seeds", "probe"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed are integers ≥ 1")
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch!r}; allowed are integers ≥ 2, one sample has no variance")
        if not (self.rate >= 0 and self.epsilon > 0 and self.delta > 0):
            raise ValueError("rate, epsilon or delta is wrong; allowed are rate ≥ 0, epsilon > 0, delta > 0")


class Weights(NamedTuple):
    """`W` of shape (seeds, hidden, inputs), `c` and `v` (seeds, hidden), `d` (seeds,)."""

    W: Array
    c: Array
    v: Array
    d: Array


@dataclass(frozen=True)
class Course:
    """What units went through, before training and after each task.

    Attributes:
        config: Of the run.
        gain, shift: `a` and `b` of what the activation sees, shape (tasks + 1, seeds, hidden).
        frozen: Measured shares of samples with a slope below `δ`, of the same shape.
        loss: Mean over each task, shape (tasks, seeds).
    """

    config: Config
    gain: Array
    shift: Array
    frozen: Array
    loss: Array

    def predicted(self) -> Array:
        """Return the frozen shares that theory tells from gain and shift, shape (tasks + 1, seeds, hidden)."""
        return frozen_fraction(self.config.activation, self.gain, self.shift, self.config.delta)


def run(config: Config, seed: int = 0) -> Course:
    """Return the course of all networks; a step costs `O(seeds · hidden · inputs · batch)`.

    Args:
        config: The learners and their world.
        seed: Of everything that is drawn.

    Raises:
        ValueError: The weights grow beyond all bounds.

    >>> course = run(Config(hidden=2, tasks=1, hold=2, seeds=3))
    >>> course.gain.shape, course.loss.shape, course.predicted().shape
    ((2, 3, 2), (1, 3), (2, 3, 2))
    """
    rng = np.random.default_rng(seed)
    signs, target = rng.choice([-1.0, 1.0], (config.seeds, config.slow)), _target(config, rng)
    weights = initial(config, rng)
    rows, losses = [_measured(config, weights, signs, rng)], []
    for task in range(config.tasks):
        signs = rng.choice([-1.0, 1.0], signs.shape) if config.redrawn else _flipped(signs, rng)
        weights, loss = _task(config, weights, signs, target, rng)
        if not (loss < HUGE).all():
            raise ValueError(f"training diverged in task {task} at the rate {config.rate}; choose a smaller rate")
        rows.append(_measured(config, weights, signs, rng))
        losses.append(loss)
    gain, shift, frozen = (np.array(values) for values in zip(*rows, strict=True))
    return Course(config, gain, shift, frozen, np.array(losses))


def onset(frozen: Array, level: float) -> Array:
    """Return for each seed the first task after which the mean frozen share is `level` or more; −1 if none.

    Args:
        frozen: Shape (tasks + 1, seeds, hidden).
        level: Between 0 and 1.

    >>> onset(np.array([[[0.0, 0.0]], [[1.0, 0.5]]]), 0.7).tolist()
    [1]
    """
    beyond = np.asarray(frozen).mean(axis=2) >= level
    return np.where(beyond.any(axis=0), beyond.argmax(axis=0), -1)


def standardised(z: Array, epsilon: float) -> tuple[Array, Array]:
    """Return `(z − mean)/√(var + ε)` over the last axis, and `√(var + ε)` with that axis kept.

    Args:
        z: Of shape (..., samples).
        epsilon: `ε ≥ 0`.

    >>> u, scale = standardised(np.array([1.0, 3.0]), 0.0)
    >>> u.tolist(), scale.tolist()
    ([-1.0, 1.0], [1.0])
    """
    centred = z - z.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return centred / scale, scale


def initial(config: Config, rng: np.random.Generator) -> Weights:
    """Return random weights: He's for ReLU and its kin, Xavier's for the others, biases 0.

    Args:
        config: Sizes and activation.
        rng: Source of randomness.

    Source: He et al. 2015; Glorot & Bengio 2010.

    >>> initial(Config(hidden=4, slow=2, fast=1, seeds=5), np.random.default_rng(0)).W.shape
    (5, 4, 3)
    """
    inputs, gain = config.slow + config.fast, 2.0 if config.activation in ("relu", "elu", "selu") else 1.0
    W = rng.standard_normal((config.seeds, config.hidden, inputs)) * np.sqrt(gain / inputs)
    v = rng.standard_normal((config.seeds, config.hidden)) / np.sqrt(config.hidden)
    return Weights(W, np.zeros_like(v), v, np.zeros(config.seeds))


def output(config: Config, weights: Weights, x: Array) -> Array:
    """Return the learners' outputs on a batch, shape (seeds, samples); `x` is (seeds, inputs, samples).

    >>> config = Config("relu", hidden=1, slow=1, fast=1, seeds=1)
    >>> weights = Weights(np.ones((1, 1, 2)), np.zeros((1, 1)), np.full((1, 1), 2.0), np.ones(1))
    >>> output(config, weights, np.array([[[1.0], [2.0]]])).tolist()  # 2 · (1 + 2) + 1
    [[7.0]]
    """
    u = _seen(config, weights, x)[0]
    return np.asarray((weights.v[:, None] @ get(config.activation).value(u))[:, 0] + weights.d[:, None])


def slopes(config: Config, weights: Weights, x: Array, y: Array) -> tuple[Weights, Array]:
    """Return the gradient of half the mean squared error on a batch, and that error, shape (seeds,).

    Args:
        config: Activation, and whether it is normalised.
        weights: Of all networks.
        x: Inputs, shape (seeds, inputs, samples).
        y: Targets, shape (seeds, samples).

    >>> config = Config("relu", hidden=1, slow=1, fast=1, seeds=1)
    >>> weights = Weights(np.ones((1, 1, 2)), np.zeros((1, 1)), np.full((1, 1), 2.0), np.ones(1))
    >>> found, loss = slopes(config, weights, np.array([[[1.0], [2.0]]]), np.array([[6.0]]))
    >>> found.W.tolist(), found.v.tolist(), loss.tolist()
    ([[[2.0, 4.0]]], [[3.0]], [0.5])
    """
    phi = get(config.activation)
    u, scale = _seen(config, weights, x)
    h = phi.value(u)
    miss = (weights.v[:, None] @ h)[:, 0] + weights.d[:, None] - y
    error = miss / y.shape[1]
    delta = phi.slope(u) * weights.v[:, :, None] * error[:, None]
    if config.normalised:
        along = (delta * u).mean(axis=-1, keepdims=True)
        delta = (delta - delta.mean(axis=-1, keepdims=True) - u * along) / scale
    found = Weights(
        delta @ x.transpose(0, 2, 1), delta.sum(axis=-1), (h @ error[:, :, None])[:, :, 0], error.sum(1)
    )
    return found, (miss**2).mean(axis=1) / 2


def _seen(config: Config, weights: Weights, x: Array) -> tuple[Array, Array]:
    """Return what the activation sees, shape (seeds, hidden, samples), and what it was divided by."""
    z = weights.W @ x + weights.c[:, :, None]
    return standardised(z, config.epsilon) if config.normalised else (z, np.ones(1))


def _target(config: Config, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return threshold units, shape (seeds, teacher, inputs), and their out-weights, (seeds, 1, teacher)."""
    units = rng.standard_normal((config.seeds, config.teacher, config.slow + config.fast))
    size = config.size / np.sqrt(config.teacher)
    return units, size * rng.standard_normal((config.seeds, 1, config.teacher))


def _flipped(signs: Array, rng: np.random.Generator) -> Array:
    """Return the signs with one flipped for each seed."""
    chosen = rng.integers(signs.shape[1], size=len(signs))
    return np.where(np.arange(signs.shape[1]) == chosen[:, None], -signs, signs)


def _inputs(config: Config, signs: Array, samples: int, rng: np.random.Generator) -> Array:
    slow = np.broadcast_to(signs[:, :, None], (*signs.shape, samples))
    return np.concatenate([slow, rng.standard_normal((config.seeds, config.fast, samples))], axis=1)


def _task(
    config: Config, weights: Weights, signs: Array, target: tuple[Array, Array], rng: np.random.Generator
) -> tuple[Weights, Array]:
    total = np.zeros(config.seeds)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(config.hold):
            x = _inputs(config, signs, config.batch, rng)
            y = (target[1] @ np.sign(target[0] @ x))[:, 0]
            slope, loss = slopes(config, weights, x, y)
            weights = Weights(*(w - config.rate * g for w, g in zip(weights, slope, strict=True)))
            total += loss
    return weights, total / config.hold


def _measured(
    config: Config, weights: Weights, signs: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return gain, shift and measured frozen share of every unit, with statistics of the population."""
    gain = np.linalg.norm(weights.W[:, :, config.slow :], axis=2)
    shift = (weights.W[:, :, : config.slow] @ signs[:, :, None])[:, :, 0] + weights.c
    u = weights.W @ _inputs(config, signs, config.probe, rng) + weights.c[:, :, None]
    if config.normalised:
        scale = np.sqrt(gain**2 + config.epsilon)
        u, gain, shift = (u - shift[:, :, None]) / scale[:, :, None], gain / scale, 0 * shift
    slope = gain[:, :, None] * np.abs(get(config.activation).slope(u))
    return gain, shift, (slope < config.delta).mean(axis=2)
