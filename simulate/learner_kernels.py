"""The learners of `simulate.learners` compiled: the formulas of `simulate.learner_reference` as loops over scalars.

The matrix `A` (m + 2, hidden) has rows `W_1 … W_m`, `b`, `v`, so that inner loops run over units and need no
reassociated sums: the result depends on nothing but the seed. The functions release the interpreter lock.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numba import njit

from simulate.learner_reference import NEARLY
from simulate.learners import Segment, Settings, State
from simulate.randomness import normal, uniform

Array = np.ndarray[Any, Any]
compiled = njit(nogil=True, cache=True, error_model="numpy")


@compiled
def advance(state: State, segment: Segment, s: Settings) -> float:
    """Take one step a sample and return the sum of `(ŷ − y)²`, each taken before its step."""
    hidden, bits = len(state.mean), segment.inputs.shape[1]
    A = state.weights[:-1].reshape(bits + 2, hidden)
    plain = not (s.adam or s.momentum or s.l2 or s.decay or s.pull or s.linear)
    h, delta, g = np.empty(hidden), np.empty(hidden), np.zeros(len(state.weights))
    total = 0.0
    for pattern in segment.order:
        x = segment.inputs[pattern]
        error = _forward(A, state.weights[-1], x, h, s.linear) - segment.targets[pattern]
        total += error * error
        for k in range(hidden):
            delta[k] = 2 * error * A[bits + 1, k] if s.linear or h[k] > 0 else 0.0
        state.clock[0] += 1
        if plain:
            _descend_plainly(state, A, x, h, delta, error, s.rate)
        else:
            _gradient(g, x, h, delta, error, s.linear)
            _descend(state, g, s)
        if s.shrink or s.noise:
            _shrink_and_perturb(state, s)
        if s.resets == 1:
            _continual_backprop(state, A, h, s)
        elif s.resets == 2:
            _redo(state, A, h, s)
        elif s.resets == 3 and state.clock[0] % s.period == 0:
            _escape(state, A, segment.recent, s)
    return total


@compiled
def _forward(A: Array, c: float, x: Array, h: Array, linear: bool) -> float:
    """Write the activations to `h` and return `ŷ`."""
    bits, hidden = len(x), len(h)
    for k in range(hidden):
        h[k] = A[bits, k]
    for i in range(bits):
        if x[i] != 0:
            for k in range(hidden):
                h[k] += A[i, k] * x[i]
    out = c
    for k in range(hidden):
        h[k] = h[k] if linear or h[k] > 0 else 0.0
        out += A[bits + 1, k] * h[k]
    return out


@compiled
def _descend_plainly(state: State, A: Array, x: Array, h: Array, delta: Array, error: float, rate: float) -> None:
    """Take a step of plain SGD, leaving out what has no gradient."""
    bits, hidden = len(x), len(h)
    state.counts[:] += 1
    for i in range(bits):
        if x[i] != 0:
            for k in range(hidden):
                A[i, k] -= rate * delta[k] * x[i]
    for k in range(hidden):
        A[bits, k] -= rate * delta[k]
        A[bits + 1, k] -= rate * 2 * error * h[k]
    state.weights[-1] -= rate * 2 * error


@compiled
def _gradient(g: Array, x: Array, h: Array, delta: Array, error: float, linear: bool) -> None:
    bits, hidden = len(x), len(h)
    G, out = g[:-1].reshape(bits + 2, hidden), 0.0 if linear else 2 * error
    for i in range(bits):
        for k in range(hidden):
            G[i, k] = x[i] * delta[k]
    for k in range(hidden):
        G[bits, k] = delta[k]
        G[bits + 1, k] = out * h[k]
    g[-1] = out


@compiled
def _descend(state: State, g: Array, s: Settings) -> None:
    w, hidden = state.weights, len(state.mean)
    state.counts[:] += 1
    for j in range(len(w)):
        slope = g[j] + s.l2 * w[j] + s.pull * (w[j] - state.anchor[j])
        kept = w[j] * (1 - s.rate * s.decay)
        if s.adam:
            count = state.counts[j % hidden if j < len(w) - 1 else hidden]
            state.first[j] = s.momentum * state.first[j] + (1 - s.momentum) * slope
            state.second[j] = s.beta2 * state.second[j] + (1 - s.beta2) * slope * slope
            scale = sqrt(state.second[j] / s.correction2[min(count, len(s.correction2) - 1)]) + s.eps
            slope = state.first[j] / s.correction1[min(count, len(s.correction1) - 1)] / scale
        else:
            slope = state.first[j] = s.momentum * state.first[j] + slope
        w[j] = kept - s.rate * slope


@compiled
def _shrink_and_perturb(state: State, s: Settings) -> None:
    for j in range(len(state.weights)):
        drawn = normal(state.random) if s.noise else 0.0
        state.weights[j] = (1 - s.shrink) * state.weights[j] + s.noise * drawn


@compiled
def _continual_backprop(state: State, A: Array, h: Array, s: Settings) -> None:
    mature = 0
    for k in range(len(h)):
        state.age[k] += 1
        mature += state.age[k] > s.maturity
        state.mean[k] = s.smoothing * state.mean[k] + (1 - s.smoothing) * h[k]
    _update_utility(state, A, h, s)
    state.budget[0] += s.replacement * mature
    while state.budget[0] >= 1 and mature > 0:
        k = _least_useful(state, s)
        state.weights[-1] += A[-1, k] * state.mean[k] / s.correction[min(state.age[k], len(s.correction) - 1)]
        _renew(state, A, k)
        state.budget[0] -= 1
        mature -= 1


@compiled
def _update_utility(state: State, A: Array, h: Array, s: Settings) -> None:
    bits, hidden = len(A) - 2, len(h)
    size = np.zeros(hidden)
    if s.utility == 2 or s.utility == 4:
        for i in range(bits):
            for k in range(hidden):
                size[k] += abs(A[i, k])
    for k in range(hidden):
        v = abs(A[bits + 1, k])
        moved = abs(h[k] - state.mean[k] / s.correction[min(state.age[k], len(s.correction) - 1)])
        if s.utility == 0:
            new = abs(h[k]) * v
        elif s.utility == 1:
            new = moved * v
        elif s.utility == 2:
            new = moved * v / (size[k] / bits)
        elif s.utility == 3:
            new = v
        else:
            new = 1 / (size[k] / bits)
        state.utility[k] = s.smoothing * state.utility[k] + (1 - s.smoothing) * new


@compiled
def _least_useful(state: State, s: Settings) -> int:
    """Return the mature unit of least corrected utility, the first of equals."""
    best, least = -1, np.inf
    for k in range(len(state.utility)):
        if state.age[k] > s.maturity:
            value = state.utility[k] / s.correction[min(state.age[k], len(s.correction) - 1)]
            if best < 0 or value < least:
                best, least = k, value
    return best


@compiled
def _redo(state: State, A: Array, h: Array, s: Settings) -> None:
    for k in range(len(h)):
        state.activity[k] += abs(h[k])
    if state.clock[0] % s.period == 0:
        limit = s.dormant * state.activity.mean()
        dormant = state.activity <= limit
        for k in range(len(h)):
            if dormant[k]:
                _renew(state, A, k)
        state.activity[:] = 0


@compiled
def _escape(state: State, A: Array, recent: Array, s: Settings) -> None:
    """Hand the outgoing weights of replaceable units to the others and re-draw the units."""
    hidden = len(state.mean)
    H = np.empty((hidden + 1, len(recent)))
    h = np.empty(hidden)
    for n in range(len(recent)):
        _forward(A, 0.0, recent[n], h, False)
        H[0, n] = 1.0
        H[1:, n] = h
    order, R, size, kept = _pivoted(H, s.tolerance)
    share = np.empty(kept)
    for k in range(hidden):
        if not np.any(order[:kept] == k + 1):
            _solve(R, order, R[:, k + 1], share)
            v = A[-1, k] * size[k + 1]
            state.weights[-1] += v * share[0] / size[0]
            for j in range(1, kept):
                A[-1, order[j] - 1] += v * share[j] / size[order[j]]
            _renew(state, A, k)


@compiled
def _solve(R: Array, order: Array, right: Array, share: Array) -> None:
    """Write to `share` the solution of the triangular system `R[:kept, order[:kept]] a = right[:kept]`."""
    for j in range(len(share) - 1, -1, -1):
        rest = right[j]
        for i in range(j + 1, len(share)):
            rest -= R[j, order[i]] * share[i]
        share[j] = rest / R[j, order[j]]


@compiled
def _pivoted(H: Array, tolerance: float) -> Any:
    """Orthogonalise the rows of `H`, the first row first, then always that with the largest relative residual.

    Rows are scaled to unit length, and made orthogonal to each new direction twice, against rounding.

    Returns:
        order, of choice; R, of which column r expands row r in the directions; sizes of rows; how many were chosen.
    """
    rows = len(H)
    order, R, size = np.full(rows, -1), np.zeros((rows, rows)), np.empty(rows)
    chosen = np.zeros(rows, dtype=np.bool_)
    for r in range(rows):
        size[r] = sqrt((H[r] * H[r]).sum())
        if size[r] > 0:
            H[r] /= size[r]
    kept = 0
    while kept < rows:
        rest = np.zeros(rows)
        for r in range(rows):
            if not chosen[r]:
                rest[r] = sqrt((H[r] * H[r]).sum())
        if kept > 0 and rest.max() <= tolerance:
            break
        pivot = 0 if kept == 0 else np.argmax(rest >= NEARLY * rest.max())
        H[pivot] /= rest[pivot]
        R[kept, pivot] = rest[pivot]
        chosen[pivot] = True
        for r in range(rows):
            if not chosen[r]:
                for _ in range(2):
                    along = (H[r] * H[pivot]).sum()
                    R[kept, r] += along
                    H[r] -= along * H[pivot]
        order[kept] = pivot
        kept += 1
    return order, R, size, kept


@compiled
def _renew(state: State, A: Array, k: int) -> None:
    bits, hidden = len(A) - 2, len(state.mean)
    limit = sqrt(6 / bits)
    for i in range(bits + 2):
        j = i * hidden + k
        state.weights[j] = (2 * uniform(state.random) - 1) * limit if i < bits else 0.0
        state.anchor[j] = state.weights[j]
        state.first[j] = state.second[j] = 0.0
    state.counts[k] = state.age[k] = 0
    state.utility[k] = state.mean[k] = state.activity[k] = 0.0
    state.clock[1] += 1
