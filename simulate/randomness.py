"""Random numbers that compiled and plain code draw alike, from a state of 64 bits that a file can hold.

SplitMix64 (Steele, Lea & Flood 2014): the state moves on by a fixed odd number and is hashed.
"""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
STRIDE, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

LAYERS = 256
EDGE, AREA = 3.6541528853610088, 4.92867323399e-3  # of the ziggurat: where its tail begins, and of each layer


def _ziggurat() -> tuple[Array, Array]:
    """Return the widths (LAYERS + 1,) of the layers, from the one with the tail up, and where they begin."""
    widths = [AREA / exp(-0.5 * EDGE**2), EDGE]
    while len(widths) < LAYERS:
        widths.append(sqrt(-2 * log(AREA / widths[-1] + exp(-0.5 * widths[-1] ** 2))))
    widths.append(0.0)
    heights = [0.0, *(exp(-0.5 * x * x) for x in widths[1:])]
    return np.array(widths), np.array(heights)


WIDTHS, HEIGHTS = _ziggurat()


def seeded(seed: int) -> Array:
    """Return a state (1,), uint64, for a seed; nearby seeds give unrelated states.

    >>> seeded(0).shape, seeded(0).dtype
    ((1,), dtype('uint64'))
    """
    return np.random.SeedSequence(seed).generate_state(1, np.uint64)


@njit(cache=True, nogil=True)
def word(state: Array) -> Any:
    """Return 64 random bits, uint64, and move the state on."""
    state[0] += STRIDE
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def uniform(state: Array) -> Any:
    """Return a number in [0, 1), a multiple of 2⁻⁵³.

    >>> state = seeded(0)
    >>> 0 <= uniform(state) < 1
    True
    """
    return (word(state) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def normal(state: Array) -> Any:
    """Return a standard normal number; the state moves on once, or in 1.5 % of the draws more often.

    Ziggurat (Marsaglia & Tsang 2000): a point of one of `LAYERS` layers of equal area under `exp(−x²/2)`, which is
    kept if it is below the curve. Layer, sign and place come from different bits of a word.

    >>> state = seeded(0)
    >>> abs(normal(state)) < 9
    True
    """
    while True:
        bits = word(state)
        layer = np.int64(bits & np.uint64(LAYERS - 1))
        x = (bits >> np.uint64(11)) * 2.0**-53 * WIDTHS[layer]
        sign = -1.0 if bits & np.uint64(LAYERS) else 1.0
        if x < WIDTHS[layer + 1]:
            return sign * x
        if layer == 0:
            return sign * _beyond(state)
        low, high = HEIGHTS[layer], HEIGHTS[layer + 1]
        if low + uniform(state) * (high - low) < exp(-0.5 * x * x):
            return sign * x


@njit(cache=True, nogil=True)
def _beyond(state: Array) -> Any:
    """Return a normal number among those of at least `EDGE` (Marsaglia 1964)."""
    while True:
        x = -log(1.0 - uniform(state)) / EDGE
        if -2.0 * log(1.0 - uniform(state)) > x * x:
            return EDGE + x
