"""Groups of units and the parameters around them: what feeds a unit, what reads it, and what else belongs to it.

A group is an atom of the unit graph: the neurons of a layer, the channels of a convolution, the features of a
residual stream. One parameter dimension may hold several groups (a concatenation) or a group times positions
(flatten).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torch_experiments.units.axes import Axis, atoms, factors, find, summands
from torch_experiments.units.graph import Graph


class Edge(NamedTuple):
    """A dimension of a parameter or buffer along which units of a group lie.

    Attributes:
        parameter: its name.
        dim: the dimension.
        unit: of every index of the dimension the unit, int64; −1 where it belongs to none of the group.
    """

    parameter: str
    dim: int
    unit: Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """Units of one atom, and the parameters around them.

    Attributes:
        name: the layer that first makes them.
        axis: the atom.
        incoming: rows of linear maps: weights into the units.
        outgoing: columns of linear maps: weights out of the units.
        own: all other parameters and buffers with an entry (or a row) a unit: biases, norms, embeddings.
    """

    name: str
    axis: Axis
    incoming: tuple[Edge, ...]
    outgoing: tuple[Edge, ...]
    own: tuple[Edge, ...]

    @property
    def size(self) -> int:
        """Return the number of units."""
        return self.axis.size


def groups(graph: Graph, among: Iterable[Axis] | None = None) -> list[Group]:
    """Return the groups of the atoms ``among`` (all that may be copied), in order of discovery.

    Args:
        graph: of `trace`.
        among: atoms, for instance those that `choose` returns.

    >>> from torch import nn
    >>> from torch_experiments.units import trace
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> [(group.name, group.size, group.incoming[0].parameter) for group in groups(trace(model, torch.ones(2, 2)))]
    [('0', 3, '0.weight')]
    """
    chosen = None if among is None else set(among)
    wanted = [atom for atom in graph.free() if chosen is None or atom in chosen]
    built: dict[Axis, list[tuple[str, int, Axis]]] = {}
    for name in (n for n in graph.parameters if n in graph.used):
        for dim, axis in enumerate(graph.parameters[name].axes):
            for atom in set(atoms(axis)):
                built.setdefault(atom, []).append((name, dim, axis))
    return [_group(graph, atom, built[atom]) for atom in wanted]


def places(axis: Axis, atom: Axis) -> Tensor:
    """Return of every index of ``axis`` the index of ``atom`` in it, int64 ``[size]``, −1 where there is none."""
    axis = find(axis)
    if axis.kind == "sum":
        return torch.cat([places(part, atom) for part in summands(axis)])
    index = torch.full((axis.size,), -1)
    inner = 1
    for factor in reversed(factors(axis)):
        step = inner
        inner *= factor.size
        if any(a is atom for a in atoms(factor)):
            own = places(factor, atom) if factor.kind == "sum" else torch.arange(factor.size)
            index = own[torch.arange(axis.size) // step % factor.size]
    return index


def _group(graph: Graph, atom: Axis, built: Sequence[tuple[str, int, Axis]]) -> Group:
    """Return the group of an atom, from the dimensions of parameters that are built of it."""
    incoming: list[Edge] = []
    outgoing: list[Edge] = []
    own: list[Edge] = []
    for name, dim, axis in built:
        uses = graph.matrices.get(name, set())
        edge = Edge(name, dim, places(axis, atom))
        if any(dim == source for _, source in uses):
            outgoing.append(edge)
        elif any(dim == target for target, _ in uses):
            incoming.append(edge)
        else:
            own.append(edge)
    first = next(iter((*incoming, *own, *outgoing))).parameter
    return Group(first.rpartition(".")[0] or first, atom, tuple(incoming), tuple(outgoing), tuple(own))


Attention = Literal["heads", "features"]


def choose(graph: Graph, attention: Attention) -> set[Axis]:
    """Return the atoms to copy: all that are free, but of every product one factor only.

    >>> from torch import nn
    >>> from torch_experiments.units import trace
    >>> graph = trace(nn.MultiheadAttention(6, 3), [torch.ones(4, 2, 6)] * 3)
    >>> [[atom.size for atom in choose(graph, what)] for what in ("heads", "features")]  # 3 heads of 2
    [[3], [2]]
    """
    shunned = {atom for axis, _ in graph.contracted for atom in atoms(axis)}
    free = set(graph.free())
    blocked: set[Axis] = set()
    wanted: set[Axis] = set()
    for axis in graph.products:
        whole = [found for f in factors(axis) if (found := {a for a in atoms(f) if a in free})]
        groups = [group for group in whole if not group & blocked]
        if groups:  # of a factor that is a sum, parts may have been blocked by a product of these alone
            blocked |= set().union(*(group for group in whole if group & blocked)) - groups[0]
        if len(groups) > 1:
            groups.sort(key=lambda g: (not g & wanted, bool(g & shunned) == (attention == "heads")))
            wanted |= groups[0]
            blocked |= set().union(*groups[1:]) - groups[0]
    return free - blocked
