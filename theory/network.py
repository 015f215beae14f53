"""Networks on directed acyclic graphs: one definition of forward, backward and gradient for every scalar.

The arithmetic is that of the weights and inputs: float64, `fractions.Fraction`, SymPy expressions, Arb balls.
Units are numbered in the order in which they are first named; arrays over units use that order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import networkx
import numpy as np

from theory.activations import Activation, get

Array = np.ndarray[Any, Any]
Unit = Hashable
Edge = tuple[Unit, Unit]
LossGradient = Callable[[Array], Array]


class Trace(NamedTuple):
    """Pre-activations `z` and activations `h`, both of shape (units, samples); `z` is zero on inputs."""

    z: Array
    h: Array


class Level(NamedTuple):
    """The edges that arrive at the units of one depth, sorted by the unit at which they arrive.

    Attributes:
        edges: Positions of the edges, int64 of shape (edges of the level,).
        starts: Where in `edges` those of each unit start, int64 of shape (units of the level,).
        units: The units, ascending, int64.

    >>> network = Network.layered([[[1.0, 1.0]], [[2.0]]], "relu")
    >>> [(level.edges.tolist(), level.units.tolist()) for level in network.arrivals]
    [([0, 1], [2]), ([2], [3])]
    """

    edges: Array
    starts: Array
    units: Array


@dataclass(frozen=True, eq=False)
class Network:
    """A finite DAG with an activation on every unit that is not an input, and a weight on every edge.

    Build one with `Network.from_edges` or `Network.layered`. A bias is an edge from a unit without in-edges
    whose activation is `"one"`. Tied edges share one entry of `parameters`.

    Attributes:
        units: Names, in the order that all arrays over units use.
        source, target: int64 arrays of shape (edges,), the ends of every edge as positions in `units`.
        parameters: Scalars of shape (parameters,), float64 or object.
        tie: int64 array of shape (edges,): edge `e` has weight `parameters[tie[e]]`.
        activations: One a unit; `None` on inputs.
        inputs, outputs: Positions in `units`.

    >>> network = Network.from_edges({("x", "a"): 2.0, ("a", "y"): -1.0}, "relu", ["x"], ["y"])
    >>> network.units, network.weights.tolist(), network.depth.tolist()
    (('x', 'a', 'y'), [2.0, -1.0], [0, 1, 2])
    """

    units: tuple[Unit, ...]
    source: Array
    target: Array
    parameters: Array
    tie: Array
    activations: tuple[Activation | None, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    _depth: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_ends(self)
        _check_activations(self)
        _check_finite(self)
        object.__setattr__(self, "_depth", _depths(self))

    @classmethod
    def from_edges(
        cls,
        edges: Mapping[Edge, Any] | Iterable[Edge],
        activations: Mapping[Unit, str | Activation] | str | Activation,
        inputs: Sequence[Unit],
        outputs: Sequence[Unit],
        *,
        weights: Mapping[Edge, Any] | None = None,
        tied: Mapping[Edge, Hashable] | None = None,
    ) -> Network:
        """Return the network with these edges.

        Args:
            edges: A mapping `(u, v) -> weight`, or the edges alone with `weights` given apart.
            activations: By unit, or one for all units that are not inputs.
            inputs, outputs: Names of units. Inputs have no in-edges; outputs may have out-edges.
            weights: `(u, v) -> weight` for every edge, if `edges` carries none.
            tied: `edge -> name`; edges with one name share one parameter and must agree in weight.

        Raises:
            ValueError: A weight on a missing edge, an edge without weight, an edge into an input, a cycle, a
                unit without activation, a weight that is NaN or infinite, tied weights that differ.

        >>> edges = {("x", "a"): 2.0, ("x", "b"): 2.0, ("a", "y"): 1.0, ("b", "y"): 3.0}
        >>> tied = {("x", "a"): "w", ("x", "b"): "w"}
        >>> Network.from_edges(edges, "relu", ["x"], ["y"], tied=tied).parameters.tolist()
        [2.0, 1.0, 3.0]
        """
        weights = _matched_weights(edges, weights)
        _check_distinct("inputs", inputs)
        _check_distinct("outputs", outputs)
        units = tuple(dict.fromkeys([*inputs, *(u for edge in weights for u in edge), *outputs]))
        index = {u: i for i, u in enumerate(units)}
        tie, parameters = _tie(weights, tied or {})
        return cls(
            units=units,
            source=np.array([index[u] for u, _ in weights], dtype=np.int64),
            target=np.array([index[v] for _, v in weights], dtype=np.int64),
            parameters=as_scalars(parameters),
            tie=tie,
            activations=_activations_of(units, activations, inputs),
            inputs=tuple(index[u] for u in inputs),
            outputs=tuple(index[u] for u in outputs),
        )

    @classmethod
    def layered(
        cls,
        matrices: Sequence[Array],
        activation: str | Activation,
        *,
        biases: Sequence[Array] | None = None,
        output: str | Activation = "linear",
    ) -> Network:
        """Return the fully connected network with these weight matrices of shape (targets, sources).

        Units are named `(layer, index)`, inputs first; with `biases`, the constant-one unit `"one"` comes last.

        Raises:
            ValueError: Two successive shapes do not fit, or the biases do not.

        >>> Network.layered([[[1.0, 2.0]], [[3.0]]], "tanh", biases=[[0.5], [0.0]]).units
        ((0, 0), (0, 1), (1, 0), (2, 0), 'one')
        """
        matrices = [np.asarray(m) for m in matrices]
        widths = _widths(matrices)
        first = np.concatenate([[0], np.cumsum(widths)])
        source = [np.tile(first[k] + np.arange(m.shape[1]), m.shape[0]) for k, m in enumerate(matrices)]
        target = [np.repeat(first[k + 1] + np.arange(m.shape[0]), m.shape[1]) for k, m in enumerate(matrices)]
        weight = [m.ravel() for m in matrices]
        units: list[Unit] = [(layer, i) for layer, width in enumerate(widths) for i in range(width)]
        depth = len(matrices)
        kinds = [None, *[get(activation)] * (depth - 1), get(output)]
        functions = [kind for kind, width in zip(kinds, widths, strict=True) for _ in range(width)]
        if biases is not None:
            _check_biases(biases, widths)
            hidden = np.arange(widths[0], first[-1])
            source.append(np.full(len(hidden), first[-1]))
            target.append(hidden)
            weight.append(np.concatenate([np.asarray(b) for b in biases]))
            units.append("one")
            functions.append(get("one"))
        edges = sum(map(len, source))
        return cls(
            units=tuple(units),
            source=np.concatenate(source).astype(np.int64),
            target=np.concatenate(target).astype(np.int64),
            parameters=as_scalars(np.concatenate(weight)),
            tie=np.arange(edges),
            activations=tuple(functions),
            inputs=tuple(range(widths[0])),
            outputs=tuple(range(int(first[depth]), int(first[depth + 1]))),
        )

    @property
    def weights(self) -> Array:
        """The weight of every edge, of shape (edges,)."""
        return self.parameters[self.tie]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The ends of every edge by name."""
        return tuple((self.units[u], self.units[v]) for u, v in zip(self.source, self.target, strict=True))

    @cached_property
    def index(self) -> dict[Unit, int]:
        """The position of every unit by name."""
        return {unit: i for i, unit in enumerate(self.units)}

    @property
    def depth(self) -> Array:
        """The length of the longest path that ends at each unit; int64 of shape (units,)."""
        return self._depth

    @cached_property
    def arrivals(self) -> tuple[Level, ...]:
        """In-edges by the depth of their target, in the order in which a forward pass needs them."""
        return _levels(self.target, self.depth)

    @cached_property
    def departures(self) -> tuple[Level, ...]:
        """Out-edges by the height of their source, in the order in which a backward pass needs them."""
        return _levels(self.source, longest_paths(self.target, self.source, len(self.units)))

    @cached_property
    def units_by_activation(self) -> tuple[tuple[Activation, Array], ...]:
        """Each activation with a mask of shape (units,) of the units that bear it."""
        kinds: dict[str, Activation] = {f.name: f for f in self.activations if f is not None}
        names = np.array([f.name if f else "" for f in self.activations])
        return tuple((f, names == name) for name, f in kinds.items())

    def with_parameters(self, parameters: Array) -> Network:
        """Return the same graph with other parameters, of shape (parameters,).

        Raises:
            ValueError: Their number differs, or one is NaN or infinite.

        >>> network = Network.layered([[[1.0]], [[2.0]]], "relu")
        >>> network.with_parameters([3.0, 4.0]).weights.tolist()
        [3.0, 4.0]
        """
        if len(parameters) != len(self.parameters):
            raise ValueError(f"parameters has length {len(parameters)}; the network has {len(self.parameters)}")
        found = self.like(parameters=as_scalars(parameters))
        _check_finite(found)
        return found

    def like(self, **parts: Any) -> Network:
        """Return the same graph with other parts, unchecked; what follows from its edges is not computed again.

        >>> network = Network.layered([[[1.0]], [[2.0]]], "relu")
        >>> network.like(outputs=(1, 2)).depth is network.depth
        True
        """
        found = copy(self)
        found.__dict__.update(parts)
        if "activations" in parts:
            found.__dict__.pop("units_by_activation", None)
        return found


