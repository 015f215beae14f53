"""Hypothesis strategies whose draws lie in the class that a theorem speaks of, by construction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory.activations import get
from theory.exhaustive import Case, Graph, equitable_basis
from theory.network import Network
from theory.partitions import Partition

Array = np.ndarray[Any, Any]

EXACT = ("relu", "leaky_relu", "linear", "square", "cube", "hardtanh")
PIECEWISE = (
    "relu",
    "leaky_relu",
    "linear",
    "hardtanh",
)  # powers square the length of rationals at every layer and step
POSITIVE = ("relu", "leaky_relu", "linear")
ODD = ("hardtanh", "linear")


def fractions(low: float, high: float, most: int) -> st.SearchStrategy[Fraction]:
    """Draw a rational in [low, high] with a denominator up to `most`: `st.fractions` in a tenth of its time."""
    found = {Fraction(p, q) for q in range(1, most + 1) for p in range(int(low * q) - 1, int(high * q) + 2)}
    inside = (x for x in found if low <= x <= high)
    return st.sampled_from(sorted(inside, key=lambda x: (x.denominator, abs(x), x < 0)))


nonzero = st.sampled_from([Fraction(p, q) for p in (-2, -1, 1, 2, 3) for q in (1, 2, 3)])
rationals = fractions(-2, 2, 6)
TINY = 1e-100


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw 0 or a float64 of size 1e-100 or more, so that products of three of them do not underflow to 0.

    What is said of real numbers is said of these; smaller ones may be zero to float64 where they are not.
    """
    return st.floats(low, high).map(lambda x: x if abs(x) >= TINY else 0.0)


def majorant(network: Network) -> Network:
    """Return the network with `|w|`, powers as they are and every other activation, `|f(z)| ≤ |z|`, as linear.

    At `|x|` its numbers are the sums of the sizes of the terms that may cancel in the network: what rounding errors
    are measured against.
    """
    kinds = (f if f is None or f.name in ("square", "cube") else get("linear") for f in network.activations)
    return replace(network, parameters=np.abs(network.parameters).astype(np.float64), activations=tuple(kinds))


@dataclass(frozen=True)
class Drawn:
    """A network, a partition that its weights make equitable, and scales of its units."""

    network: Network
    partition: Partition
    scales: Array

    @property
    def is_trivial(self) -> bool:
        """Whether no block of several units both receives and sends a weight that is not zero."""
        used = [
            set(ends[self.network.weights != 0].tolist()) for ends in (self.network.source, self.network.target)
        ]
        blocks = (set(block.tolist()) for block in self.partition.blocks() if len(block) > 1)
        return not any(block & used[0] and block & used[1] for block in blocks)


def vectors(size: int, entries: st.SearchStrategy[Fraction] = rationals) -> st.SearchStrategy[Array]:
    """Draw exact vectors of that size."""
    return st.lists(entries, min_size=size, max_size=size).map(exact)


def matrices(rows: int, columns: int, entries: st.SearchStrategy[Fraction] = rationals) -> st.SearchStrategy[Array]:
    """Draw exact matrices of that shape."""
    return vectors(rows * columns, entries).map(lambda v: v.reshape(rows, columns))


def exact(values: Any) -> Array:
    """Return an object array of Fractions."""
    out = np.empty(len(values), dtype=object)
    out[:] = [Fraction(int(v.numerator), int(v.denominator)) for v in values]
    return out


@st.composite
def dags(draw: st.DrawFn, *, activation: str | None = None, max_units: int = 7) -> Network:
    """Draw a DAG with skip connections, rational weights and exact activations; the last unit is the output."""
    units = draw(st.integers(3, max_units))
    pairs = [(u, v) for v in range(1, units) for u in range(v)]
    kept = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=2))
    edges = {edge: draw(rationals) for edge in sorted({*kept, (units - 2, units - 1)})}
    named = {v for edge in edges for v in edge if v != 0} | {units - 1}
    kinds = {v: activation or draw(st.sampled_from(EXACT)) for v in sorted(named)}
    return Network.from_edges(edges, kinds, [0], [units - 1])


