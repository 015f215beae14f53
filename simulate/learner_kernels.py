"""The learners of `simulate.learners` compiled: the formulas of `simulate.learner_reference` as loops over scalars.

The matrix `A` (m + 2, hidden) has rows `W_1 … W_m`, `b`, `v`, so that inner loops run over units and need no
reassociated sums: the result depends on nothing but the seed. The functions release the interpreter lock.
"""

from __future__ import annotations

from math import exp, expm1, sqrt, tanh
from typing import Any

import numpy as np
from numba import njit

from simulate.learners import LEAK, Segment, Settings, State
from simulate.randomness import normal, uniform

Array = np.ndarray[Any, Any]
compiled = njit(nogil=True, cache=True, error_model="numpy")
TINY = 1e-290  # what decays is zero below it: arithmetic with subnormal numbers takes ten times as long
SWEEP = 32  # steps between two looks for such numbers
WIDE = 16  # units from which on the loop over units is the inner one, for vectors


@compiled
def advance(state: State, segment: Segment, s: Settings) -> float:
    """Take one step a sample and return the sum of `(ŷ − y)²`, each taken before its step; inputs are bits.

    Plain SGD moves the weights of all bits that are 1 throughout a segment by the same amount, as it does `b`:
    that is kept in `moved`, and what these bits add to the units in `base`, so that a step leaves them alone.
    """
    hidden, bits = len(state.mean), segment.inputs.shape[1]
    w, clock, counts, targets = state.weights, state.clock, state.counts, segment.targets
    A = w[:-1].reshape(bits + 2, hidden)
    plain = is_plain(s)
    moving, still = split(segment.inputs, plain)
    ones, many = _ones(segment.inputs, moving)
    base, moved = A[bits].copy() if plain else A[bits], np.zeros(hidden)
    _add_up(A, still, base)
    h, delta, scratch, g = np.empty(hidden), np.empty(hidden), np.empty(hidden), np.zeros(len(w))
    slope = np.empty(hidden)
    G = g[:-1].reshape(bits + 2, hidden)
    sent = np.empty(hidden) if s.dropout > 0 else h
    c1, c2 = np.empty(len(w)), np.empty(len(w))
    rates = (s.rate, s.momentum, s.beta2, s.eps, s.l2, s.pull, s.rate * s.decay)
    random = state.random
    age, mean, utility, activity, budget = state.age, state.mean, state.utility, state.activity, state.budget
    standing = np.zeros(bits)
    standing[still] = 1.0
    total = 0.0
    for pattern in segment.order:
        error = _forward(A, w[-1], base, ones, pattern, many[pattern], h, slope, s.activation) - targets[pattern]
        total += error * error
        if s.dropout > 0:
            error = _drop(A, w[-1], h, sent, slope, random, s.dropout) - targets[pattern]
        clock[0] += 1
        for k in range(hidden):
            delta[k] = 2 * error * A[bits + 1, k] / (1 - s.dropout) * slope[k]
            counts[k] += 1
        counts[hidden] += 1
        if plain:
            _descend_plainly(
                A, w, ones, pattern, many[pattern], sent, delta, 2 * error, s.rate, base, moved, len(still) + 1
            )
        else:
            _gradient(g, G, ones, pattern, many[pattern], sent, delta, 0.0 if s.linear else 2 * error)
            if s.adam:
                _look_up(s.correction1, counts, c1)
                _look_up(s.correction2, counts, c2)
                _adam(w, g, state.anchor, state.first, state.second, c1, c2, rates)
            else:
                _momentum(w, g, state.anchor, state.first, s.rate, s.momentum, s.l2, s.pull, s.rate * s.decay)
            if clock[0] % SWEEP == 0:
                sweep(state.first, state.second)
            if s.shrink > 0 or s.noise > 0:
                _shrink_and_perturb(w, random, 1 - s.shrink, s.noise)
        if s.resets == 0 or clock[0] <= s.start:
            continue
        due = clock[0] % s.period == 0
        if s.resets == 1:
            mature = _age(age, mean, h, s.smoothing, s.maturity)
            if s.utility == 2 or s.utility == 4:
                _sizes(A, standing, moved, scratch)
            update_utility(A, h, mean, age, utility, s.correction, s.smoothing, s.utility, scratch)
            budget[0] += s.replacement * mature
            due = budget[0] >= 1 and mature > 0
        elif s.resets == 2:
            for k in range(hidden):
                activity[k] += abs(h[k])
        if due:
            settle(A, still, moved)
            keep_plastic(state, A, segment.recent, s)
            if plain:
                base[:] = A[bits]
                _add_up(A, still, base)
    settle(A, still, moved)
    return total


