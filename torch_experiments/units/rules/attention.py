"""Attention: softmax of products of queries and keys, and `nn.MultiheadAttention`.

``softmax(q kᵀ / √d) v`` of a head with ``d`` features: with whole heads copied every ``q kᵀ`` is the base's; with
``n`` copies of every feature it is ``n`` times as large and ``1/√d`` is ``1/√n`` times, so ``c_q + c_k = −1/2``.

Forward: a copied head computes what its base does, and the output layer divides by the copies. Backward: the
heads' errors are copied. Persistence: heads get equal gradients, the weights of queries, keys and values too.
Fails: when the features of a head are copied instead, products of queries and keys grow by their number and the
scale ``1/√d`` shrinks by its root, unless queries and keys are rescaled (M2); when the number of heads cannot
follow the width (`nn.MultiheadAttention` ties them).
"""

from __future__ import annotations

from torch import nn

from torch_experiments.units.axes import Axis, product, single
from torch_experiments.units.graph import Graph, Value
from torch_experiments.units.registry import Call, module, operation


@operation("aten::_softmax", "aten::_safe_softmax", "aten::_log_softmax")
def softmax(call: Call) -> Value:
    """Return the value of a softmax: the axis that it sums over is fixed, the others are separate."""
    x = call.value(0)
    call.graph.fix(x.axes[call.dimension("dim", len(x.axes))], "a softmax runs over this axis")
    return Value(x.axes, call.graph.plain(x))


@operation("aten::logsumexp")
def logsumexp(call: Call) -> Value:
    """Return the value of a log of a sum of exponentials: the axes that it sums over are fixed."""
    x, dims = call.value(0), [d % len(call.value(0).axes) for d in call.get("dim")]
    for k in dims:
        call.graph.fix(x.axes[k], "a log-sum-exp runs over this axis")
    kept = [single() if k in dims else axis for k, axis in enumerate(x.axes)]
    axes = kept if call.get("keepdim") else [axis for k, axis in enumerate(kept) if k not in dims]
    return Value(axes, call.graph.plain(x))


@module(nn.MultiheadAttention)
def multihead(graph: Graph, name: str, layer: nn.Module) -> None:
    """Tie the width of the heads together to the width of the input: torch's module has one number for both."""
    prefix = f"{name}." if name else ""
    width, inner = graph.parameters[f"{prefix}out_proj.weight"].axes
    heads = Axis(int(layer.num_heads))  # type: ignore[arg-type]
    inside = Axis(inner.size // heads.size)
    graph.unify(graph.product(product([heads, inside])), inner)
    graph.equal.append((width, inner, f"{name}: nn.MultiheadAttention has one embed_dim for input and heads"))
    graph.attributes[name] = {"embed_dim": width, "num_heads": heads, "head_dim": inside}
    graph.attributes[name] |= {"kdim": _keys(graph, prefix, "k", width), "vdim": _keys(graph, prefix, "v", width)}


@module(nn.Transformer)
def width(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the width from the axes of the output."""
    graph.attributes[name] = {"d_model": graph.outputs[name].axes[-1]}


def _keys(graph: Graph, prefix: str, which: str, width: Axis) -> Axis:
    separate: Value | None = graph.parameter(f"{prefix}{which}_proj_weight")
    return width if separate is None else separate.axes[1]
