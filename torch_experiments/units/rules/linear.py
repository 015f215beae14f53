"""Linear maps: Linear, Hugging Face's Conv1D, Bilinear, matrix products of parameters and of activations.

``z(v) = Σ_j (Σ_{u∈S_j} w(u→v)) h̃(j)`` where ``h(u) = h̃(j)`` for the copies ``u ∈ S_j``, so the gauge of ``x @ y``
is ``c_x + c_y + 1`` for every copied atom of the axis that is summed over.

Forward: with weights divided by the copies of an input, equal block sums of rows give copied outputs (C1).
Backward: equal block sums of columns give copied errors (C2). Persistence: gradients are constant on blocks (C3).
Fails: with rows or columns that are not equitable; for a product of two activations, where nothing divides by the
number of copies, the parameters that made them have to (`Graph.contracted`).
"""

from __future__ import annotations

import math
from fractions import Fraction

from torch import nn

from torch_experiments.units.axes import Axis
from torch_experiments.units.graph import Gauge, Graph, Value, broadcast, copies, plus
from torch_experiments.units.registry import Call, module, operation


@operation("aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot", "aten::_sparse_mm")
def matrix_product(call: Call) -> Value:
    """Return the value of ``x @ y``, over the last axis of ``x`` and the last but one of ``y``."""
    x, y = call.value(0), call.value(1)
    return contract(call.graph, x, y)


@operation("aten::addmm", "aten::baddbmm", "aten::addmv", "aten::_sparse_addmm")
def affine_product(call: Call) -> Value:
    """Return the value of ``b + x @ y``."""
    bias, x, y = call.value(0), call.value(1), call.value(2)
    result = contract(call.graph, x, y)
    return add_bias(call.graph, result, bias)


@operation("aten::linear")
def linear(call: Call) -> Value:
    """Return the value of ``x Wᵀ + b``."""
    x, weight, bias = call.value(0), call.value(1), call.optional(2)
    turned = Value(weight.axes[::-1], weight.gauge, _turned(weight))
    result = contract(call.graph, x, turned)
    return result if bias is None else add_bias(call.graph, result, bias)


@operation("aten::_grouped_mm")
def grouped_product(call: Call) -> Value:
    """Return the value of ``x W_g`` for rows of expert ``g``, with weights ``[experts, inputs, outputs]``."""
    graph, x, weight = call.graph, call.value(0), call.value(1)
    if len(x.axes) != 2 or len(weight.axes) != 3:
        raise call.fail("only rows [tokens, inputs] times weights [experts, inputs, outputs] have a rule")
    graph.fix(weight.axes[0], "it counts experts, of which each has rows of its own")
    inner = graph.unify(x.axes[1], weight.axes[1])
    graph.linear_map(weight, 2, 1)
    return Value([x.axes[0], weight.axes[2]], plus(x.gauge, weight.gauge, copies(inner)))


@operation("aten::_cdist_forward", "aten::_euclidean_dist")
def distances(call: Call) -> Value:
    """Return the value of distances ``‖x_i − y_j‖_p``, larger by the ``p``-th root of the number of copies."""
    graph, x, y, order = call.graph, call.value(0), call.value(1), call.arguments.get("p", 2.0)
    inner = graph.unify(x.axes[-1], y.axes[-1])
    graph.uniform.append((inner, graph.layer, "it takes a norm over this axis"))
    batch = broadcast(graph, [Value(v.axes[:-2]) for v in (x, y)], call.shape[:-2])
    gauge = graph.same(x, y)
    if order == 0:
        gauge = graph.plain(x, y)
    roots = {} if math.isinf(order) else copies(inner)
    root = {key: count / Fraction(order or 1).limit_denominator(1000) for key, count in roots.items()}
    return Value([*batch, x.axes[-2], y.axes[-2]], plus(gauge, root))


def contract(graph: Graph, x: Value, y: Value) -> Value:
    """Return the value of a matrix product, batched over leading axes."""
    inner = graph.unify(x.axes[-1], y.axes[-2] if len(y.axes) > 1 else y.axes[-1])
    batch = (
        [graph.unify(a, b) for a, b in zip(x.axes[:-2], y.axes[:-2], strict=False)]
        if len(y.axes) > 2
        else x.axes[:-2]
    )
    axes: list[Axis] = [*batch, *x.axes[len(batch) : -1], *(y.axes[-1:] if len(y.axes) > 1 else [])]
    if x.source is None and y.source is None:
        graph.contracted.append((inner, graph.layer))
    if len(y.axes) == 2:
        graph.linear_map(y, 1, 0)
    if len(x.axes) == 2 and x.source is not None:
        graph.linear_map(x, 0, 1)
    return Value(axes, plus(x.gauge, y.gauge, copies(inner)))


def add_bias(graph: Graph, result: Value, bias: Value) -> Value:
    """Identify the axes of a bias with the last ones of a result; both have one gauge."""
    for axis, other in zip(result.axes[::-1], bias.axes[::-1], strict=False):
        if axis.size == other.size:
            graph.unify(axis, other)
    gauge: Gauge = graph.same(result, bias)
    return Value(result.axes, gauge)


def _turned(weight: Value) -> tuple[str, tuple[int, ...]] | None:
    return None if weight.source is None else (weight.source[0], weight.source[1][::-1])


@operation("aten::_trilinear")
def bilinear(call: Call) -> Value:
    """Return the value of ``x W y`` of `nn.Bilinear`, with weights ``[outputs, features of x, features of y]``."""
    graph, x, weight, y = call.graph, call.value(0), call.value(1), call.value(2)
    if [call.get(k) for k in ("expand1", "expand2", "expand3", "sumdim")] != [[1, 3], [0], [1, 2], [2, 3]]:
        raise call.fail("only the product of nn.Bilinear has a rule")
    outputs, one, other = weight.axes
    graph.unify(x.axes[1], one)
    graph.unify(y.axes[1], other)
    return Value([x.axes[0], outputs], plus(x.gauge, weight.gauge, y.gauge, copies(one), copies(other)))


@module(nn.Bilinear)
def pairs(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the numbers of features from the axes of the weight."""
    outputs, one, other = graph.own(name, "weight").axes
    graph.attributes[name] = {"out_features": outputs, "in1_features": one, "in2_features": other}


@module(nn.RNNBase)
def recurrent(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the sizes from the axes of the first layer's weights."""
    first, again = (graph.own(name, f"weight_{k}h_l0") for k in "ih")
    graph.attributes[name] = {"input_size": first.axes[1], "hidden_size": again.axes[1]}
    if getattr(layer, "proj_size", 0):
        returned = graph.own(name, "weight_hr_l0")
        graph.attributes[name] |= {"proj_size": returned.axes[0], "hidden_size": returned.axes[1]}


@module(nn.RNNCellBase)
def recurrent_cell(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the sizes from the axes of the weights."""
    first, again = (graph.own(name, f"weight_{k}h") for k in "ih")
    graph.attributes[name] = {"input_size": first.axes[1], "hidden_size": again.axes[1]}


@module(nn.Linear)
def features(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the numbers of features from the axes of the weight."""
    weight = graph.parameter(graph.parameter_name(name, "weight"))
    if weight is not None:
        graph.attributes[name] = {"out_features": weight.axes[0], "in_features": weight.axes[1]}
