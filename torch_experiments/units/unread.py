"""What a run did not read: positions beyond the example's length in tables cut to it, and whole parameters.

A table of positions, a causal mask or rotary angles have an axis of which an example reads the first part. What is
left is no unit: nothing was computed with it, so nothing tells what a copy of it would do.

Whole parameters are those of other heads, or of a copy of the network, or what only training reads. They may have
to follow the units around them, and nothing of the trace tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from torch_experiments.units.axes import Axis, atoms, fix
from torch_experiments.units.graph import Graph
from torch_experiments.units.inputs import flatten

# They hand entries on without computing anything with them.
MOVES = frozenset({
    "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "unsqueeze", "squeeze",
    "expand", "slice", "select", "split", "unsafe_split", "split_with_sizes", "chunk", "unbind", "narrow", "alias",
    "detach", "clone", "contiguous", "_to_copy", "lift_fresh",
})  # fmt: skip


def fix_unread(graph: Graph) -> None:
    """Forbid copies of the atoms of parameters and buffers that no operation computed with.

    >>> import torch
    >>> from torch_experiments.units import trace
    >>> from torch_experiments.units.axes import summands
    >>> class Places(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.table = torch.nn.Parameter(torch.randn(8, 2))
    ...     def forward(self, x):
    ...         return x + self.table[: x.shape[1]]
    >>> axis = trace(Places(), torch.ones(2, 5, 2)).parameters["table"].axes[0]
    >>> [(part.size, part.fixed) for part in summands(axis)]
    [(5, 'an axis of an input'), (3, 'the example does not read it')]
    """
    read = set(_read(graph))
    for name in graph.used:
        for axis in graph.parameters[name].axes:
            for atom in atoms(axis):
                if atom not in read:
                    fix(atom, "the example does not read it")


def unread_like(graph: Graph, sizes: Collection[int]) -> list[str]:
    """Return the parameters and buffers that no operation read, and that have an axis of one of these sizes.

    Only those may belong to units of which there are so many; tables of integers and masks are no weights.

    >>> import torch
    >>> from torch_experiments.units import trace
    >>> model = torch.nn.Linear(2, 3)
    >>> model.other = torch.nn.Linear(3, 5)
    >>> unread_like(trace(model, torch.ones(2, 2)), {3})
    ['other.weight']
    """
    model = graph.modules[""]
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    unread = [name for name in graph.parameters if name not in graph.used and _is_real(tensors[name])]
    return [name for name in unread if any(axis.size in sizes for axis in graph.parameters[name].axes)]


def _is_real(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _read(graph: Graph) -> Iterator[Axis]:
    """Yield the atoms of everything that is computed with, or returned."""
    for step in graph.steps:
        if step.name.removeprefix("aten::").removesuffix("_") not in MOVES:
            for tensor in flatten([step.args, step.kwargs]):
                if id(tensor) in graph.values:
                    yield from _atoms(graph, id(tensor))
    for tensor in graph.returned:
        yield from _atoms(graph, id(tensor))


def _atoms(graph: Graph, key: int) -> Iterator[Axis]:
    for axis in graph.values[key][1].axes:
        yield from atoms(axis)
