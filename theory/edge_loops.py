"""Sums over edges, compiled: what reading two units for each edge costs when nothing is copied."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def two_sums(edges, starts, ends, first, a, second, b, out):
    """Write `Σ_e first[e] a[ends[e]] + second[e] b[ends[e]]` over each run of `edges` into a row of `out`.

    Args:
        edges: Positions of edges, int64; run `i` starts at `starts[i]`.
        starts: int64 of shape (runs,).
        ends: Of every edge, int64 of shape (edges of the network,).
        first, second: Of every edge, float64.
        a, b: Float64 of shape (units, samples).
        out: Float64 of shape (runs, samples).

    >>> out, one, edges = np.empty((1, 1)), np.ones((2, 1)), np.array([0, 1])
    >>> two_sums(edges, np.array([0]), edges, np.array([2.0, 3.0]), one, np.zeros(2), one, out)
    >>> out.tolist()
    [[5.0]]
    """
    samples = a.shape[1]
    for i in range(starts.size):
        stop = starts[i + 1] if i + 1 < starts.size else edges.size
        out[i] = 0.0
        for j in range(starts[i], stop):
            e = edges[j]
            end, p, q = ends[e], first[e], second[e]
            for k in range(samples):
                out[i, k] += p * a[end, k] + q * b[end, k]


@numba.njit(cache=True)
def two_products(source, target, a, b, c, d):
    """Return `Σ_samples a[source] b[target] + c[source] d[target]` for each edge.

    Args:
        source, target: Ends of the edges, int64 of shape (edges,).
        a, b, c, d: Float64 of shape (units, samples).

    Returns:
        float64 of shape (edges,).

    >>> a = np.array([[2.0], [3.0]])
    >>> two_products(np.array([0]), np.array([1]), a, a, a, a).tolist()
    [12.0]
    """
    out = np.empty(source.size)
    for e in range(source.size):
        s, t, total = source[e], target[e], 0.0
        for k in range(a.shape[1]):
            total += a[s, k] * b[t, k] + c[s, k] * d[t, k]
        out[e] = total
    return out
