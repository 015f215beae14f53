"""Convolutions in one to three dimensions: stride, padding, groups, depthwise, transposed; patch embedding.

``z(v, p) = Σ_o Σ_j (Σ_{u∈S_j} w_o(u→v)) h̃(j, p + o)`` over offsets ``o`` of the kernel.

Forward, backward, persistence: at every offset of the kernel a Linear map between channels. With groups the
channels are (group, channel of the group), and whole groups are copied.
Fails: where groups and the structure that neighbours give the channels do not fit together; that axis is fixed.
"""

from __future__ import annotations

from torch import nn

from torch_experiments.support.torch_private import ConvNd
from torch_experiments.units.axes import Axis, product, single
from torch_experiments.units.graph import Gauge, Graph, Value, copies, plus
from torch_experiments.units.registry import Call, module, operation
from torch_experiments.units.rules.linear import add_bias


@operation("aten::convolution", "aten::_convolution")
def convolution(call: Call) -> Value:
    """Return the value of a convolution of ``[batch, channels, positions …]``."""
    graph, x, weight, bias = call.graph, call.value(0), call.value(1), call.optional("bias")
    groups, out_dim, in_dim = call.get("groups"), 0, 1
    outer, inner = weight.axes[0], weight.axes[1]
    if call.get("transposed"):
        out_dim, in_dim = 1, 0
        sources, targets = weight.axes[0], _grouped(call, groups, weight.axes[0], inner)
        contracted = sources if groups == 1 else split_groups(graph, sources, groups)[1]
    else:
        sources, targets = _grouped(call, groups, outer, inner), outer
        contracted = inner
    graph.unify(x.axes[1], sources)
    graph.linear_map(weight, out_dim, in_dim)
    positions = [Axis(n, fixed="a position") for n in call.shape[2:]]
    for axis in (*x.axes[2:], *weight.axes[2:]):
        graph.fix(axis, "a position")
    result = Value([x.axes[0], targets, *positions], plus(x.gauge, weight.gauge, copies(contracted)))
    return result if bias is None else Value(result.axes, _add_channel_bias(call, result, bias))


def _grouped(call: Call, groups: int, whole: Axis, within: Axis) -> Axis:
    """Return the channels ``(group, within)`` whose groups are those of the axis ``whole``."""
    if groups == 1:
        return within
    group, _ = split_groups(call.graph, whole, groups)
    return call.graph.product(product([group, within]))


def split_groups(graph: Graph, channels: Axis, groups: int) -> tuple[Axis, Axis]:
    """Return the axes ``(group, channel of the group)`` of channels."""
    group = Axis(groups)
    rest = Axis(channels.size // groups) if channels.size > groups else single()
    graph.unify(graph.product(product([group, rest])), channels)
    return group, rest


def _add_channel_bias(call: Call, result: Value, bias: Value) -> Gauge:
    return add_bias(call.graph, Value(result.axes[1:2], result.gauge), bias).gauge


@module(ConvNd)
def channels(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take channels and groups from the axes of the weight."""
    outer, inner = graph.own(name, "weight").axes[:2]
    groups = int(layer.groups)  # type: ignore[arg-type]
    group = split_groups(graph, outer, groups)[0] if groups > 1 else single()
    within = product([group, inner])
    outputs, inputs = (within, outer) if layer.transposed else (outer, within)
    graph.attributes[name] = {"out_channels": outputs, "in_channels": inputs, "groups": group}
