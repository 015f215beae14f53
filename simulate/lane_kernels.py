"""Small learners side by side, compiled: every seed is a lane of the vectors, with the numbers of one by itself.

Arrays of `learners.State` and `learners.Segment` get a last axis of `LANES`. What a step does to every weight is a
loop over units and lanes together, which compilers turn into vector instructions; each lane adds and multiplies in
the order of `simulate.learner_kernels`, so that both give the same bits. What happens to a unit now and then (a
replacement, a pass of "redo" or "escape") takes its lane out, and is done there by the function for one learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulate.learner_kernels import SWEEP, activate, compiled, is_plain, keep_plastic, sweep, update_utility
from simulate.learners import Segment, Settings, State
from simulate.randomness import normal, uniform

Array = np.ndarray[Any, Any]
LANES = 8  # float64 of the widest vectors in use


def together(states: Sequence[State]) -> State:
    """Return up to `LANES` states as one with lanes; the last is repeated where there are fewer.

    >>> from simulate.learners import initial, named
    >>> together([initial(named("sgd"), 3, 2, seed) for seed in range(5)]).weights.shape
    (11, 8)
    """
    return State(*(_stacked(arrays) for arrays in zip(*states, strict=True)))


def apart(states: State, count: int) -> list[State]:
    """Return the states of the first `count` lanes.

    >>> from simulate.learners import initial, named
    >>> one = initial(named("sgd"), 3, 2, seed=0)
    >>> bool((apart(together([one]), 1)[0].weights == one.weights).all())
    True
    """
    return [State(*(np.ascontiguousarray(array[..., lane]) for array in states)) for lane in range(count)]


def aligned(segments: Sequence[Segment]) -> Segment:
    """Return segments of equal length, one a learner, as one with lanes.

    >>> x = np.array([[0.0], [1.0]])
    >>> aligned([Segment(x, np.array([2.0, 3.0]), np.array([0, 1, 1]), x)] * 3).order.shape
    (3, 8)
    """
    return Segment(*(_stacked(arrays) for arrays in zip(*segments, strict=True)))


def _stacked(arrays: Sequence[Array]) -> Array:
    return np.stack([*arrays, *[arrays[-1]] * (LANES - len(arrays))], axis=-1)


@compiled
def advance(state: State, segment: Segment, s: Settings) -> Array:
    """Take one step a sample in every lane and return the sums of `(ŷ − y)²` (lanes,), each taken before its step.

    Arrays of units are flat, (hidden · lanes,), and the weights have rows of that length. What plain SGD keeps for
    bits that hold still in all lanes is as in `learner_kernels.advance`.
    """
    hidden, bits, steps = len(state.mean), segment.inputs.shape[1], len(segment.order)
    flat = hidden * LANES
    w, first, second, anchor = _flat(state.weights), _flat(state.first), _flat(state.second), _flat(state.anchor)
    A, c = w[: (bits + 2) * flat].reshape(bits + 2, flat), w[(bits + 2) * flat :]
    age, mean, utility, activity = _flat(state.age), _flat(state.mean), _flat(state.utility), _flat(state.activity)
    counts, clock, budget, random = state.counts, state.clock, state.budget, state.random
    plain = is_plain(s)
    moving, X = _split(segment.inputs, hidden, plain)
    codes, code = _codes(segment.inputs, moving), np.empty(flat, dtype=np.int64)
    standing = X.copy()
    standing[moving] = 0.0
    times = 1 + standing.sum(axis=0)
    base, moved = A[bits].copy() if plain else A[bits], np.zeros(flat)
    _add_up(A, standing, base)
    h, delta, scratch, twice = np.empty(flat), np.empty(flat), np.empty(flat), np.empty(flat)
    sent, slope = np.empty(flat) if s.dropout > 0 else h, np.empty(flat)
    g = np.zeros(len(w))
    G = g[: (bits + 2) * flat].reshape(bits + 2, flat)
    c1, c2 = np.ones(flat + LANES), np.ones(flat + LANES)
    total, error, mature = np.zeros(LANES), np.empty(LANES), np.zeros(LANES)
    rates = (s.rate, s.momentum, s.beta2, s.eps, s.l2, s.pull, s.rate * s.decay)
    settled = max(len(s.correction1), len(s.correction2)) - 1  # steps after which corrections are 1
    for t in range(steps):
        _look(X, codes, segment.order, t, moving, code)
        _forward(A, c, base, X, moving, h, slope, error, s.activation)
        for n in range(LANES):
            error[n] -= segment.targets[segment.order[t, n], n]
            total[n] += error[n] * error[n]
        if s.dropout > 0:
            _drop(A, c, h, sent, slope, random, s.dropout, error)
            for n in range(LANES):
                error[n] -= segment.targets[segment.order[t, n], n]
        clock[0] += 1
        counts[:] += 1
        _send_back(A, slope, error, twice, delta, s.dropout)
        if plain:
            _descend_plainly(A, c, X, moving, sent, delta, twice, s.rate, base, moved, times)
        else:
            _gradient(g, G, X, sent, delta, twice, s.linear)
            if s.adam:
                if counts.min() <= settled:
                    _look_up(s.correction1, counts, c1)
                    _look_up(s.correction2, counts, c2)
                _adam(w, g, anchor, first, second, c1, c2, rates)
            else:
                _momentum(w, g, anchor, first, rates)
            if clock[0, 0] % SWEEP == 0:
                sweep(first, second)
            if s.shrink > 0 or s.noise > 0:
                _shrink_and_perturb(state.weights, random, 1 - s.shrink, s.noise)
        if s.resets == 0 or clock[0, 0] <= s.start:
            continue
        due = clock[0, 0] % s.period == 0
        if s.resets == 1:
            _age(age, mean, h, mature, s.smoothing, s.maturity)
            if s.utility == 2 or s.utility == 4:
                _sizes(A, standing, moved, scratch)
            update_utility(A, h, mean, age, utility, s.correction, s.smoothing, s.utility, scratch)
            due = False
            for n in range(LANES):
                budget[0, n] += s.replacement * mature[n]
                due |= budget[0, n] >= 1 and mature[n] > 0
        elif s.resets == 2:
            for q in range(flat):
                activity[q] += abs(h[q])
        if due:
            _settle(A, standing, moved)
            for n in range(LANES):
                one = _lane(state, n)
                keep_plastic(one, one.weights[:-1].reshape(bits + 2, hidden), segment.recent[..., n].copy(), s)
                _put_back(state, n, one)
            if plain:
                base[:] = A[bits]
                _add_up(A, standing, base)
    _settle(A, standing, moved)
    return total


@compiled
def _flat(array: Array) -> Array:
    return array.reshape(-1)


@compiled
def _split(inputs: Array, hidden: int, plain: bool) -> tuple[Array, Array]:
    """Return the bits that differ between patterns in some lane, all if not `plain`, and the first pattern of each.

    The patterns are (bits, hidden · lanes), alike for all units.
    """
    bits = inputs.shape[1]
    found, X = np.zeros(bits, dtype=np.bool_), np.empty((bits, hidden * LANES))
    for i in range(bits):
        found[i] = not plain
        for n in range(LANES):
            X[i, n::LANES] = inputs[0, i, n]
            for p in range(1, len(inputs)):
                found[i] |= inputs[p, i, n] != inputs[0, i, n]
    return np.flatnonzero(found), X


@compiled
def _codes(inputs: Array, moving: Array) -> Array:
    """Return the patterns (patterns, lanes) as numbers, whose binary digits are the moving bits, int64."""
    codes = np.zeros((len(inputs), LANES), dtype=np.int64)
    for p in range(len(inputs)):
        for n in range(LANES):
            for m in range(len(moving)):
                if inputs[p, moving[m], n] != 0:
                    codes[p, n] |= 1 << m
    return codes


@compiled
def _add_up(A: Array, standing: Array, base: Array) -> None:
    for i in range(len(standing)):
        base += A[i] * standing[i]


@compiled
def _settle(A: Array, standing: Array, moved: Array) -> None:
    """Move the weights of standing bits, and `b`, by what is due."""
    for i in range(len(standing)):
        A[i] -= moved * standing[i]
    A[-2] -= moved
    moved[:] = 0.0


@compiled
def _look(X: Array, codes: Array, order: Array, t: int, moving: Array, code: Array) -> None:
    """Write the moving bits of a step to `X`."""
    for n in range(LANES):
        found = codes[order[t, n], n]
        for q in range(n, len(code), LANES):
            code[q] = found
    for m in range(len(moving)):
        i, digit = moving[m], 1 << m
        for q in range(len(code)):
            X[i, q] = 1.0 if code[q] & digit else 0.0


@compiled
def _forward(
    A: Array, c: Array, base: Array, X: Array, moving: Array, h: Array, slope: Array, out: Array, kind: int
) -> None:
    """Write the activations to `h`, their derivatives to `slope`, and `ŷ` to `out`.

    What is multiplied by a bit is itself or zero.
    """
    for q in range(len(h)):
        h[q] = base[q]
    for i in moving:
        for q in range(len(h)):
            h[q] += A[i, q] * X[i, q]
    activate(kind, h, slope)
    _read_out(A, c, h, out)


@compiled
def _read_out(A: Array, c: Array, h: Array, out: Array) -> None:
    last = len(A) - 1
    for n in range(LANES):
        out[n] = c[n]
    for k in range(len(h) // LANES):
        for n in range(LANES):
            out[n] += A[last, k * LANES + n] * h[k * LANES + n]


@compiled
def _drop(
    A: Array, c: Array, h: Array, sent: Array, slope: Array, random: Array, dropout: float, out: Array
) -> None:
    """Write to `sent` what dropout leaves of the activations, of `slope` too, and to `out` the `ŷ` made of it."""
    for n in range(LANES):
        draws = random[:, n]
        for q in range(n, len(h), LANES):
            stays = uniform(draws) >= dropout
            sent[q] = h[q] / (1 - dropout) if stays else 0.0
            slope[q] = slope[q] if stays else 0.0
    _read_out(A, c, sent, out)


@compiled
def _send_back(A: Array, slope: Array, error: Array, twice: Array, delta: Array, dropout: float) -> None:
    """Write to `twice` the derivatives by `ŷ`, for every unit, and to `delta` those by what enters the units."""
    last = len(A) - 1
    for k in range(len(slope) // LANES):
        for n in range(LANES):
            twice[k * LANES + n] = 2 * error[n]
    if dropout > 0:
        for q in range(len(slope)):
            delta[q] = twice[q] * A[last, q] / (1 - dropout) * slope[q]
    else:
        for q in range(len(slope)):
            delta[q] = twice[q] * A[last, q] * slope[q]


@compiled
def _descend_plainly(
    A: Array,
    c: Array,
    X: Array,
    moving: Array,
    h: Array,
    delta: Array,
    twice: Array,
    rate: float,
    base: Array,
    moved: Array,
    times: Array,
) -> None:
    last = len(A) - 1
    for q in range(len(h)):
        delta[q] = rate * delta[q]
    for i in moving:
        for q in range(len(h)):
            A[i, q] -= delta[q] * X[i, q]
    for q in range(len(h)):
        moved[q] += delta[q]
        base[q] -= times[q] * delta[q]
        A[last, q] -= rate * (twice[q] * h[q])
    for n in range(LANES):
        c[n] -= rate * twice[n]


@compiled
def _gradient(g: Array, G: Array, X: Array, h: Array, delta: Array, twice: Array, linear: bool) -> None:
    """Write the gradient to `g`, of which `G` are the rows."""
    bits, flat = X.shape
    for i in range(bits):
        for q in range(flat):
            G[i, q] = delta[q] * X[i, q]
    for q in range(flat):
        G[bits, q] = delta[q]
        G[bits + 1, q] = 0.0 if linear else twice[q] * h[q]
    for n in range(LANES):
        g[(bits + 2) * flat + n] = 0.0 if linear else twice[n]


@compiled
def _momentum(w: Array, g: Array, anchor: Array, first: Array, rates: tuple[float, ...]) -> None:
    rate, mu, _, _, l2, pull, shrink = rates
    for j in range(len(w)):
        first[j] = mu * first[j] + (g[j] + l2 * w[j] + pull * (w[j] - anchor[j]))
        w[j] = w[j] * (1 - shrink) - rate * first[j]


@compiled
def _adam(
    w: Array, g: Array, anchor: Array, first: Array, second: Array, c1: Array, c2: Array, rates: tuple[float, ...]
) -> None:
    """Take a step of Adam; `c1, c2` (units and `c`, lanes) are `1 / (1 − βᵗ)`."""
    rate, beta1, beta2, eps, l2, pull, shrink = rates
    units, flat = len(c1) - LANES, len(w) - LANES
    for start in range(0, len(w), units):
        ahead = 0 if start < flat else units  # of the places in `c1`: the last ones are of `c`
        for q in range(units if start < flat else LANES):
            j = start + q
            slope = g[j] + l2 * w[j] + pull * (w[j] - anchor[j])
            first[j] = beta1 * first[j] + (1 - beta1) * slope
            second[j] = beta2 * second[j] + (1 - beta2) * slope * slope
            step = rate * (first[j] * c1[ahead + q]) / (np.sqrt(second[j] * c2[ahead + q]) + eps)
            w[j] = w[j] * (1 - shrink) - step


@compiled
def _look_up(table: Array, counts: Array, found: Array) -> None:
    """Write to `found` one over the table's entry for the count of each unit, and of `c` at last, in every lane."""
    last = len(table) - 1
    for k in range(len(counts)):
        for n in range(LANES):
            found[k * LANES + n] = 1 / table[min(counts[k, n], last)]