def forward(network: Network, x: Array) -> Trace:
    """Return `z(v) = Σ_u w(u→v) h(u)` and `h(v) = f_v(z(v))` for every unit and sample.

    Args:
        network: The network; its scalars decide the arithmetic.
        x: Inputs of shape (inputs, samples), or (inputs,) for one sample.

    Raises:
        ValueError: The first axis of `x` does not match the inputs.

    Source: JL25, section 2.

    >>> from fractions import Fraction
    >>> network = Network.from_edges({("x", "a"): Fraction(1, 2), ("a", "y"): Fraction(3)}, "relu", ["x"], ["y"])
    >>> [str(h) for h in forward(network, [Fraction(1, 3)]).h[:, 0]]
    ['1/3', '1/6', '1/2']
    """
    x = _columns(x, len(network.inputs), "x", "inputs")
    w = network.weights
    zero = x.flat[0] * 0 if x.size else 0
    z = np.full((len(network.units), x.shape[1]), zero, dtype=np.result_type(w, x))
    h = z.copy()
    h[list(network.inputs)] = x
    _activate(network, np.flatnonzero(network.depth == 0), z, h)
    for edges, starts, units in network.arrivals:
        z[units] = np.add.reduceat(w[edges, None] * h[network.source[edges]], starts)
        _activate(network, units, z, h)
    return Trace(z, h)


