"""The loops of `simulate.stochastic`, compiled."""

from __future__ import annotations

from math import erf, exp, log, pi, sqrt, tanh
from typing import Any

import numpy as np
from numba import njit

from simulate.randomness import normal

Array = np.ndarray[Any, Any]
compiled = njit(nogil=True, cache=True, error_model="numpy")
RELU, TANH = 0, 1  # else GELU
APART = 8  # steps between two orthogonalisations


@compiled
def activate(z: float, kind: int) -> tuple[float, float, float]:
    """Return `φ(z)`, `φ'(z)` and `φ''(z)`.

    >>> activate(-1.0, RELU)
    (0.0, 0.0, 0.0)
    """
    if kind == RELU:
        return (z, 1.0, 0.0) if z > 0 else (0.0, 0.0, 0.0)
    if kind == TANH:
        t = tanh(z)
        return t, 1 - t * t, -2 * t * (1 - t * t)
    below, density = 0.5 * (1 + erf(z / sqrt(2.0))), exp(-z * z / 2) / sqrt(2 * pi)
    return z * below, below + z * density, density * (2 - z * z)


@compiled
def descend_and_record(
    W: Array,
    a: Array,
    teacher_W: Array,
    teacher_a: Array,
    mixing: Array,
    kinds: tuple[int, int, int, int, int],
    numbers: tuple[float, float, float, float],
    random: Array,
    b: Array,
    curvature: Array,
    weights: Array,
) -> None:
    """Descend, changing `W` and `a`, and write `b_t`, `a A_t` and the weights of one unit; see `Record`.

    Args:
        W, a, teacher_W, teacher_a, mixing: As in `Setting`.
        kinds: Activation, that of the teacher, batch, warmup, unit.
        numbers: Rate, noise, factor of all clones together, factor of a clone.
        random: State of `simulate.randomness`.
        b, curvature, weights: Written to; `curvature` has length 0 for ReLU.
    """
    kind, other, batch, warmup, unit = kinds
    rate, noise, together, alone = numbers
    units, inputs = W.shape
    x, g = np.empty(inputs), np.empty(inputs)
    slope_W, slope_a = np.empty((units, inputs)), np.empty(units)
    h, h1, h2 = np.empty(units), np.empty(units), np.empty(units)
    for t in range(warmup + len(b)):
        now = t - warmup
        if now >= 0:
            weights[now, :inputs], weights[now, inputs] = W[unit], a[unit]
            b[now] = 0
            if len(curvature):
                curvature[now] = 0
        slope_W[:], slope_a[:] = 0, 0
        for _ in range(batch):
            _draw(x, g, mixing, random)
            error = -noise * normal(random) - _output(teacher_W, teacher_a, x, other)
            for k in range(units):
                h[k], h1[k], h2[k] = activate(_dot(W[k], x), kind)
                error += together * a[k] * h[k]
            error *= alone / batch
            for k in range(units):
                slope_a[k] += error * h[k]
                for i in range(inputs):
                    slope_W[k, i] += a[k] * error * h1[k] * x[i]
            if now >= 0:
                for i in range(inputs):
                    b[now, i] += error * h1[unit] * x[i]
                    if len(curvature):
                        for j in range(inputs):
                            curvature[now, i, j] += a[unit] * error * h2[unit] * x[i] * x[j]
        for k in range(units):
            a[k] -= rate * slope_a[k]
            for i in range(inputs):
                W[k, i] -= rate * slope_W[k, i]


@compiled
def _draw(x: Array, g: Array, mixing: Array, random: Array) -> None:
    for i in range(len(x)):
        g[i] = normal(random)
    for i in range(len(x)):
        x[i] = _dot(mixing[i], g)


@compiled
def _dot(u: Array, v: Array) -> float:
    total = 0.0
    for i in range(len(u)):
        total += u[i] * v[i]
    return total


@compiled
def _output(W: Array, a: Array, x: Array, kind: int) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * activate(_dot(W[k], x), kind)[0]
    return total


@compiled
def grow(b: Array, curvature: Array, rate: float, count: int, blocks: int) -> Array:
    """Return the mean logarithm a step by which `count` orthogonal vectors grow, in each of `blocks` pieces.

    One more piece before them aligns the vectors.

    Args:
        b, curvature: As in `Record`; `curvature` may have length 0.
        rate: `η`.
        count: How many vectors.
        blocks: How many pieces.

    Returns:
        Shape (blocks, count).

    >>> grow(np.zeros((40, 1)), np.empty((0, 1, 1)), 0.1, 2, 2).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    steps, inputs = b.shape
    Q = np.empty((count, inputs + 1))
    for k in range(count):
        for i in range(inputs + 1):
            Q[k, i] = 1.0 / (1 + i + k) + (1.0 if i == k else 0.0)
    scratch, found = np.empty(inputs), np.zeros((blocks + 1, count))
    length = steps // (blocks + 1)
    for t in range(length * (blocks + 1)):
        for k in range(count):
            _step(Q[k], b[t], curvature, t, rate, scratch)
        if t % APART == 0 or (t + 1) % length == 0:
            _orthogonalise(Q, found[t // length])
    return found[1:] / length


@compiled
def _step(v: Array, b: Array, curvature: Array, t: int, rate: float, scratch: Array) -> None:
    """Multiply `v = (ε, α)` by `I − η H`."""
    inputs = len(b)
    alpha = v[inputs]
    along = 0.0
    for i in range(inputs):
        along += b[i] * v[i]
        scratch[i] = b[i] * alpha
    if len(curvature):
        for i in range(inputs):
            for j in range(inputs):
                scratch[i] += curvature[t, i, j] * v[j]
    for i in range(inputs):
        v[i] -= rate * scratch[i]
    v[inputs] = alpha - rate * along


@compiled
def _orthogonalise(Q: Array, logarithms: Array) -> None:
    """Make the rows orthonormal, one after the other, and add the logarithms of their lengths."""
    for k in range(len(Q)):
        for j in range(k):
            part = _dot(Q[j], Q[k])
            for i in range(len(Q[k])):
                Q[k, i] -= part * Q[j, i]
        size = sqrt(_dot(Q[k], Q[k]))
        logarithms[k] += log(size)
        for i in range(len(Q[k])):
            Q[k, i] /= size
