"""Find the copies in a network: its coarsest two-sided equitable partition, by colour refinement.

Every axis that may have copies starts in one colour. A round gives each index of it one number for each parameter:
the parameter summed over all its other dimensions with random weights that are equal on colours. If two indices
have equal block sums to and from all colours, their numbers are equal; if not, they differ with probability one.
Colours are split where numbers differ by more than the tolerance, until no colour splits. A round reads every
parameter once a dimension. See claim C11 for why this ends in the coarsest partition.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from theory.tolerances import SUMS, ZERO_SUM
from torch_experiments.cloning.layouts import Layout, Placement, Profile
from torch_experiments.cloning.unjudged import moderate, not_finite, not_real, within
from torch_experiments.support.torch_private import NormBase
from torch_experiments.units.axes import Axis, atoms, composed, factors, find, summands
from torch_experiments.units.graph import Graph
from torch_experiments.units.groups import choose, groups
from torch_experiments.units.inputs import Inputs
from torch_experiments.units.symmetry import Scales, carried_by
from torch_experiments.units.trace import trace

Colours = dict[Axis, Tensor]
Factors = dict[Axis, Tensor]
Sides = dict[int, tuple[Axis, list[Axis]]]  # of a parameter: by dimension its axis, and those atoms that have units

PIECE = 2**17  # entries that are summed at a time: a megabyte in float64, which stays in a core's cache


@dataclass(frozen=True, eq=False)
class Blocks:
    """The coarsest equitable partition of a network's units.

    Attributes:
        labels: by parameter, the block of every index of every dimension, int64.
        groups: by name of a group of units (`units.groups`), block and scale of every unit.
        scales: by parameter, the scale ``s`` of every index of every dimension, float64, 1 for a block's first.
        tolerance: relative, that decided which sums are equal.
        dimension: of the cloned manifold on which the partition puts the network (C4, products of blocks).
        parameters: number of entries of the parameters counted in it.
        matrices, powers, dropped: of the unit graph, see `units.graph.Graph`.
        unjudged: by group of units, where copies were not looked for, and why.

    >>> from torch_experiments.cloning import clone
    >>> wide = clone(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double())
    >>> coarsest_blocks(wide, torch.eye(2).double()).copied()
    {'0.weight': 3, '0.bias': 3}
    """

    groups: Mapping[str, Profile]
    labels: Mapping[str, tuple[Tensor, ...]]
    scales: Mapping[str, tuple[Tensor, ...]]
    tolerance: float
    dimension: int
    parameters: int
    matrices: Mapping[str, set[tuple[int, int]]]
    powers: Mapping[str, str]
    dropped: Mapping[str, float]
    unjudged: Mapping[str, str] = field(default_factory=dict)

    @property
    def free_fraction(self) -> float:
        """Share of the parameters that training can still move apart: 1 for a network without copies."""
        return self.dimension / max(self.parameters, 1)

    @property
    def unheld_fraction(self) -> float:
        """The same, by the name that a certificate has for what nothing holds."""
        return self.free_fraction

    def copied(self) -> dict[str, int]:
        """Return for every parameter whose first dimension has copies the number of blocks there."""
        counts = {name: int(dims[0].max()) + 1 for name, dims in self.labels.items() if dims}
        return {name: count for name, count in counts.items() if count < len(self.labels[name][0])}

    def layout(self) -> Layout:
        """Return the cloned manifold as a layout: what `residuals` needs."""
        placements = {}
        for name, dims in self.labels.items():
            profiles = tuple(Profile(b, s) for b, s in zip(dims, self.scales[name], strict=True))
            uses = frozenset(self.matrices.get(name, set()))
            placements[name] = Placement(profiles, uses, self.powers.get(name, ""))
        return Layout(1, placements, dropped=self.dropped)


def coarsest_blocks(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    tolerance: float = SUMS,
    scaled: bool = False,
    generator: torch.Generator | None = None,
    graph: Graph | None = None,
) -> Blocks:
    """Return the coarsest partition of the units of ``model`` whose weights are row- and column-equitable.

    Whole heads, groups and channels are compared, as `clone` copies them, and the layers of a stacked recurrent
    module all together; `Blocks.unjudged` names where. Inputs and outputs are blocks of their own. Buffers that
    the network reads count as weights, running statistics in eval mode only. Two sums are equal when they differ
    by at most ``tolerance`` times the norm of what the smaller of them, or most of their block, adds up. Of a
    parameter that no linear map reads as it is, the entries have to be equal.

    With ``scaled`` copies may differ by a scale under which all that happens to them is equivariant: positive
    ones behind ReLU, signs behind tanh (C8, `units.symmetry`). The partition is then coarser, or the same.

    Args:
        model: any module that can be traced.
        example_inputs: as in `trace`.
        tolerance: relative; about 1e-9 for float64, 1e-4 for float32.
        scaled: whether to look for scaled and signed copies.
        generator: of the random weights; a fixed seed if None.
        graph: of ``model``, if it was traced before.

    Raises:
        TraceError: as `trace`, and for complex weights.
        ValueError: for a negative tolerance.

    Source: claims C8 and C11; joint forward and backward colour refinement with random projections.

    >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    >>> _ = model[0].weight.data.fill_(1.0), model[2].weight.data.fill_(3.0)
    >>> coarsest_blocks(model, torch.ones(2, 1).double()).groups["0"].block
    tensor([0, 0])
    """
    if tolerance < 0:
        raise ValueError(f"tolerance: got {tolerance}; it has to be 0 or more")
    generator = generator or torch.Generator().manual_seed(0)
    graph = graph or trace(model, example_inputs)
    parameters = {name: p.detach() for name, p in model.named_parameters() if name in graph.used}
    tensors = parameters | constants(model, graph)
    among = choose(graph, "heads")
    wild = not_finite(graph, tensors) | not_real(graph, tensors)
    parameters, tensors = (
        {n: t for n, t in kind.items() if t.numel() and not t.is_complex()} for kind in (parameters, tensors)
    )
    tensors = moderate(tensors)
    colours: Colours = {atom: torch.zeros(atom.size, dtype=torch.int64) for atom in among if atom not in wild}
    scales = estimated(graph, tensors, colours, tolerance, generator) if scaled else {}
    known = Sizes(graph, tensors, scales)
    while refine(graph, tensors, colours, scales, known, tolerance, generator):
        continue
    scales = {atom: snapped(relative(scale, colours[atom]), 10 * tolerance) for atom, scale in scales.items()}
    found = blocks_of(graph, parameters, colours, scales, tolerance)
    lost = {name: wild[axis] for name, axis in named(graph, among) if axis in wild} if wild else {}
    return replace(found, unjudged=within(model, graph) | lost)


def constants(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """Return the buffers that the network reads, less the statistics of norms that take those of the batch."""
    norms = {name for name, layer in model.named_modules() if isinstance(layer, NormBase) and layer.training}
    read = [(name, buffer) for name, buffer in model.named_buffers() if name in graph.used]
    return {name: buffer.detach() for name, buffer in read if name.rpartition(".")[0] not in norms}


def blocks_of(
    graph: Graph, tensors: Mapping[str, Tensor], colours: Colours, scales: Factors, tolerance: float
) -> Blocks:
    """Return the partition with these colours of atoms."""
    axes = {name: graph.parameters[name].axes for name in tensors}
    labels = {name: tuple(labels_of(a, colours) for a in dims) for name, dims in axes.items()}
    factors = {name: tuple(scales_of(a, scales) for a in dims) for name, dims in axes.items()}
    dimension = sum(_cells(dims) for dims in labels.values())
    count = sum(t.numel() for t in tensors.values())
    units = {name: Profile(colours[a], scales_of(a, scales)) for name, a in named(graph, colours)}
    return Blocks(units, labels, factors, tolerance, dimension, count, graph.matrices, graph.powers, graph.dropped)


def named(graph: Graph, among: Iterable[Axis]) -> Iterator[tuple[str, Axis]]:
    """Yield atoms with the names of their groups, repeated names with a number."""
    seen: dict[str, int] = {}
    for group in groups(graph, among):
        seen[group.name] = count = seen.get(group.name, 0) + 1
        yield group.name if count == 1 else f"{group.name}#{count}", group.axis


def estimated(
    graph: Graph, tensors: Mapping[str, Tensor], colours: Colours, tolerance: float, generator: torch.Generator
) -> Factors:
    """Return a scale for every unit of the atoms that may carry one, right up to a factor a block.

    A random weighted sum of what enters a unit is ``s_v`` times a number of its block, if the scales of the
    units it comes from are right. Inputs have scale one, so scales are found from the inputs on; units whose sums
    vanish keep scale one.
    """
    carried = carried_by(graph)
    unknown = {atom for atom in colours if carried.get(atom, Scales.ANY)}
    scales: Factors = {}
    while unknown:
        entering = {atom: _entering(graph, tensors, atom, unknown, colours, scales, generator) for atom in unknown}
        found = {atom: total for atom, total in entering.items() if total is not None}
        if not found:
            break
        scales |= {atom: _scale(x, carried.get(atom, Scales.ANY), tolerance) for atom, x in found.items()}
        unknown -= found.keys()
    return scales


class Sizes:
    """Roots of the sums of squares of what units add up, by parameter, dimension and atom.

    They are computed when they are asked for, since nothing is asked of units that are alone in their blocks. A
    vector, such as a bias, is one more column of all that enters its units, and has the size of that.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor], scales: Factors) -> None:
        self.graph, self.tensors, self.scales = graph, tensors, scales
        self._squares: dict[tuple[str, int, Axis], Tensor] = {}
        self._entering: dict[Axis, Tensor] = {}

    def of(self, name: str, sides: Sides) -> dict[tuple[int, Axis], Tensor]:
        """Return the sizes of some dimensions of a parameter, ``[units]`` each, by dimension and atom."""
        if self.tensors[name].ndim == 1:
            return {(dim, atom): self._all_that_enters(atom).sqrt() for dim, _, atom in _units(sides)}
        return {key: total.sqrt() for key, total in self._sums(name, sides).items()}

    def _sums(self, name: str, sides: Sides) -> dict[tuple[int, Axis], Tensor]:
        keys = [(dim, atom) for dim, _, atom in _units(sides)]
        missing = {dim for dim, atom in keys if (name, dim, atom) not in self._squares}
        if missing:
            squares = [scales_of(axis, self.scales).square() for axis in self.graph.parameters[name].axes]
            sums = _contract(self.tensors[name], squares, missing, squared=True)
            for dim, axis, atom in _units({dim: sides[dim] for dim in missing}):
                total = _per_index(sums[dim], axis, atom, None) / scales_of(atom, self.scales).square()
                self._squares[name, dim, atom] = total
        return {(dim, atom): self._squares[name, dim, atom] for dim, atom in keys}

    def _all_that_enters(self, atom: Axis) -> Tensor:
        if atom not in self._entering:
            total = torch.zeros(atom.size, dtype=torch.float64)
            for name in self.tensors:
                axes = self.graph.parameters[name].axes
                sides = {dim: (axes[dim], [atom]) for dim in _entries(self.graph, name, atom)}
                for part in self._sums(name, sides).values():
                    total = total + part
            self._entering[atom] = total
        return self._entering[atom]