@compiled
def is_plain(s: Settings) -> bool:
    """Return whether a step changes nothing but what has a gradient."""
    return not (s.adam or s.momentum or s.l2 or s.decay or s.pull or s.linear or s.shrink or s.noise)


@compiled
def split(inputs: Array, plain: bool) -> tuple[Array, Array]:
    """Return the bits that differ between patterns and those that are 1 in all, or all and none if not `plain`."""
    bits = inputs.shape[1]
    if not plain:
        return np.arange(bits), np.arange(0)
    moving, still = np.zeros(bits, dtype=np.bool_), np.zeros(bits, dtype=np.bool_)
    for i in range(bits):
        for p in range(len(inputs)):
            moving[i] |= inputs[p, i] != inputs[0, i]
        still[i] = inputs[0, i] != 0 and not moving[i]
    return np.flatnonzero(moving), np.flatnonzero(still)


@compiled
def _add_up(A: Array, still: Array, base: Array) -> None:
    for i in still:
        base += A[i]


@compiled
def settle(A: Array, still: Array, moved: Array) -> None:
    """Move the weights of the bits that hold still, and `b`, by what is due."""
    for i in still:
        A[i] -= moved
    A[-2] -= moved
    moved[:] = 0.0


@compiled
def keep_plastic(state: State, A: Array, recent: Array, s: Settings) -> None:
    """Re-draw the units that have to go; `A` holds the weights as they are."""
    if s.resets == 1:
        replace(state, A, s)
    elif s.resets == 2:
        redo(state, A, s)
    else:
        escape(state, A, recent, s)


@compiled
def _ones(inputs: Array, among: Array) -> tuple[Array, Array]:
    """Return for every pattern which of some bits are 1 (patterns, bits), and how many (patterns,)."""
    ones, many = np.zeros(inputs.shape, dtype=np.int64), np.zeros(len(inputs), dtype=np.int64)
    for p in range(len(inputs)):
        for i in among:
            if inputs[p, i] != 0:
                ones[p, many[p]] = i
                many[p] += 1
    return ones, many


@compiled
def _forward(
    A: Array, c: float, base: Array, ones: Array, pattern: int, many: int, h: Array, slope: Array, kind: int
) -> float:
    """Write the activations, from `base` on, to `h`, their derivatives to `slope`, and return `ŷ`.

    Both orders of the loops add alike.
    """
    hidden, bits = len(h), len(A) - 2
    if hidden < WIDE:
        for k in range(hidden):
            z = base[k]
            for j in range(many):
                z += A[ones[pattern, j], k]
            h[k] = z
    else:
        h[:] = base
        for j in range(many):
            i = ones[pattern, j]
            for k in range(hidden):
                h[k] += A[i, k]
    activate(kind, h, slope)
    out = c
    for k in range(hidden):
        out += A[bits + 1, k] * h[k]
    return out


@compiled
def activate(kind: int, h: Array, slope: Array) -> None:
    """Replace preactivations in `h` by activations, and write the derivatives to `slope`; `kind` is the place."""
    if kind == 0:
        for k in range(len(h)):
            slope[k] = 1.0 if h[k] > 0 else 0.0
            h[k] = h[k] if h[k] > 0 else 0.0
    elif kind == 1:
        for k in range(len(h)):
            slope[k] = 1.0 if h[k] > 0 else LEAK
            h[k] *= slope[k]
    elif kind == 2:
        for k in range(len(h)):
            slope[k] = 1.0 if h[k] > 0 else exp(h[k])
            h[k] = h[k] if h[k] > 0 else expm1(h[k])
    elif kind == 3:
        for k in range(len(h)):
            h[k] = tanh(h[k])
            slope[k] = 1 - h[k] * h[k]
    elif kind == 4 or kind == 5:
        for k in range(len(h)):
            gate = 1 / (1 + exp(-h[k]))
            slope[k] = gate * (1 - gate) if kind == 4 else gate * (1 + h[k] * (1 - gate))
            h[k] = gate if kind == 4 else h[k] * gate
    else:
        for k in range(len(h)):
            slope[k] = 1.0