def outputs(network: Network, x: Array) -> Array:
    """Return the activations of the outputs, of shape (outputs, samples).

    Raises:
        ValueError: As `forward`.

    >>> outputs(Network.layered([[[1.0], [-1.0]], [[1.0, 1.0]]], "relu"), [[3.0, -2.0]]).tolist()
    [[3.0, 2.0]]
    """
    return forward(network, x).h[list(network.outputs)]


def backward(network: Network, trace: Trace, loss_gradient: Array) -> Array:
    """Return `δ(u) = ∂L/∂h(u) = [u an output] ∂ℓ/∂h(u) + Σ_v δ(v) f'_v(z(v)) w(u→v)`; shape (units, samples).

    Args:
        network: The network.
        trace: What `forward` returned.
        loss_gradient: `∂ℓ/∂h` at the outputs, of shape (outputs, samples).

    Raises:
        ValueError: The first axis of `loss_gradient` does not match the outputs.

    Source: JL25, section 2.

    >>> network = Network.layered([[[2.0]], [[3.0]]], "relu")
    >>> backward(network, forward(network, [[1.0, -1.0]]), [[1.0, 1.0]]).tolist()
    [[6.0, 0.0], [3.0, 3.0], [1.0, 1.0]]
    """
    seed = _columns(loss_gradient, len(network.outputs), "loss_gradient", "outputs")
    w, slopes = network.weights, slope(network, trace)
    delta = np.full(trace.h.shape, seed.flat[0] * 0, dtype=np.result_type(trace.h, seed))
    delta[list(network.outputs)] = seed
    for edges, starts, units in network.departures:
        target = network.target[edges]
        delta[units] += np.add.reduceat(w[edges, None] * (slopes[target] * delta[target]), starts)
    return delta


def slope(network: Network, trace: Trace) -> Array:
    """Return `f'_v(z(v))` of shape (units, samples); zero on inputs, which have no activation.

    >>> network = Network.layered([[[2.0]], [[3.0]]], "relu")
    >>> slope(network, forward(network, [[1.0, -1.0]])).tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    """
    slopes = trace.z * 0
    for activation, mask in network.units_by_activation:
        slopes[mask] = activation.slope(trace.z[mask])
    return slopes