def refine(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    colours: Colours,
    scales: Factors,
    known: Sizes,
    tolerance: float,
    generator: torch.Generator,
) -> bool:
    """Split colours once by every parameter and dimension; return whether any was split.

    Dimensions whose units are all alone by now are left out, as there is nothing left to split.
    """
    before = {atom: int(label.max()) for atom, label in colours.items()}
    for name in tensors:
        sides = _sides(graph, name, colours)
        if not sides:
            continue
        entrywise = name not in graph.matrices
        weights = [
            _random(a, {} if entrywise else colours, generator) * scales_of(a, scales)
            for a in graph.parameters[name].axes
        ]
        sums, size = _contract(tensors[name], weights, sides), known.of(name, sides)
        for dim, axis, atom in _units(sides):
            found = _per_index(sums[dim], axis, atom, generator) / scales.get(atom, 1)
            colours[atom] = _split(colours[atom], found, size[dim, atom], tolerance)
    return any(int(label.max()) > before[atom] for atom, label in colours.items())


def _sides(graph: Graph, name: str, colours: Colours) -> Sides:
    """Return the dimensions of a parameter where units share blocks, with their axes and these atoms."""
    found: Sides = {}
    for dim, axis in enumerate(graph.parameters[name].axes):
        own = [atom for atom in atoms(axis) if atom in colours and int(colours[atom].max()) + 1 < atom.size]
        if own:
            found[dim] = (axis, own)
    return found


