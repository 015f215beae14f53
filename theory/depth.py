"""Correlations in deep networks: the map `ρ ↦ K(ρ)` iterated, layer by layer, at infinite width.

Standardised, `|K(ρ)| ≤ (c₁² + (1 − c₁²)|ρ|) |ρ|`: every correlation inside (−1, 1) is lost. As the activation is
(`"raw"`), the map `E φ(X) φ(Y)/E φ²` is convex and increasing on [0, 1] with the fixed point 1, so that the slope
there, `E φ'²/E φ²`, decides: up to 1 it attracts everything, beyond 1 there is exactly one fixed point `c*` below
1, and that one attracts (Poole et al. 2016, Schoenholz et al. 2017; here for any activation and all starts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import flint
import numpy as np
from flint import arb
from scipy import optimize

from theory.activations import Activation, AnyActivation, get, moments, standardise
from theory.enclosures import GUARD, dual_kernel_enclosure
from theory.kernels import checked_correlations, dual_kernel, dual_kernel_derivative
from theory.scalars import reals
from theory.strength import kink_coefficient
from theory.tolerances import CRITICAL, FIXED_POINT, ROOT

Array = np.ndarray[Any, Any]
Normalisation = Literal["standardised", "raw"]


@dataclass(frozen=True)
class FixedPoint:
    """A correlation that the map keeps, with the map's slope there, possibly infinite.

    It attracts if `|rate| < 1`; a slope of 1 at the fixed point 1 attracts from below, as the map is convex.

    >>> FixedPoint(0.5, -0.25).attracts, FixedPoint(1.0, 1.5).attracts
    (True, False)
    """

    value: float
    rate: float

    @property
    def attracts(self) -> bool:
        """Whether correlations near by (and inside (−1, 1)) come closer."""
        return abs(self.rate) <= 1 + CRITICAL


def correlation_map(phi: AnyActivation, rho: Any, *, normalisation: Normalisation = "standardised") -> Any:
    """Return the correlation after one layer: `K(ρ)`, or raw the cosine `E φ(X) φ(Y)/E φ²` between two activations.

    Args:
        phi: An activation, its name, or a callable without kinks.
        rho: Correlations in [−1, 1], of any shape.
        normalisation: `"standardised"`, or `"raw"`: neither centred nor scaled, but for the cosine.

    Raises:
        TypeError, ValueError: As `dual_kernel`; or `normalisation` is unknown, or the activation vanishes.

    >>> correlation_map("square", 0.5), correlation_map("square", 0.0, normalisation="raw")
    (0.25, 0.3333333333333333)
    """
    _check(normalisation)
    if normalisation == "standardised":
        return dual_kernel(phi, rho)
    size = dual_kernel(phi, 1.0, standardised=False)
    if size == 0:
        raise ValueError(f"the activation {get(phi).name!r} vanishes, so that its correlations are not defined")
    cosine = np.clip(dual_kernel(phi, rho, standardised=False) / size, -1, 1)
    return cosine if np.ndim(rho) else float(cosine)


def correlation_flow(
    phi: AnyActivation, rho: Any, depth: int, *, normalisation: Normalisation = "standardised"
) -> Array:
    """Return the correlations of the layers 0 to `depth`, from `ρ` on: `ρ_{l+1} = K(ρ_l)`.

    Args:
        phi: An activation, its name, or a callable without kinks.
        rho: Correlations of the inputs, of any shape.
        depth: How many layers, ≥ 0.
        normalisation: `"standardised"`, or `"raw"`: neither centred nor scaled, but for the cosine.

    Returns:
        float64 of shape (depth + 1, *shape of rho).

    Raises:
        ValueError: The depth is negative or no integer; a correlation is NaN or beyond ±1; or as `correlation_map`.

    >>> correlation_flow("square", 0.5, 3).tolist()
    [0.5, 0.25, 0.0625, 0.00390625]
    """
    if not isinstance(depth, (int, np.integer)) or depth < 0:
        raise ValueError(f"depth is {depth!r}; allowed are integers depth ≥ 0")
    flow = [checked_correlations(rho).reshape(np.shape(rho))]
    for _ in range(depth):
        flow.append(np.asarray(correlation_map(phi, flow[-1], normalisation=normalisation)))
    return np.array(flow)


iterate = correlation_flow


def fixed_points(phi: AnyActivation, *, normalisation: Normalisation = "standardised") -> tuple[FixedPoint, ...]:
    """Return all fixed points of the correlation map in [−1, 1], ascending.

    There is 1; there is `c*` in [0, 1) if the slope at 1 exceeds 1, found to about 1e-12; there is −1 if the
    activation is odd (standardised: up to a constant). A negative one inside (−1, 0) is impossible:
    `K(−r) + r ≥ c₀² + r (1 − Σ_{k odd} c_k²)`.

    Raises:
        ValueError: The map is the identity (a linear activation), or as `correlation_map`.

    >>> [(p.value, round(p.rate, 6)) for p in fixed_points("tanh")]
    [(-1.0, 1.177807), (0.0, 0.93047), (1.0, 1.177807)]
    """
    phi = get(phi)
    slope = slope_at_one(phi, normalisation)
    points = [FixedPoint(1.0, slope)]
    if slope > 1 + CRITICAL:
        inner = _inner(phi, normalisation)
        points.append(FixedPoint(inner, _slope(phi, inner, normalisation)))
    elif abs(correlation_map(phi, 0.0, normalisation=normalisation)) < CRITICAL:
        raise ValueError(f"the activation {phi.name!r} is linear: it keeps every correlation")
    if correlation_map(phi, -1.0, normalisation=normalisation) <= -1 + CRITICAL:
        points.append(FixedPoint(-1.0, slope))
    return tuple(sorted(points, key=lambda point: point.value))


def limit(phi: AnyActivation, rho: float, *, normalisation: Normalisation = "standardised") -> float:
    """Return where the correlations that start at `ρ` end.

    All starts in (−1, 1) end at one point; 1 stays; −1 stays if the activation is odd, goes to 1 at once if it is
    even (standardised: up to a constant), and with the others if it is neither.

    Raises:
        ValueError: `ρ` is no correlation; or as `fixed_points`.

    >>> limit("tanh", 0.9), limit("relu", 0.0, normalisation="raw")
    (0.0, 1.0)
    """
    points, phi = fixed_points(phi, normalisation=normalisation), get(phi)
    after = correlation_map(phi, rho, normalisation=normalisation)
    if abs(rho) == 1 and abs(after) >= 1 - CRITICAL:
        return float(round(after))
    return next(point.value for point in points if point.attracts and point.value >= 0)


def slope_at_one(phi: AnyActivation, normalisation: Normalisation = "standardised") -> float:
    """Return `K'(1) = Σ_k k c_k² / Σ_k c_k²`, infinite where the activation jumps; raw it is `1 + α`.

    Raises:
        ValueError: As `correlation_map`.

    >>> slope_at_one("square"), slope_at_one("relu", "raw")
    (2.0, 1.0)
    """
    _check(normalisation)
    phi = get(phi)
    if normalisation == "standardised":
        phi = standardise(phi).origin or phi
    given = moments(phi.origin or phi)
    size = given.variance if normalisation == "standardised" else given.square
    if size == 0:
        raise ValueError(f"the activation {phi.name!r} vanishes, so that its correlations are not defined")
    return given.slope_square / size


def fixed_point_enclosure(phi: AnyActivation, radius: float = FIXED_POINT, prec: int = 64) -> arb:
    """Return a ball that contains the one fixed point of the raw map in [0, 1).

    `K(ρ) − ρ K(1)` is convex with a zero at 1, so that a positive value at `l` and a negative one at `h > l`
    enclose its only other zero; both signs are those of balls.

    Raises:
        ValueError: The float fixed point is not below 1, or nearer to 1 than `radius`; or the signs are not
            certain: raise `radius` or `prec`.

    Args:
        phi: A named activation, or one made from those.
        radius: Half the width of the interval whose ends are tried.
        prec: Bits of the balls.

    >>> fixed_point_enclosure("square").contains(arb(1) / 2)  # (1 + 2 ρ²)/3
    True
    """
    guess = fixed_points(phi, normalisation="raw")[-2:][0].value
    if guess == 1.0:
        raise ValueError(f"the activation {get(phi).name!r} has no fixed point below 1 that is known")
    with flint.ctx.workprec(prec + GUARD):
        low, high = arb(guess) - arb(radius), arb(guess) + arb(radius)
        if not high < 1:
            raise ValueError(f"radius is {radius}, which reaches from {guess} up to 1, a fixed point; lower it")
        if _gain(phi, low, prec) > 0 and _gain(phi, high, prec) < 0:
            return low.union(high)
    raise ValueError(f"the signs at {guess} ± {radius} are not certain: raise radius or prec")


def critical_law(phi: AnyActivation, depth: Any) -> Any:
    """Return `4/(k l)²`, to which `1 − ρ_l` of the raw map is asymptotic if `K'(1) = 1` and there are kinks.

    `k` is the kink coefficient: `1/√ε` grows by `k/2` a layer in the end. For ReLU `4/k² = 9π²/2`.

    Args:
        phi: An activation.
        depth: Numbers of layers `l > 0`, of any shape.

    Raises:
        ValueError: The slope at 1 is not 1, or there is no kink; or a depth is not positive.

    >>> f"{critical_law('relu', 100):.6f}"  # 9π²/2 / 100²
    '0.004441'
    """
    layers = reals("depth", depth, 0)
    slope, kink = slope_at_one(phi, "raw"), kink_coefficient(phi, standardised=False)
    if abs(slope - 1) > CRITICAL or kink == 0:
        raise ValueError(
            f"the raw map of {get(phi).name!r} has slope {slope:.3g} at 1 and kink coefficient {kink:.3g}"
        )
    return 4 / (kink * layers) ** 2


def critical_bound(phi: AnyActivation, rho: Any, depth: Any) -> Any:
    """Return `(1/√(1−ρ₀) + k l/2)^{−2}`, never below `1 − ρ_l` of ReLU, leaky ReLU or |z|, as they are.

    All of them have the map `K(cos θ) = cos θ + μ (sin θ − θ cos θ)/π`, `μ = (r − s)²/(r² + s²)` for the slopes `r`
    and `s`, and `sin θ − θ cos θ ≥ (8/3) sin³(θ/2)`.

    Args:
        phi: The activation.
        rho: Correlations of the inputs, in [−1, 1], broadcast against `depth`.
        depth: Numbers of layers `l ≥ 0`.

    Raises:
        ValueError: The activation is not positively homogeneous with a kink at 0; a correlation is NaN or beyond
            ±1, or a depth negative.

    >>> float(critical_bound("relu", 0.0, 0)), f"{critical_bound('relu', 0.0, 100):.4f}"
    (1.0, '0.0039')
    """
    phi = get(phi)
    if phi.degree != 1 or phi.kinks != (0.0,):
        raise ValueError(f"the activation {phi.name!r} is not one slope below 0 and another above")
    layers, start = reals("depth", depth), checked_correlations(rho).reshape(np.shape(rho))
    if (layers < 0).any():
        raise ValueError(f"depth is {depth!r}; allowed are numbers ≥ 0")
    with np.errstate(divide="ignore"):  # at ρ₀ = 1 the bound is 0
        return 1 / (1 / np.sqrt(1 - start) + kink_coefficient(phi, standardised=False) / 2 * layers) ** 2


def _inner(phi: Activation, normalisation: Normalisation) -> float:
    """Return the fixed point in [0, 1) of a map whose slope at 1 exceeds 1."""

    def gain(rho: float) -> float:
        return correlation_map(phi, rho, normalisation=normalisation) - rho

    if gain(0.0) <= CRITICAL:
        return 0.0
    for bits in range(1, 40):  # nearer to 1 the gain is of the size of rounding
        if gain(1 - 2.0**-bits) < 0:
            return float(optimize.brentq(gain, 0.0, 1 - 2.0**-bits, xtol=ROOT))
    raise ValueError(f"the map of {phi.name!r} is too close to the identity for its fixed point to be found")


def _slope(phi: Activation, rho: float, normalisation: Normalisation) -> float:
    if normalisation == "standardised":
        return moments(phi.origin or phi).linear_share
    size = dual_kernel(phi, 1.0, standardised=False)
    return float(dual_kernel_derivative(phi, rho, standardised=False) / size)


def _gain(phi: AnyActivation, rho: arb, prec: int) -> arb:
    """Return `K(ρ) − ρ K(1)` of the activation as it is, as a ball."""
    one = dual_kernel_enclosure(phi, 1, prec, standardised=False)
    return dual_kernel_enclosure(phi, rho, prec, standardised=False) - rho * one


def _check(normalisation: str) -> None:
    if normalisation not in ("standardised", "raw"):
        raise ValueError(f"normalisation {normalisation!r} is unknown; allowed are standardised, raw")


__all__ = [
    "FixedPoint",
    "correlation_flow",
    "correlation_map",
    "critical_bound",
    "critical_law",
    "fixed_point_enclosure",
    "fixed_points",
    "iterate",
    "limit",
    "slope_at_one",
]