@compiled
def _drop(A: Array, c: float, h: Array, sent: Array, slope: Array, random: Array, dropout: float) -> float:
    """Write to `sent` what dropout leaves of the activations, of `slope` too, and return the `ŷ` made of it."""
    out = c
    for k in range(len(h)):
        stays = uniform(random) >= dropout
        sent[k] = h[k] / (1 - dropout) if stays else 0.0
        slope[k] = slope[k] if stays else 0.0
        out += A[-1, k] * sent[k]
    return out


@compiled
def _descend_plainly(
    A: Array,
    w: Array,
    ones: Array,
    pattern: int,
    many: int,
    h: Array,
    delta: Array,
    out: float,
    rate: float,
    base: Array,
    moved: Array,
    times: int,
) -> None:
    """Take a step of plain SGD, leaving out what has no gradient; `base` moves `times` as far as one weight."""
    hidden = len(h)
    if hidden < WIDE:
        for k in range(hidden):
            if delta[k] != 0:
                for j in range(many):
                    A[ones[pattern, j], k] -= rate * delta[k]
    else:
        for j in range(many):
            i = ones[pattern, j]
            for k in range(hidden):
                A[i, k] -= rate * delta[k]
    for k in range(hidden):
        moved[k] += rate * delta[k]
        base[k] -= times * (rate * delta[k])
        A[-1, k] -= rate * (out * h[k])
    w[-1] -= rate * out


@compiled
def _gradient(g: Array, G: Array, ones: Array, pattern: int, many: int, h: Array, delta: Array, out: float) -> None:
    """Write the gradient to `g`, of which `G` are the rows."""
    hidden, bits = len(h), len(G) - 2
    g[:] = 0.0
    for j in range(many):
        i = ones[pattern, j]
        for k in range(hidden):
            G[i, k] = delta[k]
    for k in range(hidden):
        G[bits, k] = delta[k]
        G[bits + 1, k] = out * h[k]
    g[-1] = out


@compiled
def sweep(first: Array, second: Array) -> None:
    """Set what is below `TINY` to zero, as the momentum of a silent unit decays to, or to `TINY` if it divides."""
    for j in range(len(first)):
        first[j] = first[j] if abs(first[j]) > TINY else 0.0
        second[j] = second[j] if second[j] > TINY or second[j] == 0 else TINY


@compiled
def _momentum(
    w: Array, g: Array, anchor: Array, first: Array, rate: float, mu: float, l2: float, pull: float, shrink: float
) -> None:
    for j in range(len(w)):
        first[j] = mu * first[j] + (g[j] + l2 * w[j] + pull * (w[j] - anchor[j]))
        w[j] = w[j] * (1 - shrink) - rate * first[j]


@compiled
def _adam(
    w: Array, g: Array, anchor: Array, first: Array, second: Array, c1: Array, c2: Array, rates: tuple[float, ...]
) -> None:
    """Take a step of Adam; `c1, c2` (parameters,) are `1 / (1 − βᵗ)`."""
    rate, beta1, beta2, eps, l2, pull, shrink = rates
    for j in range(len(w)):
        slope = g[j] + l2 * w[j] + pull * (w[j] - anchor[j])
        first[j] = beta1 * first[j] + (1 - beta1) * slope
        second[j] = beta2 * second[j] + (1 - beta2) * slope * slope
        w[j] = w[j] * (1 - shrink) - rate * (first[j] * c1[j]) / (np.sqrt(second[j] * c2[j]) + eps)


@compiled
def _look_up(table: Array, counts: Array, found: Array) -> None:
    """Write to `found` (parameters,) one over the table's entry for the count of each parameter's unit."""
    hidden, last = len(counts) - 1, len(table) - 1
    for k in range(hidden):
        found[k] = 1 / table[min(counts[k], last)]
    for j in range(hidden, len(found) - 1):
        found[j] = found[j - hidden]
    found[-1] = 1 / table[min(counts[hidden], last)]


@compiled
def _shrink_and_perturb(w: Array, random: Array, kept: float, noise: float) -> None:
    for j in range(len(w)):
        drawn = normal(random) if noise else 0.0
        w[j] = kept * w[j] + noise * drawn


@compiled
def _age(age: Array, mean: Array, h: Array, smoothing: float, maturity: int) -> int:
    """Make the units a step older, update their mean activations, and return how many are mature."""
    mature = 0
    for k in range(len(h)):
        age[k] += 1
        mature += age[k] > maturity
        mean[k] = smoothing * mean[k] + (1 - smoothing) * h[k]
    return mature


