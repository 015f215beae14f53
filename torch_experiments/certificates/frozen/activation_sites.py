"""Where activations are, and which entries of their arguments belong to which unit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_experiments.certificates.frozen.composites import Composite, composites, hidden_within
from torch_experiments.certificates.frozen.replay import needed, plain_name
from torch_experiments.units.activations import UNKNOWN, Activation
from torch_experiments.units.axes import Axis, atoms, composed
from torch_experiments.units.graph import Graph, Step

# Beside one of these an activation is still a single operation.
SHAPES = ("view", "_unsafe_view", "reshape", "alias", "detach", "clone", "empty_like")


@dataclass(frozen=True, eq=False)
class Site:
    """An activation that ran, and the units behind it.

    Attributes:
        layer: name of the activation module, or of the running layer and the operation; later calls are numbered.
        step: the operation, of several the last one.
        activation: what is known of it.
        labels: by dimension of its argument the unit, or part of its index, of every index, int64.
        units: how many.
        composite: its operations where they are several, or one without a name.
    """

    layer: str
    step: Step
    activation: Activation
    labels: dict[int, Tensor]
    units: int
    composite: Composite | None = None

    @property
    def argument(self) -> Tensor:
        """The pre-activation, a tensor of the trace."""
        found: Tensor = self.step.args[0] if self.composite is None else self.composite.argument
        return found

    def largest(self, x: Tensor) -> Tensor:
        """Return the largest entry of every unit, ``[units]``, of a tensor of the shape of the argument."""
        dims = list(self.labels)
        rest = [d for d in range(x.ndim) if d not in self.labels]
        count = math.prod(x.shape[d] for d in dims)
        values = x.permute(*dims, *rest).reshape(count, -1).amax(-1)
        out = values.new_full((self.units,), -torch.inf)
        return out.scatter_reduce(0, self._index().to(x.device), values, "amax")

    def spread(self, flags: Tensor, x: Tensor) -> Tensor:
        """Return what ``flags [units]`` say of the unit of every entry of ``x``, of the argument's shape."""
        values = flags.to(x.device)[self._index().to(x.device)]
        if not self.labels:
            return values.reshape([1] * x.ndim).expand(x.shape)
        return values.reshape([x.shape[d] if d in self.labels else 1 for d in range(x.ndim)]).expand(x.shape)

    def _index(self) -> Tensor:
        whole = torch.zeros(1, dtype=torch.int64)
        for label in self.labels.values():
            whole = (whole[:, None] * (int(label.max()) + 1) + label).flatten()
        return whole


def sites(graph: Graph) -> tuple[list[Site], dict[str, str]]:
    """Return the activations of a trace, and by layer why others are left out.

    An activation that is spelled out (`composites`) is one site. One with a name inside of it is another site
    where bounds may show that it is flat; one that saturates by rounding alone is no part that is judged twice.
    """
    found: list[Site] = []
    missing: dict[str, str] = {}
    seen: Counter[str] = Counter()
    spelled = composites(graph)
    ends = {f.steps[-1].number: f for f in spelled}
    inner = hidden_within(graph, spelled)
    covered = {step.number for f in spelled for step in f.steps}
    read = needed(graph)
    alone = Counter((s.layer, s.entered) for s in graph.steps if plain_name(s) not in SHAPES)
    for step in graph.steps:
        composite, f = ends.get(step.number), step.activation
        if step.number not in read:
            continue
        if composite is None and (f is None or not _is_real(step.args[0])):
            continue
        leaf = bool(step.layer) and not any(graph.modules[step.layer].children())
        parts = leaf and alone[step.layer, step.entered] > 1 and not _has_weights(graph, step.layer)
        operations = plain_name(step) if composite is None else composite.name
        name = step.layer if leaf else f"{step.layer}.{operations}".removeprefix(".")
        if composite is None and parts and step.number not in covered:
            missing[name] = "not judged: its operations are no function of one tensor alone, entry by entry"
            continue
        if composite is None and step.number in inner and (parts or f is None or not f.flat):
            continue
        labels = _labels(graph, graph.value(step.args[0] if composite is None else composite.argument).axes)
        if labels is None:
            missing[name] = "no axis of its argument is an axis of a parameter, so it has no units"
            continue
        seen[name] += 1
        label = name if seen[name] == 1 else f"{name}#{seen[name]}"
        units = 1
        for part in labels.values():
            units *= int(part.max()) + 1
        found.append(Site(label, step, f if composite is None and f else UNKNOWN, labels, units, composite))
    return found, missing


def _is_real(x: object) -> bool:
    """Return whether an argument is a tensor of real numbers: integers, positions say, have no slope."""
    return isinstance(x, Tensor) and x.is_floating_point()


def _has_weights(graph: Graph, layer: str) -> bool:
    return next(graph.modules[layer].parameters(recurse=False), None) is not None


def _labels(graph: Graph, axes: list[Axis]) -> dict[int, Tensor] | None:
    """Return the units along dimensions that have some: free axes, else rows of weights, else a parameter's."""
    for known in (set(graph.free()), _rows(graph), _all(graph)):
        found = {d: label for d, axis in enumerate(axes) if (label := _along(axis, known)) is not None}
        if found:
            return found
    place = 1 if len(axes) > 3 else -1
    return {} if axes and axes[place].size == 1 else None


def _rows(graph: Graph) -> set[Axis]:
    rows = ((graph.parameters[name].axes[out]) for name, uses in graph.matrices.items() for out, _ in uses)
    return {atom for axis in rows for atom in _long(axis)}


def _all(graph: Graph) -> set[Axis]:
    return {atom for value in graph.parameters.values() for axis in value.axes for atom in _long(axis)}


def _long(axis: Axis) -> Iterator[Axis]:
    return (atom for atom in atoms(axis) if atom.size > 1)


def _along(axis: Axis, known: Set[Axis]) -> Tensor | None:
    """Return the unit of every index of an axis, counting only the known atoms; None if it has none."""
    if not any(atom in known for atom in atoms(axis)):
        return None
    return composed(axis, lambda a: torch.arange(a.size) if a in known else torch.zeros(a.size, dtype=torch.int64))
