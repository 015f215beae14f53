"""The two kinds of loss-of-plasticity manifold: cloned units and frozen units, as affine sets of parameters.

Scales `s` (claim C8) turn identical clones into scaled ones, `h(v) = s_v h̃`; without them every `s` is one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from theory.activations import Scaling
from theory.network import Network
from theory.partitions import Partition, check_partition
from theory.tolerances import float64_identity

Array = np.ndarray[Any, Any]


def row_residual(network: Network, partition: Partition, scales: Array | None = None) -> Any:
    """Return the largest `|c(v) − c(v')|` in a block, `c_j(v) = Σ_{u∈S_j} w(u→v) s_u / s_v`, over all blocks `S_j`.

    Zero means row-equitable (RE).

    Args:
        network: Its weights decide the arithmetic.
        partition: Blocks.
        scales: Scalars of shape (units,); all 1 if `None`.

    Returns:
        A float64 or an exact scalar, like the weights.

    Raises:
        ValueError: As `scales_of`.

    Source: JL25, section 2.

    >>> network = Network.layered([[[1.0], [3.0]], [[1.0, 1.0]]], "relu")
    >>> partition = Partition.from_blocks(network, [[(1, 0), (1, 1)]])
    >>> float(row_residual(network, partition)), float(column_residual(network, partition))
    (2.0, 0.0)
    """
    s = scales_of(network, partition, scales)
    w = network.weights * s[network.source] / s[network.target]
    return _spread(network.target, partition.labels[network.source], w, partition)


def column_residual(network: Network, partition: Partition, scales: Array | None = None) -> Any:
    """Return the largest `|d(u) − d(u')|` in a block, `d_i(u) = Σ_{v∈S_i} s_v w(u→v) / s_u`, over all blocks `S_i`.

    Zero means column-equitable (CE). Arguments, result and errors as `row_residual`.

    >>> network = Network.layered([[[1.0], [1.0]], [[1.0, 4.0]]], "relu")
    >>> float(column_residual(network, Partition.from_blocks(network, [[(1, 0), (1, 1)]])))
    3.0
    """
    s = scales_of(network, partition, scales)
    w = network.weights * s[network.target] / s[network.source]
    return _spread(network.source, partition.labels[network.target], w, partition)


def is_row_equitable(network: Network, partition: Partition, tol: float = 0, scales: Array | None = None) -> bool:
    """Tell whether every unit of a block receives the same block sums (RE), up to `tol`; JL25, section 2.

    Sums of floats are rounded, so give floats a tolerance. Arguments and errors as `row_residual`.

    >>> network = Network.layered([[[0.1], [0.1 + 1e-15]], [[1.0, 1.0]]], "relu")
    >>> partition = Partition.from_blocks(network, [[(1, 0), (1, 1)]])
    >>> is_row_equitable(network, partition), is_row_equitable(network, partition, tol=1e-12)
    (False, True)
    """
    return bool(row_residual(network, partition, scales) <= tol)


def is_column_equitable(
    network: Network, partition: Partition, tol: float = 0, scales: Array | None = None
) -> bool:
    """Tell whether every unit of a block sends the same block sums (CE), up to `tol`; JL25, section 2.

    Sums of floats are rounded, so give floats a tolerance. Arguments and errors as `row_residual`.

    >>> network = Network.layered([[[1.0], [1.0]], [[2.0, 2.0]]], "relu")
    >>> is_column_equitable(network, Partition.from_blocks(network, [[(1, 0), (1, 1)]]))
    True
    """
    return bool(column_residual(network, partition, scales) <= tol)


def is_pattern_equitable(network: Network, partition: Partition, scales: Array | None = None) -> bool:
    """Tell whether adding a tangent vector of the cloned manifold keeps RE and CE, which needs equitable edges.

    For untied weights and `s = 1`: every unit of `S_i` has as many in-edges from `S_j` as every other, and every
    unit of `S_j` as many out-edges into `S_i` (claim C6). With scales, `Σ s_u²` takes the place of the number of
    edges; with ties, each class of parameters that move together has to be equitable by itself.

    Arguments and errors as `row_residual`.

    >>> edges = {("x", "a"): 1.0, ("x", "b"): 1.0, ("a", "y"): 1.0}
    >>> network = Network.from_edges(edges, "relu", ["x"], ["y"])
    >>> is_pattern_equitable(network, Partition.from_blocks(network, [["a", "b"]]))
    False
    """
    s = scales_of(network, partition, scales)
    group = _group_parameters(network, partition, s)[network.tie]
    source_block, target_block = partition.labels[network.source], partition.labels[network.target]
    squares = np.array([Fraction(v) ** 2 for v in s.tolist()], dtype=object)
    # Float scales such as 0.1 are rounded; relative to the smallest square no other block can hide a difference.
    tol = float64_identity() * min(squares) * len(s) if s.dtype == np.float64 else 0
    into = _spread(network.target, _pairs(source_block, group), squares[network.source], partition)
    out_of = _spread(network.source, _pairs(target_block, group), squares[network.target], partition)
    return bool(into <= tol) and bool(out_of <= tol)


@dataclass(frozen=True, eq=False)
class Manifold:
    """The affine set `base + span{t_k}` of parameters, where the tangent vectors `t_k` have disjoint supports.

    Disjoint supports make the projectors and the dimension elementary: `t_k` has the entries `coefficient[p]`
    at the parameters `p` with `group[p] = k`. Parameters with `group −1` are fixed.

    Attributes:
        base: Parameters of a point of the manifold, shape (parameters,).
        group: int64 of shape (parameters,), in `−1 … dimension−1`.
        coefficient: Scalars of shape (parameters,), not zero where `group ≥ 0`.

    >>> plane = Manifold(np.zeros(3), np.array([0, 0, -1]), np.ones(3))
    >>> plane.dimension, plane.codimension, plane.project_tangent(np.array([1.0, 3.0, 5.0])).tolist()
    (1, 2, [2.0, 2.0, 0.0])
    """

    base: Array
    group: Array
    coefficient: Array

    @property
    def dimension(self) -> int:
        """The number of tangent vectors; for a cloned manifold the number of connected block pairs (claim C4)."""
        return int(self.group.max(initial=-1)) + 1

    @property
    def codimension(self) -> int:
        """The dimension of the normal space."""
        return len(self.base) - self.dimension

    def project_tangent(self, vector: Array) -> Array:
        """Return `Σ_k t_k ⟨t_k, vector⟩ / ⟨t_k, t_k⟩`, of shape (parameters,)."""
        inner = self._sum(self.coefficient * vector)
        square = self._sum(self.coefficient * self.coefficient)
        return self.expand(inner / square)

    def project_normal(self, vector: Array) -> Array:
        """Return `vector − project_tangent(vector)`.

        >>> Manifold(np.zeros(2), np.array([0, 0]), np.ones(2)).project_normal(np.array([1.0, 3.0])).tolist()
        [-1.0, 1.0]
        """
        return vector - self.project_tangent(vector)

    def expand(self, coordinates: Array) -> Array:
        """Return `Σ_k coordinates[k] t_k`, of shape (parameters,).

        >>> plane = Manifold(np.zeros(3), np.array([0, 1, 0]), np.array([1.0, 1.0, 2.0]))
        >>> plane.expand(np.array([5.0, 7.0])).tolist()
        [5.0, 7.0, 10.0]
        """
        free = self.group >= 0
        vector = self.coefficient * coordinates[np.where(free, self.group, 0)] if self.dimension else self.base * 0
        return np.where(free, vector, vector * 0)

    def offset(self, parameters: Array) -> Array:
        """Return the component of `parameters − base` that is normal to the manifold."""
        return self.project_normal(parameters - self.base)

    def distance(self, parameters: Array) -> float:
        """Return the Euclidean distance of `parameters` from the manifold.

        >>> Manifold(np.zeros(2), np.array([0, -1]), np.ones(2)).distance(np.array([3.0, 4.0]))
        4.0
        """
        return float(sum(float(x) ** 2 for x in self.offset(parameters))) ** 0.5

    def contains(self, parameters: Array, tol: float = 0) -> bool:
        """Tell whether the distance is at most `tol`; with 0 by exact comparison."""
        return bool(np.all(np.abs(self.offset(parameters)) <= tol))

    def _sum(self, vector: Array) -> Array:
        total = np.full(self.dimension, self.base.flat[0] * 0, dtype=np.result_type(vector, self.base))
        free = self.group >= 0
        np.add.at(total, self.group[free], vector[free])
        return total


def cloned_manifold(
    network: Network, partition: Partition, tol: float = 0, scales: Array | None = None
) -> Manifold:
    """Return `M_C(w₀) = w₀ + BC`: the network's parameters, moved by one amount for each connected block pair.

    With scales the amount of a pair of blocks is a multiple of `s_i s_jᵀ`; with ties, parameters move together if
    their edges join the same pairs of blocks equally often.

    Args:
        network: Its weights have to be in RE ∩ CE for the partition.
        partition: Blocks; inputs and outputs alone.
        tol: How far block sums may differ; 0 for rational weights, a few rounding errors for floats.
        scales: Scalars of shape (units,), one on inputs and outputs, from the group of each unit's activation.

    Raises:
        ValueError: The partition is not admissible, the weights are not equitable, or the edge pattern is not.

    Source: JL25, Theorem 2.1; the conditions on pattern and scales are claims C6 and C8.

    >>> network = Network.layered([[[1.0], [1.0]], [[2.0, 2.0]]], "relu")
    >>> manifold = cloned_manifold(network, Partition.from_blocks(network, [[(1, 0), (1, 1)]]))
    >>> manifold.dimension, manifold.group.tolist()
    (2, [0, 0, 1, 1])
    """
    check_partition(network, partition)
    for side, residual in (("row", row_residual), ("column", column_residual)):
        found = residual(network, partition, scales)
        if not found <= tol:
            raise ValueError(
                f"the weights are not {side}-equitable: block sums differ by {float(found):.3g} > tol = {tol}"
            )
    if not is_pattern_equitable(network, partition, scales):
        raise ValueError(
            "the edges between two blocks are not spread evenly, so moving along the set leaves it (claim C6); "
            "refine with coarsest_equitable_partition(network, pattern=True)"
        )
    s = scales_of(network, partition, scales)
    coefficient = _first_of_each(network.tie, s[network.source] * s[network.target], len(network.parameters))
    return Manifold(network.parameters, _group_parameters(network, partition, s), coefficient)


def frozen_manifold(network: Network, units: Iterable[Hashable]) -> Manifold:
    """Return `M_F`: the parameters of all in-edges of `units` stay fixed, every other one is free.

    It is a loss-of-plasticity manifold only while the units stay saturated (claims F2 and F2a).

    Raises:
        ValueError: A unit is unknown or an input.

    Source: JL25, section 2.

    >>> frozen_manifold(Network.layered([[[1.0], [1.0]], [[2.0, 2.0]]], "relu"), [(1, 0)]).group.tolist()
    [-1, 0, 1, 2]
    """
    frozen = np.zeros(len(network.units), dtype=bool)
    for unit in units:
        if unit not in network.index or network.index[unit] in network.inputs:
            raise ValueError(f"{unit!r} is no unit with in-edges; frozen_manifold takes units that are not inputs")
        frozen[network.index[unit]] = True
    free = np.ones(len(network.parameters), dtype=bool)
    free[network.tie[frozen[network.target]]] = False
    one = network.parameters * 0 + 1
    return Manifold(network.parameters, np.where(free, np.cumsum(free) - 1, -1), one)


def scales_of(network: Network, partition: Partition, scales: Array | None) -> Array:
    """Return the scales, ones by default, after checking that every activation is equivariant under them.

    Args:
        network: Units with their activations.
        partition: Blocks.
        scales: Scalars of shape (units,), or `None`.

    Raises:
        ValueError: A scale is zero, or not allowed for its unit's activation, or weights are tied.

    >>> network = Network.layered([[[1.0], [2.0]], [[1.0, 1.0]]], "relu")
    >>> scales_of(network, Partition.from_blocks(network, []), np.array([1, 1, 2, 1])).tolist()
    [1, 1, 2, 1]
    """
    if scales is None:
        return np.ones(len(network.units), dtype=np.int64)
    scales = np.asarray(scales)
    if len(scales) != len(network.units):
        raise ValueError(f"scales has length {len(scales)}; the network has {len(network.units)} units")
    if len(network.parameters) < len(network.tie):
        raise ValueError("scales cannot be combined with tied weights; untie the network first")
    for i, s in enumerate(scales):
        activation = network.activations[i]
        kind = activation.scaling if activation else None
        if not _allows(kind, s):
            name = activation.name if activation else "an input"
            raise ValueError(f"scale {s} of unit {network.units[i]!r} is not allowed for {name}")
    return scales


def _allows(kind: Scaling | None, s: Any) -> bool:
    """Tell whether `f(s z) = s f(z)` for activations of that kind."""
    if kind == "positive":
        return bool(s > 0)
    return bool(s == 1 or (kind == "sign" and s * s == 1) or (kind == "linear" and s != 0))


def _spread(units: Array, block: Array, values: Array, partition: Partition) -> Any:
    """Return the largest difference, within a block, of the sums of `values` over the edges (unit, block)."""
    sums, keys, other = _sums(units, block, values)
    owner = partition.labels[keys]
    order = np.lexsort((other, owner)) if len(keys) else keys
    sums, owner, other = sums[order], owner[order], other[order]
    starts = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(other, prepend=-1) != 0))
    if not starts.size:
        return 0.0
    high, low = np.maximum.reduceat(sums, starts), np.minimum.reduceat(sums, starts)
    # A unit of the block that no edge joins to the other block has sum zero.
    absent = np.diff(np.append(starts, len(sums))) < partition.sizes[owner[starts]]
    high[absent], low[absent] = np.maximum(high[absent], 0), np.minimum(low[absent], 0)
    return (high - low).max()


def _sums(units: Array, block: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return sums over the edges of each (unit, block), with the units and the blocks."""
    order = np.lexsort((block, units))
    units, block, values = units[order], block[order], values[order]
    starts = np.flatnonzero((np.diff(units, prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0))
    sums = np.add.reduceat(values, starts) if starts.size else values
    return sums, units[starts], block[starts]


def _pairs(left: Array, right: Array) -> Array:
    """Return one number for each distinct pair."""
    return np.unique(np.stack([left, right]), axis=1, return_inverse=True)[1].reshape(-1)


def _group_parameters(network: Network, partition: Partition, scales: Array) -> Array:
    """Return the class of every parameter: equal if their edges join the same block pairs equally often."""
    pair = _pairs(partition.labels[network.source], partition.labels[network.target])
    if len(network.parameters) == len(network.tie):
        by_parameter = np.empty_like(pair)
        by_parameter[network.tie] = pair
        return Partition(by_parameter).labels
    signatures: dict[int, list[int]] = {}
    for p, k in zip(network.tie.tolist(), pair.tolist(), strict=True):
        signatures.setdefault(p, []).append(k)
    kinds: dict[tuple[int, ...], int] = {}
    return np.array([kinds.setdefault(tuple(sorted(signatures[p])), len(kinds)) for p in range(len(signatures))])


def _first_of_each(keys: Array, values: Array, size: int) -> Array:
    first = np.empty(size, dtype=values.dtype)
    first[keys] = values
    return first
