"""Random correlation matrices, and Gaussian samples that have a given one."""

from __future__ import annotations

from typing import Any

import numpy as np

from theory.rank import correlation_matrix

Array = np.ndarray[Any, Any]


def unit_gram(size: int, rank: int, rng: np.random.Generator) -> Array:
    """Return the Gram matrix of random unit vectors: a correlation matrix of that size and at most that rank.

    Args:
        size: `n ≥ 1` vectors.
        rank: Their dimension, `≥ 1`.
        rng: Source of randomness.

    Returns:
        float64 of shape (size, size), exactly 1 on the diagonal.

    Raises:
        ValueError: `size` or `rank` is below 1.

    >>> C = unit_gram(4, 2, np.random.default_rng(0))
    >>> C.shape, np.diag(C).tolist()
    ((4, 4), [1.0, 1.0, 1.0, 1.0])
    """
    for name, value in (("size", size), ("rank", rank)):
        if value < 1:
            raise ValueError(f"{name} is {value!r}; allowed are integers ≥ 1")
    V = rng.standard_normal((size, rank))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    C = V @ V.T
    np.fill_diagonal(C, 1.0)
    return np.clip(C, -1.0, 1.0)


def sample_gaussian(C: Any, samples: int, rng: np.random.Generator) -> Array:
    """Return independent samples of `N(0, C)`, also for singular `C`.

    Args:
        C: Correlation matrix, shape (n, n).
        samples: How many.
        rng: Source of randomness.

    Returns:
        float64 of shape (samples, n).

    Raises:
        ValueError: `C` is no correlation matrix.

    >>> samples = sample_gaussian([[1.0, -1.0], [-1.0, 1.0]], 5, np.random.default_rng(0))
    >>> samples.shape, bool(np.abs(samples.sum(axis=1)).max() < 1e-7)
    ((5, 2), True)
    """
    eigenvalues, vectors = np.linalg.eigh(correlation_matrix(C))
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    return rng.standard_normal((samples, len(root))) @ root.T
