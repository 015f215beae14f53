"""Hidden units that can be replaced: who writes them, who reads them, and how their activations are observed.

The unit graph says for every group of units which rows of which weights make them and which columns read them. A
group is *replaceable* when fresh rows and zero columns make a new unit of it that nobody hears and that touches no
other unit. Left out, each with its reason (`Survey.skipped`):

- residual streams: several maps write into them, some after others have read, so that a unit has another activation
  at every depth and its rows are the last word of every block;
- units that a product of activations sums over (queries and keys): zero columns do not hide them;
- whole heads and groups of convolutions, a unit of which has several rows, unless asked for;
- units that no map reads, or whose reader is no module with the units as its first input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_experiments.support.collection import uncollected
from torch_experiments.units.axes import Axis, atoms, factors, find, is_fixed, summands
from torch_experiments.units.graph import Graph
from torch_experiments.units.groups import Edge, Group, choose, groups
from torch_experiments.units.hooks import hooked
from torch_experiments.units.inputs import Inputs, call, flatten, inspecting, is_examples
from torch_experiments.units.trace import trace
from torch_experiments.units.unread import unread_like

Summary = Callable[["HiddenLayer", Tensor], Any]


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """Replaceable units of one group.

    Attributes:
        group: its edges are the in-weights, out-weights and own parameters of the units.
        name: of the layer that makes them.
        reader: the module that owns out-weights and whose first input are the units.
        dim: dimension of the units in that input, counted from the end.
        place: the edge of the reader's weight: which index belongs to which unit.
        coupled: the layer that normalises the units together, empty if none does. Then a change of one unit is felt
            by the others, and only changes of out-weights keep the function.
        others: reader, dimension and edge where another example has another reader.
    """

    group: Group
    name: str
    reader: str
    dim: int
    place: Edge
    coupled: str = ""
    others: tuple[tuple[str, int, Edge], ...] = ()

    def of_readers(self) -> tuple[HiddenLayer, ...]:
        """Return the layer as each of its readers has it, of which an example may have another one."""
        rest = (replace(self, reader=name, dim=dim, place=edge, others=()) for name, dim, edge in self.others)
        return (self, *rest)

    @property
    def units(self) -> int:
        """Return their number."""
        return self.group.size

    @cached_property
    def _order(self) -> Tensor | None:
        """Return the indices of the reader's input by unit, None where they are in order."""
        unit = self.place.unit
        index = (unit >= 0).nonzero().flatten()
        index = index[unit[index].argsort(stable=True)]
        return None if torch.equal(index, torch.arange(len(unit))) else index

    @cached_property
    def _there(self) -> dict[torch.device, tuple[Tensor | None, list[tuple[Tensor, Tensor]]]]:
        """Return what `_indices` has found, by device."""
        return {}

    def _indices(self, device: torch.device) -> tuple[Tensor | None, list[tuple[Tensor, Tensor]]]:
        """Return `_order`, and of every outgoing edge units and their entries; copied to a device once."""
        if device not in self._there:
            edges = [(edge.unit, (edge.unit >= 0).nonzero().flatten()) for edge in self.group.outgoing]
            moved = [(unit[index].to(device), index.to(device)) for unit, index in edges]
            self._there[device] = (None if self._order is None else self._order.to(device), moved)
        return self._there[device]

    def values(self, x: Tensor) -> Tensor:
        """Return the activations ``[samples × positions, units]`` in an input of the reader.

        Of a flattened input the positions of a channel are rows like any others.
        """
        h = x.detach().movedim(self.dim, -1)
        h = h.flatten(0, -2) if h.ndim > 1 else h[None]
        order = self._indices(h.device)[0]
        h = h if order is None else h.index_select(1, order)
        return h if h.shape[1] == self.units else h.unflatten(1, (self.units, -1)).transpose(1, 2).flatten(0, 1)

    def out_sums(self, model: nn.Module) -> Tensor:
        """Return ``Σ |w_out|`` of every unit, shape ``[units]``."""
        total = torch.zeros(self.units)
        for k, edge in enumerate(self.group.outgoing):
            weight = model.get_parameter(edge.parameter).detach().abs().movedim(edge.dim, 0).flatten(1).sum(dim=1)
            total = weight.new_zeros(self.units) if not k else total
            units, index = self._indices(weight.device)[1][k]
            total = total.index_add(0, units, weight[index])
        return total


@dataclass(frozen=True, eq=False)
class Survey:
    """What of a network remedies can act on.

    Attributes:
        layers: of replaceable units, in order of discovery.
        skipped: names of the other groups, with the reason.
        columns: of every weight that is one linear map and nothing else, the dimension of its inputs.
        graph: the trace.
        unread: parameters that no example read, such as those of another head, and that may read or write the units
            of a layer or a column: they have an axis of that size.
    """

    layers: tuple[HiddenLayer, ...]
    skipped: Mapping[str, str]
    columns: Mapping[str, int]
    graph: Graph
    unread: tuple[str, ...] = ()


