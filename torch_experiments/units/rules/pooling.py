"""Pooling and padding over positions, means and sums.

With ``n`` copies of every index a mean is the base's, a sum ``n`` times it, and a norm of order ``p`` ``n^{1/p}``
times.

Forward, backward: each channel on its own, so copies stay copies. A mean over copied indices is that of the base
if all have equally many copies; a sum grows by their number, for which some parameter has to make up.
Fails: for sorting, cumulative sums and other operations that tell copies of one axis apart; that axis is fixed.
"""

from __future__ import annotations

import math
from fractions import Fraction

from torch_experiments.units.axes import Axis, single
from torch_experiments.units.graph import Value, copies, plus
from torch_experiments.units.inputs import flatten
from torch_experiments.units.registry import Call, operation

PLACES = {"1d": 1, "2d": 2, "3d": 3}
SPATIAL = (
    "aten::max_pool2d_with_indices", "aten::max_pool3d_with_indices", "aten::avg_pool1d", "aten::avg_pool2d",
    "aten::avg_pool3d", "aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool3d", "aten::adaptive_avg_pool1d",
    "aten::adaptive_max_pool2d", "aten::adaptive_max_pool3d", "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::upsample_bicubic2d", "aten::upsample_nearest1d", "aten::upsample_linear1d", "aten::constant_pad_nd",
    "aten::reflection_pad1d", "aten::reflection_pad2d", "aten::reflection_pad3d", "aten::replication_pad1d",
    "aten::replication_pad2d", "aten::replication_pad3d", "aten::fractional_max_pool2d",
    "aten::fractional_max_pool3d", "aten::_upsample_nearest_exact1d", "aten::_upsample_nearest_exact2d",
    "aten::_upsample_bilinear2d_aa", "aten::_upsample_bicubic2d_aa", "aten::upsample_nearest3d",
    "aten::upsample_trilinear3d", "aten::adaptive_max_pool1d", "aten::max_unpool2d", "aten::max_unpool3d",
)  # fmt: skip
# they tell the indices of one axis (``dim``), or of several, apart
ALONG = (
    "aten::cumsum", "aten::cumprod", "aten::cummax", "aten::cummin", "aten::logcumsumexp", "aten::max", "aten::min",
    "aten::sort", "aten::topk", "aten::kthvalue", "aten::median", "aten::mode", "aten::flip", "aten::roll",
    "aten::argmax", "aten::argmin", "aten::argsort", "aten::_fft_c2c", "aten::_fft_r2c", "aten::_fft_c2r",
    "aten::median.dim", "aten::diff", "aten::renorm", "aten::glu_jvp",
)  # fmt: skip
SQUARES = ("aten::var", "aten::var_mean")
SPREADS = (*SQUARES, "aten::std", "aten::std_mean")
CURVED = ("aten::cumprod", "aten::logcumsumexp")


@operation(*SPATIAL)
def over_positions(call: Call) -> list[Value]:
    """Return the value of an operation on positions, which are fixed, as are axes whose size changes."""
    x = call.value(0)
    count = next((n for key, n in PLACES.items() if key in call.name), 0)
    for other in call.values()[1:]:  # places that a pooling chose, or random numbers
        for axis, own in zip(other.axes, x.axes, strict=False):
            call.graph.unify(axis, own)
    axes = list(x.axes)
    for k, size in enumerate(call.shape):
        if size != axes[k].size or k >= len(axes) - count:
            call.graph.fix(axes[k], "a position")
            axes[k] = Axis(size, fixed="a position")
    zero = not call.name.endswith("constant_pad_nd") or not call.get("value")
    gauge = x.gauge if zero else call.graph.plain(x)
    return [Value(axes, gauge), Value(axes, {})]


@operation("aten::var_mean", "aten::std_mean")
def spread_and_mean(call: Call) -> list[Value]:
    """Return the values of a spread and of the mean."""
    spread = mean(call)
    x = call.value(0)
    return [spread, Value(spread.axes, x.gauge)]


