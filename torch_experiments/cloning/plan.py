"""Decide what is copied: which atoms, and with which powers of the factor parameters are rescaled.

Of the factors of a product one is copied: whole heads, whole groups, channels of flattened images. A sum over
copies is larger by their number; the parameters' exponents make up for that. They solve a linear system over the
rationals, one equation a nonlinear operation, sum, or output: with a weight tied to an embedding, say, the norm
in front of the output layer takes the division.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

from torch_experiments.units.axes import Axis, Order, atoms, block, exponent, find, fix, multiplicity
from torch_experiments.units.graph import Demand, Gauge, Graph, TraceError
from torch_experiments.units.groups import Attention, choose

Row = Mapping[str, Fraction]
Equation = tuple[Row, Fraction]


@dataclass(eq=False)
class Plan:
    """What a clone copies.

    Attributes:
        graph: of the base.
        factor: copies of a unit.
        chosen: atoms whose indices are copied.
        exponents: ``c`` of the parameters that are multiplied by ``factor**c``.
        numbers: ``c`` of the layers' own numbers that the clone computes ``factor**c`` times as large.
        order: of the copies along an axis, as in `clone`.

    >>> from torch_experiments.units import trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> make_plan(trace(model, torch.ones(2, 2)), 2).kept()
    {'2.bias': 'an axis of size one'}
    """

    graph: Graph
    factor: int
    chosen: set[Axis]
    exponents: Mapping[str, Fraction]
    numbers: Mapping[int, Fraction] = field(default_factory=dict)
    order: Order = "interleaved"

    def size(self, axis: Axis) -> int:
        """Return the size of an axis in the clone."""
        return multiplicity(axis, self.factor, self.chosen)

    def block(self, axis: Axis) -> torch.Tensor:
        """Return the base index of each index of an axis of the clone."""
        return block(axis, self.factor, self.chosen, self.order)

    def copied(self, axis: Axis) -> bool:
        """Return whether some index of ``axis`` has copies."""
        return any(atom in self.chosen for atom in atoms(axis))

    def power(self, gauge: Gauge) -> Fraction:
        """Return ``c`` of values of a gauge, whose copies are ``factor**c`` times the base's."""
        return _known(gauge, self.exponents, self.chosen, self.numbers)

    def kept(self) -> dict[str, str]:
        """Return the parameters of which no axis is copied, with the reason: never silently."""
        found = {}
        for name, value in self.graph.parameters.items():
            if value.axes and not any(self.copied(axis) for axis in value.axes):
                reasons = dict.fromkeys(atom.fixed for axis in value.axes for atom in atoms(axis) if atom.fixed)
                used = "; ".join(reasons) or "another axis of the same product is copied"
                found[name] = used if name in self.graph.used else "no operation of the trace reads it"
        return found


def make_plan(
    graph: Graph,
    factor: int,
    attention: Attention = "heads",
    numbers: Mapping[int, Fraction] | None = None,
    order: Order = "interleaved",
) -> Plan:
    """Return what to copy and how to rescale; ``numbers`` are exponents by which the layers' own numbers change.

    Every pass either succeeds or fixes an axis, with its reason, so this ends.

    Raises:
        TraceError: when no rescaling of parameters keeps the function.

    >>> from torch_experiments.units import trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> make_plan(trace(model, torch.ones(2, 2)), 2).exponents
    {'2.weight': Fraction(-1, 1)}
    """
    while True:
        chosen = choose(graph, attention)
        if _fix_uneven(graph, chosen):
            continue
        exponents = solve(graph, chosen, numbers or {})
        if not isinstance(exponents, Demand):
            return Plan(graph, factor, chosen, exponents, numbers or {}, order)
        _give_up(exponents, chosen)


def _fix_uneven(graph: Graph, chosen: set[Axis]) -> bool:
    """Fix axes whose copies are uneven where they must not be; return whether there were any."""
    found = False
    for axis, layer, why in graph.uniform:
        if exponent(axis, chosen) is None:
            fix(axis, f"{layer}: {why}")
            found = True
    for axis, layer in graph.contracted:
        if exponent(axis, chosen) is None:
            fix(axis, f"{layer}: a product of activations sums over it")
            found = True
    for one, other, why in graph.equal:
        if exponent(one, chosen) != exponent(other, chosen):
            fix(one, why)
            fix(other, why)
            found = True
    return found


