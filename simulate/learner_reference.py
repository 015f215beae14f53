"""The learners of `simulate.learners` in NumPy, formula by formula: slow, and what the fast ones must equal.

Every function changes the state in place; `s` are the learner's settings, `h` the activations (hidden,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simulate import optimizers
from simulate.learners import RESETS, UTILITIES, Segment, Settings, State, activated, bound, unpack
from simulate.randomness import normal, uniform

Array = np.ndarray[Any, Any]


def advance(state: State, segment: Segment, s: Settings) -> float:
    """Take one step a sample and return the sum of `(ŷ − y)²`, each taken before its step.

    Args:
        state: Of the learner; changed in place.
        segment: The samples.
        s: The learner's settings.
    """
    total = 0.0
    for pattern in segment.order:
        total += step(state, segment.inputs[pattern], segment.targets[pattern], segment.recent, s)
    return total


def step(state: State, x: Array, y: float, recent: Array, s: Settings) -> float:
    """Take a step on the sample `(x, y)` and return `(ŷ − y)²` from before it.

    Args:
        state: Changed in place.
        x: Input, shape (bits,).
        y: Target.
        recent: Inputs on which "escape" keeps the function, shape (samples, bits).
        s: The learner's settings.
    """
    error, h, g = gradient(state, x, y, s)
    if s.dropout:
        _, _, g = gradient(state, x, y, s, gates(state, s))
    state.clock[0] += 1
    descend(state, g, s)
    shrink_and_perturb(state, s)
    passes = {"cbp": continual_backprop, "redo": redo, "escape": escape}
    if s.resets and state.clock[0] > s.start:
        passes[RESETS[s.resets]](state, h, recent, s)
    return error**2


def gates(state: State, s: Settings) -> Array:
    """Draw what dropout multiplies the activations by: 0 with its probability `p`, else `1 / (1 − p)` (hidden,)."""
    return np.array([(uniform(state.random) >= s.dropout) / (1 - s.dropout) for _ in state.mean])


def gradient(
    state: State, x: Array, y: float, s: Settings, gate: Array | float = 1.0
) -> tuple[float, Array, Array]:
    """Return `ŷ − y`, the activations times `gate`, and the gradient of `(ŷ − y)²`; linear: by `W, b` alone."""
    hidden = len(state.mean)
    W, b, v, c = unpack(state.weights, hidden)
    z = x @ W + b
    value, slope = activated(s.activation, z)
    h = gate * value
    error = float(h @ v + c - y)
    delta = 2 * error * v * gate * slope
    out = 0.0 if s.linear else 2 * error
    g = np.concatenate([np.outer(x, delta).ravel(), delta, out * h, [out]])
    return error, h, g


def descend(state: State, g: Array, s: Settings) -> None:
    """Take an optimizer's step on `g + λ w + λ' (w − w₀)` after decoupled decay."""
    state.counts[:] += 1
    w = state.weights
    g = g + s.l2 * w + s.pull * (w - state.anchor)
    kept = w * (1 - s.rate * s.decay)
    if s.adam:
        rule = optimizers.adam(s.rate, betas=(s.momentum, s.beta2), eps=s.eps)
        (_, state.first[:], state.second[:]), w[:] = rule((_counts(state) - 1, state.first, state.second), kept, g)
    else:
        state.first[:], w[:] = optimizers.sgd(s.rate, momentum=s.momentum)(state.first, kept, g)


def shrink_and_perturb(state: State, s: Settings) -> None:
    """Set `w ← (1 − shrink) w + noise · N(0, 1)`."""
    if s.shrink or s.noise:
        drawn = [normal(state.random) for _ in state.weights] if s.noise else 0.0
        state.weights[:] = (1 - s.shrink) * state.weights + s.noise * np.array(drawn)


def continual_backprop(state: State, h: Array, recent: Array, s: Settings) -> None:
    """Update the utilities, and re-draw the mature units of least utility, `ρ` a step and mature unit.

    The replacements due accumulate, so that small networks get their share; the mean output of a unit that goes
    passes to the bias `c` (Dohare et al. 2024, algorithm 1). Running means are corrected by `1 − ηᵃᵍᵉ`.
    """
    state.age[:] += 1
    correction = 1 - s.smoothing**state.age
    state.mean[:] = s.smoothing * state.mean + (1 - s.smoothing) * h
    state.utility[:] = s.smoothing * state.utility + (1 - s.smoothing) * utility(state, h, correction, s)
    state.budget[0] += s.replacement * np.sum(state.age > s.maturity)
    while state.budget[0] >= 1 and np.any(state.age > s.maturity):
        worst = np.where(state.age > s.maturity, state.utility / correction, np.inf)
        k = int(np.argmin(worst))
        state.weights[-1] += outgoing(state)[k] * state.mean[k] / correction[k]
        renew(state, k, s)
        state.budget[0] -= 1


def utility(state: State, h: Array, correction: Array, s: Settings) -> Array:
    """Return the utility of every unit on one sample, from `h`, its corrected running mean `f`, and the weights.

    `|h| |v|` contribution, `|h − f| |v|` zero-contribution, `|h − f| |v| / mean |W|` adaptable-contribution,
    `|v|` weight, `1 / mean |W|` adaptation.
    """
    W, _, v, _ = unpack(state.weights, len(h))
    moved, size = np.abs(h - state.mean / correction), np.abs(W).mean(axis=0)
    formulas = {
        "contribution": lambda: np.abs(h) * np.abs(v),
        "zero-contribution": lambda: moved * np.abs(v),
        "adaptable-contribution": lambda: moved * np.abs(v) / size,
        "weight": lambda: np.abs(v),
        "adaptation": lambda: 1 / size,
    }
    return formulas[UTILITIES[s.utility]]()


def redo(state: State, h: Array, recent: Array, s: Settings) -> None:
    """Re-draw every `period` steps the units with mean activation at most `τ` times the mean over units."""
    state.activity[:] += np.abs(h)
    if state.clock[0] % s.period == 0:
        for k in np.flatnonzero(state.activity <= s.dormant * state.activity.mean()):
            renew(state, int(k), s)
        state.activity[:] = 0


def escape(state: State, h: Array, recent: Array, s: Settings) -> None:
    """Re-draw every `period` steps the dead units and the copies, without changing the function (claim E2).

    A unit `k` silent on all recent inputs has nothing to pass on. A unit with `h_k = a h_j` on them, `j` the
    larger one, passes its outgoing weight on, `v_j ← v_j + a v_k`, `v_k ← 0`: the zero-sum split of the copies'
    outgoing weights that leaves nothing to one of them. Then it is re-drawn with `v_k = 0`. As `a ≤ 1`, outgoing
    weights do not blow up, as they would where a unit passes its weight on to a much smaller one.
    """
    if state.clock[0] % s.period:
        return
    W, b, v, _ = unpack(state.weights, len(h))
    H, _ = activated(s.activation, recent @ W + b)
    models: list[int] = []
    for k in map(int, np.argsort(-np.sum(H**2, axis=0), kind="stable")):
        j, a = original(H, models, k, s.tolerance)
        if j >= 0:
            v[j] += a * v[k]
        if j >= 0 or not H[:, k].any():
            renew(state, k, s)
        else:
            models.append(k)


def original(H: Array, models: list[int], k: int, tolerance: float) -> tuple[int, float]:
    """Return the first model `j` with `‖H_k − a H_j‖ ≤ tolerance ‖H_k‖`, or −1, and `a = H_j·H_k / ‖H_j‖²`."""
    for j in models:
        a = float(H[:, j] @ H[:, k] / (H[:, j] @ H[:, j]))
        if np.linalg.norm(H[:, k] - a * H[:, j]) <= tolerance * np.linalg.norm(H[:, k]) > 0:
            return j, a
    return -1, 0.0


def renew(state: State, k: int, s: Settings) -> None:
    """Re-draw unit `k`: fresh incoming weights, no bias, nothing outgoing, no memory of the old unit anywhere."""
    bits = len(state.weights[:-1]) // len(state.mean) - 2
    fresh = [(2 * uniform(state.random) - 1) * bound(bits, s.squared_gain) for _ in range(bits)]
    column = np.array([*fresh, 0.0, 0.0])
    for vector in (state.weights, state.anchor):
        vector[:-1].reshape(bits + 2, -1)[:, k] = column
    for vector in (state.first, state.second):
        vector[:-1].reshape(bits + 2, -1)[:, k] = 0
    for memory in (state.counts, state.utility, state.mean, state.age, state.activity):
        memory[k] = 0
    state.clock[1] += 1


def outgoing(state: State) -> Array:
    """Return `v` (hidden,) as a view of the weights."""
    return unpack(state.weights, len(state.mean))[2]


def _counts(state: State) -> Array:
    """Return the optimizer steps of every parameter (parameters,)."""
    rows = (len(state.weights) - 1) // len(state.mean)
    return np.append(np.tile(state.counts[:-1], rows), state.counts[-1])
