"""Every small network with every partition, with free weights and unspecified activations: proofs by exhaustion.

Weights, inputs and loss derivatives are generators of a polynomial ring over the rationals. Each value of an
activation is a new generator, shared only by equal arguments of the same activation, so that two polynomials agree
exactly if they agree for all functions `f_i` and `f_i'`: equality here is decided, not simplified.

One evaluation settles many cases: a generator may be set to 0, and equal polynomials stay equal. So a unit that is
no output has `l_v = 0`, and one whose slope vanishes `d_v = 0` (`without`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat, fmpz_mat
from sympy import QQ
from sympy.polys.rings import ring

from theory.activations import Activation, get
from theory.network import Network, Trace, backward, forward, slope
from theory.partitions import Partition, partitions_of

Array = np.ndarray[Any, Any]
EdgeList = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Graph:
    """A DAG on units `0 … units−1` in topological order: inputs first, any of the others outputs.

    >>> Graph(4, 1, (3,), ((0, 1), (1, 3))).hidden
    (1, 2)
    """

    units: int
    inputs: int
    outputs: tuple[int, ...]
    edges: EdgeList

    @property
    def hidden(self) -> tuple[int, ...]:
        """The units that are neither input nor output."""
        return tuple(v for v in range(self.inputs, self.units) if v not in self.outputs)


@dataclass(frozen=True)
class Case:
    """A graph with a partition of its units; `labels[v]` is the block of unit `v`.

    >>> Case(Graph(3, 1, (2,), ((0, 1), (1, 2))), (0, 1, 1)).pairs
    ((0, 1), (1, 1))
    """

    graph: Graph
    labels: tuple[int, ...]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pair (block of the source, block of the target) of every edge."""
        return tuple((self.labels[u], self.labels[v]) for u, v in self.graph.edges)


@dataclass(frozen=True)
class Evaluation:
    """Activations, errors and edge gradients of a case, as polynomials.

    Attributes:
        trace: Of shape (units, 1).
        delta: Of shape (units, 1).
        gradient: Of shape (edges,).
        names: Of the generators: `t0 …` of weights, and `x`, `l`, `f`, `d` with a number of inputs, loss
            derivatives, values and slopes of activations.
    """

    trace: Trace
    delta: Array
    gradient: Array
    names: tuple[str, ...]

    def slope_of(self, unit: int) -> str:
        """Return the name of the generator that stands for the slope of a unit."""
        return "d" + str(self.trace.h[unit, 0])[1:]

    def without(self, polynomial: Any, *names: str) -> Any:
        """Return the image of a polynomial where these generators are 0: its terms that are free of them."""
        places = [self.names.index(name) for name in names]
        kept = {m: c for m, c in polynomial.terms() if not any(m[place] for place in places)}
        return polynomial.ring.from_dict(kept)


def graphs(units: int) -> Iterator[Graph]:
    """Yield every DAG with that many units, at least one input and at least one output.

    Every DAG has a topological order, so edges from smaller to larger numbers are no restriction. Isomorphic graphs
    recur, which costs time and loses nothing.

    >>> len(list(graphs(2)))  # one possible edge
    2
    """
    for inputs in range(1, units):
        rest = range(inputs, units)
        possible = [(u, v) for v in rest for u in range(v)]
        for outputs in (c for k in range(1, len(rest) + 1) for c in combinations(rest, k)):
            for chosen in product((False, True), repeat=len(possible)):
                edges = tuple(e for e, keep in zip(possible, chosen, strict=True) if keep)
                yield Graph(units, inputs, outputs, edges)


def cases(units: int) -> Iterator[Case]:
    """Yield every graph with every partition that leaves inputs and outputs alone and has a block of two units.

    >>> len(list(cases(4)))  # 1 input, 1 output among 3 units, a block of the others: 2⁶ graphs each
    192
    """
    for graph in graphs(units):
        for labels in _coarser(units, graph.hidden):
            yield Case(graph, labels)


def widest_cases(units: int) -> Iterator[tuple[Case, int]]:
    """Yield `cases` by edges and partition, each once, with how many of them it stands for.

    All units alone in their blocks are outputs. With `s` of them there are `2ˢ − 1` cases, one for each choice of
    outputs; the widest one has them all, and the others are its images where some `l_v = 0`.

    >>> sum(count for _, count in widest_cases(4)) == len(list(cases(4)))
    True
    """
    for inputs in range(1, units):
        rest = range(inputs, units)
        possible = [(u, v) for v in rest for u in range(v)]
        for blocks in partitions_of(rest):
            alone = tuple(sorted(block[0] for block in blocks if len(block) == 1))
            if len(blocks) == len(rest) or not alone:
                continue
            labels = _labels(units, blocks)
            for chosen in product((False, True), repeat=len(possible)):
                edges = tuple(e for e, keep in zip(possible, chosen, strict=True) if keep)
                yield Case(Graph(units, inputs, alone, edges), labels), 2 ** len(alone) - 1