@compiled
def replace(state: State, A: Array, s: Settings) -> None:
    """Re-draw the units of least utility while replacements are due; their mean output passes to `c`."""
    mature = int(np.sum(state.age > s.maturity))
    while state.budget[0] >= 1 and mature > 0:
        k = _least_useful(state, s)
        state.weights[-1] += A[-1, k] * state.mean[k] / s.correction[min(state.age[k], len(s.correction) - 1)]
        renew(state, A, k, s.squared_gain)
        state.budget[0] -= 1
        mature -= 1


@compiled
def update_utility(
    A: Array,
    h: Array,
    mean: Array,
    age: Array,
    utility: Array,
    correction: Array,
    smoothing: float,
    kind: int,
    size: Array,
) -> None:
    """Update the running utilities; `kind` is the place in `UTILITIES`, and `size` is of `_sizes` if it counts."""
    bits, last = len(A) - 2, len(correction) - 1
    for k in range(len(h)):
        v = abs(A[bits + 1, k])
        new = v
        if kind == 0:
            new = abs(h[k]) * v
        elif kind == 4:
            new = 1 / (size[k] / bits)
        elif kind != 3:
            new = abs(h[k] - mean[k] / correction[min(age[k], last)]) * v
            if kind == 2:
                new /= size[k] / bits
        utility[k] = smoothing * utility[k] + (1 - smoothing) * new


@compiled
def _sizes(A: Array, standing: Array, moved: Array, size: Array) -> None:
    """Write `Σ_i |W_ik|` to `size`; the weights of `standing` bits have moved."""
    bits = len(A) - 2
    if len(size) < WIDE:
        for k in range(len(size)):
            total = 0.0
            for i in range(bits):
                total += abs(A[i, k] - standing[i] * moved[k])
            size[k] = total
    else:
        size[:] = 0.0
        for i in range(bits):
            for k in range(len(size)):
                size[k] += abs(A[i, k] - standing[i] * moved[k])


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
def redo(state: State, A: Array, s: Settings) -> None:
    """Re-draw the units whose activations, summed, are at most `dormant` times their mean over units."""
    gone = state.activity <= s.dormant * state.activity.mean()
    for k in range(len(gone)):
        if gone[k]:
            renew(state, A, k, s.squared_gain)
    state.activity[:] = 0


@compiled
def escape(state: State, A: Array, recent: Array, s: Settings) -> None:
    """Re-draw dead units, and copies after their outgoing weight has passed to the largest of their kind."""
    hidden, samples = len(state.mean), len(recent)
    H, size, models = np.empty((hidden, samples)), np.zeros(hidden), np.empty(hidden, dtype=np.int64)
    ones, many = _ones(recent, np.arange(len(A) - 2))
    h, slope = np.empty(hidden), np.empty(hidden)
    for n in range(samples):
        _forward(A, 0.0, A[-2], ones, n, many[n], h, slope, s.activation)
        H[:, n] = h
        size += h * h
    many_models = 0
    for k in np.argsort(-size, kind="mergesort"):
        j, a = _original(H, size, models[:many_models], k, s.tolerance)
        if j >= 0:
            A[-1, j] += a * A[-1, k]
        if j >= 0 or size[k] == 0:
            renew(state, A, k, s.squared_gain)
        else:
            models[many_models] = k
            many_models += 1


@compiled
def _original(H: Array, size: Array, models: Array, k: int, tolerance: float) -> tuple[int, float]:
    """Return the first model that unit `k` is a multiple of, and the factor; −1 if there is none."""
    for j in models:
        along, rest = 0.0, 0.0
        for n in range(H.shape[1]):
            along += H[j, n] * H[k, n]
        a = along / size[j]
        for n in range(H.shape[1]):
            rest += (H[k, n] - a * H[j, n]) ** 2
        if size[k] > 0 and rest <= tolerance**2 * size[k]:
            return j, a
    return -1, 0.0


@compiled
def renew(state: State, A: Array, k: int, squared_gain: float) -> None:
    """Draw unit `k` anew; nothing of the old one stays."""
    bits, hidden = len(A) - 2, len(state.mean)
    limit = sqrt(3 * squared_gain / bits)
    for i in range(bits + 2):
        j = i * hidden + k
        state.weights[j] = (2 * uniform(state.random) - 1) * limit if i < bits else 0.0
        state.anchor[j] = state.weights[j]
        state.first[j] = state.second[j] = 0.0
    state.counts[k] = state.age[k] = 0
    state.utility[k] = state.mean[k] = state.activity[k] = 0.0
    state.clock[1] += 1
