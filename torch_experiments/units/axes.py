"""Feature axes with structure: what is one axis throughout a network, and how axes are built from each other.

An axis is an *atom*, a product of axes (row-major, as in flatten: channel × height × width), or a sum of axes
(as in concatenation). Operations identify axes; identification may discover structure: a view of 12 features
as 3 × 4 makes the atom of size 12 a product wherever it occurs. An atom may be *fixed*: its indices are never
copied (inputs, outputs, batch, positions, or structures that do not fit together).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from torch_experiments.support.choices import choose

Order = Literal["interleaved", "tiled"]
ORDERS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "interleaved": lambda units, factor: units.repeat_interleave(factor),
    "tiled": lambda units, factor: units.repeat(factor),
}


@dataclass(eq=False)
class Axis:
    """A class of identified axes; work with `find`, never with a stale member.

    Attributes:
        size: number of indices in the base network.
        fixed: why the indices may not be copied, empty if they may.
        kind: ``"product"`` or ``"sum"`` of ``parts``, or an atom.
    """

    size: int
    fixed: str = ""
    kind: Literal["atom", "product", "sum"] = "atom"
    parts: list[Axis] = field(default_factory=list)
    parent: Axis | None = None


def find(axis: Axis) -> Axis:
    """Return the representative of ``axis``."""
    while axis.parent is not None:
        axis = axis.parent
    return axis


def product(parts: Sequence[Axis]) -> Axis:
    """Return the row-major product of axes; one part is itself, none an axis of size one.

    >>> product([Axis(3), Axis(4)]).size
    12
    """
    flat = [p for part in parts for p in factors(part)]
    if len(flat) == 1:
        return flat[0]
    return Axis(math.prod(p.size for p in flat), kind="product", parts=flat) if flat else single()


def single() -> Axis:
    """Return an axis of size one, which is never copied."""
    return Axis(1, fixed="an axis of size one")


def total(parts: Sequence[Axis]) -> Axis:
    """Return the concatenation of axes."""
    return find(parts[0]) if len(parts) == 1 else Axis(sum(p.size for p in parts), kind="sum", parts=list(parts))


def factors(axis: Axis) -> list[Axis]:
    """Return the factors of an axis of size above one, outermost first."""
    axis = find(axis)
    if axis.kind == "product":
        return [f for part in axis.parts for f in factors(part)]
    return [] if axis.size == 1 else [axis]


def summands(axis: Axis) -> list[Axis]:
    """Return the parts of a concatenation, in order."""
    axis = find(axis)
    return [s for part in axis.parts for s in summands(part)] if axis.kind == "sum" else [axis]


def atoms(axis: Axis) -> Iterator[Axis]:
    """Yield the atoms that ``axis`` is built of."""
    axis = find(axis)
    if axis.kind == "atom":
        yield axis
    for part in axis.parts:
        yield from atoms(part)


def is_fixed(axis: Axis) -> bool:
    """Return whether no index of ``axis`` may be copied."""
    return all(atom.fixed for atom in atoms(axis))


def fix(axis: Axis, why: str) -> None:
    """Forbid copies of all indices of ``axis``."""
    for atom in atoms(axis):
        atom.fixed = atom.fixed or why


def unify(one: Axis, other: Axis, why: str = "its parts do not fit together") -> Axis:
    """Identify two axes of one size and return their common axis.

    Where structures cannot be aligned, both are fixed: index by index they are the same, so this is always right.

    >>> flat, channels = Axis(12), Axis(3)
    >>> _ = unify(flat, product([channels, Axis(4)]))  # a view of 12 features as 3 × 4
    >>> [axis.size for axis in factors(flat)], factors(flat)[0] is channels
    ([3, 4], True)
    """
    one, other = find(one), find(other)
    if one is other or (is_fixed(one) and is_fixed(other)):
        return one
    if one.kind == "atom" or other.kind == "atom":
        atom, kept = (one, other) if one.kind == "atom" else (other, one)
        return _absorb(atom, kept)
    if one.kind == other.kind == "product":
        _align(factors(one), factors(other), why)
    elif one.kind == other.kind == "sum":
        _align_sums(summands(one), summands(other), why)
    else:
        _spread(*((one, other) if one.kind == "sum" else (other, one)), why)
    return one


def cut(axis: Axis, sizes: Sequence[int], why: str) -> list[Axis]:
    """Return consecutive parts of ``axis`` with the given sizes."""
    parts = [single() if size == 1 else Axis(size) for size in sizes]
    unify(total(parts), axis, why)
    if is_fixed(axis):
        fix(total(parts), why)
    return parts


def _absorb(atom: Axis, kept: Axis) -> Axis:
    if atom in set(atoms(kept)):  # an axis cannot be a proper part of itself
        fix(kept, "an axis would contain itself")
        return kept
    if atom.fixed:
        fix(kept, atom.fixed)
    atom.parent = kept
    return kept


def _align(left: list[Axis], right: list[Axis], why: str) -> None:
    """Identify two lists of factors of one product, splitting atoms where the other side has finer factors."""
    while left and right:
        a, b = find(left.pop(0)), find(right.pop(0))
        if a.size == b.size:
            unify(a, b, why)
            continue
        small, large, rest = (a, b, right) if a.size < b.size else (b, a, left)
        if large.size % small.size or large.kind != "atom":
            for axis in (a, b, *left, *right):
                fix(axis, why)
            return
        remainder = Axis(large.size // small.size, large.fixed)
        if large.fixed:
            fix(small, large.fixed)
        large.kind, large.parts = "product", [small, remainder]
        rest.insert(0, remainder)


def _align_sums(left: list[Axis], right: list[Axis], why: str) -> None:
    while left and right:
        a, b = find(left.pop(0)), find(right.pop(0))
        if a.size == b.size:
            unify(a, b, why)
            continue
        small, large, rest = (a, b, right) if a.size < b.size else (b, a, left)
        if large.kind != "atom":
            for axis in (a, b, *left, *right):
                fix(axis, why)
            return
        remainder = Axis(large.size - small.size, large.fixed)
        if large.fixed:
            fix(small, large.fixed)
        large.kind, large.parts = "sum", [small, remainder]
        rest.insert(0, remainder)


def _spread(several: Axis, grid: Axis, why: str) -> None:
    """Identify ``n`` concatenated parts with a product whose outermost factor counts to ``n``."""
    parts, (outer, *inner) = summands(several), factors(grid)
    if outer.size == len(parts) and len({p.size for p in parts}) == 1:
        fix(outer, why)
        for part in parts:
            unify(part, product(inner), why)
    else:
        fix(several, why)
        fix(grid, why)


def multiplicity(axis: Axis, factor: int, chosen: set[Axis]) -> int:
    """Return the size of ``axis`` when every index of the ``chosen`` atoms is copied ``factor`` times.

    >>> channels = Axis(3)
    >>> multiplicity(product([channels, Axis(4)]), 2, {channels})
    24
    """
    axis = find(axis)
    if axis.kind == "product":
        return math.prod(multiplicity(part, factor, chosen) for part in axis.parts)
    if axis.kind == "sum":
        return sum(multiplicity(part, factor, chosen) for part in axis.parts)
    return axis.size * (factor if axis in chosen else 1)


def exponent(axis: Axis, chosen: set[Axis]) -> int | None:
    """Return ``m`` when every index of ``axis`` has ``factor**m`` copies, None when their numbers differ.

    >>> copied = Axis(3)
    >>> exponent(total([copied, Axis(4)]), {copied}) is None
    True
    """
    axis = find(axis)
    if axis.kind == "atom":
        return int(axis in chosen)
    found = [exponent(part, chosen) for part in axis.parts]
    if None in found or (axis.kind == "sum" and len(set(found)) > 1):
        return None
    return sum(m for m in found if m) if axis.kind == "product" else found[0]


def block(axis: Axis, factor: int, chosen: set[Axis], order: Order = "interleaved") -> Tensor:
    """Return which base index each index of the widened axis copies, int64.

    Copies of an atom lie side by side (``"interleaved"``), or the atom as a whole is repeated (``"tiled"``).

    >>> units = Axis(2)
    >>> [block(total([units, Axis(1)]), 2, {units}, order).tolist() for order in ("interleaved", "tiled")]
    [[0, 0, 1, 1, 2], [0, 1, 0, 1, 2]]
    """
    axis = find(axis)
    if axis.kind == "atom":
        return copied(axis.size, factor if axis in chosen else 1, order)
    maps = [block(part, factor, chosen, order) for part in axis.parts]
    if axis.kind == "sum":
        starts = torch.tensor([0, *(part.size for part in axis.parts)]).cumsum(0)
        return torch.cat([index + start for index, start in zip(maps, starts, strict=False)])
    whole = torch.zeros(1, dtype=torch.int64)
    for index, part in zip(maps, axis.parts, strict=True):
        whole = (whole[:, None] * part.size + index).flatten()
    return whole


def copied(units: int, factor: int, order: Order = "interleaved") -> Tensor:
    """Return which unit each copy is one of: ``0 0 1 1 …`` interleaved, ``0 1 … 0 1 …`` tiled, int64.

    Raises:
        ValueError: for another order.

    >>> copied(2, 3, "tiled")
    tensor([0, 1, 0, 1, 0, 1])
    """
    arrange: Callable[[Tensor, int], Tensor] = choose("order", order, ORDERS)
    return arrange(torch.arange(units), factor)


def composed(axis: Axis, label: Callable[[Axis], Tensor]) -> Tensor:
    """Return a label of every index of ``axis`` from labels of its atoms: pairs of products, apart in sums."""
    axis = find(axis)
    if axis.kind == "atom":
        return label(axis)
    parts = [composed(part, label) for part in axis.parts]
    if axis.kind == "sum":
        starts = torch.tensor([0, *(int(p.max()) + 1 for p in parts)]).cumsum(0)
        return torch.cat([p + start for p, start in zip(parts, starts, strict=False)])
    whole = torch.zeros(1, dtype=torch.int64)
    for part in parts:
        whole = (whole[:, None] * (int(part.max()) + 1) + part).flatten()
    return whole
