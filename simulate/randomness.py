"""Random numbers that compiled and plain code draw alike, from a state of 64 bits that a file can hold.

SplitMix64 (Steele, Lea & Flood 2014): the state moves on by a fixed odd number and is hashed.
"""

from __future__ import annotations

from math import cos, log, pi, sqrt
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
STRIDE, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


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
    """Return a standard normal number and move the state on twice.

    `√(−2 ln(1 − U)) cos(2π V)` for uniform `U` and `V` (Box & Muller 1958); `1 − U` is never 0.
    """
    radius = sqrt(-2.0 * log(1.0 - uniform(state)))
    return radius * cos(2.0 * pi * uniform(state))