@compiled
def _shrink_and_perturb(w: Array, random: Array, kept: float, noise: float) -> None:
    for n in range(LANES):
        draws = random[:, n]
        for j in range(len(w)):
            drawn = normal(draws) if noise else 0.0
            w[j, n] = kept * w[j, n] + noise * drawn


@compiled
def _age(age: Array, mean: Array, h: Array, mature: Array, smoothing: float, maturity: int) -> None:
    """Make the units a step older, update their mean activations, and write to `mature` how many are."""
    for q in range(len(h)):
        age[q] += 1
        mean[q] = smoothing * mean[q] + (1 - smoothing) * h[q]
    for n in range(LANES):
        mature[n] = 0
        for q in range(n, len(h), LANES):
            mature[n] += age[q] > maturity


@compiled
def _sizes(A: Array, standing: Array, moved: Array, size: Array) -> None:
    """Write `Σ_i |W_ik|` to `size`; the weights of `standing` bits have moved."""
    for q in range(len(size)):
        size[q] = 0.0
    for i in range(len(standing)):
        for q in range(len(size)):
            size[q] += abs(A[i, q] - standing[i, q] * moved[q])


@compiled
def _lane(state: State, n: int) -> State:
    """Return a lane's state, copied."""
    return State(
        state.weights[:, n].copy(),
        state.anchor[:, n].copy(),
        state.first[:, n].copy(),
        state.second[:, n].copy(),
        state.counts[:, n].copy(),
        state.utility[:, n].copy(),
        state.mean[:, n].copy(),
        state.age[:, n].copy(),
        state.activity[:, n].copy(),
        state.budget[:, n].copy(),
        state.clock[:, n].copy(),
        state.random[:, n].copy(),
    )


@compiled
def _put_back(state: State, n: int, one: State) -> None:
    state.weights[:, n] = one.weights
    state.anchor[:, n] = one.anchor
    state.first[:, n] = one.first
    state.second[:, n] = one.second
    state.counts[:, n] = one.counts
    state.utility[:, n] = one.utility
    state.mean[:, n] = one.mean
    state.age[:, n] = one.age
    state.activity[:, n] = one.activity
    state.budget[:, n] = one.budget
    state.clock[:, n] = one.clock
    state.random[:, n] = one.random
