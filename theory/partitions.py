"""Partitions of the units of a network, and the coarsest one that its weights make equitable on both sides."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from theory.network import Network, slices

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Partition:
    """A partition of `n` units into blocks `0 … k−1`, numbered in the order of their first unit.

    Attributes:
        labels: int64 array of shape (units,), the block of each unit.

    >>> partition = Partition(np.array([7, 3, 7, 5]))
    >>> partition.labels.tolist(), partition.sizes.tolist(), [block.tolist() for block in partition.blocks()]
    ([0, 1, 0, 2], [2, 1, 1], [[0, 2], [1], [3]])
    """

    labels: Array

    def __post_init__(self) -> None:
        _, first, inverse = np.unique(self.labels, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        object.__setattr__(self, "labels", rank[inverse])

    @classmethod
    def from_blocks(cls, network: Network, blocks: Iterable[Iterable[Hashable]]) -> Partition:
        """Return the partition of the network's units into these blocks of names; units left out stay alone.

        Raises:
            ValueError: A unit is unknown or stands in two blocks.

        >>> network = Network.layered([[[1.0], [1.0]], [[1.0, 1.0]]], "relu")
        >>> Partition.from_blocks(network, [[(1, 0), (1, 1)]]).labels.tolist()
        [0, 1, 1, 2]
        """
        labels = np.arange(len(network.units))
        placed: dict[Hashable, int] = {}
        for number, block in enumerate(blocks):
            for unit in block:
                _check_placeable(network, unit, placed, number)
                placed[unit] = number
                labels[network.index[unit]] = len(network.units) + number
        return cls(labels)

    @classmethod
    def exactly(cls, network: Network, blocks: Iterable[Iterable[Hashable]]) -> Partition:
        """Return `from_blocks`, where the blocks have to cover every unit.

        Raises:
            ValueError: A unit is unknown, stands in two blocks, or in none.

        >>> network = Network.layered([[[1.0]]], "relu")
        >>> len(Partition.exactly(network, [[(0, 0)], [(1, 0)]]))
        2
        """
        blocks = [list(block) for block in blocks]
        covered = {unit for block in blocks for unit in block}
        missing = [unit for unit in network.units if unit not in covered]
        if missing:
            raise ValueError(f"the partition misses unit {missing[0]!r}; put it into a block, alone if need be")
        return cls.from_blocks(network, blocks)

    def __len__(self) -> int:
        return int(self.labels.max()) + 1 if self.labels.size else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and np.array_equal(self.labels, other.labels)

    def __hash__(self) -> int:
        return hash(self.labels.tobytes())

    @cached_property
    def sizes(self) -> Array:
        """The number of units in each block."""
        return np.bincount(self.labels)

    def blocks(self) -> list[Array]:
        """Return the positions of the units of each block."""
        return np.split(np.argsort(self.labels, kind="stable"), np.cumsum(self.sizes)[:-1])

    def named(self, network: Network) -> list[list[Hashable]]:
        """Return the names of the units of each block."""
        return [[network.units[i] for i in block] for block in self.blocks()]

    def refines(self, other: Partition) -> bool:
        """Tell whether every block of this partition lies within a block of the other.

        >>> Partition(np.array([0, 1, 2])).refines(Partition(np.array([0, 1, 1])))
        True
        """
        pairs = np.unique(np.stack([self.labels, other.labels]), axis=1)
        return pairs.shape[1] == len(self)

    def join(self, other: Partition) -> Partition:
        """Return the finest partition that both refine: units linked by a chain of common blocks.

        >>> Partition(np.array([0, 0, 1, 2])).join(Partition(np.array([0, 1, 1, 2]))).labels.tolist()
        [0, 0, 0, 1]
        """
        labels = self.labels
        while True:
            joined = _merge(_merge(labels, self.labels), other.labels)
            if np.array_equal(joined, labels):
                return Partition(labels)
            labels = joined


def initial_partition(network: Network) -> Partition:
    """Return the coarsest partition that a cloned manifold admits: inputs and outputs alone, else by activation.

    >>> network = Network.layered([[[1.0], [2.0]], [[1.0, 1.0]]], "relu")
    >>> initial_partition(network).named(network)
    [[(0, 0)], [(1, 0), (1, 1)], [(2, 0)]]
    """
    kinds: dict[str, int] = {}
    labels = np.array([kinds.setdefault(f.name if f else "", len(kinds)) for f in network.activations])
    alone = [*network.inputs, *network.outputs]
    labels[alone] = len(kinds) + np.array(alone)
    return Partition(labels)


def check_partition(network: Network, partition: Partition) -> None:
    """Check the hypotheses on a partition: inputs and outputs alone, one activation a block.

    Raises:
        ValueError: It has another number of units, an input or output shares a block, or a block mixes activations.

    >>> check_partition(Network.layered([[[1.0]]], "relu"), Partition(np.array([0, 0])))
    Traceback (most recent call last):
    ValueError: block [(0, 0), (1, 0)] holds (0, 0), an input or output; these stay alone in their blocks
    """
    if len(partition.labels) != len(network.units):
        raise ValueError(
            f"the partition covers {len(partition.labels)} units, the network has {len(network.units)}"
        )
    start = initial_partition(network)
    if partition.refines(start):
        return
    for block in partition.blocks():
        _explain_block(network, start, block)


def coarsest_equitable_partition(network: Network, tol: float = 0, *, pattern: bool = False) -> Partition:
    """Return the coarsest partition whose blocks have equal block sums of in-weights and of out-weights.

    It is the coarsest `P` with `Σ_{u∈S_j} w(u→v)` equal for all `v ∈ S_i` (row-equitable) and `Σ_{v∈S_i} w(u→v)`
    equal for all `u ∈ S_j` (column-equitable), inputs and outputs alone and one activation a block. Every such
    partition refines it (claim C11).

    Args:
        network: Weights are float64 or ordered exact scalars (`Fraction`, `int`).
        tol: Block sums that differ by no more count as equal; sums linked by such steps stay together. With 0 the
            sums are exact, of floats too, which are rational numbers.
        pattern: Ask the same of the number of edges between blocks, as a cloned manifold needs (claim C6).

    Returns:
        The partition. Cost: O(edges · log units) sums, by the rule of Hopcroft, Paige and Tarjan that of the parts
        of a block all but the largest are used to split others; times log(edges) for sorting. With a
        tolerance the whole is repeated until it is stable, which took up to 11 rounds on small networks.

    Raises:
        ValueError: `tol` is negative, or the weights have no order.

    Source: Paige and Tarjan 1987 for the rule; the problem is claim C11.

    >>> network = Network.layered([[[1.0], [1.0], [2.0]], [[3.0, 3.0, 3.0]]], "relu")
    >>> coarsest_equitable_partition(network).named(network)
    [[(0, 0)], [(1, 0), (1, 1)], [(1, 2)], [(2, 0)]]
    """
    if not tol >= 0:
        raise ValueError(f"tol = {tol} must be zero or positive")
    weights = [(_summable(network.weights, tol), tol)]
    if pattern:
        weights.append((np.ones(len(network.source)), 0))
    return Partition(_Refinement(network, weights).run())


def partitions_of(items: Sequence[Any]) -> Iterator[list[list[Any]]]:
    """Yield every partition of the items; Bell(len(items)) of them.

    >>> list(partitions_of("ab"))
    [[['a'], ['b']], [['a', 'b']]]
    """
    if not items:
        yield []
        return
    head, *rest = items
    for smaller in partitions_of(rest):
        yield [[head], *smaller]
        for k, block in enumerate(smaller):
            yield [*smaller[:k], [head, *block], *smaller[k + 1 :]]


def admissible_partitions(network: Network) -> Iterator[Partition]:
    """Yield every partition that keeps inputs and outputs alone and mixes no activations.

    >>> network = Network.layered([[[1.0], [1.0], [1.0]], [[1.0, 1.0, 1.0]]], "relu")
    >>> len(list(admissible_partitions(network)))
    5
    """
    start = initial_partition(network)
    units = [i for i in range(len(network.units)) if i not in {*network.inputs, *network.outputs}]
    for blocks in partitions_of(units):
        labels = np.arange(len(network.units))
        for block in blocks:
            labels[block] = block[0]
        candidate = Partition(labels)
        if candidate.refines(start):
            yield candidate


class _Refinement:
    """Joint forward and backward colour refinement.

    `members` lists the units block by block; block `b` owns `members[start[b]:end[b]]`, and `place` inverts it.
    """

    def __init__(self, network: Network, weights: list[tuple[Array, float]]) -> None:
        self.weights, self.units = weights, len(network.units)
        self.exact = all(tol == 0 for _, tol in weights)
        self.label = initial_partition(network).labels.copy()
        self.members = np.argsort(self.label, kind="stable")
        self.place = np.argsort(self.members, kind="stable")
        sizes = np.bincount(self.label)
        self.end = list(np.cumsum(sizes))
        self.start = [e - s for e, s in zip(self.end, sizes, strict=True)]
        self.sides = [_adjacency(network.source, network.target, self.units)]
        self.sides.append(_adjacency(network.target, network.source, self.units))

    def run(self) -> Array:
        """Split until nothing splits; with a tolerance, until a whole round of all blocks splits nothing."""
        while True:
            before = len(self.start)
            self._drain(set(range(before)))
            if self.exact or len(self.start) in (before, self.units):
                return self.label

    def _drain(self, queue: set[int]) -> None:
        while queue and len(self.start) < self.units:
            block = queue.pop()
            splitter = self.members[self.start[block] : self.end[block]].copy()
            for first, end, order in self.sides:
                edges = slices(first[splitter], first[splitter + 1])
                for weight, tol in self.weights:
                    self._split_by(end[edges], weight[order[edges]], tol, queue)

    def _split_by(self, reached: Array, weight: Array, tol: float, queue: set[int]) -> None:
        """Split every block by the sums of `weight` over the edges at each of its units."""
        if not reached.size:
            return
        units, sums = _sum_by(reached, weight, self.units)
        blocks, touched = np.unique(self.label[units], return_counts=True)
        sizes = np.array([self.end[b] - self.start[b] for b in blocks])
        part = blocks[touched < sizes]
        # The untouched rest of a block has sum zero; -1 stands for it.
        units = np.concatenate([units, np.full(len(part), -1)])
        label = np.concatenate([self.label[units[: len(sums)]], part])
        sums = np.concatenate([sums, np.zeros(len(part), dtype=sums.dtype)])
        order = np.lexsort((_ranks(sums), label))
        units, label, sums = units[order], label[order], sums[order]
        new_block = np.diff(label, prepend=-1) != 0
        apart = np.concatenate([[True], (sums[1:] - sums[:-1]) > tol]) | new_block
        groups = np.cumsum(apart) - 1
        several = np.flatnonzero(np.bincount(np.cumsum(new_block) - 1, weights=apart) > 1)
        bounds = np.append(np.flatnonzero(new_block), len(units))
        for k in several:
            span = slice(bounds[k], bounds[k + 1])
            cuts = np.flatnonzero(np.diff(groups[span])) + 1
            self._split(int(label[span.start]), np.split(units[span], cuts), queue)

    def _split(self, block: int, parts: list[Array], queue: set[int]) -> None:
        """Give every part but the largest a block of its own; the part with -1 also holds all unnamed units."""
        rest = [k for k, part in enumerate(parts) if part.min() < 0]
        size = [len(part) for part in parts]
        if rest:
            named = sum(size) - 1
            size[rest[0]] += self.end[block] - self.start[block] - named - 1
        largest = int(np.argmax(size))
        stays = rest[0] if rest else largest
        fresh = [self._carve(block, part) for k, part in enumerate(parts) if k != stays]
        if stays != largest and block not in queue:
            # The rest kept the old number though another part is larger: that one need not be used.
            fresh[largest - (largest > stays)] = block
        queue.update(fresh)

    def _carve(self, block: int, part: Array) -> int:
        """Move the units of `part` to the end of the block's range and make that range a block; O(part)."""
        end = self.end[block]
        cut = end - len(part)
        here = self.place[part]
        incoming = part[here < cut]
        tail = self.members[cut:end]
        leaving = tail[~np.isin(tail, part, assume_unique=True)]
        hole = self.place[incoming].copy()
        seat = self.place[leaving].copy()
        self.members[hole], self.members[seat] = leaving, incoming
        self.place[leaving], self.place[incoming] = hole, seat
        self.end[block] = cut
        self.start.append(cut)
        self.end.append(end)
        self.label[part] = len(self.start) - 1
        return len(self.start) - 1


