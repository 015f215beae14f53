"""Run the operations of a trace again, on something else than numbers: bounds, signs, probes."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from torch_experiments.support.torch_private import schema, tree_map_only
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import flatten
from torch_experiments.units.reads import home

T = TypeVar("T")


class Domain(Protocol[T]):
    """What stands for a tensor, and what operations do to it."""

    def leaf(self, tensor: Tensor) -> T:
        """Return what stands for a parameter, a buffer, an input or a constant."""

    def unknown(self, tensor: Tensor) -> T:
        """Return what stands for a tensor of which nothing is known."""

    def apply(self, step: Step) -> list[T]:
        """Return what stands for every result of an operation that got what stands for its tensors."""


class Replay(Generic[T]):
    """What stands for every tensor of a trace; ``sites`` holds the first argument of every activation, by step."""

    def __init__(self, graph: Graph, domain: Domain[T]) -> None:
        self.domain = domain
        self.values: dict[int, T] = {}
        self.sites: dict[int, T] = {}
        self._homes: dict[int, set[Tensor]] = {}
        self._lost = _overwritten_leaves(graph)
        for step in graph.steps:
            self._run(step)

    def value(self, tensor: Tensor) -> T:
        """Return what stands for ``tensor``."""
        if id(tensor) in self._lost:
            return self.domain.unknown(tensor)
        if id(tensor) not in self.values:
            self._bind(tensor, self.domain.leaf(tensor))
        return self.values[id(tensor)]

    def _run(self, step: Step) -> None:
        args, kwargs = tree_map_only(Tensor, self.value, (step.args, dict(step.kwargs)))
        if step.activation is not None:
            self.sites[step.number] = args[0]
        results = self.domain.apply(step._replace(args=args, kwargs=kwargs))
        for tensor in step.written:
            self._lost |= {id(alias) for alias in self._homes.get(home(tensor), set())}
        for tensor, value in zip([*flatten(step.result), *step.written], [*results, *results[:1]], strict=False):
            self._bind(tensor, value)

    def _bind(self, tensor: Tensor, value: T) -> None:
        self.values[id(tensor)] = value
        self._lost.discard(id(tensor))
        self._homes.setdefault(home(tensor), set()).add(tensor)


def needed(graph: Graph) -> set[int]:
    """Return the numbers of the steps that the outputs rest on; argument checks, say, are none of them.

    >>> from torch import nn, ones
    >>> from torch_experiments.units import trace
    >>> needed(trace(nn.Linear(2, 1), ones(1, 2)))
    {0, 1}
    """
    found: set[int] = set()
    wanted = {home(tensor) for tensor in graph.returned}
    for step in reversed(graph.steps):
        if any(home(tensor) in wanted for tensor in flatten([step.result, step.written])):
            found.add(step.number)
            wanted |= {home(tensor) for tensor in flatten([step.args, dict(step.kwargs)])}
    return found


def changes(step: Step) -> bool:
    """Return whether an operation changes one of its arguments in place."""
    return bool(schema(step.func).is_mutable)


def plain_name(step: Step) -> str:
    """Return the name of the operation without namespace, and without the mark of changing in place."""
    return step.name.partition("::")[2].removesuffix("_")


def as_tensors(item: Any) -> list[Tensor]:
    """Return the tensors that an operation returned."""
    return list(flatten(item))


def _overwritten_leaves(graph: Graph) -> set[int]:
    """Return the ids of tensors from outside the trace that it changes."""
    made: set[int] = set()
    found: set[int] = set()
    for step in graph.steps:
        found |= {id(tensor) for tensor in step.written} - made
        made |= {id(tensor) for tensor in flatten(step.result)} - found
    return found
