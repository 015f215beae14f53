"""The quotient of a network by a cloned partition, and the rates at which it moves like the clone (claim C7)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from theory.manifolds import cloned_manifold
from theory.network import Network
from theory.partitions import Partition

Array = np.ndarray[Any, Any]


def quotient(network: Network, partition: Partition, tol: float = 0) -> tuple[Network, Array]:
    """Return the base network, one unit a block, and the multiplier of the learning rate of each of its weights.

    The base weight is `w̃_ij = Σ_{u∈S_j} w(u→v)` for any `v ∈ S_i`. When the clone descends its loss, `w̃_ij`
    moves by `−η (d_ij / n_i) ∂L/∂w̃_ij`, where `n_i = |S_i|` and `d_ij` is the number of edges from `S_j` into each
    unit of `S_i`; between fully connected blocks `d_ij = n_j`.

    Args:
        network: The clone, without tied weights.
        partition: Blocks; the network has to lie on their cloned manifold.
        tol: How far block sums may differ.

    Returns:
        The base network, its units named by their blocks' first units, and exact multipliers of shape (edges,).

    Raises:
        ValueError: The network is not on a cloned manifold of the partition, or has tied weights.

    Source: JL25, section 2; the rates are claim C7.

    >>> network = Network.layered([[[1.0], [1.0]], [[3.0, 3.0]]], "relu")
    >>> base, multiplier = quotient(network, Partition.from_blocks(network, [[(1, 0), (1, 1)]]))
    >>> base.weights.tolist(), multiplier.tolist()
    ([1.0, 6.0], [0.5, 2.0])
    """
    if len(network.parameters) < len(network.tie):
        raise ValueError("the quotient is defined for untied weights; untie the network first")
    cloned_manifold(network, partition, tol)
    representative = np.array([block[0] for block in partition.blocks()])
    kept = np.flatnonzero(representative[partition.labels[network.target]] == network.target)
    pairs = np.stack([partition.labels[network.source[kept]], partition.labels[network.target[kept]]])
    (source, target), inverse = np.unique(pairs, axis=1, return_inverse=True)
    weights = np.full(len(source), network.parameters.flat[0] * 0, dtype=network.parameters.dtype)
    np.add.at(weights, inverse.reshape(-1), network.weights[kept])
    degrees = np.bincount(inverse.reshape(-1))
    base = Network(
        units=tuple(network.units[i] for i in representative),
        source=source,
        target=target,
        parameters=weights,
        tie=np.arange(len(source)),
        activations=tuple(network.activations[i] for i in representative),
        inputs=tuple(int(partition.labels[i]) for i in network.inputs),
        outputs=tuple(int(partition.labels[i]) for i in network.outputs),
    )
    return base, _ratios(degrees, partition.sizes[target], exact=weights.dtype == object)


def _ratios(degrees: Array, sizes: Array, *, exact: bool) -> Array:
    """Return `d / n` in the arithmetic of the weights."""
    if not exact:
        return degrees / sizes
    return np.array([Fraction(int(d), int(n)) for d, n in zip(degrees, sizes, strict=True)], dtype=object)