def widest_graphs(units: int) -> Iterator[tuple[Case, int]]:
    """Yield `graphs` by edges, each once, every unit an output and alone, with how many graphs it stands for.

    >>> sum(count for _, count in widest_graphs(3)) == len(list(graphs(3)))
    True
    """
    for graph in graphs(units):
        if len(graph.outputs) == units - graph.inputs:
            yield Case(graph, tuple(range(units))), 2 ** len(graph.outputs) - 1


def block_to_block_cases() -> Iterator[Case]:
    """Yield every case on six units with one input, one output and two blocks of two, side by side or interleaved.

    These are the smallest with edges between two blocks of several units.
    """
    possible = [(u, v) for v in range(1, 6) for u in range(v)]
    for labels in ((0, 1, 1, 2, 2, 3), (0, 1, 2, 1, 2, 3), (0, 1, 2, 2, 1, 3)):
        for chosen in product((False, True), repeat=len(possible)):
            edges = tuple(e for e, keep in zip(possible, chosen, strict=True) if keep)
            case = Case(Graph(6, 1, (5,), edges), labels)
            if edges and is_pattern_equitable(case):
                yield case


def equitable_basis(case: Case, *, rows: bool = True, columns: bool = True) -> Array:
    """Return a basis of the edge weights in RE ∩ CE (or RE or CE alone): rationals of shape (dimension, edges).

    Args:
        case: Graph and partition.
        rows, columns: Whether RE is asked for, and CE.

    >>> case = Case(Graph(4, 1, (3,), ((0, 1), (0, 2), (1, 3), (2, 3))), (0, 1, 1, 2))
    >>> equitable_basis(case).astype(int).tolist()
    [[1, 1, 0, 0], [0, 0, 1, 1]]
    """
    constraints = _constraints(case, rows, columns)
    edges = len(case.graph.edges)
    if not constraints or not edges:
        return np.array(np.eye(edges, dtype=int), dtype=object)
    return np.array(_nullspace(constraints, edges), dtype=object).reshape(-1, edges)


def evaluate(case: Case, basis: Array, *, dead: int | None = None) -> Evaluation:
    """Evaluate a case at the weights `Σ_k t_k basis[k]` with free `t`, free data and one free activation a block.

    Args:
        case: Graph and partition.
        basis: Rationals of shape (dimension, edges).
        dead: A unit whose activation has zero slope.

    >>> case = Case(Graph(3, 1, (2,), ((0, 1), (1, 2))), (0, 1, 2))
    >>> evaluate(case, equitable_basis(case)).trace.z[1, 0]
    t0*x0
    """
    symbol, _ = _symbols(len(basis), case.graph.units)
    network, trace = _propagated(case, basis, dead)
    seed = np.array([symbol[f"l{v}"] for v in case.graph.outputs], dtype=object)
    delta = backward(network, trace, seed[:, None])
    local = slope(network, trace) * delta
    return Evaluation(trace, delta, trace.h[network.source, 0] * local[network.target, 0], tuple(symbol))


def activations(case: Case, basis: Array) -> Array:
    """Return the activations alone of what `evaluate` evaluates, shape (units,).

    >>> case = Case(Graph(4, 1, (3,), ((0, 1), (0, 2), (1, 3), (2, 3))), (0, 1, 1, 2))
    >>> activations(case, equitable_basis(case)).tolist()
    [x0, f0, f0, f1]
    """
    return _propagated(case, basis, None)[1].h[:, 0]


def _propagated(case: Case, basis: Array, dead: int | None) -> tuple[Network, Trace]:
    symbol, zero = _symbols(len(basis), case.graph.units)
    weights = [sum((c * symbol[f"t{k}"] for k, c in enumerate(column) if c), start=zero) for column in basis.T]
    network = _network(case.graph, weights, _block_activations(case, symbol, zero, dead))
    x = np.array([symbol[f"x{v}"] for v in range(case.graph.inputs)], dtype=object)
    return network, forward(network, x[:, None])


