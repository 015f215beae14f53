"""Rules of operations on matrices, the last two axes, as in argument checks of distributions or in whitening."""

from __future__ import annotations

import torch

from torch_experiments.units.axes import Axis
from torch_experiments.units.graph import Value, broadcast
from torch_experiments.units.inputs import flatten
from torch_experiments.units.registry import Call, operation

WHY = "a matrix is factored or inverted, which copies would make singular"


@operation(
    "aten::linalg_cholesky_ex",
    "aten::linalg_inv_ex",
    "aten::linalg_lu_factor_ex",
    "aten::linalg_solve_triangular",
    "aten::cholesky_inverse",
    "aten::cholesky_solve",
    "aten::_linalg_det",
    "aten::_linalg_slogdet",
    "aten::_linalg_eigh",
)
def matrix(call: Call) -> list[Value]:
    """Return the values of an operation on matrices: rows and columns are fixed, the axes before them are kept."""
    graph, values = call.graph, call.values()
    for axis in (axis for value in values for axis in value.axes[-2:]):
        graph.fix(axis, WHY)
    graph.plain(*values)
    stacks = [Value(value.axes[:-2]) for value in values]
    before = broadcast(graph, stacks, torch.broadcast_shapes(*([axis.size for axis in v.axes] for v in stacks)))
    made = f"a result of {call.name}"
    return [
        Value(before + [Axis(n, fixed=made) for n in result.shape[len(before) :]])
        for result in flatten(call.result)
    ]