def edge_gradient(network: Network, x: Array, loss_gradient: LossGradient | Array) -> Array:
    """Return `Σ_samples h(u) f'_v(z(v)) δ(v)` for every edge `u→v`, ties ignored; shape (edges,).

    Args:
        network: The network.
        x: Inputs of shape (inputs, samples).
        loss_gradient: `∂ℓ/∂h` at the outputs, or the function that gives it from the outputs.

    Raises:
        ValueError: As `forward` and `backward`.

    Source: JL25, section 2.

    >>> edge_gradient(Network.layered([[[2.0]], [[3.0]]], "relu"), [[1.0]], SquaredError([[5.0]]).gradient).tolist()
    [3.0, 2.0]
    """
    trace = forward(network, x)
    if callable(loss_gradient):
        loss_gradient = loss_gradient(trace.h[list(network.outputs)])
    delta = backward(network, trace, loss_gradient)
    local = slope(network, trace) * delta
    return np.add.reduce(trace.h[network.source] * local[network.target], axis=1)


def gradient(network: Network, x: Array, loss_gradient: LossGradient | Array) -> Array:
    """Return `∂L/∂θ` of shape (parameters,): the sum of the edge gradients over each class of tied edges.

    Arguments and errors as `edge_gradient`.

    >>> edges = {("x", "a"): 2.0, ("x", "b"): 2.0, ("a", "y"): 1.0, ("b", "y"): 3.0}
    >>> network = Network.from_edges(edges, "linear", ["x"], ["y"], tied={("x", "a"): "w", ("x", "b"): "w"})
    >>> gradient(network, [1.0], [1.0]).tolist()
    [4.0, 2.0, 2.0]
    """
    per_edge = edge_gradient(network, x, loss_gradient)
    total = np.full(len(network.parameters), per_edge.flat[0] * 0 if per_edge.size else 0, dtype=per_edge.dtype)
    np.add.at(total, network.tie, per_edge)
    return total


@dataclass(frozen=True)
class SquaredError:
    """The loss `½ Σ (h − y)²` over outputs and samples, with `y` of shape (outputs, samples).

    >>> goal, h = SquaredError(np.array([[1.0, 2.0]])), np.array([[3.0, 2.0]])
    >>> float(goal(h)), goal.gradient(h).tolist()
    (2.0, [[2.0, 0.0]])
    """

    y: Array

    def __call__(self, h: Array) -> Any:
        """Return the loss at outputs of shape (outputs, samples)."""
        return ((h - self.y) ** 2).sum() / 2

    def gradient(self, h: Array) -> Array:
        """Return `h − y`."""
        return np.asarray(h - self.y)

    def magnitude(self) -> Magnitude:
        """Return the loss whose gradient is `|h| + |y|`: what rounding of `h − y` is measured against."""
        return Magnitude(self.y)

    def hessian_vector(self, h: Array, direction: Array) -> Array:
        """Return the second derivative at `h` times a direction, both of shape (outputs, samples)."""
        return direction


class Magnitude(SquaredError):
    """A squared error without cancellation, to bound the rounding errors of one with.

    >>> SquaredError([[1.0]]).magnitude().gradient([[-1.0]]).tolist()
    [[2.0]]
    """

    def gradient(self, h: Array) -> Array:
        """Return `|h| + |y|`."""
        return np.asarray(np.abs(h) + np.abs(self.y))


def loss(network: Network, x: Array, criterion: SquaredError) -> Any:
    """Return the value of `criterion` at the outputs of the network.

    Raises:
        ValueError: As `forward`.

    >>> float(loss(Network.layered([[[2.0]], [[3.0]]], "relu"), [[1.0]], SquaredError([[5.0]])))
    0.5
    """
    return criterion(outputs(network, x))


def longest_paths(source: Array, target: Array, units: int) -> Array:
    """Return the number of edges on the longest path that ends at each unit, in O(edges · depth).

    Args:
        source, target: Ends of the edges, int64 of shape (edges,).
        units: How many units there are.

    Returns:
        int64 of shape (units,).

    Raises:
        ValueError: The graph has a cycle; the message names no units, `Network` does.

    >>> longest_paths(np.array([0, 0, 1]), np.array([1, 2, 2]), 3).tolist()
    [0, 1, 2]
    """
    depth = np.zeros(units, dtype=np.int64)
    waiting = np.bincount(target, minlength=units)
    order = np.argsort(source, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=units))])
    ready, level, seen = np.flatnonzero(waiting == 0), 0, 0
    while ready.size:
        depth[ready], seen, level = level, seen + ready.size, level + 1
        reached = target[order[slices(first[ready], first[ready + 1])]]
        np.subtract.at(waiting, reached, 1)
        reached = np.unique(reached)
        ready = reached[waiting[reached] == 0]
    if seen < units:
        raise ValueError("the graph has a cycle")
    return depth


