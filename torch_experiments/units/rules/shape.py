"""Rearrangements: views, transpositions, splits, concatenations, repetitions.

Axes are row-major: index ``(i, j)`` of a product of sizes ``a × b`` is ``b i + j``, so a view regroups factors.

Forward, backward: every entry moves with its copies; copies of a channel stay together in flatten. Nothing is
learnt. Fails: where a view splits an axis in a way that does not fit how its neighbours do; that axis is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch_experiments.units.axes import Axis, cut, find, is_fixed, product, single, total
from torch_experiments.units.graph import Graph, Value, broadcast
from torch_experiments.units.registry import Call, operation


@operation("aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias")
def view(call: Call) -> Value:
    """Return the value of a reshape: runs of axes with one number of entries have one product."""
    x, shape = call.value(0), call.shape
    axes = regroup(call.graph, x.axes, shape)
    note_sizes(call, axes, call.get(1))
    return Value(axes, x.gauge)


@operation("aten::as_strided_")
def restrided(call: Call) -> Value:
    """Return the value of a tensor whose axes of one entry get other strides: pooling to 1×1, channels last."""
    x, shape, strides = call.value(0), call.get("size"), call.get("stride")
    wide = [(n, stride) for n, stride in zip(shape, strides, strict=True) if n != 1]
    dense = [math.prod(n for n, _ in wide[k + 1 :]) for k in range(len(wide))]
    if list(shape) != [axis.size for axis in x.axes] or [stride for _, stride in wide] != dense:
        raise call.fail("it rearranges entries in a way that is not followed; use view, permute or reshape")
    return Value(list(x.axes), x.gauge, x.source)


def regroup(graph: Graph, axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
    """Return the axes of a view of ``axes`` as ``shape``."""
    if list(shape) == [axis.size for axis in axes]:
        return list(axes)
    result: list[Axis] = []
    sources, sizes = [a for a in axes if a.size != 1], list(shape)
    while sizes:
        if sizes[0] == 1:
            result.append(single())
            sizes.pop(0)
            continue
        group, parts = [sources.pop(0)], [sizes.pop(0)]
        while math.prod(a.size for a in group) != math.prod(parts):
            if math.prod(a.size for a in group) < math.prod(parts):
                group.append(sources.pop(0))
            else:
                parts.append(sizes.pop(0))
        result += _split(graph, graph.product(product(group)), parts)
    return result


def _split(graph: Graph, whole: Axis, sizes: Sequence[int]) -> list[Axis]:
    sizes_above_one = [n for n in sizes if n != 1]
    if len(sizes_above_one) == 1:
        return [find(whole) if n != 1 else single() for n in sizes]
    parts = [Axis(n) if n != 1 else single() for n in sizes]
    graph.unify(graph.product(product(parts)), whole)
    return parts


def note_sizes(call: Call, axes: Sequence[Axis], given: Sequence[int]) -> None:
    """Note the sizes that the running layer named itself (not -1)."""
    if len(given) == len(axes):
        for axis, size in zip(axes, given, strict=True):
            if size > 1:
                call.graph.note(axis)


@operation("aten::t", "aten::transpose", "aten::permute", "aten::t_", "aten::transpose_")
def permutation(call: Call) -> Value:
    """Return the value of a permutation of axes; that of a parameter is still that parameter."""
    x = call.value(0)
    rank = len(x.axes)
    order = list(range(rank))
    if call.name == "aten::permute":
        order = [d % rank for d in call.get("dims")]
    elif call.name in ("aten::transpose", "aten::transpose_"):
        one, other = call.dimension("dim0", rank), call.dimension("dim1", rank)
        order[one], order[other] = other, one
    else:
        order.reverse()
    source = None if x.source is None else (x.source[0], tuple(x.source[1][k] for k in order))
    return Value([x.axes[k] for k in order], x.gauge, source)


@operation("aten::view_as_real")
def parts(call: Call) -> Value:
    """Return the value of complex numbers as real and imaginary part, which are no units."""
    x = call.value(0)
    return Value([*x.axes, Axis(2, fixed="the real and the imaginary part")], x.gauge)


@operation("aten::view_as_complex")
def joined(call: Call) -> Value:
    """Return the value of complex numbers whose parts were the last axis."""
    x = call.value(0)
    call.graph.fix(x.axes[-1], "the real and the imaginary part")
    return Value(x.axes[:-1], x.gauge)


@operation("aten::unsqueeze")
def unsqueeze(call: Call) -> Value:
    """Return the value with an axis of size one."""
    x = call.value(0)
    axes = list(x.axes)
    axes.insert(call.dimension("dim", len(axes) + 1), single())
    return Value(axes, x.gauge)


@operation("aten::squeeze", "aten::squeeze_")
def squeeze(call: Call) -> Value:
    """Return the value without axes of size one."""
    x, dims = call.value(0), call.arguments.get("dim")
    rank = len(x.axes)
    given = (
        range(rank) if dims is None else [d % rank for d in (dims if isinstance(dims, list | tuple) else [dims])]
    )
    return Value([a for k, a in enumerate(x.axes) if k not in given or a.size != 1], x.gauge)


@operation("aten::expand")
def expand(call: Call) -> Value:
    """Return the value with axes of size one repeated."""
    x, shape = call.value(0), call.shape
    axes = [Axis(n) if n > 1 else single() for n in shape]
    for k, axis in enumerate(reversed(x.axes), start=1):
        if axis.size == shape[-k]:
            axes[-k] = axis
    note_sizes(call, axes, call.get(1))
    return Value(axes, x.gauge)


@operation("aten::repeat")
def repeat(call: Call) -> Value:
    """Return the value of tiles: an axis that is repeated is (tile, axis)."""
    x, counts = call.value(0), call.get(1)
    own = [single()] * (len(counts) - len(x.axes)) + list(x.axes)
    axes = [product([Axis(n), axis]) if n > 1 else axis for n, axis in zip(counts, own, strict=True)]
    return Value(axes, x.gauge)


@operation("aten::select", "aten::unbind")
def select(call: Call) -> list[Value]:
    """Return the value at one index of an axis, which is fixed."""
    x = call.value(0)
    k = call.dimension("dim", len(x.axes))
    call.graph.fix(x.axes[k], "one of its indices is selected")
    rest = Value([a for d, a in enumerate(x.axes) if d != k], x.gauge)
    return [replace(rest) for _ in range(x.axes[k].size)]


@operation("aten::slice")
def slice_(call: Call) -> Value:
    """Return the value of a range of an axis: all of it, a part, or fixed entries where the step is not one."""
    x = call.value(0)
    k = call.dimension("dim", len(x.axes))
    axis, size = x.axes[k], call.shape[k]
    if size == axis.size:
        if call.get("end") == size:
            call.graph.note(axis)
        return Value(list(x.axes), x.gauge, x.source)
    start = min((call.get("start") or 0) % max(axis.size, 1), axis.size)
    if call.get("step") != 1 or not size:
        call.graph.fix(axis, "it is sliced in steps")
        part = Axis(size, fixed="a slice in steps")
    else:
        before, after = start, axis.size - start - size
        sizes = [n for n in (before, size, after) if n]
        parts = cut(axis, sizes, f"{call.graph.layer}: it is cut otherwise elsewhere")
        part = parts[1 if before else 0]
        for named in (total(parts[: k + 1]) for k in range(len(parts) - 1)):  # begin and end of the range
            call.graph.note(named)
    return Value([part if d == k else a for d, a in enumerate(x.axes)], x.gauge)


@operation("aten::split", "aten::unsafe_split", "aten::split_with_sizes", "aten::chunk")
def split(call: Call) -> list[Value]:
    """Return the values of consecutive parts of an axis."""
    x = call.value(0)
    k = call.dimension("dim", len(x.axes))
    sizes = [part.shape[k] for part in call.result]
    parts = cut(x.axes[k], sizes, f"{call.graph.layer}: it is cut otherwise elsewhere")
    for part in parts:
        call.graph.note(part)
    return [Value([part if d == k else a for d, a in enumerate(x.axes)], x.gauge) for part in parts]


@operation("aten::pixel_shuffle")
def pixel_shuffle(call: Call) -> Value:
    """Return the value with channels ``(channel, r, r)`` moved to positions; ``r`` is fixed."""
    graph, x, r = call.graph, call.value(0), call.get("upscale_factor")
    channel, *places = regroup(graph, x.axes[1:2], [x.axes[1].size // r**2, r, r])
    for place in places:
        graph.fix(place, "it becomes a position")
    return Value([x.axes[0], channel, *(Axis(n, fixed="a position") for n in call.shape[2:])], x.gauge)


@operation("aten::pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Value:
    """Return the value with positions moved to channels ``(channel, r, r)``; ``r`` is fixed."""
    graph, x, r = call.graph, call.value(0), call.get("downscale_factor")
    *batch, channel = x.axes[:-2]
    for axis in x.axes[-2:]:
        graph.fix(axis, "a position")
    offsets = [Axis(r, fixed="an offset of positions") for _ in range(2)] if r > 1 else []
    places = [Axis(n, fixed="a position") for n in call.shape[-2:]]
    return Value([*batch, graph.product(product([channel, *offsets])), *places], x.gauge)


@operation("aten::im2col")
def patches(call: Call) -> Value:
    """Return the value ``[batch, (channel, offset), position]`` of patches of images."""
    graph, x = call.graph, call.value(0)
    *batch, channel = x.axes[:-2]
    for axis in x.axes[-2:]:
        graph.fix(axis, "a position")
    size = math.prod(call.get("kernel_size"))
    offset = Axis(size, fixed="an offset of positions") if size > 1 else single()
    place = Axis(call.shape[-1], fixed="a position")
    return Value([*batch, graph.product(product([channel, offset])), place], x.gauge)


@operation("aten::col2im")
def from_patches(call: Call) -> Value:
    """Return the value of images that patches ``[batch, (channel, offset), position]`` add up to."""
    graph, x = call.graph, call.value(0)
    *batch, columns, place = x.axes
    size = math.prod(call.get("kernel_size"))
    channel, offset = regroup(graph, [columns], [columns.size // size, size])
    for axis in (offset, place):
        graph.fix(axis, "a position")
    return Value([*batch, channel, *(Axis(n, fixed="a position") for n in call.shape[-2:])], x.gauge)


@operation("aten::channel_shuffle", "aten::native_channel_shuffle")
def channel_shuffle(call: Call) -> Value:
    """Return the value with channels ``(group, channel)`` as ``(channel, group)``."""
    x, groups = call.value(0), call.get("groups")
    group, channel = regroup(call.graph, x.axes[1:2], [groups, x.axes[1].size // groups])
    call.graph.fix(group, "the shuffle counts its groups")
    return Value([x.axes[0], call.graph.product(product([channel, group])), *x.axes[2:]], x.gauge)


@operation("aten::_pack_padded_sequence")
def pack(call: Call) -> list[Value]:
    """Return the values of samples of several lengths, in the order of time, and of how many run at a time."""
    x = call.value(0)
    for axis in x.axes[:2]:
        call.graph.fix(axis, "it counts samples or times of packed sequences")
    tokens = Axis(call.shape[0], fixed="samples at their times")
    return [Value([tokens, *x.axes[2:]], x.gauge), Value([Axis(len(call.result[1]), fixed="a time")])]


@operation("aten::_pad_packed_sequence")
def unpack(call: Call) -> list[Value]:
    """Return the values of packed samples as a grid of samples and times, and of their lengths."""
    x = call.value(0)
    gauge = x.gauge if not call.get("padding_value") else call.graph.plain(x)
    call.graph.fix(x.axes[0], "it counts samples at their times")
    grid = [Axis(n, fixed="a sample or a time") for n in call.shape[:2]]
    return [Value([*grid, *x.axes[1:]], gauge), Value([Axis(len(call.result[1]), fixed="a sample")])]


@operation("aten::glu")
def glu(call: Call) -> Value:
    """Return the value of a gate: the halves of an axis are identified."""
    graph, x = call.graph, call.value(0)
    k = call.dimension("dim", len(x.axes))
    half, gate = cut(x.axes[k], [call.shape[k]] * 2, f"{graph.layer}: it is cut otherwise elsewhere")
    axes = list(x.axes)
    axes[k] = graph.unify(half, gate)
    return Value(axes, graph.plain(x))


@operation("aten::cat")
def concatenate(call: Call) -> Value:
    """Return the value of a concatenation: the axis is a sum, the others are identified."""
    values = [v for v in call.values() if all(a.size for a in v.axes)]
    k = call.dimension("dim", len(values[0].axes))
    for value in values[1:]:
        for d, axis in enumerate(value.axes):
            if d != k:
                call.graph.unify(values[0].axes[d], axis)
    axes = list(values[0].axes)
    axes[k] = total([v.axes[k] for v in values])
    return Value(axes, call.graph.same(*values))


@operation("aten::stack")
def stack(call: Call) -> Value:
    """Return the value of tensors side by side along a new axis, which is fixed."""
    values = call.values()
    axes = broadcast(call.graph, values, [a.size for a in values[0].axes])
    axes.insert(call.dimension("dim", len(axes) + 1), Axis(len(values), fixed="a stack of tensors"))
    return Value(axes, call.graph.same(*values))


@operation(
    "aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::new_zeros", "aten::new_ones", "aten::new_full"
)
def constant(call: Call) -> Value:
    """Return the value of a tensor filled with one number; its axes may be copied."""
    axes = [Axis(n) if n > 1 else Axis(n, fixed="an axis of size below two") for n in call.shape]
    note_sizes(call, axes, call.get("size"))
    return Value(axes)


@operation("aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::empty_like")
def like(call: Call) -> Value:
    """Return the value of a tensor filled with one number; it has as many copies as another, of whatever units."""
    made = []
    for axis in call.value(0).axes:
        made.append(axis if is_fixed(axis) else Axis(axis.size))
        if made[-1] is not axis:
            call.graph.equal.append((axis, made[-1], f"{call.graph.layer}: a tensor of its size is filled"))
    return Value(made)


@operation("aten::diag_embed")
def diagonal(call: Call) -> Value:
    """Return the value of matrices with given diagonals: rows and columns are the entries of these, and fixed."""
    x = call.value(0)
    call.graph.fix(x.axes[-1], "it is a diagonal")
    if [axis.size for axis in (*x.axes, x.axes[-1])] != call.shape:
        raise call.fail("only the main diagonal of the last two axes has a rule")
    return Value([*x.axes, x.axes[-1]], call.graph.plain(x))


@operation("aten::tril", "aten::triu")
def triangle(call: Call) -> Value:
    """Return the value of a triangle: its two axes are fixed."""
    x = call.value(0)
    for axis in x.axes[-2:]:
        call.graph.fix(axis, "a triangle is taken of it")
    return Value(list(x.axes), x.gauge)
