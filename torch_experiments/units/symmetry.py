"""Under which scales of a unit is everything that happens to it equivariant (claim C8)?

Linear maps carry any scale, ``f(s z) = s f(z)``; positively homogeneous activations (ReLU, leaky ReLU, max pooling)
carry ``s > 0``, odd ones (tanh, erf, sin) ``s = ±1``. All else (GELU, norms, products of activations, sums over the
units themselves) carries none, and so does an operation that is in none of the lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Flag

from torch_experiments.units.activations import activation
from torch_experiments.units.axes import Axis, atoms, is_fixed
from torch_experiments.units.graph import Graph, Value
from torch_experiments.units.registry import Call


class Scales(Flag):
    """Which scales copies may carry."""

    ONE = 0
    SIGN = 1
    POSITIVE = 2
    ANY = 3


ODD = ("sinh", "asinh", "atan", "tan")
HOMOGENEOUS = (
    "abs", "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
MATRIX_PRODUCTS = ("mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "linear")
LINEAR = (
    *MATRIX_PRODUCTS, "convolution", "_convolution", "add", "sub", "mul", "div", "neg", "mean", "sum",
    "embedding", "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "unsqueeze",
    "squeeze", "expand", "select", "unbind", "slice", "split", "unsafe_split", "split_with_sizes", "chunk",
    "cat", "stack", "alias", "clone", "_to_copy", "contiguous", "detach", "lift_fresh", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d",
    "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "upsample_nearest2d", "upsample_bilinear2d",
)  # fmt: skip
TABLE: dict[str, Scales] = (
    dict.fromkeys(LINEAR, Scales.ANY)
    | dict.fromkeys(HOMOGENEOUS, Scales.POSITIVE)
    | dict.fromkeys(ODD, Scales.SIGN)
)


def note(call: Call, results: Iterable[Value]) -> None:
    """Note in the graph which scales ``call`` carries, for the axes of its arguments and of its results."""
    values, outcome = call.values(), list(results)
    kept = {atom for value in outcome for axis in value.axes for atom in atoms(axis)}
    name = call.name.removeprefix("aten::").removesuffix("_")
    carried = _scales(name, call) if _has_one_factor(name, call, values) else Scales.ONE
    contracts = name in ("mean", "sum")
    for value in (*values, *outcome):
        for axis in value.axes:
            gone = contracts and not any(atom in kept for atom in atoms(axis))
            if not is_fixed(axis) and (gone or carried != Scales.ANY):
                call.graph.carried.append((axis, Scales.ONE if gone else carried))


def _scales(name: str, call: Call) -> Scales:
    """Return the scales that one operation carries: of an activation by its table, else by the lists above."""
    f = activation(call.name, call.arguments)
    if f is None:
        return TABLE.get(name, Scales.ONE)
    return (Scales.SIGN if f.odd else Scales.ONE) | (Scales.POSITIVE if f.homogeneous else Scales.ONE)


def carried_by(graph: Graph) -> dict[Axis, Scales]:
    """Return the scales that every atom of ``graph`` may carry; those that are not listed carry any."""
    found: dict[Axis, Scales] = {}
    for axis, scales in graph.carried:
        for atom in atoms(axis):
            found[atom] = found.get(atom, Scales.ANY) & scales
    return found


def _has_one_factor(name: str, call: Call, values: list[Value]) -> bool:
    """Return whether a product has one factor at most that depends on units: no two activations, no gates."""
    if name in MATRIX_PRODUCTS:
        factors = values[-2:] if "add" in name else values[:2]
        return any(value.source is not None for value in factors)
    if name in ("mul", "div"):
        return sum(any(not is_fixed(axis) for axis in value.axes) for value in values) <= 1
    return not (name == "constant_pad_nd" and call.get("value"))