def _adjacency(near: Array, far: Array, units: int) -> tuple[Array, Array, Array]:
    """Return (first, far ends, edges): the edges at unit `u` are positions `first[u]:first[u+1]` of the others."""
    order = np.argsort(near, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(near, minlength=units))])
    return first, far[order], order


def _sum_by(keys: Array, values: Array, size: int) -> tuple[Array, Array]:
    """Return the distinct keys and the sum of the values at each."""
    if values.dtype != object and len(keys) > size // 4:
        present = np.flatnonzero(np.bincount(keys, minlength=size))
        return present, np.bincount(keys, weights=values, minlength=size)[present]
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    return distinct, np.add.reduceat(values[order], starts)


def _ranks(sums: Array) -> Array:
    """Return sortable keys: the sums themselves, or their ranks if they are exact scalars."""
    return np.unique(sums, return_inverse=True)[1] if sums.dtype == object else sums


def _summable(weights: Array, tol: float) -> Array:
    """Return the weights such that sums of them can be compared; floats at `tol = 0` as exact integers."""
    if weights.dtype != object:
        return _as_integers(weights) if tol == 0 else weights
    try:
        np.unique(weights)
        weights.sum() > weights.sum()  # noqa: B015
    except TypeError:
        kind = type(weights.flat[0]).__name__
        raise ValueError(f"weights of type {kind} have no order; give floats or Fractions") from None
    return weights