@operation("aten::mean", "aten::amax", "aten::amin", "aten::var", "aten::std")
def mean(call: Call) -> Value:
    """Return the value of a mean, maximum or spread: needs equally many copies of the indices it runs over."""
    x, gone = call.value(0), _reduced(call)
    for k in gone:
        call.graph.uniform.append((x.axes[k], call.graph.layer, "it averages over this axis"))
        if call.name in SPREADS and call.arguments.get("correction") != 0:
            call.graph.fix(x.axes[k], "its variance divides by one index less")
    gauge = plus(x.gauge, x.gauge) if call.name in SQUARES else x.gauge
    return Value(_remaining(call, x, gone), gauge)


@operation("aten::linalg_vector_norm")
def norm(call: Call) -> Value:
    """Return the value of a norm of order ``p``, larger by the ``p``-th root of the number of copies."""
    x, gone, order = call.value(0), _reduced(call), call.get("ord")
    if order in (0, math.inf, -math.inf):
        raise call.fail("only norms of finite order above zero have a rule; use amax or amin of the absolute value")
    for k in gone:
        call.graph.uniform.append((x.axes[k], call.graph.layer, "it takes a norm over this axis"))
    roots = plus(*(copies(x.axes[k]) for k in gone))
    root = {key: count / Fraction(order).limit_denominator(1000) for key, count in roots.items()}
    return Value(_remaining(call, x, gone), plus(x.gauge, root))


@operation("aten::sum")
def add_up(call: Call) -> Value:
    """Return the value of a sum, larger by the number of copies."""
    x, gone = call.value(0), _reduced(call)
    for k in gone:
        call.graph.uniform.append((x.axes[k], call.graph.layer, "it sums over this axis"))
    return Value(_remaining(call, x, gone), plus(x.gauge, *(copies(x.axes[k]) for k in gone)))


@operation(*ALONG)
def along(call: Call) -> list[Value]:
    """Return the values of an operation that tells the indices of some axes apart, which are fixed."""
    graph, x, told = call.graph, call.value(0), _told(call)
    for k in told:
        graph.fix(x.axes[k], f"{call.name} tells its indices apart")
    gauge = graph.plain(x) if call.name in CURVED else x.gauge
    rest = [axis for k, axis in enumerate(x.axes) if k not in told]
    found = []
    for result in flatten(call.result):
        axes = [
            axis if axis.size == n else Axis(n, fixed=f"a result of {call.name}")
            for axis, n in zip(x.axes if result.ndim == len(x.axes) else rest, result.shape, strict=True)
        ]
        numbers = result.is_floating_point() or result.is_complex()
        found.append(Value(axes, gauge if numbers else {}))
    return found


def _told(call: Call) -> list[int]:
    """Return the dimensions whose indices an operation tells apart, all where it names none."""
    rank = len(call.value(0).axes)
    dims = call.arguments.get("dim", call.arguments.get("dims"))
    if dims is None or dims == []:
        return list(range(rank))
    return [d % max(rank, 1) for d in (dims if isinstance(dims, list | tuple) else [dims])] if rank else []


@operation("aten::all", "aten::any", "aten::_is_all_true", "aten::_is_any_true")
def whether(call: Call) -> Value:
    """Return the value of whether all are true, or any, which is so of copies where it is of their base."""
    x = call.value(0)
    call.graph.plain(x)
    return Value(_remaining(call, x, _reduced(call)))


def _reduced(call: Call) -> list[int]:
    rank = len(call.value(0).axes)
    dims = call.arguments.get("dim")
    if dims is None or dims == []:
        return list(range(rank))
    return sorted(d % rank for d in (dims if isinstance(dims, list | tuple) else [dims]))


def _remaining(call: Call, x: Value, gone: list[int]) -> list[Axis]:
    if call.arguments.get("keepdim"):
        return [single() if k in gone else axis for k, axis in enumerate(x.axes)]
    return [axis for k, axis in enumerate(x.axes) if k not in gone]