@dataclass
class _Entry:
    """Calls of a module: first and last place in the order of calls, and the first input of the first call."""

    first: int
    last: int
    input: Tensor | None


Entries = Mapping[str, _Entry]


@dataclass
class _Calls:
    """Calls of modules by name, for every example; each begins with a call of the whole network."""

    examples: list[dict[str, _Entry]] = field(default_factory=list)
    count: int = 0

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            if not name:
                self.examples.append({})
            self.count += 1
            first = next(flatten([args, kwargs]), None)
            self.examples[-1].setdefault(name, _Entry(self.count, self.count, first)).last = self.count

        return enter


@uncollected()
def survey(
    model: nn.Module, example_inputs: Inputs, *, heads: bool = False, unread: Collection[int] = ()
) -> Survey:
    """Return the replaceable units of ``model``, found by one trace.

    Args:
        model: any module that can be traced; left as it is.
        example_inputs: as in `trace`.
        heads: whether whole heads and groups of convolutions are units too.
        unread: places of the outputs that nothing reads, as in `trace`.

    Raises:
        TraceError: as `trace`.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> [(layer.name, layer.units, layer.reader) for layer in survey(model, torch.ones(2, 2)).layers]
    [('0', 3, '2')]
    """
    calls = _Calls()
    handles = [m.register_forward_pre_hook(calls.hook(n), with_kwargs=True) for n, m in model.named_modules()]
    with hooked(handles):
        graph = trace(model, example_inputs, unread=unread, one_path=True)
    layers: list[HiddenLayer] = []
    skipped: dict[str, str] = {}
    for group in groups(graph, choose(graph, "heads")):
        found = _hidden(graph, group, calls.examples, heads)
        if isinstance(found, HiddenLayer):
            layers.append(found)
        else:
            skipped[group.name] = found
    columns = _columns(graph)
    return Survey(tuple(_distinct(layers)), skipped, columns, graph, tuple(_unread(graph, layers, columns)))


def replaceable(model: nn.Module, found: Survey) -> tuple[HiddenLayer, ...]:
    """Return the layers of a survey of ``model``.

    Raises:
        TypeError: when there is none; it says why.
    """
    if not found.layers:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.skipped.items()) or "it has no hidden units"
        raise TypeError(f"model: {type(model).__name__} has no hidden units that can be replaced ({why})")
    return found.layers


def watch(
    model: nn.Module, layers: Iterable[HiddenLayer], note: Callable[[HiddenLayer, Tensor], None]
) -> list[RemovableHandle]:
    """Call ``note`` with the reader's input of every layer whenever ``model`` runs, until the handles are removed.

    Compiled code is left for every call.
    """
    modules = dict(model.named_modules())

    def hook(layer: HiddenLayer) -> Callable[[nn.Module, Any, Any], None]:
        return torch.compiler.disable(lambda _module, args, kwargs: note(layer, next(flatten([args, kwargs]))))

    return [modules[lay.reader].register_forward_pre_hook(hook(lay), with_kwargs=True) for lay in layers]


def observe(
    model: nn.Module, layers: Iterable[HiddenLayer], inputs: Inputs, summary: Summary
) -> tuple[dict[str, Any], Any]:
    """Return ``summary(layer, values)`` of every layer by name, and the outputs, in eval mode, without gradients.

    Of a list of examples the values are those of all of them, one after the other.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> found, _ = observe(model, survey(model, torch.ones(2, 2)).layers, torch.ones(5, 2), lambda layer, h: len(h))
    >>> found
    {'0': 5}
    """
    if is_examples(model, inputs):
        return _observe_all(model, list(layers), inputs, summary)
    found: dict[str, Any] = {}

    def note(layer: HiddenLayer, x: Tensor) -> None:
        found[layer.name] = summary(layer, layer.values(x))

    with inspecting(model), hooked(watch(model, layers, note)):
        outputs = call(model, inputs)
    return found, outputs


def _observe_all(
    model: nn.Module, layers: Sequence[HiddenLayer], examples: Inputs, summary: Summary
) -> tuple[dict[str, Any], list[Any]]:
    """Observe each example at the first of a layer's readers that it calls."""
    rows: dict[str, list[Tensor]] = {}
    outputs = []
    for example in examples:
        seen: dict[str, dict[str, Tensor]] = {layer.name: {} for layer in layers}

        def note(layer: HiddenLayer, x: Tensor, seen: dict[str, dict[str, Tensor]] = seen) -> None:
            seen[layer.name][layer.reader] = layer.values(x)

        with inspecting(model), hooked(watch(model, [one for layer in layers for one in layer.of_readers()], note)):
            outputs.append(call(model, example))
        for layer in layers:
            read = [seen[layer.name][one.reader] for one in layer.of_readers() if one.reader in seen[layer.name]]
            rows.setdefault(layer.name, []).extend(read[:1])
    named = {layer.name: layer for layer in layers}
    return {name: summary(named[name], torch.cat(values)) for name, values in rows.items() if values}, outputs