def _give_up(demand: Demand, chosen: set[Axis]) -> None:
    """Fix the axes at which a demand fails or, where these are fixed, all that its gauge speaks of."""
    keys = [key for key in demand.gauge if isinstance(key, Axis)]
    copied = [[axis for axis in axes if any(a in chosen for a in atoms(axis))] for axes in (demand.axes, keys)]
    axes = copied[0] or copied[1]
    if not axes:
        raise TraceError(
            f"layer {demand.layer!r}: no rescaling of its parameters keeps the function; clone another axis of it "
            "or give the layer a scale of its own"
        )
    for axis in axes:
        fix(axis, f"{demand.layer or 'the network'}: no rescaling of parameters keeps the function")


def solve(graph: Graph, chosen: set[Axis], numbers: Mapping[int, Fraction]) -> dict[str, Fraction] | Demand:
    """Return the exponents that meet all demands, or a demand that cannot be met.

    Unknowns that the equations leave free keep their guess: a weight divides by the copies that it sums over.
    """
    exponents = _guess(graph, chosen)
    equations = [_equation(demand, exponents, chosen, numbers) for demand in graph.demands]
    if any(right for _, right in equations):
        correction = _eliminate(graph, equations)
        if isinstance(correction, int):
            return graph.demands[correction]
        exponents |= {name: exponents.get(name, Fraction(0)) + value for name, value in correction.items()}
    return {name: value for name, value in exponents.items() if value}


def _eliminate(graph: Graph, equations: Sequence[Equation]) -> dict[str, Fraction] | int:
    """Solve by Gauss, free unknowns zero; return the number of the first equation that contradicts the others."""
    pivots: list[tuple[str, Row, Fraction]] = []
    for k, (coefficients, right) in enumerate(equations):
        row = dict(coefficients)
        for name, other, value in pivots:
            share = row.pop(name, Fraction(0))
            right -= share * value
            _subtract(row, other, share)
        if row:
            pivot = min(row, key=lambda name: _reluctance(graph, name))
            lead = row.pop(pivot)
            pivots.append((pivot, {key: count / lead for key, count in row.items()}, right / lead))
        elif right:
            return k
    found: dict[str, Fraction] = {}
    for name, other, value in reversed(pivots):
        found[name] = value - sum((c * found.get(key, Fraction(0)) for key, c in other.items()), Fraction(0))
    return found


def _subtract(row: dict[str, Fraction], other: Row, share: Fraction) -> None:
    for key, count in other.items() if share else ():
        row[key] = row.get(key, Fraction(0)) - share * count
        if not row[key]:
            del row[key]


def _guess(graph: Graph, chosen: set[Axis]) -> dict[str, Fraction]:
    found = {}
    for name, uses in graph.matrices.items():
        if len(uses) == 1:
            ((_, in_dim),) = uses
            found[name] = -Fraction(exponent(graph.parameters[name].axes[in_dim], chosen) or 0)
    return found


def _equation(demand: Demand, guess: Row, chosen: set[Axis], numbers: Mapping[int, Fraction]) -> Equation:
    """Return the coefficients of the parameters' corrections, and the right-hand side."""
    row = {key: Fraction(count) for key, count in demand.gauge.items() if isinstance(key, str)}
    return row, -_known(demand.gauge, guess, chosen, numbers)


def _known(gauge: Gauge, guess: Row, chosen: set[Axis], numbers: Mapping[int, Fraction]) -> Fraction:
    """Return the value of a gauge under exponents of parameters, copies of axes, and numbers."""
    values: dict[Any, Fraction] = {**guess, **numbers}
    values |= {key: Fraction(exponent(find(key), chosen) or 0) for key in gauge if isinstance(key, Axis)}
    return sum((count * values.get(key, Fraction(0)) for key, count in gauge.items()), Fraction(0))


def _reluctance(graph: Graph, name: str) -> tuple[bool, int]:
    """Order parameters by how readily their scale changes: vectors of norms and biases, then matrices."""
    return (name in graph.matrices, -len(graph.parameters[name].axes))
