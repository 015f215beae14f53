"""Where rules are kept: operations by their ATen name, and modules by class.

A rule of an operation reads its arguments, identifies axes, and returns the value of its result (or a list, one
a result)::

    @operation("aten::tanh")
    def tanh(call: Call) -> Value:
        return Value(call.value(0).axes, call.graph.plain(call.value(0)))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from torch_experiments.units.graph import Graph, Step, TraceError, Value
from torch_experiments.units.inputs import flatten


@dataclass(frozen=True)
class Call:
    """One operation of the trace: its arguments in the order of its schema, with defaults filled in.

    Attributes:
        graph: of the trace.
        name: in ATen, with its namespace.
        arguments: by name.
        result: a tensor, or several.
        pointwise: whether torch says so of the operation.

    >>> call = Call(Graph(), "aten::tanh", {"self": torch.zeros(2, 3)}, torch.zeros(2, 3))
    >>> call.shape, [axis.size for axis in call.value(0).axes]
    ([2, 3], [2, 3])
    """

    graph: Graph
    name: str
    arguments: Mapping[str, Any]
    result: Any
    pointwise: bool = False

    def get(self, key: int | str) -> Any:
        """Return an argument by its position or name."""
        return self.arguments[key] if isinstance(key, str) else list(self.arguments.values())[key]

    def value(self, key: int | str) -> Value:
        """Return the value of a tensor argument."""
        return self.graph.value(self.get(key))

    def optional(self, key: int | str) -> Value | None:
        """Return the value of a tensor argument that may be absent."""
        return None if self.get(key) is None else self.value(key)

    def values(self) -> list[Value]:
        """Return the values of all tensor arguments, those in lists too."""
        return [self.graph.value(tensor) for tensor in flatten(list(self.arguments.values()))]

    @property
    def shape(self) -> list[int]:
        """Shape of the (first) result."""
        return list(next(flatten(self.result)).shape)

    def dimension(self, key: int | str, rank: int) -> int:
        """Return an argument that names a dimension, counted from the front."""
        return self.get(key) % max(rank, 1)

    def fail(self, why: str) -> TraceError:
        """Return an error that names operation and layer."""
        return TraceError(f"layer {self.graph.layer or '(top level)'!r}: {self.name}: {why}")


OperationRule = Callable[[Call], "Value | list[Value] | list[Value | None]"]
Rule = TypeVar("Rule", bound=OperationRule)
ModuleRule = Callable[[Graph, str, nn.Module], None]
OPERATIONS: dict[str, OperationRule] = {}
MODULES: dict[type[nn.Module], ModuleRule] = {}


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations, named as in ``torch.ops`` (``"aten::relu"``, ``"mine::scale"``).

    A rule gets a `Call`, identifies axes, and returns the `Value` of the result, or a list with one a result.

    >>> @operation("mine::scale")
    ... def scale(call: Call) -> Value:
    ...     return Value(call.value(0).axes, call.graph.plain(call.value(0)))
    >>> OPERATIONS.pop("mine::scale") is scale
    True
    """

    def register(rule: Rule) -> Rule:
        OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return register


def module(*kinds: type[nn.Module]) -> Callable[[ModuleRule], ModuleRule]:
    """Register what holds beyond its operations for a class of modules and its subclasses, called when one has run.

    The rule gets the graph, the module's name and the module: here, integers that are sizes of axes.

    >>> class Mine(nn.Linear):
    ...     pass
    >>> @module(Mine)
    ... def features(graph: Graph, name: str, layer: nn.Module) -> None:
    ...     graph.attributes[name] = {"out_features": graph.parameters[f"{name}.weight"].axes[0]}
    >>> MODULES.pop(Mine) is features
    True
    """

    def register(rule: ModuleRule) -> ModuleRule:
        MODULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def without_rule(name: str) -> str:
    """Return what is said of an operation without a rule, and the fix.

    >>> without_rule("mine::scale")[:34]
    'there is no rule for mine::scale ('
    """
    return (
        f'there is no rule for {name} (add one with @torch_experiments.units.operation("{name}"), see CONTRIBUTING)'
    )


def call_of(graph: Graph, step: Step) -> Call:
    """Return the call of an operation with all its arguments by name."""
    pointwise = torch.Tag.pointwise in step.func.tags
    return Call(graph, step.name, step.arguments, step.result, pointwise)
