"""Normalisation: BatchNorm, LayerNorm, RMSNorm, GroupNorm, InstanceNorm; of weights, weight norm.

``γ (z − μ)/√(σ² + ε) + β`` with ``μ = Σ_i n_i z̃_i / Σ_i n_i`` over a group with ``n_i`` copies of unit ``i``, that
of the base for all values if and only if all ``n_i`` are equal; so is ``σ²``.

Forward: BatchNorm and InstanceNorm act on each channel, so copies stay copies with batch statistics and with
running ones. LayerNorm, RMSNorm and GroupNorm average over a group, whose mean and variance are those of the base
if all its features have equally many copies. Backward, persistence: scale and shift are elementwise, one a copy.
Fails: for unequal multiplicities within a normalised group (`Graph.uniform`, M2); for scaled units up to ``eps``.

Weight norm makes weights ``g v/‖v‖``. Of ``v`` with every input ``n`` times the norm has grown by ``√n``, so ``g``
has to be divided by that for the weights of the clone; equal entries of ``v`` get equal gradients, others do not.

Spectral norm makes weights ``W/σ`` with ``σ = uᵀ W v`` and unit vectors ``u`` and ``v``, which training finds anew.
Of ``n`` copies of outputs and ``m`` of inputs ``σ`` is ``√(nm)`` times that of equal weights: what is left for the
layer to make up is ``√(m/n)``, which only positively homogeneous activations carry on, unless ``m = n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm

from torch_experiments.support.duplicates import normalising
from torch_experiments.support.torch_private import NormBase, SpectralParametrization
from torch_experiments.units.axes import Axis, single
from torch_experiments.units.graph import Graph, Value, copies, plus
from torch_experiments.units.registry import Call, module, operation
from torch_experiments.units.rules.convolution import split_groups


@operation("aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training", "aten::cudnn_batch_norm")
def batch_norm(call: Call) -> list[Value | None]:
    """Return the value of BatchNorm over axis 1; its statistics have that axis too."""
    x = call.value(0)
    channels = [call.optional(name) for name in ("weight", "bias", "running_mean", "running_var")]
    return [_normalised(call, x, [x.axes[1]], channels), None, None]


@operation("aten::native_layer_norm")
def layer_norm(call: Call) -> list[Value | None]:
    """Return the value of LayerNorm over the last axes."""
    return [_over_last(call, [call.optional("weight"), call.optional("bias")]), None, None]


@operation("aten::_fused_rms_norm", "aten::rms_norm")
def rms_norm(call: Call) -> Value:
    """Return the value of RMSNorm over the last axes."""
    return _over_last(call, [call.optional("weight")])


@operation("aten::native_group_norm")
def group_norm(call: Call) -> list[Value | None]:
    """Return the value of GroupNorm: axis 1 is (group, channel of the group)."""
    x, groups = call.value(0), call.get("group")
    channels = x.axes[1]
    group, within = split_groups(call.graph, channels, groups) if groups > 1 else (single(), channels)
    call.graph.remember("num_channels", channels)
    call.graph.remember("num_groups", group)
    if groups < channels.size:
        call.graph.uniform.append((within, call.graph.layer, "its groups need equally many copies of all channels"))
    return [_normalised(call, x, [channels], [call.optional("weight"), call.optional("bias")]), None, None]


@operation("aten::_weight_norm_interface")
def weight_norm(call: Call) -> list[Value | None]:
    """Return the value of ``g v/‖v‖``, with norms over all axes but one."""
    graph, v, g, dim = (
        call.graph,
        call.value("v"),
        call.value("g"),
        call.dimension("dim", len(call.value("v").axes)),
    )
    graph.unify(v.axes[dim], g.axes[dim])
    summed = [axis for k, axis in enumerate(v.axes) if k != dim]
    for axis in summed:
        graph.uniform.append((axis, graph.layer, "its norms need equally many copies of all inputs"))
    growth = plus(*(copies(axis) for axis in summed))
    return [Value(v.axes, plus(g.gauge, {key: -Fraction(count) / 2 for key, count in growth.items()})), None]


@module(nn.Module)
def spectral_norm(graph: Graph, name: str, layer: nn.Module) -> None:
    """Demand that singular vectors of a spectral norm keep norm one: of ``n`` copies each is ``1/√n`` as large."""
    kept = ("_u", "_v") if isinstance(layer, SpectralParametrization) else ()
    hooks = [hook for hook in normalising(layer) if isinstance(hook, SpectralNorm)]
    own = [f"{hook.name}{end}" for hook in hooks for end in ("_u", "_v")]
    for vector in (*kept, *own):
        value = graph.parameter(graph.parameter_name(name, vector))
        if value is not None and value.axes:
            half = {key: Fraction(count) / 2 for key, count in copies(value.axes[0]).items()}
            graph.demand(plus(value.gauge, half), value.axes[0])


def _over_last(call: Call, parameters: Sequence[Value | None]) -> Value:
    x, count = call.value(0), len(call.get("normalized_shape"))
    call.graph.remember("normalized_shape", tuple(x.axes[-count:]))
    for axis in x.axes[-count:]:
        call.graph.uniform.append((axis, call.graph.layer, "it needs equally many copies of all features"))
    return _normalised(call, x, x.axes[-count:], parameters)


def _normalised(call: Call, x: Value, axes: Sequence[Axis], parameters: Sequence[Value | None]) -> Value:
    """Identify the axes of the parameters; the output has their gauge, the input and statistics have none."""
    graph, found = call.graph, [p for p in parameters if p is not None]
    for parameter in found:
        for axis, own in zip(axes, parameter.axes, strict=True):
            graph.unify(axis, own)
    graph.plain(x, *(p for p in parameters[2:] if p is not None))
    for given, power in zip(parameters, ("abs", "", "", "square"), strict=False):
        if given is not None and given.source is not None and power:
            graph.powers[given.source[0]] = power
    scale = [p for p in parameters[:2] if p is not None]
    return Value(x.axes, graph.same(*scale) if scale else {})


@module(NormBase)
def channels(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the number of features from the axis of a parameter or of the running mean."""
    for own in ("weight", "running_mean"):
        value = graph.parameter(f"{name}.{own}" if name else own)
        if value is not None:
            graph.attributes[name] = {"num_features": value.axes[0]}


@module(nn.RMSNorm)
def whole_axes(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the normalised shape from the axes of the output: torch runs it as elementary operations."""
    shape: Sequence[int] = layer.normalized_shape  # type: ignore[assignment]
    graph.attributes[name] = {"normalized_shape": tuple(graph.outputs[name].axes[-len(shape) :])}
