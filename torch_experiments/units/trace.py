"""Trace a network: run it once, follow every ATen operation, and learn which axes are one.

The run is below autograd, where composite functions (attention, einsum, reshape, …) are a few dozen elementary
operations, so any Python code is followed, whoever wrote it. `torch.export` gives the same operations and takes
seconds; this takes one forward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from torch_experiments.support.torch_private import TorchDispatchMode, schema
from torch_experiments.units import rules, symmetry
from torch_experiments.units.axes import Axis, is_fixed
from torch_experiments.units.graph import Graph, Step, TraceError, Value
from torch_experiments.units.hooks import hooked
from torch_experiments.units.inputs import Inputs, call, flatten, inspecting, same_device
from torch_experiments.units.registry import MODULES, OPERATIONS, call_of
from torch_experiments.units.unread import fix_unread

DROPOUTS = {
    getattr(functional, name)
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
}
# what hands a number to Python, whose path could then depend on the data
READS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::item")


def trace(model: nn.Module, example_inputs: Inputs, *, unread: Collection[int] = ()) -> Graph:
    """Return the feature axes of ``model`` and the operations' demands, from one run in eval mode.

    Args:
        model: any module; left as it is.
        example_inputs: a tensor, a tuple of positional or a mapping of keyword arguments, or a list of such
            examples, which read different heads, say. Use at least two samples; indices of inputs and outputs are
            never copied.
        unread: places, among the tensors of the output, of those that nothing reads: they count as no outputs.

    Raises:
        TraceError: for an operation without a rule, control flow that depends on data, or inputs on another
            device than the model; it names the layer and says what to do.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> graph = trace(model, torch.ones(2, 2))
    >>> [step.name for step in graph.steps], [axis.size for axis in graph.free()]
    (['aten::t', 'aten::addmm', 'aten::relu', 'aten::t', 'aten::addmm'], [3])
    """
    graph = Graph(modules=dict(model.named_modules()))
    same_device(model, example_inputs)
    _enter_parameters(graph, model)
    _enter_inputs(graph, example_inputs)
    with inspecting(model), hooked(_located(graph, model)), Listen(graph), Follow(graph):
        output = call(model, example_inputs)
    _enter_outputs(graph, output, unread)
    fix_unread(graph)
    return graph


class Listen(TorchFunctionMode):
    """Note what share functions drop in training; in eval mode no operation shows it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; remember the share of a dropout."""
        kwargs = kwargs or {}
        if func in DROPOUTS:
            share, dropped = args[1] if len(args) > 1 else kwargs.get("p", 0.5), self.graph.dropped
            dropped[self.graph.layer] = max(float(share), dropped.get(self.graph.layer, 0.0))
        return func(*args, **kwargs)


class Follow(TorchDispatchMode):
    """Apply the rule of every operation that runs.

    A number that is read out of what parameters and real buffers are no part of (a padding mask, lengths, checks of
    inputs) is handed on: the path that it decides is that of these inputs, whatever the weights.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        named = (t for t, value in graph.values.values() if value.source is not None)
        self.learnt = {home(t) for t in named if t.requires_grad or t.is_floating_point()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and enter its results into the graph."""
        name = schema(func).name
        learnt = any(home(tensor) in self.learnt for tensor in flatten([args, kwargs or {}]))
        if name in READS and not learnt:
            return func(*args, **(kwargs or {}))
        if name in READS:
            raise TraceError(
                f"layer {self.graph.layer or '(top level)'!r}: {name} reads a number out of a tensor, so the path "
                "may depend on the data; take the number from a shape or an argument, or use torch.where"
            )
        result = func(*args, **(kwargs or {}))
        graph = self.graph
        step = Step(len(graph.steps), graph.layer, graph.entered, func, args, kwargs or {}, result)
        graph.steps.append(step)
        follow(self.graph, step)
        if learnt:  # what is changed in place may be a view of what is read later
            self.learnt |= {home(tensor) for tensor in flatten([result, args[:1]])}
        return result


def home(tensor: Tensor) -> int:
    """Return where a tensor lies in memory, the same for its views."""
    return tensor.untyped_storage().data_ptr()


def follow(graph: Graph, step: Step) -> None:
    """Enter the results of one operation."""
    called = call_of(graph, step)
    rule = OPERATIONS.get(called.name) or (rules.pointwise if called.pointwise else None)
    if rule is None:
        if torch.Tag.nondeterministic_seeded in step.func.tags:
            _fix_drawn(called)
        values: Any = _unknown(called)
    else:
        values = rule(called)
    outputs = list(flatten(step.result))
    several = values if isinstance(values, list) else [values] * len(outputs)
    symmetry.note(called, [value for value in several if value is not None])
    for tensor, value in zip(outputs, several, strict=False):
        if value is not None:
            _check(called, tensor, value)
            graph.bind(tensor, value)


def _located(graph: Graph, model: nn.Module) -> Iterator[RemovableHandle]:
    """Keep the name of the running module, record outputs, and apply the rules of modules."""
    for name, module in model.named_modules():
        yield module.register_forward_pre_hook(lambda *_, name=name: graph.enter(name))
        yield module.register_forward_hook(_leave(graph, name), always_call=True)


def _leave(graph: Graph, name: str) -> Any:
    def leave(module: nn.Module, _inputs: Any, output: Any) -> None:
        found = next(flatten(output), None)
        if found is not None and id(found) in graph.values:
            graph.outputs.pop(name, None)
            graph.outputs[name] = graph.value(found)
            for kind, rule in MODULES.items():
                if isinstance(module, kind):
                    rule(graph, name, module)
        graph.layers.pop()

    return leave


def _enter_parameters(graph: Graph, model: nn.Module) -> None:
    known: dict[int, str] = {}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        if id(tensor) in known:
            graph.aliases[name] = known[id(tensor)]
            continue
        known[id(tensor)] = name
        axes = [Axis(n) if n > 1 else Axis(1, fixed="an axis of size one") for n in tensor.shape]
        source = (name, tuple(range(tensor.ndim)))
        graph.parameters[name] = graph.bind(tensor, Value(axes, {name: 1}, source))


def _enter_inputs(graph: Graph, inputs: Inputs) -> None:
    for tensor in flatten(inputs):
        graph.given.append(tensor)
        graph.bind(tensor, Value([Axis(n, fixed="an axis of an input") for n in tensor.shape]))


def _enter_outputs(graph: Graph, output: Any, unread: Collection[int]) -> None:
    for tensor in (tensor for place, tensor in enumerate(flatten(output)) if place not in unread):
        value = graph.value(tensor)
        graph.returned.append(tensor)
        for axis in value.axes:
            graph.fix(axis, "an axis of an output")
        graph.plain(value)
    if not graph.returned:
        raise TraceError("model: its output holds no tensor; return a tensor, or a tuple or mapping of tensors")


def _fix_drawn(called: Any) -> None:
    """Forbid copies along what draws random numbers, of which each copy would get another."""
    for axis in (axis for value in called.values() for axis in value.axes):
        called.graph.fix(axis, "every index draws a random number of its own")


def _unknown(called: Any) -> Value:
    """Let an operation without a rule pass where nothing could be copied anyway, else raise."""
    values = called.values()
    if any(not is_fixed(axis) for value in values for axis in value.axes):
        raise called.fail(
            "there is no rule for this operation; add one with "
            f'@torch_experiments.units.operation("{called.name}"), see CONTRIBUTING'
        )
    called.graph.plain(*values)
    layer = called.graph.layer or "the network"
    return Value([Axis(n, fixed=f"{layer}: a result of {called.name}") for n in called.shape])


def _check(called: Any, tensor: Tensor, value: Value) -> None:
    if [axis.size for axis in value.axes] != list(tensor.shape):
        found, shape = [axis.size for axis in value.axes], list(tensor.shape)
        raise called.fail(f"its rule returned axes of sizes {found} for a result of shape {shape}; correct it")
