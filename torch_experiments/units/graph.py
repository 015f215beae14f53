"""What a trace knows: the axes of every tensor, the gauge of its values, and the demands of the operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_experiments.support.torch_private import schema, written
from torch_experiments.units.activations import Activation, activation
from torch_experiments.units.axes import Axis, atoms, find, fix, is_fixed, single, unify

Gauge = Mapping[
    Any, int | Fraction
]  # combination of exponents: parameters by name, copies by axis, numbers by position


class TraceError(ValueError):
    """A network that cannot be traced or cloned; the message names the layer and the fix."""


@dataclass(eq=False)
class Value:
    """A tensor of the trace.

    Attributes:
        axes: one a dimension.
        gauge: the exponent ``c`` of its copies, ``h(copy) = factor**c · h̃``, as a combination of unknowns.
        source: the parameter that it is, with its dimensions in their present order, if it is one.

    >>> [axis.size for axis in Value([Axis(3), Axis(4)]).axes]
    [3, 4]
    """

    axes: list[Axis]
    gauge: Gauge = field(default_factory=dict)
    source: tuple[str, tuple[int, ...]] | None = None


class Demand(NamedTuple):
    """An equation: the gauge has to vanish. Where it cannot, ``axes`` are not copied."""

    gauge: Gauge
    axes: Sequence[Axis]
    layer: str


class Size(NamedTuple):
    """A size that a layer handed to an operation: it has to become the widened size of ``axis``."""

    layer: str
    axis: Axis


class Step(NamedTuple):
    """An operation that ran.

    Attributes:
        number: its place among the operations.
        layer: name of the module that was running.
        entered: how many modules had been entered by then: within a module without children, its call.
        func, args, kwargs, result: the operation, what it got and what it returned.
    """

    number: int
    layer: str
    entered: int
    func: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """ATen name of the operation, without its overload."""
        return schema(self.func).name

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, in the order of the schema, with defaults filled in."""
        expected = schema(self.func).arguments
        given = dict(zip((a.name for a in expected), self.args, strict=False)) | dict(self.kwargs)
        return {a.name: given.get(a.name, a.default_value) for a in expected}

    @property
    def written(self) -> list[Tensor]:
        """The tensors that it changes in place."""
        given = list(written(self.func, self.arguments))
        return [t for item in given for t in (item if isinstance(item, list | tuple) else [item]) if t is not None]

    @property
    def activation(self) -> Activation | None:
        """What is known of the activation that it computes, None if it computes none."""
        return activation(self.name, self.arguments)


