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
    """Which scales copies may carry.

    >>> Scales.SIGN & Scales.ANY, Scales.SIGN | Scales.POSITIVE
    (<Scales.SIGN: 1>, <Scales.ANY: 3>)
    """

    ONE = 0
    SIGN = 1
    POSITIVE = 2
    ANY = 3


ODD = ("sinh", "asinh", "atan", "tan")
HOMOGENEOUS = (
    "abs", "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
MATRIX_PRODUCTS = ("mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "linear")
CONVOLUTIONS = ("convolution", "_convolution")
ADDITIONS = ("add", "sub")
LINEAR = (
    *MATRIX_PRODUCTS, *CONVOLUTIONS, *ADDITIONS, "mul", "div", "neg", "mean", "sum",
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
    carried = _scales(name, call) if _has_one_factor(name, call, values, outcome) else Scales.ONE
    contracts, repeated = name in ("mean", "sum"), _repeated(name, values, outcome)
    for value in (*values, *outcome):
        for axis in value.axes:
            gone = contracts and not any(atom in kept for atom in atoms(axis))
            alone = gone or axis in repeated
            if not is_fixed(axis) and (alone or carried != Scales.ANY):
                call.graph.carried.append((axis, Scales.ONE if alone else carried))


def _scales(name: str, call: Call) -> Scales:
    """Return the scales that one operation carries: of an activation by its table, else by the lists above."""
    f = activation(call.name, call.arguments)
    if f is None:
        return TABLE.get(name, Scales.ONE)
    return (Scales.SIGN if f.odd else Scales.ONE) | (Scales.POSITIVE if f.homogeneous else Scales.ONE)


def carried_by(graph: Graph) -> dict[Axis, Scales]:
    """Return the scales that every atom of ``graph`` may carry; those that are not listed carry any.

    >>> import torch
    >>> from torch_experiments.units import trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    >>> graph = trace(model, torch.ones(2, 2))
    >>> [carried_by(graph)[axis] for axis in graph.free()]
    [<Scales.SIGN: 1>]
    """
    found: dict[Axis, Scales] = {}
    for axis, scales in graph.carried:
        for atom in atoms(axis):
            found[atom] = found.get(atom, Scales.ANY) & scales
    return found


def _repeated(name: str, values: list[Value], outcome: list[Value]) -> list[Axis]:
    """Return the axes along which one number is repeated."""
    if name != "expand":
        return []
    own = {atom for value in values for axis in value.axes for atom in atoms(axis)}
    return [axis for value in outcome for axis in value.axes if not own.intersection(atoms(axis))]


def _has_one_factor(name: str, call: Call, values: list[Value], outcome: list[Value]) -> bool:
    """Return whether a result scales with the units: no products of two activations, gates, or other addends."""
    if name in ("_prelu_kernel", "prelu"):
        return is_plain(values[1])
    if name in ADDITIONS:
        return not _numbers(call) and _cover(values, outcome)
    if name in ("mul", "div"):
        return sum(not is_plain(value) for value in values) <= 1 and (name == "mul" or is_plain(values[-1]))
    if name in (*MATRIX_PRODUCTS, *CONVOLUTIONS):
        added = "add" in name
        factors, addends = (values[1:], values[:1]) if added else (values[:2], values[2:])
        return any(value.source is not None for value in factors) and _cover(addends, outcome)
    return not (name == "constant_pad_nd" and call.get("value"))


def is_plain(value: Value) -> bool:
    """Return whether a value has no axis of units."""
    return all(is_fixed(axis) for axis in value.axes)


def _numbers(call: Call) -> bool:
    """Return whether a number other than zero is added."""
    return any(isinstance(call.get(k), int | float) and call.get(k) != 0 for k in (0, 1))


def _cover(addends: list[Value], outcome: list[Value]) -> bool:
    """Return whether every addend has all axes of units that the result has."""
    wanted = {atom for axis in outcome[0].axes for atom in atoms(axis) if not atom.fixed}
    return all(wanted <= {atom for axis in value.axes for atom in atoms(axis)} for value in addends)