@lru_cache(maxsize=64)  # making a ring takes as long as evaluating a case
def _symbols(weights: int, units: int) -> tuple[dict[str, Any], Any]:
    """Return the generators by name, and zero."""
    names = [f"t{k}" for k in range(weights)]
    names += [f"{a}{v}" for v in range(units) for a in ("x", "l", "f", "d")]
    domain, *generators = ring(names, QQ)
    return dict(zip(names, generators, strict=True)), domain(0)


def clones_agree(values: Iterable[Any], labels: Iterable[Any]) -> bool:
    """Tell whether the values, one a unit or an edge, are equal wherever the labels are.

    >>> clones_agree([1, 2, 1], [0, 1, 0]), clones_agree([1, 2], [0, 0])
    (True, False)
    """
    first: dict[Any, Any] = {}
    return all(first.setdefault(label, value) == value for label, value in zip(labels, values, strict=True))


def is_pattern_equitable(case: Case) -> bool:
    """Tell by counting whether every unit of a block has as many edges to or from every other block (claim C6).

    >>> is_pattern_equitable(Case(Graph(4, 1, (3,), ((0, 1), (0, 2), (1, 3))), (0, 1, 1, 2)))
    False
    """
    for near, far in ((1, 0), (0, 1)):
        counts = np.zeros((case.graph.units, max(case.labels) + 1), dtype=int)
        for edge in case.graph.edges:
            counts[edge[near], case.labels[edge[far]]] += 1
        if not clones_agree([tuple(row) for row in counts.tolist()], case.labels):
            return False
    return True


def coset_stays_equitable(case: Case) -> bool:
    """Tell by linear algebra whether every block constant on the edges satisfies the equations of RE ∩ CE.

    >>> coset_stays_equitable(Case(Graph(4, 1, (3,), ((0, 1), (0, 2), (1, 3))), (0, 1, 1, 2)))
    False
    """
    constraints = np.array(_constraints(case, True, True), dtype=int).reshape(-1, len(case.graph.edges))
    indicators = [[pair == other for other in case.pairs] for pair in set(case.pairs)]
    return not np.any(constraints @ np.array(indicators, dtype=int).reshape(-1, len(case.graph.edges)).T)


def coset_dimension(case: Case) -> int:
    """Return the rank of the indicators of the connected pairs of blocks on the edges (claim C4).

    >>> coset_dimension(Case(Graph(4, 1, (3,), ((0, 1), (0, 2), (1, 3), (2, 3))), (0, 1, 1, 2)))
    2
    """
    indicators = [int(pair == other) for pair in set(case.pairs) for other in case.pairs]
    return int(fmpz_mat(len(set(case.pairs)), len(case.pairs), indicators).rank())


def weights_behind(case: Case, evaluation: Evaluation, unit: int) -> set[int]:
    """Return the edges whose weights occur in `z(unit)`, within the arguments of activations too.

    The case has to be evaluated with one generator `t_k` an edge, that is with singleton blocks.

    >>> case = Case(Graph(3, 1, (2,), ((0, 1), (1, 2))), (0, 1, 2))
    >>> weights_behind(case, evaluate(case, equitable_basis(case)), 2)
    {0, 1}
    """
    monomials = [monomial for monomial, _ in evaluation.trace.z[unit, 0].terms()]
    used = {name for m in monomials for name, power in zip(evaluation.names, m, strict=True) if power}
    found = {int(name[1:]) for name in used if name[0] == "t"}
    values = {str(evaluation.trace.h[u, 0]): u for u in range(case.graph.inputs, case.graph.units)}
    return found.union(*(weights_behind(case, evaluation, values[name]) for name in used if name in values))


def edges_upstream(case: Case, unit: int) -> set[int]:
    """Return the edges into the unit and into its ancestors.

    >>> edges_upstream(Case(Graph(3, 1, (2,), ((0, 1), (1, 2))), (0, 1, 2)), 1)
    {0}
    """
    into = {k for k, (_, v) in enumerate(case.graph.edges) if v == unit}
    return into.union(*(edges_upstream(case, case.graph.edges[k][0]) for k in into))


def spans_depths(case: Case) -> bool:
    """Tell whether a block has units of different depths, so that blocks are in no topological order.

    >>> spans_depths(Case(Graph(4, 1, (3,), ((0, 1), (1, 2), (2, 3))), (0, 1, 1, 2)))
    True
    """
    depth = [0] * case.graph.units
    for u, v in sorted(case.graph.edges, key=lambda edge: edge[1]):
        depth[v] = max(depth[v], depth[u] + 1)
    return not clones_agree(depth, case.labels)


