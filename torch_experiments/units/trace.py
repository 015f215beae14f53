"""Trace a network: run it once, follow every ATen operation, and learn which axes are one.

The run is below autograd, where composite functions (attention, einsum, reshape, …) are a few dozen elementary
operations, so any Python code is followed, whoever wrote it. `torch.export` gives the same operations and takes
seconds; this takes one forward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from torch_experiments.support.torch_private import TorchDispatchMode, schema
from torch_experiments.units import rules, symmetry
from torch_experiments.units.axes import Axis, fix, is_fixed
from torch_experiments.units.graph import Graph, Step, TraceError, Value
from torch_experiments.units.hooks import hooked
from torch_experiments.units.inputs import Inputs, call, flatten, inspecting, same_device
from torch_experiments.units.reads import Origins, data_dependent, deciding, is_read, where
from torch_experiments.units.registry import MODULES, OPERATIONS, Call, call_of, without_rule
from torch_experiments.units.unread import fix_unread

# Functions that read numbers to check their arguments.
CHECKING = ("one_hot", "bincount", "cholesky", "inverse", "linalg_cholesky", "linalg_inv", "linalg_solve")
DROPOUTS = {
    getattr(functional, name)
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
}


def trace(
    model: nn.Module, example_inputs: Inputs, *, unread: Collection[int] = (), one_path: bool = False
) -> Graph:
    """Return the feature axes of ``model`` and the operations' demands, from one run in eval mode.

    Args:
        model: any module; left as it is.
        example_inputs: a tensor, a tuple of positional or a mapping of keyword arguments, or a list of such
            examples, which read different heads, say. Use at least two samples; indices of inputs and outputs are
            never copied.
        unread: places, among the tensors of the output, of those that nothing reads: they count as no outputs.
        one_path: whether to go on where numbers that weights have made decide what runs: what is found is then
            about the path of these inputs (``Graph.decided`` names the layers). Else that is an error.

    Raises:
        TraceError: for control flow that depends on data that weights have made, for inputs on another device than
            the model, or for nested tensors; it names the layer and says what to do.

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
    with inspecting(model), hooked(_located(graph, model)), Listen(graph), Follow(graph) as ran:
        output = call(model, example_inputs)
    wrong = ran.numbers or (deciding(model, example_inputs, ran.asked) if ran.asked else {})
    if wrong and not one_path:
        raise data_dependent(*next(iter(wrong.items())))
    graph.decided |= dict.fromkeys(wrong)
    _enter_outputs(graph, output, unread)
    _note_unknown(graph)
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
        if getattr(func, "__name__", "") not in CHECKING:
            return func(*args, **kwargs)
        self.graph.checking += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.graph.checking -= 1


