"""Second derivatives of the loss of a network: Hessian-vector products on any scalar, and dense Hessians.

Forward over backward (Pearlmutter 1994): both passes are differentiated along a direction `θ̇` of the parameters,

    ż(v) = Σ_u ẇ h(u) + w ḣ(u),      ḣ(v) = f'(z) ż(v),
    δ̇(u) = Σ_v ẇ g(v) + w ġ(v),      g = f'(z) δ,   ġ = f''(z) ż δ + f'(z) δ̇,

and the product has the entry `Σ_samples ḣ(u) g(v) + h(u) ġ(v)` for the edge `u→v`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from theory.derivatives import derivative
from theory.edge_loops import two_products, two_sums
from theory.network import Network, SquaredError, Trace, backward, forward, slope

Array = np.ndarray[Any, Any]


def second_slope(network: Network, trace: Trace) -> Array:
    """Return `f''_v(z(v))` of shape (units, samples), between the kinks; zero on inputs.

    Raises:
        ValueError: An activation has no known second derivative (a callable).

    >>> network = Network.layered([[[2.0]], [[1.0]]], "square", output="linear")
    >>> second_slope(network, forward(network, [[3.0]])).tolist()
    [[0.0], [2.0], [0.0]]
    """
    values = trace.z * 0
    for activation, mask in network.units_by_activation:
        if activation.name != "one":
            values[mask] = derivative(activation, 2).regular.value(trace.z[mask])
    return values


def hessian_vector(network: Network, x: Array, criterion: SquaredError, vector: Array) -> Array:
    """Return `∇²L(θ) · vector` of shape (parameters,).

    Where a unit sits on a kink the one-sided second derivative counts; almost every network has no such unit. Costs
    about four passes, `O(edges · samples)` in time and memory.

    Args:
        network: The network; its scalars decide the arithmetic.
        x: Inputs of shape (inputs, samples).
        criterion: The loss.
        vector: The direction, shape (parameters,).

    Raises:
        ValueError: `vector` has the wrong length, or an activation has no known second derivative.

    Source: Pearlmutter 1994.

    >>> network, goal = Network.layered([[[2.0]], [[1.0]]], "linear"), SquaredError(np.array([[0.0]]))
    >>> hessian_vector(network, [[1.0]], goal, [1.0, 0.0]).tolist()  # of (w₂ w₁)²/2
    [1.0, 4.0]
    """
    return Curvature(network, x, criterion).times(vector)


def hessian(network: Network, x: Array, criterion: SquaredError) -> Array:
    """Return the Hessian of the loss, shape (parameters, parameters), one product a column.

    Arguments and errors as `hessian_vector`.

    >>> network, goal = Network.layered([[[2.0]], [[1.0]]], "linear"), SquaredError(np.array([[0.0]]))
    >>> hessian(network, [[1.0]], goal).tolist()
    [[1.0, 4.0], [4.0, 4.0]]
    """
    curvature, unit = Curvature(network, x, criterion), np.eye(len(network.parameters), dtype=np.int64)
    one = network.parameters.flat[0] * 0 + 1
    return np.stack([curvature.times(column * one) for column in unit], axis=1)


class Curvature:
    """The Hessian of the loss at one point as an operator: what does not depend on the direction is kept.

    Arguments as `hessian_vector`, but for the direction.

    Attributes:
        trace: Of the forward pass.
        slope, second: `f'` and `f''` at the pre-activations, shape (units, samples).
        delta, local: `δ` and `f' δ`, shape (units, samples).

    >>> network, goal = Network.layered([[[2.0]], [[1.0]]], "linear"), SquaredError(np.array([[0.0]]))
    >>> Curvature(network, [[1.0]], goal).times([0.0, 1.0]).tolist()
    [4.0, 4.0]
    """

    def __init__(self, network: Network, x: Array, criterion: SquaredError) -> None:
        self.network, self.criterion = network, criterion
        self.trace = forward(network, x)
        self.slope, self.second = slope(network, self.trace), second_slope(network, self.trace)
        self.delta = backward(network, self.trace, criterion.gradient(self.trace.h[list(network.outputs)]))
        self.local = self.slope * self.delta

    @property
    def on_kinks(self) -> int:
        """How many pairs of a unit and a sample lie exactly on a kink, where there is no second derivative."""
        masks = self.network.units_by_activation
        return sum(
            int(np.isin(self.trace.z[mask].astype(float), phi.kinks).sum()) for phi, mask in masks if phi.kinks
        )

    def times(self, vector: Array) -> Array:
        """Return the product with a vector of shape (parameters,).

        Raises:
            ValueError: Its length is another.
        """
        if np.shape(vector) != self.network.parameters.shape:
            raise ValueError(
                f"vector has shape {np.shape(vector)}; the network has {len(self.network.parameters)} parameters"
            )
        v = np.asarray(vector)[self.network.tie]
        dz, dh = self._forward(v)
        dlocal = self._backward(v, dz, dh)
        per_edge = _per_edge(self.network, dh, self.local, self.trace.h, dlocal)
        total = np.full(len(self.network.parameters), per_edge.flat[0] * 0, dtype=per_edge.dtype)
        np.add.at(total, self.network.tie, per_edge)
        return total

    def _forward(self, v: Array) -> tuple[Array, Array]:
        """Return `ż` and `ḣ`."""
        network, h, w = self.network, self.trace.h, self.network.weights
        dz, dh = h * 0, h * 0
        for edges, starts, units in network.arrivals:
            dz[units] = _per_unit(edges, starts, network.source, (v, h), (w, dh))
            dh[units] = self.slope[units] * dz[units]
        return dz, dh

    def _backward(self, v: Array, dz: Array, dh: Array) -> Array:
        """Return `ġ`."""
        network, w = self.network, self.network.weights
        out = list(network.outputs)
        ddelta = self.delta * 0
        ddelta[out] = self.criterion.hessian_vector(self.trace.h[out], dh[out])
        bend = self.second * dz * self.delta
        dlocal = bend + self.slope * ddelta
        for edges, starts, units in network.departures:
            ddelta[units] += _per_unit(edges, starts, network.target, (v, self.local), (w, dlocal))
            dlocal[units] = bend[units] + self.slope[units] * ddelta[units]
        return np.asarray(dlocal)


def _per_unit(
    edges: Array, starts: Array, ends: Array, one: tuple[Array, Array], other: tuple[Array, Array]
) -> Array:
    """Return `Σ v a + w b` over the edges of each unit of a level, for `one = (v, a)`, `other = (w, b)`."""
    (v, a), (w, b) = one, other
    if v.dtype == w.dtype == a.dtype == b.dtype == np.float64:
        out = np.empty((len(starts), a.shape[1]))
        two_sums(edges, starts, ends, v, a, w, b, out)
        return out
    end = ends[edges]
    return np.asarray(np.add.reduceat(v[edges, None] * a[end] + w[edges, None] * b[end], starts))


def _per_edge(network: Network, a: Array, b: Array, c: Array, d: Array) -> Array:
    """Return `Σ_samples a(u) b(v) + c(u) d(v)` for every edge `u→v`."""
    if a.dtype == b.dtype == c.dtype == d.dtype == np.float64:
        return np.asarray(two_products(network.source, network.target, a, b, c, d))
    source, target = network.source, network.target
    return np.asarray(np.add.reduce(a[source] * b[target] + c[source] * d[target], axis=1))