@st.composite
def equitable_cases(draw: st.DrawFn, *, rows: bool = True, columns: bool = True, max_units: int = 9) -> Drawn:
    """Draw a DAG, any partition of its hidden units, and weights from the whole space RE ∩ CE (or RE, or CE).

    Blocks may span depths and hold inner edges: the weights are a random rational combination of a basis of the
    solutions of the equations, so every draw is valid and none is filtered away.
    """
    units = draw(st.integers(6, max_units))
    pairs = [(u, v) for v in range(1, units) for u in range(v)]
    missing = draw(st.sets(st.sampled_from(pairs), max_size=units // 2))
    graph = Graph(units, 1, (units - 1,), tuple(e for e in pairs if e not in missing))
    edges = graph.edges
    labels = (0, *(draw(st.integers(1, 2)) for _ in graph.hidden), units)
    case = Case(graph, tuple(Partition(np.array(labels)).labels.tolist()))
    basis = equitable_basis(case, rows=rows, columns=columns)
    weights = exact([0] * len(edges)) + sum(
        (draw(nonzero) * exact(b) for b in basis), start=exact([0] * len(edges))
    )
    kinds = {label: draw(st.sampled_from(EXACT)) for label in sorted(set(case.labels))}
    return Drawn(_network(case, weights, kinds), Partition(np.array(case.labels)), np.ones(units, dtype=np.int64))


@st.composite
def clones(draw: st.DrawFn, *, scaling: str | None = None, constant: bool = False) -> Drawn:
    """Draw a network on its cloned manifold: equitable edges and weights that are equitable without being constant.

    Blocks of sizes 1 to 4 on a DAG of blocks with skip connections. Between blocks of sizes `m` and `n`, with `g`
    their common divisor, unit `u` feeds `v` if `v − u mod g` lies in a drawn set: every such pattern is equitable.
    Each residue carries a constant plus a matrix whose rows and columns sum to zero.

    Args:
        scaling: `"positive"` or `"sign"` draws scales from that group and turns weights into `s_v w / s_u`-type
            solutions of the scaled equations; the pattern is then complete.
        constant: Leave out the part that sums to zero.
    """
    count = draw(st.integers(3, 5))
    sizes = [1, *(draw(st.integers(1, 4)) for _ in range(count - 2)), 1]
    sizes[1] = max(sizes[1], 3)
    sizes[2] = draw(st.sampled_from([sizes[2], sizes[1]])) if count > 3 else 1
    owner = [b for b, n in enumerate(sizes) for _ in range(n)]
    blocks = [[v for v, b in enumerate(owner) if b == block] for block in range(count)]
    joined = {(b, b + 1) for b in range(count - 1)} | {
        (a, b) for b in range(count) for a in range(b - 1) if draw(st.booleans())
    }
    pool = {"positive": POSITIVE, "sign": ODD, None: PIECEWISE}[scaling]
    kinds = {b: draw(st.sampled_from(pool)) for b in range(count)}
    scales = exact([draw(_scale(scaling)) if 0 < b < count - 1 else 1 for b in owner])
    edges: dict[tuple[int, int], Fraction] = {}
    for a, b in sorted(joined):
        edges |= _scaled_pair(draw, blocks[a], blocks[b], scales, constant, complete=scaling is not None)
    named = {v: kinds[b] for v, b in enumerate(owner) if b > 0}
    network = Network.from_edges(edges, named, [0], [len(owner) - 1])
    order = [int(u) for u in network.units]
    return Drawn(network, Partition(np.array(owner)[order]), scales[order])


def _scale(scaling: str | None) -> st.SearchStrategy[Fraction]:
    choices = {"positive": [1, Fraction(1, 2), 2, 3], "sign": [1, -1], None: [1]}[scaling]
    return st.sampled_from([Fraction(c) for c in choices])


def _scaled_pair(
    draw: st.DrawFn, sources: list[int], targets: list[int], s: Array, constant: bool, *, complete: bool
) -> dict[tuple[int, int], Fraction]:
    """Draw `w(u→v) = c s_u s_v / norm + n(u,v)` with `Σ_u n s_u = 0 = Σ_v n s_v`."""
    g = gcd(len(sources), len(targets))
    residues = range(g) if complete else draw(st.lists(st.integers(0, g - 1), unique=True, min_size=1))
    edges: dict[tuple[int, int], Fraction] = {}
    common = abs(draw(nonzero))
    for r in residues:
        c = common if complete else abs(draw(nonzero))
        for a in range(g):
            us, vs = sources[a::g], targets[(a + r) % g :: g]
            piece = _outer(s[us], s[vs], c) if constant else _outer(s[us], s[vs], c) + _null(draw, s[us], s[vs])
            edges |= {(u, v): piece[i, j] for i, u in enumerate(us) for j, v in enumerate(vs)}
    return edges


def _outer(su: Array, sv: Array, c: Fraction) -> Array:
    return c * np.outer(su, sv)


def _null(draw: st.DrawFn, su: Array, sv: Array) -> Array:
    """Draw a matrix with `su @ N = 0` and `N @ sv = 0`."""
    x = draw(matrices(len(su), len(sv)))
    x = x - np.outer(su, su @ x) / (su @ su)
    return np.asarray(x - np.outer(x @ sv, sv) / (sv @ sv))


def _network(case: Case, weights: Array, kinds: dict[int, str]) -> Network:
    source, target = (np.array([e[k] for e in case.graph.edges], dtype=np.int64) for k in (0, 1))
    return Network(
        units=tuple(range(case.graph.units)),
        source=source,
        target=target,
        parameters=weights,
        tie=np.arange(len(weights)),
        activations=tuple(None if v == 0 else get(kinds[b]) for v, b in enumerate(case.labels)),
        inputs=(0,),
        outputs=case.graph.outputs,
    )


@st.composite
def unit_vectors(draw: st.DrawFn, dimension: int) -> list[Fraction]:
    """Draw a rational point of the unit sphere: `(2t, 1 − |t|²)/(1 + |t|²)` with `t` rational."""
    t = draw(st.lists(rationals, min_size=dimension - 1, max_size=dimension - 1))
    square = sum((x * x for x in t), Fraction(0))
    return [*(2 * x / (1 + square) for x in t), (1 - square) / (1 + square)]


@st.composite
def correlations_of_rank(draw: st.DrawFn, size: int, rank: int) -> Array:
    """Draw a rational correlation matrix of that size and at most that rank, also with entries 0, 1 and −1.

    It is a Gram matrix of unit vectors; some of them are copies or mirror images of others.
    """
    vectors = [draw(unit_vectors(rank)) for _ in range(draw(st.integers(1, size)))]
    chosen = [*vectors, *draw(st.lists(st.sampled_from(vectors), min_size=size, max_size=size))][:size]
    signs = draw(st.lists(st.sampled_from([1, 1, 1, -1]), min_size=size, max_size=size))
    V = np.array([[sign * x for x in vector] for sign, vector in zip(signs, chosen, strict=True)], dtype=object)
    return np.asarray(V @ V.T)
