"""Embeddings of tokens and positions, bags of them, and entries chosen or written by an index.

``h(v, t) = E[t, v] = Ẽ[t, i]`` for ``v ∈ S_i`` and a token ``t``; nothing is summed.

Forward: a row of the table is a vector of features, copied as they are. Backward: the errors of the copies add
to nothing outside their own entries. Persistence: copies of a feature get equal gradients in every row.
Fails: never by itself; a table that is tied to an output layer, which sums over the copies, keeps its entries,
and a norm before that layer takes the division by the number of copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_experiments.units.axes import Axis, single
from torch_experiments.units.graph import Graph, Value, broadcast, plus
from torch_experiments.units.inputs import flatten
from torch_experiments.units.registry import Call, module, operation


@operation("aten::embedding")
def embedding(call: Call) -> Value:
    """Return the value of rows of a table; its rows are not copied."""
    table, index = call.value(0), call.value(1)
    call.graph.fix(table.axes[0], "an index of an embedding")
    call.graph.linear_map(table, 1, 0)
    return Value([*index.axes, table.axes[1]], table.gauge)


@operation("aten::_embedding_bag", "aten::_embedding_bag_forward_only")
def bags(call: Call) -> list[Value | None]:
    """Return the value of sums, means or maxima of rows of a table, one a bag; its rows are not copied."""
    graph, table = call.graph, call.value(0)
    graph.fix(table.axes[0], "an index of an embedding")
    graph.linear_map(table, 1, 0)
    weights = call.optional("per_sample_weights")
    gauge = table.gauge if weights is None else plus(table.gauge, weights.gauge)
    axes = [Axis(call.shape[0], fixed="a bag of an embedding"), table.axes[1]]
    others = len(list(flatten(call.result))) - 1
    return [Value(axes, gauge), *([None] * others)]


@operation("aten::embedding_renorm_")
def bounded(call: Call) -> Value:
    """Return the value of a table whose rows are held below a norm, which copies of features would change."""
    table = call.value(0)
    for axis in table.axes:
        call.graph.fix(axis, "the norms of its rows are bounded (max_norm)")
    call.graph.plain(table)
    return Value(table.axes, table.gauge, table.source)


@operation("aten::index")
def index(call: Call) -> Value:
    """Return the value of entries chosen along some axes, which are fixed; the others stay as they are."""
    x = call.value(0)
    return Value(indexed(call, x, call.get(1), len(call.shape)), x.gauge)


@operation("aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index_put")
def put(call: Call) -> Value:
    """Return the value of a tensor of which chosen entries are replaced, or added to."""
    graph, x, new = call.graph, call.value("self"), call.value("values")
    shape = list(call.get("self")[tuple(slice(None) if k is None else k for k in call.get("indices"))].shape)
    places = Value(indexed(call, x, call.get("indices"), len(shape)), x.gauge)
    broadcast(graph, [places, new], shape)
    return Value(list(x.axes), graph.same(x, new))


def indexed(call: Call, x: Value, indices: Sequence[Tensor | None], rank: int) -> list[Axis]:
    """Return the axes of ``x[indices]``: those of one index in its place, of several where NumPy puts them."""
    graph, left, places, gone = call.graph, list(x.axes), [], 0
    kept: list[Axis] = []
    for entry in indices:
        width = entry.ndim if entry is not None and _is_mask(entry) else 1
        taken, left = left[:width], left[width:]
        if entry is None:
            kept += taken
            continue
        places.append((len(kept), gone))
        for axis in (*taken, *graph.value(entry).axes):
            graph.fix(axis, "it is indexed")
        gone += 1
    kept += left
    chosen = [entry for entry in indices if entry is not None]
    plain = len(chosen) == 1 and not _is_mask(chosen[0])
    made = graph.value(chosen[0]).axes if plain else [Axis(n, fixed="it is indexed") for n in _sizes(indices)]
    together = len({at for at, _ in places}) == 1
    start = places[0][0] if together else 0
    return [*kept[:start], *made, *kept[start:]]


def _is_mask(index: Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _sizes(indices: Sequence[Tensor | None]) -> list[int]:
    """Return the sizes of the axes that several indices, or masks, make."""
    shapes = [
        torch.Size([int(entry.sum())]) if _is_mask(entry) else entry.shape for entry in indices if entry is not None
    ]
    return list(torch.broadcast_shapes(*shapes))


@operation("aten::index_select", "aten::gather", "aten::take_along_dim")
def chosen_along(call: Call) -> Value:
    """Return the value of entries chosen along one axis, which is fixed; the other axes stay as they are."""
    graph, x, index = call.graph, call.value("self"), call.value("index")
    k = call.dimension("dim", len(x.axes))
    graph.fix(x.axes[k], "it is indexed")
    whole = call.name != "aten::index_select"
    places = index.axes[k] if whole else index.axes[0] if index.axes else single()
    graph.fix(places, "it is an index")
    if whole:
        _matched(call, x, index, k)
    return Value([places if d == k else axis for d, axis in enumerate(index.axes if whole else x.axes)], x.gauge)


@operation(
    "aten::scatter", "aten::scatter_", "aten::scatter_add", "aten::scatter_add_", "aten::scatter_reduce",
    "aten::scatter_reduce_", "aten::index_add", "aten::index_add_", "aten::index_copy", "aten::index_copy_",
    "aten::index_fill", "aten::index_fill_", "aten::index_reduce", "aten::index_reduce_",
)  # fmt: skip
def scattered(call: Call) -> Value:
    """Return the value of a tensor into which others are written, or added, along one axis, which is fixed."""
    graph, x, index = call.graph, call.value("self"), call.value("index")
    k = call.dimension("dim", len(x.axes))
    graph.fix(x.axes[k], "it is indexed")
    if "scatter" in call.name:
        _matched(call, x, index, k)
    for axis in index.axes[k : k + 1] if "scatter" in call.name else index.axes:
        graph.fix(axis, "it is an index")
    source = next((call.arguments[name] for name in ("src", "source", "value") if name in call.arguments), None)
    new = graph.value(source) if isinstance(source, Tensor) else None
    if new is None or call.get("self") is source or "prod" in (call.arguments.get("reduce"),):
        return Value(list(x.axes), graph.plain(x, *([] if new is None else [new])))
    if new.axes:
        graph.fix(new.axes[k], "it is written at an index")
        _matched(call, x, new, k)
    return Value(list(x.axes), graph.same(x, new))


def _matched(call: Call, x: Value, other: Value, dim: int) -> None:
    """Identify the axes of two tensors but for ``dim``; where one is longer, both are fixed."""
    for d, (axis, own) in enumerate(zip(other.axes, x.axes, strict=True)):
        if d == dim:
            continue
        if axis.size == own.size:
            call.graph.unify(axis, own)
        else:
            for part in (axis, own):
                call.graph.fix(part, f"{call.name} reads a part of it")


@module(nn.Embedding, nn.EmbeddingBag)
def table(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the number of features from the axes of the table."""
    graph.attributes[name] = {"embedding_dim": graph.own(name, "weight").axes[1]}
