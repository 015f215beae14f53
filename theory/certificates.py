"""Certificates: which units are trapped, by which inequality, and for how long.

A frozen unit is certified in one of three ways, from firm to weak, and the three are never mixed up:
`sign` needs neither data nor bounds, `interval` needs a box of inputs, `observed` speaks of given samples alone.
"""

from __future__ import annotations

import numbers
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import flint
import numpy as np
import sympy

from theory.activations import Activation
from theory.firmness import Firmness as Firmness
from theory.manifolds import (
    Manifold,
    cloned_manifold,
    column_residual,
    is_pattern_equitable,
    row_residual,
)
from theory.network import Network, forward
from theory.partitions import Partition, coarsest_equitable_partition

Array = np.ndarray[Any, Any]
INFINITY = float("inf")


@dataclass(frozen=True)
class FrozenCertificate:
    """Evidence that a unit's derivative is zero, so that its in-edges get no gradient.

    Attributes:
        unit: Name of the unit.
        reason: Kind of evidence, see `Firmness`.
        inequality: The inequality that was checked, with its numbers.
        validity: For which inputs and for which movements of the weights it holds.
        radius: Every weight upstream of the unit, its in-edges included, may move by at most this much, all at
            once, before the certificate ends; for `sign` the upstream weights may move without bound, and the
            radius is infinite as long as the in-edges keep their signs; for `observed` it is zero.
    """

    unit: Hashable
    reason: Firmness
    inequality: str
    validity: str
    radius: float


@dataclass(frozen=True)
class CloneCertificate:
    """Evidence that a network lies on a cloned manifold, on which gradients keep it.

    Attributes:
        partition: The coarsest partition with equitable weights and equitable edge pattern.
        blocks: Names of the units of each block with at least two.
        row_residual, column_residual: Largest difference of block sums within a block.
        tol: How far block sums were allowed to differ.
        manifold: `M_C` through the network, or `None` if every block is a single unit, or if block sums spread
            further than `tol` within a block.
        inequality: The inequality that was checked, with its numbers.
        validity: Which movements of the weights keep the certificate.
    """

    partition: Partition
    blocks: tuple[tuple[Hashable, ...], ...]
    row_residual: Any
    column_residual: Any
    tol: float
    manifold: Manifold | None
    inequality: str
    validity: str

    @property
    def free_fraction(self) -> float:
        """The dimension of the manifold divided by the number of parameters; 1 if nothing is trapped."""
        if self.manifold is None:
            return 1.0
        return self.manifold.dimension / len(self.manifold.base)


def certify_frozen(
    network: Network, *, box: Array | None = None, samples: Array | None = None, nonnegative_inputs: bool = False
) -> tuple[FrozenCertificate, ...]:
    """Return a certificate for every unit that can be shown to be frozen, each by the firmest reason that applies.

    `sign` (claim F2b): the unit is flat on `(−∞, 0]`, its inputs cannot be negative, and its in-weights are not
    positive, so `z(v) = Σ w h ≤ 0` whatever the data and the weights upstream.
    `interval` (claim F2c): balls over the box and all weights within the radius enclose `z(v)` where the
    activation is flat; about real arithmetic, which a float forward pass follows up to rounding.
    `observed` (claim F1): `f'_v(z(v)) = 0` on every given sample.

    Args:
        network: Weights are float64 or rational.
        box: Lower and upper bounds of the inputs, shape (inputs, 2); needed for `interval`.
        samples: Inputs of shape (inputs, samples); needed for `observed`.
        nonnegative_inputs: Whether the data promise `x ≥ 0`, which `sign` may use.

    Raises:
        ValueError: `box` or `samples` has the wrong shape, a lower bound exceeds its upper bound, or a sample is
            missing, NaN or infinite.

    >>> network = Network.layered([[[-1.0], [1.0]], [[1.0, 1.0]]], "relu")
    >>> [(c.unit, c.reason.value, c.radius) for c in certify_frozen(network, nonnegative_inputs=True)]
    [((1, 0), 'sign', inf)]
    """
    found: dict[int, FrozenCertificate] = {}
    if samples is not None:
        found |= _observed(network, np.asarray(samples))
    if box is not None:
        found |= _interval(network, _checked_box(network, np.asarray(box)))
    found |= _sign(network, nonnegative_inputs)
    return tuple(_with_ties(network, unit, found[unit]) for unit in sorted(found))


