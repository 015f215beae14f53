"""Embeddings of tokens and positions.

``h(v, t) = E[t, v] = Ẽ[t, i]`` for ``v ∈ S_i`` and a token ``t``; nothing is summed.

Forward: a row of the table is a vector of features, copied as they are. Backward: the errors of the copies add
to nothing outside their own entries. Persistence: copies of a feature get equal gradients in every row.
Fails: never by itself; a table that is tied to an output layer, which sums over the copies, keeps its entries,
and a norm before that layer takes the division by the number of copies.
"""

from __future__ import annotations

from torch import nn

from torch_experiments.units.axes import Axis, is_fixed
from torch_experiments.units.graph import Graph, Value
from torch_experiments.units.registry import Call, module, operation


@operation("aten::embedding")
def embedding(call: Call) -> Value:
    """Return the value of rows of a table; its rows are not copied."""
    table, index = call.value(0), call.value(1)
    call.graph.fix(table.axes[0], "an index of an embedding")
    call.graph.linear_map(table, 1, 0)
    return Value([*index.axes, table.axes[1]], table.gauge)


@operation("aten::index")
def index(call: Call) -> Value:
    """Return the value of rows chosen along the first axis; all indexed axes are fixed."""
    x, indices = call.value(0), call.get(1)
    if all(is_fixed(axis) for value in call.values() for axis in value.axes):  # of masks, say, built from inputs
        return Value([Axis(n, fixed="it is indexed") for n in call.shape], call.graph.plain(*call.values()))
    used = [k for k, entry in enumerate(indices) if entry is not None]
    for k in used:
        call.graph.fix(x.axes[k], "it is indexed")
    if used == [0]:
        chosen = call.graph.value(indices[0])
        if chosen.axes and len(chosen.axes) + len(x.axes) - 1 == len(call.shape):
            return Value([*chosen.axes, *x.axes[1:]], x.gauge)
    raise call.fail("only an index of the first axis has a rule; use torch.select, slices or an embedding")


@module(nn.Embedding)
def table(graph: Graph, name: str, layer: nn.Module) -> None:
    """Take the number of features from the axes of the table."""
    graph.attributes[name] = {"embedding_dim": graph.own(name, "weight").axes[1]}
