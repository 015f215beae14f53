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
from torch_experiments.units.registry import Call, operation

PLACES = {"1d": 1, "2d": 2, "3d": 3}
SPATIAL = (
    "aten::max_pool2d_with_indices", "aten::max_pool3d_with_indices", "aten::avg_pool1d", "aten::avg_pool2d",
    "aten::avg_pool3d", "aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool3d", "aten::adaptive_avg_pool1d",
    "aten::adaptive_max_pool2d", "aten::adaptive_max_pool3d", "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::upsample_bicubic2d", "aten::upsample_nearest1d", "aten::upsample_linear1d", "aten::constant_pad_nd",
    "aten::reflection_pad2d", "aten::replication_pad2d",
)  # fmt: skip
ALONG = (
    "aten::cumsum",
    "aten::cumprod",
    "aten::index_select",
    "aten::scatter",
    "aten::max",
    "aten::min",
    "aten::sort",
    "aten::topk",
    "aten::flip",
    "aten::roll",
    "aten::argmax",
    "aten::gather",
)


@operation(*SPATIAL)
def over_positions(call: Call) -> list[Value]:
    """Return the value of an operation on positions, which are fixed, as are axes whose size changes."""
    x = call.value(0)
    count = next((n for key, n in PLACES.items() if key in call.name), 0)
    axes = list(x.axes)
    for k, size in enumerate(call.shape):
        if size != axes[k].size or k >= len(axes) - count:
            call.graph.fix(axes[k], "a position")
            axes[k] = Axis(size, fixed="a position")
    zero = not call.name.endswith("constant_pad_nd") or not call.get("value")
    gauge = x.gauge if zero else call.graph.plain(x)
    return [Value(axes, gauge), Value(axes, {})]


@operation("aten::mean", "aten::amax", "aten::amin", "aten::var", "aten::std")
def mean(call: Call) -> Value:
    """Return the value of a mean, maximum or spread: needs equally many copies of the indices it runs over."""
    x, gone = call.value(0), _reduced(call)
    for k in gone:
        call.graph.uniform.append((x.axes[k], call.graph.layer, "it averages over this axis"))
        if call.name in ("aten::var", "aten::std") and call.arguments.get("correction") != 0:
            call.graph.fix(x.axes[k], "its variance divides by one index less")
    gauge = x.gauge if call.name != "aten::var" else plus(x.gauge, x.gauge)
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
def along(call: Call) -> Value:
    """Return the value of an operation that tells the indices of an axis apart; its inputs are fixed."""
    for axis in (axis for value in call.values() for axis in value.axes):
        call.graph.fix(axis, f"{call.name} tells its indices apart")
    call.graph.plain(*call.values())
    return Value([Axis(n, fixed=f"a result of {call.name}") for n in call.shape])


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