def _hidden(graph: Graph, group: Group, examples: Sequence[Entries], heads: bool) -> HiddenLayer | str:
    """Return the group as a layer, or why it is none."""
    if not group.incoming or not group.outgoing:
        return "no linear map makes them" if not group.incoming else "no linear map reads them"
    if any(group.axis in set(atoms(axis)) for axis, _ in graph.contracted):
        return "a product of activations sums over them, so zero out-weights do not hide a unit"
    if _is_summed(graph, group.axis):
        return "they are added up without weights, so zero out-weights do not hide a unit"
    if not heads and any(int(e.unit[e.unit >= 0].bincount().max()) > 1 for e in group.incoming):
        return "a unit has several rows (a head, a group of a convolution); ask for them with heads=True"
    if any(_is_stream(group, entries, examples) for entries in examples):
        return "a residual stream: maps of different inputs add up to its units, which differ at every depth"
    readers = [found for entries in examples if (found := _reader(graph, group, entries)) is not None]
    if not readers:
        return "their readers are no modules with the units as first input, so they cannot be observed"
    edge, dim = readers[0]
    others = {other.parameter: (_owner(other), d, other) for other, d in readers if other is not edge}
    coupled = _coupled(graph, group.axis)
    return HiddenLayer(group, group.name, _owner(edge), dim, edge, coupled, tuple(others.values()))


def _is_summed(graph: Graph, atom: Axis) -> bool:
    """Return whether a sum or mean runs over the units."""
    for step in graph.steps:
        if step.name in ("aten::sum", "aten::mean", "aten::amax", "aten::amin", "aten::max", "aten::min"):
            given, result = (graph.value(next(flatten(x))) for x in (step.args, step.result))
            before, after = ({a for axis in v.axes for a in atoms(axis)} for v in (given, result))
            if atom in before - after:
                return True
    return False


def _is_stream(group: Group, entries: Entries, examples: Sequence[Entries]) -> bool:
    """Return whether writers read different tensors in an example, or one writes after a reader has read.

    A map that only another example calls, such as another head, plays no part in this one.
    """
    called = {name for other in examples for name in other}
    writers = [entries.get(_owner(e)) for e in group.incoming if _owner(e) in entries or _owner(e) not in called]
    wrote = [w for w in writers if w is not None]
    read = [r for edge in group.outgoing if (r := entries.get(_owner(edge))) is not None]
    different = len({id(w.input) for w in wrote}) > 1 or len(wrote) < len(writers) > 1
    return different or (bool(read) and any(w.last > min(r.first for r in read) for w in wrote))


def _reader(graph: Graph, group: Group, entries: Entries) -> tuple[Edge, int] | None:
    for edge in group.outgoing:
        entry = entries.get(_owner(edge))
        if entry is None or entry.input is None or id(entry.input) not in graph.values:
            continue
        axes = graph.values[id(entry.input)][1].axes
        wanted = graph.parameters[edge.parameter].axes[edge.dim]
        for k, axis in enumerate(axes):
            if _same(axis, wanted):
                return edge, k - len(axes)
    return None


def _same(one: Axis, other: Axis) -> bool:
    """Return whether two axes are built in one way of the same atoms."""
    one, other = find(one), find(other)
    if one is other:
        return True
    split = factors if one.kind == "product" else summands
    parts = (split(one), split(other))
    alike = one.kind == other.kind != "atom" and len(parts[0]) == len(parts[1])
    return alike and all(_same(a, b) for a, b in zip(*parts, strict=True))


def _coupled(graph: Graph, atom: Axis) -> str:
    return next((layer for axis, layer, _ in graph.uniform if atom in set(atoms(axis))), "")


def _columns(graph: Graph) -> dict[str, int]:
    """Return the input dimension of weights with one orientation and one name that are no embeddings."""
    tied = set(graph.aliases.values())
    found = {}
    for name, uses in graph.matrices.items():
        owner = graph.modules.get(name.rpartition(".")[0])
        if len(uses) == 1 and name not in tied and not isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            ((_, found[name]),) = uses
    return found


def _owner(edge: Edge) -> str:
    return edge.parameter.rpartition(".")[0]


def _distinct(layers: list[HiddenLayer]) -> Iterator[HiddenLayer]:
    """Yield the layers, those of a repeated name with a number."""
    seen: dict[str, int] = {}
    for layer in layers:
        seen[layer.name] = count = seen.get(layer.name, 0) + 1
        name = layer.name if count == 1 else f"{layer.name}#{count}"
        yield replace(layer, name=name)


def _unread(graph: Graph, layers: Iterable[HiddenLayer], columns: Mapping[str, int]) -> list[str]:
    """Return the parameters that may belong to the units of layers or columns, and that no example read."""
    edges = (edge for layer in layers for edge in (*layer.group.incoming, *layer.group.outgoing))
    read = [graph.parameters[name].axes[dim] for name, dim in columns.items()]
    sizes = {len(edge.unit) for edge in edges} | {axis.size for axis in read if not is_fixed(axis)}
    parameters = dict(graph.modules[""].named_parameters())
    return [name for name in unread_like(graph, sizes) if name in parameters]