def _units(sides: Sides) -> Iterator[tuple[int, Axis, Axis]]:
    """Yield every dimension with its axis and each of its atoms."""
    return ((dim, axis, atom) for dim, (axis, own) in sides.items() for atom in own)


def relative(scale: Tensor, label: Tensor) -> Tensor:
    """Return scales divided by that of the first unit of each block."""
    first = torch.full((int(label.max()) + 1,), len(label)).scatter_reduce(
        0, label, torch.arange(len(label)), "amin"
    )
    return scale / scale[first[label]]


def snapped(scale: Tensor, allowed: float) -> Tensor:
    """Return scales with ±1 in place of what differs from it by rounding: such copies are identical, not scaled."""
    return torch.where((scale.abs() - 1).abs() <= allowed, scale.sign(), scale)


def _entering(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    atom: Axis,
    unknown: set[Axis],
    colours: Colours,
    scales: Factors,
    generator: torch.Generator,
) -> Tensor | None:
    """Return a random sum of all that enters each unit from units with known scales; None if nothing does."""
    total = None
    for name, tensor in tensors.items():
        axes = graph.parameters[name].axes
        for dim in _entries(graph, name, atom):
            others = [a for k, axis in enumerate(axes) if k != dim for a in atoms(axis)]
            if any(a in unknown for a in others):
                continue
            weights = [_random(axis, colours, generator) * scales_of(axis, scales) for axis in axes]
            found = _per_index(_contract(tensor, weights, [dim])[dim], axes[dim], atom, generator)
            total = found if total is None else total + found
    return total