def _with_ties(network: Network, unit: int, certificate: FrozenCertificate) -> FrozenCertificate:
    """Say so if a weight into the unit is shared with another unit, through which it goes on learning."""
    into = network.target == unit
    if not np.isin(network.tie[~into], network.tie[into]).any():
        return certificate
    return replace(
        certificate, validity=certificate.validity + "; weights shared with other units still learn there"
    )


def certify_cloned(network: Network, tol: float = 0) -> CloneCertificate:
    """Return the cloned manifold that the network lies on, as the coarsest partition shows it (claims C3, C6, C11).

    Args:
        network: Weights are float64 or rational.
        tol: How far block sums may differ and still count as equal; 0 compares exactly.

    Raises:
        ValueError: `tol` is negative; or weights are tied across positions in a way that the partition does not
            respect, and no manifold follows.

    >>> certificate = certify_cloned(Network.layered([[[1.0], [1.0]], [[2.0, 2.0]]], "relu"))
    >>> certificate.blocks, certificate.free_fraction
    ((((1, 0), (1, 1)),), 0.5)
    """
    partition = coarsest_equitable_partition(network, tol, pattern=True)
    rows, columns = row_residual(network, partition), column_residual(network, partition)
    blocks = tuple(tuple(block) for block in partition.named(network) if len(block) > 1)
    if blocks and not is_pattern_equitable(network, partition):
        raise ValueError("the tied weights are not spread evenly over the blocks; certify the untied network")
    spread = max(rows, columns)
    on_manifold = bool(blocks) and (tol == 0 or spread <= tol)
    manifold = cloned_manifold(network, partition, spread) if on_manifold else None
    inequality = f"max |Δ row sums| = {float(rows):.3g}, max |Δ column sums| = {float(columns):.3g}, tol = {tol}"
    return CloneCertificate(
        partition, blocks, rows, columns, tol, manifold, inequality, _clone_validity(blocks, manifold)
    )


def sees_only_nonnegative(network: Network, nonnegative_inputs: bool = False) -> Array:
    """Return, for each unit, whether all units that feed it are known to be non-negative; bool, shape (units,).

    >>> network = Network.layered([[[1.0]], [[1.0]], [[1.0]]], "relu")
    >>> sees_only_nonnegative(network).tolist()
    [True, False, True, True]
    """
    negative = np.array([not _is_nonnegative(f, nonnegative_inputs) for f in network.activations])
    return np.bincount(network.target, weights=negative[network.source], minlength=len(network.units)) == 0


def preactivation_balls(network: Network, box: Array, radius: float = 0) -> Array:
    """Return Arb balls that contain `z(v)` for all inputs in the box and all weights within `radius` of theirs.

    Args:
        network: Weights are float64 or rational.
        box: Lower and upper bounds of the inputs, shape (inputs, 2).
        radius: Bound on the movement of every single weight.

    Returns:
        Balls of shape (units,).

    Raises:
        TypeError: A weight or a bound is neither a float nor a rational.

    >>> z = preactivation_balls(Network.layered([[[2.0]]], "linear"), [[-1, 1]])[1]
    >>> z.contains(2), z.contains(3)
    (True, False)
    """
    balls = np.array([_widened(_ball(w), radius) for w in network.parameters], dtype=object)
    x = np.array([_ball(low).union(_ball(high)) for low, high in box], dtype=object)
    return forward(network.with_parameters(balls), x).z[:, 0]


def _is_nonnegative(activation: Activation | None, nonnegative_inputs: bool) -> bool:
    return nonnegative_inputs if activation is None else activation.range[0] >= 0


def _dies_below_zero(activation: Activation | None) -> bool:
    return activation is not None and any(low == -INFINITY and high >= 0 for low, high in activation.flat)


def _sign(network: Network, nonnegative_inputs: bool) -> dict[int, FrozenCertificate]:
    positive = ~np.asarray(network.weights <= 0, dtype=bool)
    some_positive = np.bincount(network.target, weights=positive, minlength=len(network.units)) > 0
    candidates = sees_only_nonnegative(network, nonnegative_inputs) & ~some_positive & (network.depth > 0)
    return {
        int(v): _sign_certificate(network, int(v))
        for v in np.flatnonzero(candidates)
        if _dies_below_zero(network.activations[v])
    }