def _as_integers(weights: Array) -> Array:
    """Return the floats times one power of two that makes all of them integers, as Python integers."""
    mantissa, exponent = np.frexp(weights)
    whole = (mantissa * 2.0**53).astype(np.int64).astype(object)  # exact: a float64 has 53 bits
    shift = np.where(weights == 0, 0, exponent)
    return whole << (shift - shift.min(initial=0)).astype(object)


def _merge(labels: Array, blocks: Array) -> Array:
    """Give every block the smallest label that occurs in it."""
    least = np.full(int(blocks.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, blocks, labels)
    return np.asarray(least[blocks])


def _check_placeable(network: Network, unit: Hashable, placed: dict[Hashable, int], number: int) -> None:
    if unit not in network.index:
        raise ValueError(f"the partition names {unit!r}, which is no unit of the network")
    if unit in placed:
        raise ValueError(f"the partition repeats unit {unit!r}, in blocks {placed[unit]} and {number}")


def _explain_block(network: Network, start: Partition, block: Array) -> None:
    if len(np.unique(start.labels[block])) == 1:
        return
    names = [network.units[i] for i in block]
    ends = [network.units[i] for i in block if i in {*network.inputs, *network.outputs}]
    if ends:
        raise ValueError(f"block {names} holds {ends[0]!r}, an input or output; these stay alone in their blocks")
    kinds = sorted({f.name for i in block if (f := network.activations[i])})
    raise ValueError(f"block {names} mixes the activations {', '.join(kinds)}; a block has one activation")