@dataclass(eq=False)
class Graph:
    """Feature axes of a network and how its operations link them.

    Attributes:
        parameters: parameters and buffers by name (tied ones under their first name), with their axes.
        aliases: other names of tied parameters.
        matrices: ``(output dimension, input dimension)`` of the parameters that are linear maps.
        powers: of parameters that scale as ``|s|`` or ``s²`` where units are scaled by ``s`` (norms).
        outputs: of every module that returned a tensor, in order of execution: name → value of its last call.
        demands: equations for the gauge.
        uniform: axes whose indices must all have the same number of copies, with layer and reason.
        equal: pairs of axes that must have the same number of copies.
        contracted: axes summed over in a product of two activations.
        sizes: sizes that layers hand to operations.
        attributes: integers of known modules and the axes whose sizes they are.
        scalars: Python numbers that activations are multiplied with or divided by, in order.
        products: axes that are products, in order of discovery.
        carried: axes and the scales of units that an operation on them carries (`units.symmetry`).
        used: names of the parameters that an operation read.
        steps: all operations, in the order in which they ran; activations are those with an `activation`.
        read: the layers that read numbers out of inputs, by which they may choose what to run.
        decided: the layers where numbers that weights have made decide what runs.
        checking: how many functions are running that read numbers to check their arguments.
        asked: the layers that asked what weights have made a question whose answer decides nothing.
        unknown: operations without a rule that met units, each with the layers that ran it.
        unseen: calls of all operations without a rule, each with its layer and the axes that it read.
        dropped: largest share that a function (`torch.nn.functional.dropout`) drops in training, by layer.
        given, returned: tensors of the inputs and of the output.
        entered: how many modules have been entered.

    >>> from torch_experiments.units import trace
    >>> graph = trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(2, 2))
    >>> [axis.size for axis in graph.free()], [axis.fixed for axis in graph.parameters["2.weight"].axes]
    ([3], ['an axis of size one', ''])
    """

    parameters: dict[str, Value] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    matrices: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    powers: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    demands: list[Demand] = field(default_factory=list)
    uniform: list[tuple[Axis, str, str]] = field(default_factory=list)
    equal: list[tuple[Axis, Axis, str]] = field(default_factory=list)
    contracted: list[tuple[Axis, str]] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    attributes: dict[str, dict[str, Axis | tuple[Axis, ...]]] = field(default_factory=dict)
    products: list[Axis] = field(default_factory=list)
    carried: list[tuple[Axis, Any]] = field(default_factory=list)
    scalars: list[float] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    read: dict[str, None] = field(default_factory=dict)
    decided: dict[str, None] = field(default_factory=dict)
    checking: int = 0
    asked: dict[str, None] = field(default_factory=dict)
    unknown: dict[str, dict[str, None]] = field(default_factory=dict)
    unseen: list[tuple[str, str, list[Axis]]] = field(default_factory=list)
    dropped: dict[str, float] = field(default_factory=dict)
    given: list[Tensor] = field(default_factory=list)
    returned: list[Tensor] = field(default_factory=list)
    entered: int = 0
    layers: list[str] = field(default_factory=lambda: [""])
    modules: dict[str, nn.Module] = field(default_factory=dict)
    values: dict[int, tuple[Tensor, Value]] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        """Name of the module that is running; empty for the network itself."""
        return self.layers[-1]

    def enter(self, layer: str) -> None:
        """Note that a module begins to run."""
        self.layers.append(layer)
        self.entered += 1

    def value(self, tensor: Tensor) -> Value:
        """Return what is known of ``tensor``; a tensor from outside the trace is a constant with fixed axes."""
        if id(tensor) not in self.values:
            why = f"{self.layer or 'the network'} uses a constant tensor of this size"
            return self.bind(tensor, Value([Axis(n, fixed=why) for n in tensor.shape]))
        value = self.values[id(tensor)][1]
        if value.source is not None:
            self.used.add(value.source[0])
        return value

    def bind(self, tensor: Tensor, value: Value) -> Value:
        """Remember the value of ``tensor``, and keep it alive so that its identity is its own."""
        self.values[id(tensor)] = (tensor, value)
        return value

    def fix(self, axis: Axis, why: str) -> None:
        """Forbid copies of ``axis``; the reason names the running layer."""
        fix(axis, f"{self.layer or 'the network'}: {why}")

    def unify(self, one: Axis, other: Axis) -> Axis:
        """Identify two axes."""
        return unify(one, other, f"{self.layer or 'the network'} splits it in another way than its neighbours")

    def product(self, axis: Axis) -> Axis:
        """Remember that ``axis`` is a product of which only one factor is copied."""
        self.products.append(axis)
        return axis

    def note(self, axis: Axis) -> None:
        """Note that the running layer named the size of ``axis`` itself."""
        self.sizes.append(Size(self.layer, axis))

    def remember(self, attribute: str, axis: Axis | tuple[Axis, ...]) -> None:
        """Note that an attribute of the running module, if it has it, is the size of an axis (or several)."""
        if hasattr(self.modules.get(self.layer), attribute):
            self.attributes.setdefault(self.layer, {})[attribute] = axis

    def precision(self) -> torch.dtype:
        """Return the coarsest floating dtype that the network computes in."""
        return coarsest(tensor for tensor, _ in self.values.values())

    def scalar(self, number: Any) -> Gauge:
        """Return the gauge of a Python number that multiplies activations; a clone may compute another one."""
        if not isinstance(number, int | float):
            return {}
        self.scalars.append(float(number))
        return {len(self.scalars) - 1: 1}

    def parameter(self, name: str) -> Value | None:
        """Return a parameter or buffer by any of its names."""
        return self.parameters.get(self.aliases.get(name, name))

    def parameter_name(self, layer: str, own: str) -> str:
        """Return the first name of a parameter of a layer."""
        name = f"{layer}.{own}" if layer else own
        return self.aliases.get(name, name)

    def own(self, layer: str, name: str) -> Value:
        """Return a parameter of a layer, or what its last operation got under the name where it is computed.

        Raises:
            TraceError: where the parameter is computed from others in a way that is not seen.
        """
        value = self.parameter(self.parameter_name(layer, name))
        if value is not None:
            return value
        for step in reversed(self.steps):
            if step.layer == layer and isinstance(given := step.arguments.get(name), Tensor):
                return self.value(given)
        raise TraceError(
            f"layer {layer!r}: its {name} is computed from other parameters, for which layers of this kind have no "
            "rule; trace the network before the parametrization is registered"
        )

    def demand(self, gauge: Gauge, *axes: Axis) -> None:
        """Demand that a gauge vanishes."""
        if gauge:
            self.demands.append(Demand(gauge, axes, self.layer))

    def same(self, *values: Value) -> Gauge:
        """Demand that values have one gauge, and return it."""
        first = values[0].gauge
        for value in values[1:]:
            self.demand(minus(value.gauge, first), *value.axes)
        return first

    def plain(self, *values: Value) -> Gauge:
        """Demand that copies equal their base, exponent zero, as nonlinear operations need."""
        for value in values:
            self.demand(value.gauge, *value.axes)
        return {}

    def linear_map(self, weight: Value, out_dim: int, in_dim: int) -> None:
        """Note that a value, if it is a parameter, maps the axis ``in_dim`` linearly to the axis ``out_dim``."""
        if weight.source is not None:
            name, order = weight.source
            self.matrices.setdefault(name, set()).add((order[out_dim], order[in_dim]))

    def free(self) -> Iterator[Axis]:
        """Yield every atom that may be copied and that a used parameter has, once, in order of discovery."""
        seen: set[Axis] = set()
        for name, value in self.parameters.items():
            for axis in value.axes if name in self.used else ():
                for atom in atoms(axis):
                    if not atom.fixed and atom not in seen:
                        seen.add(atom)
                        yield atom