class Follow(TorchDispatchMode):
    """Apply the rule of every operation that runs.

    A number that is read out of what parameters and real buffers are no part of (a padding mask, lengths, checks of
    inputs) is handed on: the path that it decides is that of these inputs, whatever the weights. So is a yes or no
    about what weights have made, an argument check say, and noted in ``asked``: `deciding` tells whether the other
    answer would have changed anything. Other numbers of weights are noted in ``numbers``.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        named = [t for t, value in graph.values.values() if value.source is not None]
        self.origins = Origins((t for t in named if t.requires_grad or t.is_floating_point()), graph.given)
        self.asked: dict[str, str] = {}
        self.numbers: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Begin to follow."""
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and enter its results into the graph."""
        kwargs = kwargs or {}
        _check_layouts(self.graph.layer, schema(func).name, [args, kwargs])
        result = func(*args, **kwargs)
        if is_read(func):
            self._hand_on(func, args, result)
        elif next(flatten(result), None) is not None:  # not a profiler's mark, an assertion
            graph = self.graph
            step = Step(len(graph.steps), graph.layer, graph.entered, func, args, kwargs, result)
            graph.steps.append(step)
            before = [(tensor, graph.value(tensor)) for tensor in step.written]
            follow(graph, step)
            for tensor, value in before:
                self._overwritten(tensor, value)
            self.origins.follow(step.name, [args, kwargs], result)
        return result

    def _hand_on(self, func: Any, args: Any, number: Any) -> None:
        layer = self.graph.layer
        if self.origins.learnt(args):
            if self.graph.checking:
                return
            if not isinstance(number, bool):
                self.numbers.setdefault(layer, schema(func).name)
                return
            self.asked.setdefault(where(), layer)
            self.graph.asked.setdefault(layer)
        elif self.origins.given(args):
            self.graph.read.setdefault(layer)

    def _overwritten(self, tensor: Tensor, before: Value) -> None:
        """Demand of a tensor that was changed in place, and may be part of another one, that it is as before."""
        now = self.graph.value(tensor)
        if self.origins.is_shared(tensor):
            self.graph.same(now, before)
            for one, other in zip(now.axes, before.axes, strict=False):
                if one.size == other.size:
                    self.graph.unify(one, other)


def follow(graph: Graph, step: Step) -> None:
    """Enter the results of one operation."""
    called = call_of(graph, step)
    rule = OPERATIONS.get(called.name) or (rules.pointwise if called.pointwise else None)
    if torch.Tag.nondeterministic_seeded in step.func.tags and (rule is None or called.arguments.get("training")):
        rule = _drawn
    values: Any = (rule or _unknown)(called)
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
        axes = [Axis(n) if n > 1 else Axis(n, fixed="an axis of size one") for n in tensor.shape]
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
        raise TraceError(
            "model: its output holds no tensor; return some, in tuples or mappings, or pick one, as in "
            "call=lambda model, x: model(x).logits"
        )


def _drawn(called: Call) -> list[Value]:
    """Forbid copies along what draws random numbers, of which each copy would get another."""
    why = "every index draws a random number of its own"
    return _fixed(called, why, why)


def _unknown(called: Call) -> list[Value]:
    """Forbid copies of all that an operation without a rule reads or makes, which is always right."""
    graph = called.graph
    read = [axis for value in called.values() for axis in value.axes]
    graph.unseen.append((called.name, graph.layer, read))
    return _fixed(called, "", f"a result of {called.name}")


def _note_unknown(graph: Graph) -> None:
    """Fix what operations without a rule read, and note those that met units: once outputs are known to be none."""
    for name, layer, axes in graph.unseen:
        if not all(map(is_fixed, axes)):
            graph.unknown.setdefault(name, {}).setdefault(layer)
    for name, layer, axes in graph.unseen:
        for axis in axes:
            fix(axis, f"{layer or 'the network'}: {without_rule(name)}")


def _fixed(called: Call, why: str, made: str) -> list[Value]:
    """Fix what an operation reads, if the first reason says why; return results fixed for the second."""
    graph, values = called.graph, called.values()
    results = [Value([Axis(n) for n in tensor.shape]) for tensor in flatten(called.result)]
    for several, reason in ((values if why else [], why), (results, made)):
        for axis in (axis for value in several for axis in value.axes):
            graph.fix(axis, reason)
    graph.plain(*values)
    return results


def _check_layouts(layer: str, name: str, arguments: Any) -> None:
    """Raise for tensors whose axes have no sizes of their own."""
    if any(tensor.is_nested for tensor in flatten(arguments)):
        raise TraceError(
            f"layer {layer or '(top level)'!r}: {name} gets a nested tensor, whose axes are not followed; pad its "
            "parts to one length, and give a mask"
        )


def _check(called: Call, tensor: Tensor, value: Value) -> None:
    if [axis.size for axis in value.axes] != list(tensor.shape):
        found, shape = [axis.size for axis in value.axes], list(tensor.shape)
        raise called.fail(f"its rule returned axes of sizes {found} for a result of shape {shape}; correct it")
