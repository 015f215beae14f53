"""Correlations in random networks of finite width, drawn exactly, against the map at infinite width.

Given the activations `h` of two inputs, a layer with weights i.i.d. `N(0, 1/width)` makes `width` independent pairs
of pre-activations that are Gaussian with covariance `Q = h hᵀ/width`, a 2×2 matrix. So a layer costs `width`
numbers, not `width²`: the pairs are drawn, never the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.activations import AnyActivation, get, moments, standardise
from theory.depth import Normalisation

Array = np.ndarray[Any, Any]

CHUNK = 2**20  # units of all runs at a time: 16 MB an array


@dataclass(frozen=True)
class WidthSample:
    """Correlations of two inputs in random networks.

    Attributes:
        correlations: Of the activations of each layer, shape (runs, depth + 1); layer 0 has that of the inputs.
    """

    correlations: Array

    @property
    def mean(self) -> Array:
        """Mean over the runs, shape (depth + 1,)."""
        return self.correlations.mean(axis=0)

    @property
    def spread(self) -> Array:
        """Standard deviation over the runs, of order `1/√width`."""
        return self.correlations.std(axis=0, ddof=1)

    @property
    def standard_error(self) -> Array:
        """Sampling error of the mean, `spread/√runs`."""
        return self.spread / math.sqrt(len(self.correlations))


def random_networks(
    phi: AnyActivation,
    rho: float,
    depth: int,
    *,
    width: int,
    runs: int,
    normalisation: Normalisation = "standardised",
    keep_norm: bool = False,
    seed: int = 0,
) -> WidthSample:
    """Return the cosines `Q₁₂/√(Q₁₁ Q₂₂)` between two inputs' activations in `runs` independent random networks.

    Each layer applies `φ`, standardised or divided by `√E φ²`, and weights i.i.d. `N(0, 1/width)`; there are no
    biases. The recursion takes pre-activations of unit variance for granted; in a plain network the variance
    drifts, for GELU away from 1, and `keep_norm` prevents that.

    Args:
        phi: An activation, its name, or a callable.
        rho: Correlation of the inputs, in [−1, 1].
        depth: Number of layers.
        width: Units a layer.
        runs: Number of networks.
        normalisation: As in `theory.depth`.
        keep_norm: Whether each input's activations are divided by their root mean square in every layer (RMSNorm).
        seed: Of the generator.

    Raises:
        ValueError: `rho` is no correlation; a number is not positive; or the variance leaves float64's range, as it
            may for activations that grow faster than linearly (ReLU²).

    Source: Poole et al. 2016 for the map that these scatter around.

    >>> sample = random_networks("relu", 0.5, 3, width=100, runs=20)
    >>> sample.correlations.shape, float(sample.mean[0])
    ((20, 4), 0.5)
    """
    if not -1 <= rho <= 1:
        raise ValueError(f"rho is {rho!r}; allowed are correlations in [−1, 1]")
    if min(depth, width, runs) < 1:
        raise ValueError(f"depth, width and runs are {depth}, {width}, {runs}; allowed are integers ≥ 1")
    generator, layer = np.random.default_rng(seed), _layer(phi, normalisation)
    block = max(1, CHUNK // width)
    parts = [
        _walk(layer, rho, depth, (min(block, runs - start), 2, width), keep_norm, generator)
        for start in range(0, runs, block)
    ]
    sample = WidthSample(np.concatenate(parts))
    if not np.isfinite(sample.correlations).all():
        raise ValueError(f"the variance of {get(phi).name!r} diverges within {depth} layers: give fewer")
    return sample


def _layer(phi: AnyActivation, normalisation: Normalisation) -> Any:
    phi = get(phi)
    if normalisation == "standardised":
        return standardise(phi).value
    size = math.sqrt(moments(phi).square)
    return lambda z: phi.value(z) / size


def _walk(
    layer: Any, rho: float, depth: int, shape: tuple[int, int, int], keep_norm: bool, generator: np.random.Generator
) -> Array:
    Q = np.broadcast_to(np.array([[1.0, rho], [rho, 1.0]]), (shape[0], 2, 2))
    found = [Q[:, 0, 1]]
    for _ in range(depth):
        with np.errstate(over="ignore", invalid="ignore"):
            h = layer(_pairs(Q, generator.standard_normal(shape)))
            Q = h @ h.transpose(0, 2, 1) / shape[2]
            norms = np.sqrt(np.diagonal(Q, axis1=1, axis2=2))
            cosines = Q / norms[:, :, None] / norms[:, None, :]
        found.append(cosines[:, 0, 1])
        Q = cosines if keep_norm else Q
    return np.stack(found, axis=1)


def _pairs(Q: Array, normal: Array) -> Array:
    """Return Gaussian pairs of covariance `Q` from independent standard normals, by Cholesky's formula."""
    first = np.sqrt(Q[:, 0, 0])
    cross = Q[:, 0, 1] / first
    rest = np.sqrt(np.maximum(Q[:, 1, 1] - cross**2, 0.0))
    one, two = normal[:, 0], normal[:, 1]
    return np.stack([first[:, None] * one, cross[:, None] * one + rest[:, None] * two], axis=1)