def slices(starts: Array, ends: Array) -> Array:
    """Return the concatenation of `range(start, end)` over all pairs, as int64.

    >>> slices(np.array([0, 7]), np.array([3, 9])).tolist()
    [0, 1, 2, 7, 8]
    """
    lengths = ends - starts
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return offsets + np.arange(int(lengths.sum()))


def as_scalars(values: Any) -> Array:
    """Return a float64 array of real numbers, or an object array of exact scalars.

    Raises:
        ValueError: An array holds complex numbers or texts.

    >>> from fractions import Fraction
    >>> as_scalars([1, 2.5]).dtype, as_scalars([1, Fraction(1, 3)]).dtype
    (dtype('float64'), dtype('O'))
    """
    array = values if isinstance(values, np.ndarray) else np.array(list(values), dtype=object)
    if array.dtype.kind not in "biufO":
        raise ValueError(f"weights of type {array.dtype} are no real numbers; give floats or exact scalars")
    if array.dtype != object:
        return array.astype(np.float64)
    if all(isinstance(v, (float, int, np.number)) for v in array.flat):
        return array.astype(np.float64)
    return array


def _activate(network: Network, units: Array, z: Array, h: Array) -> None:
    for activation, mask in network.units_by_activation:
        chosen = units[mask[units]]
        if chosen.size:
            h[chosen] = activation.value(z[chosen])


def _levels(end: Array, depth: Array) -> tuple[Level, ...]:
    """Group edges by the depth of `end`, and within a group by `end` itself."""
    order = np.lexsort((end, depth[end]))
    bounds = np.flatnonzero(np.diff(depth[end[order]], prepend=-1, append=-1))
    return tuple(_level(order[a:b], end) for a, b in pairwise(bounds))


def _level(edges: Array, end: Array) -> Level:
    ends = end[edges]  # sorted
    starts = np.flatnonzero(np.concatenate([[True], ends[1:] != ends[:-1]]))
    return Level(edges, starts, ends[starts])


def _columns(values: Array, rows: int, name: str, what: str) -> Array:
    values = np.asarray(values)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[0] != rows:
        raise ValueError(
            f"{name} has shape {values.shape}; the network has {rows} {what}, so give ({rows}, samples)"
        )
    return values


def _matched_weights(
    edges: Mapping[Edge, Any] | Iterable[Edge], weights: Mapping[Edge, Any] | None
) -> dict[Edge, Any]:
    if isinstance(edges, Mapping):
        if weights is not None:
            raise ValueError("weights are given twice: in the mapping `edges` and in `weights`; drop one")
        return dict(edges)
    known, weights = list(edges), weights or {}
    distinct = set(known)
    repeated = (
        [edge for edge in dict.fromkeys(known) if known.count(edge) > 1] if len(distinct) < len(known) else []
    )
    if repeated:
        raise ValueError(f"edge {repeated[0]} is listed more than once; give it once, with the summed weight")
    stray = [edge for edge in weights if edge not in distinct]
    if stray:
        raise ValueError(f"weights has an entry for {stray[0]}, which is no edge; add the edge or drop the weight")
    bare = [edge for edge in known if edge not in weights]
    if bare:
        raise ValueError(f"edge {bare[0]} has no weight; give one in `weights`")
    return {edge: weights[edge] for edge in known}


def _check_distinct(name: str, units: Sequence[Unit]) -> None:
    if isinstance(units, str) or not units:
        raise ValueError(f"{name} = {units!r}; give a list with at least one unit")
    if len(set(units)) < len(units):
        raise ValueError(f"{name} = {list(units)} repeats a unit")