def _entries(graph: Graph, name: str, atom: Axis) -> list[int]:
    """Return the dimensions of a parameter through which it makes units of ``atom``: rows, biases, embeddings."""
    sources = {source for _, source in graph.matrices.get(name, set())}
    axes = graph.parameters[name].axes
    return [k for k, axis in enumerate(axes) if k not in sources and any(a is atom for a in atoms(axis))]


def _scale(total: Tensor, allowed: Scales, tolerance: float) -> Tensor:
    size = float(total.square().mean().sqrt())
    scale = {Scales.SIGN: total.sign(), Scales.POSITIVE: total.abs() / size, Scales.ANY: total / size}[allowed]
    return torch.where(total.abs() > max(tolerance, ZERO_SUM) * size, scale, 1.0)


def _contract(
    tensor: Tensor, weights: Sequence[Tensor], dims: Iterable[int], *, squared: bool = False
) -> dict[int, Tensor]:
    """Return for each of some dimensions the sums over all others, with their weights, in float64.

    A piece of the first dimension at a time: float64 copies of large parameters cost more than their sums.

    Args:
        tensor: a parameter.
        weights: one vector a dimension.
        dims: that are kept, one at a time.
        squared: whether squares of the entries are summed.
    """
    first, *rest = (weight.to(tensor.device) for weight in weights)
    rows = max(1, PIECE * len(tensor) // max(tensor.numel(), 1))
    found: dict[int, list[Tensor]] = {dim: [] for dim in dims}
    for start in range(0, max(len(tensor), 1), rows):
        piece = tensor[start : start + rows].double()
        piece = piece.square() if squared else piece
        own = [first[start : start + rows], *rest]
        for dim, sums in found.items():
            out = piece.movedim(dim, 0)
            for weight in reversed([w for k, w in enumerate(own) if k != dim]):
                out = out @ weight
            sums.append(out)
    return {dim: (torch.stack(sums).sum(dim=0) if dim else torch.cat(sums)).cpu() for dim, sums in found.items()}


def _per_index(sums: Tensor, axis: Axis, atom: Axis, generator: torch.Generator | None) -> Tensor:
    """Return one number an index of ``atom``, summing over the rest of ``axis`` with random weights or ones."""
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
            grid = piece.reshape([factor.size for factor in parts]).movedim(k, 0).reshape(atom.size, -1)
            steps = torch.ones(grid.shape[1], dtype=torch.float64)
            total = total + grid @ (steps if generator is None else steps.normal_(generator=generator))
    return total


def _split(label: Tensor, sums: Tensor, sizes: Tensor, tolerance: float) -> Tensor:
    """Return finer labels: indices stay together when sums are linked by steps within the tolerance."""
    order = sums.argsort(stable=True)
    order = order[label[order].argsort(stable=True)]
    least = torch.minimum(sizes[order], sizes[order].roll(1))
    allowed = tolerance * torch.maximum(least, _medians(label, sizes)[label[order]])
    jumps = torch.diff(sums[order], prepend=sums[order[:1]]) > allowed
    cluster = torch.empty_like(label)
    cluster[order] = jumps.cumsum(0)
    return torch.unique(label * len(label) + cluster, return_inverse=True)[1]


def _medians(label: Tensor, x: Tensor) -> Tensor:
    """Return the lower median of each colour: no few large units set a tolerance for the small ones."""
    order = x.argsort(stable=True)
    order = order[label[order].argsort(stable=True)]
    count = label.bincount()
    return x[order][count.cumsum(0) - count + (count - 1) // 2]


def _random(axis: Axis, colours: Colours, generator: torch.Generator) -> Tensor:
    label = labels_of(axis, colours)
    return torch.randn(int(label.max()) + 1, generator=generator, dtype=torch.float64)[label]


def labels_of(axis: Axis, colours: Colours) -> Tensor:
    """Return the colour of every index of an axis; every index of a fixed atom has its own."""
    return composed(axis, lambda atom: colours.get(atom, torch.arange(atom.size)))


def scales_of(axis: Axis, scales: Factors) -> Tensor:
    """Return the scale of every index of an axis: products multiply, indices without one have scale 1."""
    axis = find(axis)
    if axis.kind == "atom":
        return scales.get(axis, torch.ones(axis.size, dtype=torch.float64))
    parts = [scales_of(part, scales) for part in axis.parts]
    if axis.kind == "sum":
        return torch.cat(parts)
    return functools.reduce(lambda one, other: (one[:, None] * other).flatten(), parts)


def _cells(dims: tuple[Tensor, ...]) -> int:
    count = 1
    for label in dims:
        count *= int(label.max()) + 1
    return count