def _sign_certificate(network: Network, unit: int) -> FrozenCertificate:
    largest = max(network.weights[network.target == unit])
    return FrozenCertificate(
        network.units[unit],
        Firmness.SIGN,
        f"z = Σ w h ≤ 0: every h ≥ 0 and the largest in-weight is {float(largest):.3g} ≤ 0",
        "every input and every weight upstream; as long as no in-weight becomes positive",
        INFINITY,
    )


def _interval(network: Network, box: Array) -> dict[int, FrozenCertificate]:
    z = preactivation_balls(network, box)
    flat = [
        v for v, f in enumerate(network.activations) if f and f.flat and network.depth[v] > 0 and _is_flat(f, z[v])
    ]
    return {v: _interval_certificate(network, box, v, z[v]) for v in flat}


def _interval_certificate(network: Network, box: Array, unit: int, ball: Any) -> FrozenCertificate:
    low, high = float(ball.lower()), float(ball.upper())
    radius = _largest_radius(network, box, unit)
    return FrozenCertificate(
        network.units[unit],
        Firmness.INTERVAL,
        f"z ∈ [{low:.6g}, {high:.6g}], where the activation is flat",
        f"inputs in the box; each upstream weight and in-weight within {radius!r} of its value",
        radius,
    )


def _largest_radius(network: Network, box: Array, unit: int, steps: int = 40) -> float:
    """Return a radius at which the certificate still holds, by bisection; Arb radii carry about nine digits."""
    activation = network.activations[unit]
    assert activation is not None

    def holds(radius: float) -> bool:
        return _is_flat(activation, preactivation_balls(network, box, radius)[unit])

    low, high = 0.0, 1.0
    while holds(high) and high < 2.0**60:  # where no weight ends it, none within float64's reach matters
        low, high = high, 2 * high
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _is_flat(activation: Activation, ball: Any) -> bool:
    """Tell whether a flat interval certainly contains the ball; no answer counts as no."""
    return bool(ball.is_finite()) and any(
        (low == -INFINITY or ball >= low) and (high == INFINITY or ball <= high) for low, high in activation.flat
    )


def _observed(network: Network, samples: Array) -> dict[int, FrozenCertificate]:
    if samples.size == 0 or (samples.dtype != object and not np.isfinite(samples).all()):
        raise ValueError("samples are empty or hold NaN or infinity; give at least one, all of them finite")
    z = forward(network, samples).z
    dead = {
        v: z[v]
        for v, f in enumerate(network.activations)
        if f and f.name != "one" and network.depth[v] > 0 and bool(np.all(f.slope(z[v]) == 0))
    }
    return {v: _observed_certificate(network, v, values) for v, values in dead.items()}


def _observed_certificate(network: Network, unit: int, z: Array) -> FrozenCertificate:
    return FrozenCertificate(
        network.units[unit],
        Firmness.OBSERVED,
        f"f'(z) = 0 on all {len(z)} samples, z ∈ [{float(min(z)):.6g}, {float(max(z)):.6g}]",
        "these samples and these weights alone",
        0.0,
    )


def _clone_validity(blocks: tuple[tuple[Hashable, ...], ...], manifold: Manifold | None) -> str:
    if not blocks:
        return "no block has two units; nothing is trapped"
    if manifold is None:
        return "none: steps of tol link block sums that lie further apart than tol; choose a smaller tol"
    return (
        f"every movement within the {manifold.dimension}-dimensional manifold; "
        f"none of the {manifold.codimension} directions normal to it"
    )


def _checked_box(network: Network, box: Array) -> Array:
    if box.shape != (len(network.inputs), 2):
        raise ValueError(f"box has shape {box.shape}; give lower and upper bounds, ({len(network.inputs)}, 2)")
    wrong = [k for k, (low, high) in enumerate(box) if not low <= high]
    if wrong:
        raise ValueError(f"box[{wrong[0]}] = {box[wrong[0]].tolist()} is empty; the lower bound comes first")
    return box


def _ball(value: Any) -> Any:
    """Return the ball of a float or a rational, exactly or enclosed."""
    if isinstance(value, (float, np.floating)):
        return flint.arb(float(value))
    if isinstance(value, (numbers.Rational, sympy.Rational)):
        return flint.arb(flint.fmpq(int(value.numerator), int(value.denominator)))
    raise TypeError(f"{value!r} is neither a float nor a rational number; certificates take no other scalars")


def _widened(ball: Any, radius: float) -> Any:
    return ball + flint.arb(0, radius) if radius else ball
