"""Elementwise operations: activations, residual sums, gates, PReLU.

``f(z(v)) = f(z̃(i))`` for all copies ``v ∈ S_i``; values that are ``factor**c`` times the base's need ``c = 0``, but
where ``f(a z) = a f(z)``. Products add exponents, ratios subtract them, sums need equal ones.

Forward: copies of the inputs give copies of the output. Backward: the slope is the same at copies, so errors are
copied. Persistence: the slope of a PReLU a channel is a parameter with one entry a copy; the copies get equal
gradients. One slope for all channels has no axis that is copied, so its rate against the base's is different.
Fails: where an operand singles out an index (a constant vector that is no parameter), so that axis is fixed;
dropout that is on draws another mask for every copy (M2), so traces are in eval mode.
"""

from __future__ import annotations

import torch
from torch import nn

from torch_experiments.units.graph import Gauge, Graph, Value, broadcast, copies, minus, plus
from torch_experiments.units.inputs import flatten
from torch_experiments.units.registry import Call, module, operation

SUMS = ("aten::add", "aten::add_", "aten::sub", "aten::sub_", "aten::rsub", "aten::where", "aten::lerp")
UNTAGGED = (
    "aten::hardswish", "aten::hardswish_", "aten::masked_fill", "aten::masked_fill_", "aten::rrelu_with_noise",
    "aten::rrelu", "aten::fill_", "aten::zero_",
)  # fmt: skip
PRODUCTS = ("aten::mul", "aten::mul_")
RATIOS = ("aten::div", "aten::div_")
LINEAR = (
    "aten::abs", "aten::alias", "aten::clone", "aten::_to_copy", "aten::contiguous", "aten::detach", "aten::relu",
    "aten::relu_", "aten::leaky_relu", "aten::leaky_relu_", "aten::neg", "aten::lift_fresh",
)  # fmt: skip
# what they make of a parameter is that parameter: torch.autocast, say, casts weights
SAME = ("aten::alias", "aten::detach", "aten::lift_fresh", "aten::clone", "aten::contiguous", "aten::_to_copy")


@operation(*UNTAGGED)
def pointwise(call: Call) -> Value:
    """Return the value of a pointwise operation: axes identified where they broadcast, copies equal their base."""
    return _result(call, call.graph.plain(*call.values()))


@operation("aten::log_sigmoid_forward")
def log_sigmoid(call: Call) -> list[Value | None]:
    """Return the value of a log-sigmoid; its second result is for the backward pass alone."""
    return [pointwise(call), None]


@operation(
    "aten::fake_quantize_per_tensor_affine_cachemask", "aten::_fake_quantize_learnable_per_tensor_affine",
    "aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
)  # fmt: skip
def rounded(call: Call) -> list[Value]:
    """Return the value of numbers rounded to a grid; the mask is for the backward pass alone."""
    call.graph.plain(*call.values())
    x = call.value(0)
    return [Value(list(x.axes)) for _ in flatten(call.result)]


@operation(
    "aten::fake_quantize_per_channel_affine_cachemask", "aten::_fake_quantize_learnable_per_channel_affine",
    "aten::_fused_moving_avg_obs_fq_helper",
)  # fmt: skip
def rounded_by_channel(call: Call) -> list[Value]:
    """Return the value of numbers rounded to a grid of their own a channel, of which scale and zero are told."""
    graph, x = call.graph, call.value("self")
    graph.plain(*call.values())
    whole = call.arguments.get("per_row_fake_quant") is False
    k = call.dimension("ch_axis" if "ch_axis" in call.arguments else "axis", len(x.axes))
    for name in ("scale", "zero_point", "running_min", "running_max"):
        own = call.value(name) if name in call.arguments else None
        if own is not None and own.axes and not whole and own.axes[0].size == x.axes[k].size:
            graph.unify(own.axes[0], x.axes[k])
    return [Value(list(x.axes)) for _ in flatten(call.result)]


@operation(*LINEAR)
def homogeneous(call: Call) -> Value:
    """Return the value of an operation with ``f(c x) = c f(x)`` for positive ``c``."""
    first = call.value(0)
    return Value(list(first.axes), first.gauge, first.source if call.name in SAME else None)


@operation("aten::copy_", "aten::copy")
def overwriting(call: Call) -> Value:
    """Return the value of a tensor that becomes another one, which may have to be repeated."""
    kept, new = call.values()
    return Value(broadcast(call.graph, [kept, new], call.shape), new.gauge)


@operation(*SUMS)
def addition(call: Call) -> Value:
    """Return the value of a sum or a choice: the operands have one gauge."""
    values = call.values()
    if len(values) < 2:
        return pointwise(call)
    numbers = values[1:] if call.name == "aten::where" else values
    return _result(call, call.graph.same(*numbers))


@operation(*PRODUCTS)
def multiplication(call: Call) -> Value:
    """Return the value of a product: gauges add, that of a Python number (attention scales by one) too."""
    return _result(call, plus(*(v.gauge for v in call.values()), call.graph.scalar(call.get(1))))


@operation(*RATIOS)
def division(call: Call) -> Value:
    """Return the value of a ratio: gauges subtract."""
    values = call.values()
    under = values[1].gauge if len(values) == 2 else call.graph.scalar(call.get(1))
    return _result(call, minus(values[0].gauge, under))


@operation("aten::_prelu_kernel", "aten::prelu")
def prelu(call: Call) -> Value:
    """Return the value of a PReLU, whose slope enters as it is."""
    x, slope = call.value(0), call.value(1)
    call.graph.plain(slope)
    return _result(call, x.gauge)


def _result(call: Call, gauge: Gauge) -> Value:
    return Value(broadcast(call.graph, call.values(), call.shape), gauge)


@operation(
    "aten::mse_loss", "aten::smooth_l1_loss", "aten::huber_loss", "aten::binary_cross_entropy",
    "aten::soft_margin_loss",
)  # fmt: skip
def loss(call: Call) -> Value:
    """Return the value of a loss entry by entry, of their mean or sum: copies of an output weigh as their base."""
    graph, values = call.graph, call.values()
    graph.plain(*values)
    axes = broadcast(
        graph, values, list(torch.broadcast_shapes(*(x.shape for x in flatten([call.get(0), call.get(1)]))))
    )
    if call.get("reduction") == 0:
        return Value(axes)
    for axis in axes:
        graph.uniform.append((axis, graph.layer, "its loss runs over this axis"))
    grown = plus(*(copies(axis) for axis in axes)) if call.get("reduction") == 2 else {}
    return Value([], grown)


@module(nn.PReLU)
def slopes(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the number of slopes from the axes of the weight."""
    graph.attributes[name] = {"num_parameters": graph.own(name, "weight").axes[0]}