def has_inner_edge(case: Case) -> bool:
    """Tell whether an edge joins two units of one block.

    >>> has_inner_edge(Case(Graph(4, 1, (3,), ((0, 1), (1, 2), (2, 3))), (0, 1, 1, 2)))
    True
    """
    return any(a == b for a, b in case.pairs)


@lru_cache(maxsize=64)
def _coarser(units: int, hidden: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the labels of every partition of the hidden units but the finest."""
    return tuple(_labels(units, blocks) for blocks in partitions_of(hidden) if len(blocks) < len(hidden))


def _labels(units: int, blocks: list[list[int]]) -> tuple[int, ...]:
    labels = np.arange(units)
    for block in blocks:
        labels[block] = block[0]
    return tuple(Partition(labels).labels.tolist())


def _constraints(case: Case, rows: bool, columns: bool) -> list[list[int]]:
    """Return the equations of RE and CE on edge weights: block sums at a unit minus those at its block's first."""
    sides = [s for s, wanted in (((1, 0), rows), ((0, 1), columns)) if wanted]
    blocks = range(max(case.labels) + 1)
    return [
        equation
        for near, far in sides
        for unit, first in _mates(case.labels)
        for block in blocks
        if any(equation := _difference(case, near, far, unit, first, block))
    ]


def _nullspace(rows: list[list[int]], columns: int) -> list[list[Any]]:
    """Return a basis over the rationals of what all rows annihilate: one vector for each column without a pivot."""
    reduced, rank = fmpq_mat(fmpz_mat(len(rows), columns, [x for row in rows for x in row])).rref()
    table = [[_rational(x) for x in row] for row in reduced.tolist()[:rank]]
    pivots = [next(k for k, x in enumerate(row) if x) for row in table]
    free = [k for k in range(columns) if k not in pivots]
    place = dict(zip(pivots, table, strict=True))
    return [[-place[k][f] if k in place else QQ(k == f) for k in range(columns)] for f in free]


def _rational(x: fmpq) -> Any:
    return QQ(int(x.p), int(x.q))


def _difference(case: Case, near: int, far: int, unit: int, first: int, block: int) -> list[int]:
    return [
        (edge[near] == unit) - (edge[near] == first) if case.labels[edge[far]] == block else 0
        for edge in case.graph.edges
    ]


def _mates(labels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return every unit that is not the first of its block, with the first."""
    return [(v, labels.index(block)) for v, block in enumerate(labels) if labels.index(block) < v]


def _network(graph: Graph, weights: list[Any], activations: list[Activation | None]) -> Network:
    parameters = np.empty(len(weights), dtype=object)
    parameters[:] = weights
    same = _with_edges(graph.units, graph.inputs, graph.edges)
    return same.like(parameters=parameters, activations=tuple(activations), outputs=graph.outputs)


@lru_cache(maxsize=4096)  # what follows from the edges takes as long as a forward pass, and many cases share them
def _with_edges(units: int, inputs: int, edges: EdgeList) -> Network:
    source, target = (np.array(ends, dtype=np.int64) for ends in (zip(*edges, strict=True) or ((), ())))
    return Network(
        units=tuple(range(units)),
        source=source,
        target=target,
        parameters=np.zeros(len(edges)),
        tie=np.arange(len(edges)),
        activations=(None,) * inputs + (get("linear"),) * (units - inputs),
        inputs=tuple(range(inputs)),
        outputs=(),
    )


def _block_activations(case: Case, symbol: dict[str, Any], zero: Any, dead: int | None) -> list[Activation | None]:
    """Return one unspecified activation a block, which gives equal arguments equal generators."""
    seen: dict[tuple[int, Any], int] = {}

    def atoms(block: int, letter: str) -> Any:
        def function(z: Array) -> Array:
            out = np.empty(z.shape, dtype=object)
            for i, argument in np.ndenumerate(z):
                number = seen.setdefault((block, argument), len(seen))
                silent = letter == "d" and dead is not None and case.labels[dead] == block
                out[i] = zero if silent else symbol[f"{letter}{number}"]
            return out

        return function

    functions = {b: Activation(f"f{b}", atoms(b, "f"), atoms(b, "d")) for b in set(case.labels)}
    return [None if v < case.graph.inputs else functions[b] for v, b in enumerate(case.labels)]
