"""The saturated softmax: how little gradient passes through it, and how long it takes to leave (claim F4).

`π = softmax(z)` of `n` logits with gap `g = z_m − max_{i≠m} z_i`, the largest against the second largest.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
LARGEST = 709  # of which exp is a float64


def gap(logits: ArrayLike) -> Array:
    """Return `g`, how far the largest logit lies above the second largest, over the last axis.

    Raises:
        ValueError: for fewer than two logits.

    >>> float(gap([1.0, 5.0, 2.0]))
    3.0
    """
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim == 0 or z.shape[-1] < 2:
        raise ValueError(f"logits: got shape {z.shape}; a gap needs two logits along the last axis")
    second, first = np.moveaxis(np.partition(z, -2, axis=-1)[..., -2:], -1, 0)
    found: Array = first - second
    return found


def score_bound(gap: float, n: int) -> float:
    """Return `2 (n − 1) e^{−g}`, which `‖∂ log π_m / ∂z‖_1` does not exceed.

    Source: claim F4 (i).

    >>> round(score_bound(10.0, 3), 6)
    0.000182
    """
    return 2 * (n - 1) * math.exp(-gap)


def escape_time(gap: float, to: float, n: int, spread: float) -> float:
    """Return `(e^{g_0} − e^{g_1}) / (n R)`: no exact policy gradient flow closes the gap sooner.

    Args:
        gap, to: `g_0` now and `g_1` then, at most as large.
        n: actions.
        spread: `R`, how far apart the values of the actions may lie.

    Raises:
        ValueError: for a gap that grows, fewer than two actions, or a spread that is not above zero.

    Source: claim F4 (iii).

    >>> round(escape_time(10.0, 1.0, 2, 1.0))
    11012
    """
    if not 0 <= to <= gap:
        raise ValueError(f"to: got {to}; it has to lie between 0 and the gap {gap}")
    if n < 2 or not spread > 0:
        raise ValueError(f"n, spread: got {n} and {spread}; give two actions or more, and a spread above zero")
    if to > LARGEST:
        raise ValueError(f"to: got {to}; e^{to} is no float64, give at most {LARGEST}")
    return (math.exp(gap) if gap <= LARGEST else math.inf) / (n * spread) - math.exp(to) / (n * spread)