def unknown_operations(graph: Graph) -> list[str]:
    """Return in words which operations without a rule met units, and in which layers.

    >>> unknown_operations(Graph(unknown={"mine::scale": {"0": None, "": None}}))
    ['mine::scale has no rule (in 0, the network)']
    """
    return [f"{name} has no rule (in {in_words(layers)})" for name, layers in graph.unknown.items()]


def in_words(layers: Iterable[str]) -> str:
    """Return names of layers as a sentence has them; the network itself has none.

    >>> in_words(["0", ""])
    '0, the network'
    """
    return ", ".join(layer or "the network" for layer in layers)


def coarsest(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the coarsest floating dtype among tensors, float64 if there is none."""
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return max(kinds, key=lambda kind: torch.finfo(kind).eps, default=torch.float64)


def plus(*gauges: Gauge) -> Gauge:
    """Return the sum of gauges.

    >>> plus({"weight": 1, "bias": 1}, {"weight": -1})
    {'bias': 1}
    """
    result: dict[Any, int | Fraction] = {}
    for gauge in gauges:
        for key, count in gauge.items():
            result[key] = result.get(key, 0) + count
    return {key: count for key, count in result.items() if count}


def minus(one: Gauge, other: Gauge) -> Gauge:
    """Return the difference of two gauges.

    >>> minus({"weight": 1}, {"bias": 1})
    {'weight': 1, 'bias': -1}
    """
    return plus(one, {key: -count for key, count in other.items()})


def copies(axis: Axis) -> Gauge:
    """Return the gauge of a sum over ``axis``: the exponent of the number of copies of an index."""
    return {} if is_fixed(axis) else {find(axis): 1}


def broadcast(graph: Graph, values: Sequence[Value], shape: Sequence[int]) -> list[Axis]:
    """Identify the axes of tensors that broadcast to ``shape``, aligned at the right; return the result's axes."""
    axes: list[Axis] = []
    for k, size in enumerate(reversed(shape), start=1):
        met = [v.axes[-k] for v in values if len(v.axes) >= k and (v.axes[-k].size == size)]
        if size == 1 or not met:
            axes.insert(0, single() if size == 1 else Axis(size))
            continue
        for other in met[1:]:
            graph.unify(met[0], other)
        axes.insert(0, find(met[0]))
    return axes
