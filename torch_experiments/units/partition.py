"""Find the copies in a network: its coarsest two-sided equitable partition, by colour refinement.

Every axis that may have copies starts in one colour. A round gives each index of it one number for each parameter:
the parameter summed over all its other dimensions with random weights that are equal on colours. If two indices
have equal block sums to and from all colours, their numbers are equal; if not, they differ with probability one.
Colours are split where numbers differ by more than the tolerance, until no colour splits. A round reads every
parameter once a dimension. See claim C11 for why this ends in the coarsest partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_experiments.units.axes import Axis, atoms, factors, find, summands
from torch_experiments.units.graph import Graph
from torch_experiments.units.plan import choose
from torch_experiments.units.trace import Inputs, trace

Colours = dict[Axis, Tensor]


@dataclass(frozen=True)
class Blocks:
    """The coarsest equitable partition of a network's units.

    Attributes:
        labels: by parameter, the block of every index of every dimension, int64.
        tolerance: relative, that decided which sums are equal.
        dimension: of the cloned manifold on which the partition puts the network (C4, products of blocks).
        parameters: number of entries of the parameters counted in it.
    """

    labels: Mapping[str, tuple[Tensor, ...]]
    tolerance: float
    dimension: int
    parameters: int

    @property
    def free_fraction(self) -> float:
        """Share of the parameters that training can still move apart: 1 for a network without copies."""
        return self.dimension / max(self.parameters, 1)

    def copied(self) -> dict[str, int]:
        """Return for every parameter whose first dimension has copies the number of blocks there."""
        counts = {name: int(dims[0].max()) + 1 for name, dims in self.labels.items() if dims}
        return {name: count for name, count in counts.items() if count < len(self.labels[name][0])}


def coarsest_blocks(
    model: nn.Module, example_inputs: Inputs, *, tolerance: float = 1e-9, generator: torch.Generator | None = None
) -> Blocks:
    """Return the coarsest partition of the units of ``model`` whose weights are row- and column-equitable.

    Whole heads, groups and channels are compared, as `clone` copies them; inputs and outputs are blocks of their
    own. Two sums are equal when they differ by at most ``tolerance`` times the root mean square of their kind.

    Args:
        model: any module that can be traced.
        example_inputs: as in `trace`.
        tolerance: relative; about 1e-9 for float64, 1e-4 for float32.
        generator: of the random weights; a fixed seed if None.

    Raises:
        TraceError: as `trace`.
        ValueError: for a negative tolerance.

    Source: claim C11; joint forward and backward colour refinement with random projections.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance: got {tolerance}; it has to be 0 or more")
    generator = generator or torch.Generator().manual_seed(0)
    graph = trace(model, example_inputs)
    tensors = {name: p.detach() for name, p in model.named_parameters() if name in graph.used}
    colours: Colours = {atom: torch.zeros(atom.size, dtype=torch.int64) for atom in choose(graph, "heads")}
    while refine(graph, tensors, colours, tolerance, generator):
        continue
    labels = {name: tuple(_labels(a, colours) for a in graph.parameters[name].axes) for name in tensors}
    dimension = sum(_cells(dims) for dims in labels.values())
    return Blocks(labels, tolerance, dimension, sum(t.numel() for t in tensors.values()))


def refine(
    graph: Graph, tensors: Mapping[str, Tensor], colours: Colours, tolerance: float, generator: torch.Generator
) -> bool:
    """Split colours once by every parameter and dimension; return whether any was split."""
    before = {atom: int(label.max()) for atom, label in colours.items()}
    for name, tensor in tensors.items():
        axes = graph.parameters[name].axes
        weights = [_random(axis, colours, generator) for axis in axes]
        for dim, axis in enumerate(axes):
            own = [atom for atom in atoms(axis) if find(atom) in colours]
            if not own:
                continue
            sums = _contract(tensor, weights, dim)
            for atom in own:
                colours[atom] = _split(colours[atom], _per_index(sums, axis, atom), tolerance)
    return any(int(label.max()) > before[atom] for atom, label in colours.items())


def _contract(tensor: Tensor, weights: list[Tensor], kept: int) -> Tensor:
    """Return the sums over all dimensions but one, each with its weights, in float64."""
    out = tensor.double().movedim(kept, 0)
    for weight in reversed([w for k, w in enumerate(weights) if k != kept]):
        out = out @ weight.to(out)
    return out.cpu()


def _per_index(sums: Tensor, axis: Axis, atom: Axis) -> Tensor:
    """Return one number an index of ``atom``, summing over the other factors of ``axis`` with weights."""
    if find(axis) is atom:
        return sums
    start = 0
    total = torch.zeros(atom.size, dtype=torch.float64)
    for part in summands(axis):
        piece = sums[start : start + part.size]
        start += part.size
        parts = factors(part)
        places = [k for k, factor in enumerate(parts) if factor is atom]
        for k in places:
            grid = piece.reshape([factor.size for factor in parts]).movedim(k, 0).flatten(1)
            steps = torch.linspace(1, 2, grid.shape[1], dtype=torch.float64).sin()
            total = total * 1.7 + grid @ steps
    return total


def _split(label: Tensor, sums: Tensor, tolerance: float) -> Tensor:
    """Return finer labels: indices stay together when sums are linked by steps within the tolerance."""
    scale = float(sums.square().mean().sqrt())
    order = sums.argsort(stable=True)
    jumps = torch.diff(sums[order], prepend=sums[order[:1]]) > tolerance * scale
    cluster = torch.empty_like(label)
    cluster[order] = jumps.cumsum(0)
    return torch.unique(torch.stack([label, cluster]), dim=1, return_inverse=True)[1]


def _random(axis: Axis, colours: Colours, generator: torch.Generator) -> Tensor:
    label = _labels(axis, colours)
    return torch.randn(int(label.max()) + 1, generator=generator, dtype=torch.float64)[label]


def _labels(axis: Axis, colours: Colours) -> Tensor:
    """Return the colour of every index of an axis; every index of a fixed atom has its own."""
    axis = find(axis)
    if axis.kind == "atom":
        return colours.get(axis, torch.arange(axis.size))
    parts = [_labels(part, colours) for part in axis.parts]
    if axis.kind == "sum":
        starts = torch.tensor([0, *(int(p.max()) + 1 for p in parts)]).cumsum(0)
        return torch.cat([p + start for p, start in zip(parts, starts, strict=False)])
    whole = torch.zeros(1, dtype=torch.int64)
    for part in parts:
        whole = (whole[:, None] * (int(part.max()) + 1) + part).flatten()
    return whole


def _cells(dims: tuple[Tensor, ...]) -> int:
    count = 1
    for label in dims:
        count *= int(label.max()) + 1
    return count