def _tie(weights: dict[Edge, Any], tied: Mapping[Edge, Hashable]) -> tuple[Array, list[Any]]:
    stray = [edge for edge in tied if edge not in weights]
    if stray:
        raise ValueError(f"tied has an entry for {stray[0]}, which is no edge")
    slot: dict[Hashable, int] = {}
    parameters: list[Any] = []
    tie = np.empty(len(weights), dtype=np.int64)
    for e, (edge, weight) in enumerate(weights.items()):
        key = ("tied", tied[edge]) if edge in tied else ("edge", edge)
        if key not in slot:
            slot[key] = len(parameters)
            parameters.append(weight)
        elif parameters[slot[key]] != weight:
            known = parameters[slot[key]]
            raise ValueError(f"edge {edge} is tied to {tied[edge]!r} but has weight {weight}, not {known}")
        tie[e] = slot[key]
    return tie, parameters


def _activations_of(
    units: tuple[Unit, ...],
    activations: Mapping[Unit, str | Activation] | str | Activation,
    inputs: Sequence[Unit],
) -> tuple[Activation | None, ...]:
    if not isinstance(activations, Mapping):
        one = get(activations)
        given = set(inputs)
        return tuple(None if u in given else one for u in units)
    known, given = set(units), set(inputs)
    stray = [u for u in activations if u not in known]
    if stray:
        raise ValueError(f"activations names {stray[0]!r}, which is no unit of the network")
    missing = [u for u in units if u not in activations and u not in given]
    if missing:
        raise ValueError(f"unit {missing[0]!r} has no activation; add it to `activations` or to `inputs`")
    return tuple(None if u in given else get(activations[u]) for u in units)


def _widths(matrices: Sequence[Array]) -> list[int]:
    for k, (a, b) in enumerate(pairwise(matrices)):
        if a.shape[0] != b.shape[1]:
            raise ValueError(
                f"matrices[{k}] has {a.shape[0]} targets but matrices[{k + 1}] has {b.shape[1]} sources"
            )
    return [matrices[0].shape[1], *(m.shape[0] for m in matrices)]


def _check_biases(biases: Sequence[Array], widths: list[int]) -> None:
    found = [len(b) for b in biases]
    if found != widths[1:]:
        raise ValueError(f"biases have lengths {found}; the layers have {widths[1:]} units")


def _check_activations(network: Network) -> None:
    by_name: dict[str, Activation] = {}
    for f in network.activations:
        if f is not None and by_name.setdefault(f.name, f) != f:
            raise ValueError(
                f"two activations are named {f.name!r}; units of one name are taken for equal, so rename one"
            )


def _check_ends(network: Network) -> None:
    into = np.isin(network.target, np.array(network.inputs, dtype=np.int64))
    if into.any():
        e = int(np.flatnonzero(into)[0])
        edge = (network.units[network.source[e]], network.units[network.target[e]])
        raise ValueError(f"edge {edge} arrives at an input; inputs take their values from the data")
    inputs = set(network.inputs)
    bare = [network.units[i] for i, f in enumerate(network.activations) if f is None and i not in inputs]
    if bare:
        raise ValueError(f"unit {bare[0]!r} has no activation")


def _check_finite(network: Network) -> None:
    finite = _finite(network.parameters)
    if not finite.all():
        p = int(np.flatnonzero(~finite)[0])
        e = int(np.flatnonzero(network.tie == p)[0])
        edge = (network.units[network.source[e]], network.units[network.target[e]])
        raise ValueError(f"the weight of edge {edge} is {network.parameters[p]}; weights must be finite")


def _finite(parameters: Array) -> Array:
    if parameters.dtype != object:
        return np.isfinite(parameters)
    return np.array([_is_finite(p) for p in parameters], dtype=bool)


def _is_finite(scalar: Any) -> bool:
    """Tell whether a scalar is finite; a symbolic one counts as finite unless SymPy knows better."""
    if scalar is None or isinstance(scalar, (str, bytes, complex)):
        return False
    verdict = getattr(scalar, "is_finite", True)
    if callable(verdict):
        return bool(verdict())
    if isinstance(scalar, (float, np.floating)):
        return bool(np.isfinite(scalar))
    return verdict is not False


def _depths(network: Network) -> Array:
    try:
        return longest_paths(network.source, network.target, len(network.units))
    except ValueError:
        graph = networkx.DiGraph(list(zip(network.source.tolist(), network.target.tolist(), strict=True)))
        cycle = [network.units[u] for u, _ in networkx.find_cycle(graph)]
        path = " → ".join(map(str, [*cycle, cycle[0]]))
        raise ValueError(f"the graph has a cycle, {path}; remove one of its edges") from None
