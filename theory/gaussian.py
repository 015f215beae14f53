"""Gaussian expectations in float64 by Gauss-Legendre quadrature on panels that end at every kink.

`resolve` splits the real line until the function is a polynomial of degree 15 to rounding on each panel; then

- `expectation` gives `E g(Z)`,
- `semigroup` gives `P_ρ f(x) = E f(ρ x + √(1−ρ²) Z)`, with panels that follow both the Gaussian and the kinks,
- `correlated` gives `E f(X) f(Y) = E f(X) P_ρ f(X)`, with further panels where a kink leaves a layer of width
  `√(1−ρ²)`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from theory.tolerances import NARROWEST, RESOLVED, TAIL

Array = np.ndarray[Any, Any]
Function = Callable[[Array], Array]

ORDER = 16  # exact up to degree 31, so that the square of what a panel resolves (degree 15) is integrated exactly
NODES, WEIGHTS = legendre.leggauss(ORDER)
TO_LEGENDRE = np.linalg.inv(legendre.legvander(NODES, ORDER - 1))
REACHES = (9.0, 10.0, 11.0, 12.0, 14.0, 17.0, 21.0, 26.0, 32.0, 38.0)  # γ(38.6) is the smallest positive float64
WIDEST, MOST = 2.0, 4096  # panels: two deviations at most, so that γ itself is resolved; beyond 4096, give up
LAYERS = np.linspace(-1.0, 1.0, 7)  # cuts across a layer, in shares of its half width: panels of three deviations
LARGEST = 100_000  # cuts at a time: some 50 MB


@dataclass(frozen=True, eq=False)
class Resolved:
    """A function of a standard Gaussian with panels on which it is smooth.

    Attributes:
        function: `f`, elementwise on float64 arrays.
        edges: Ends of the panels, ascending, shape (panels + 1,).
        kinks: Points where `f` or a derivative of it jumps.
    """

    function: Function
    edges: Array
    kinks: tuple[float, ...]

    @property
    def reach(self) -> float:
        """Half the length of the interval outside which `f² γ` is negligible."""
        return float(self.edges[-1])


def density(z: Array) -> Array:
    """Return `γ(z) = e^{−z²/2}/√(2π)`.

    >>> f"{density(np.array(0.0)):.12f}"
    '0.398942280401'
    """
    return np.asarray(np.exp(z * z * -0.5) / math.sqrt(2 * math.pi))


def resolve(function: Function, kinks: Sequence[float] = (), tail: float = TAIL) -> Resolved:
    """Return the function with panels on which it is a polynomial of degree 15 to rounding.

    A kink that is not listed is found by bisection to within `NARROWEST`, and listed if nothing jumps there.

    Args:
        function: Elementwise on float64 arrays.
        kinks: Points where the function or one of its derivatives jumps.
        tail: The share of `E f²` that may lie outside the panels.

    Raises:
        ValueError: The function is not square integrable under the Gaussian, or varies too fast to be resolved.

    >>> f = resolve(np.abs, kinks=[0.0])
    >>> f.reach, 0.0 in f.edges
    (10.0, True)
    """
    reach, scale = _extent(function, tail)
    edges, found = _split(function, reach, scale, kinks)
    if found:
        warnings.warn(
            f"{_name(function)} has a kink near {', '.join(f'{z:.6g}' for z in found[:4])} that was not given, "
            "which costs time, and digits if it jumps; use from_callable(function, kinks=[...])",
            stacklevel=2,
        )
        # one end of a panel is worth the forty panels that close in on it
        kinks = (*kinks, *(z for z in found if _is_continuous(function, z, scale)))
        edges, _ = _split(function, reach, scale, kinks)
    return Resolved(function, edges, tuple(k for k in kinks if abs(k) < reach))


def _split(function: Function, reach: float, scale: float, kinks: Sequence[float]) -> tuple[Array, list[float]]:
    """Return panels on which the function is smooth, and where they are so narrow that only a kink explains it.

    Raises:
        ValueError: There are too many panels.
    """
    inside = [k for k in kinks if abs(k) < reach]
    edges = np.unique([*np.linspace(-reach, reach, math.ceil(2 * reach / WIDEST) + 1), *inside])
    low, high, done = edges[:-1], edges[1:], [np.array([reach])]
    for _ in range(64):
        rough = _is_rough(function, low, high, scale) & (high - low > NARROWEST)
        done.append(low[~rough])
        if not rough.any():
            narrow = (high - low <= 2 * NARROWEST) & _is_rough(function, low, high, scale)
            places = np.sort((low + high)[narrow] / 2)
            apart = np.diff(places, prepend=-np.inf) > 4 * NARROWEST
            return np.sort(np.concatenate(done)), places[apart].tolist()
        middle = (low + high)[rough] / 2
        low, high = np.concatenate([low[rough], middle]), np.concatenate([middle, high[rough]])
        if low.size > MOST:
            break
    raise ValueError(
        f"{_name(function)} is not resolved by {MOST} panels on [−{reach:g}, {reach:g}]: it oscillates too fast, "
        "or jumps where no kink is given; pass its kinks, or use a closed form"
    )


def _is_continuous(function: Function, z: float, scale: float) -> bool:
    """Tell whether nothing jumps at a kink, or so little that an error of `NARROWEST` in its place costs 3e-14."""
    below, above = function(z + np.array([-2.0, 2.0]) * NARROWEST)
    return bool(abs(above - below) <= math.sqrt(NARROWEST) * scale)


def expectation(function: Function, over: Resolved) -> float:
    """Return `E g(Z)` for a function that is smooth on the panels of `over`.

    >>> f"{expectation(np.square, resolve(np.square)):.12f}"
    '1.000000000000'
    """
    x, w = panels(over.edges[:-1], over.edges[1:])
    return float((function(x) * density(x) * w).sum())


def semigroup(f: Resolved, x: Array, theta: float) -> Array:
    """Return `P_ρ f(x) = E f(ρ x + s Z)` with `ρ = cos θ` and `s = sin θ`, `0 < θ < π`.

    The integral runs over `z`, whose panels end where `ρ x + s z` meets an edge of `f`: at
    `((e − x) + 2 sin²(θ/2) x)/s`, which keeps its digits as `θ → 0`, and likewise from `−x` as `θ → π`.

    Args:
        f: The function.
        x: Where, float64 of shape (points,).
        theta: The angle `θ`.

    Returns:
        float64 of shape (points,).

    >>> f = resolve(np.square)
    >>> [f"{v:.9f}" for v in semigroup(f, np.array([0.0, 1.0]), math.pi / 3)]  # ρ² x² + 1 − ρ²
    ['0.750000000', '1.000000000']
    """
    if x.size * f.edges.size > LARGEST:
        return np.concatenate([semigroup(f, half, theta) for half in np.array_split(x, 2)])
    rho, spread, near = math.cos(theta), math.sin(theta), 1.0 if theta < math.pi / 2 else -1.0
    versine = 2 * math.sin((theta if near > 0 else math.pi - theta) / 2) ** 2
    shifts = ((f.edges - near * x[:, None]) + near * versine * x[:, None]) / spread
    cuts = np.concatenate([np.broadcast_to(f.reach * LAYERS, (x.size, LAYERS.size)), shifts], axis=1)
    low = np.maximum(-f.reach, shifts[:, :1])
    high = np.minimum(f.reach, shifts[:, -1:])
    cuts = np.clip(np.sort(cuts, axis=1), low, np.maximum(low, high))
    left, right = cuts[:, :-1], cuts[:, 1:]
    used = right > left
    rows = np.nonzero(used)[0]
    half = (right[used] - left[used]) / 2
    z = (left[used] + half)[:, None] + half[:, None] * NODES
    parts = half * ((f.function(rho * x[rows, None] + spread * z) * density(z)) @ WEIGHTS)
    return np.bincount(rows, parts, minlength=x.size)


def correlated(f: Resolved, theta: float) -> float:
    """Return `E f(X) f(Y)` for standard Gaussians of correlation `cos θ`, `0 < θ < π`.

    >>> f"{correlated(resolve(np.square), math.pi / 3):.9f}"  # 1 + 2 ρ²
    '1.500000000'
    """
    rho, spread = math.cos(theta), math.sin(theta)
    edges = f.edges if rho > 0 else np.unique(np.concatenate([f.edges, -f.edges]))  # P_ρ f(x) → f(−x) as θ → π
    if f.kinks and abs(rho) > 0.1:
        layers = (np.array(f.kinks)[:, None] + spread * f.reach * LAYERS) / rho
        edges = np.unique(np.clip(np.concatenate([edges, layers.ravel()]), -f.reach, f.reach))
    x, w = (a.ravel() for a in panels(edges[:-1], edges[1:]))
    return float((w * density(x) * f.function(x) * semigroup(f, x, theta)).sum())


def reflected(f: Resolved) -> float:
    """Return `E f(Z) f(−Z)`.

    >>> f"{reflected(resolve(np.square)):.9f}"
    '3.000000000'
    """
    both = Resolved(f.function, np.unique(np.concatenate([f.edges, -f.edges])), f.kinks)
    return expectation(lambda z: f.function(z) * f.function(-z), both)


def panels(low: Array, high: Array) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights on each interval, both of shape (intervals, 16).

    >>> x, w = panels(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    >>> x.shape, f"{(w * x).sum():.9f}"  # ∫₀³ x dx
    ((2, 16), '4.500000000')
    """
    half = (high - low)[:, None] / 2
    return (low + high)[:, None] / 2 + half * NODES, half * WEIGHTS


def _extent(function: Function, tail: float) -> tuple[float, float]:
    """Return the reach and the size of the function (its deviation and a tenth of its root mean square)."""
    z, step = np.linspace(-REACHES[-1], REACHES[-1], 7601, retstep=True)  # steps of 0.01; z[3800] is 0
    with np.errstate(all="ignore"):
        values = np.asarray(function(z), dtype=np.float64)
        energy = (values * np.exp(-z * z / 4)) ** 2
    outside = np.array([energy[np.abs(z) > reach].sum() for reach in REACHES[:-1]])
    enough = outside <= tail * energy.sum()
    if not np.isfinite(values[3800]) or np.isnan(values).any():
        worst = z[np.argmin(np.isfinite(values) | (np.isinf(values) & (z != 0)))]
        raise ValueError(f"{_name(function)} is not finite at z = {worst:g}; give a function that is, for |z| ≤ 38")
    if not np.isfinite(energy).all() or not enough.any():
        raise ValueError(
            f"{_name(function)} is not square integrable under the Gaussian, or has too heavy a tail to integrate: "
            f"f² γ is not negligible at |z| = {REACHES[-2]:g}; f must grow slower than exp(z²/4)"
        )
    square, mean = float(energy.sum() * step), float((values * np.exp(-z * z / 2)).sum() * step)
    variance = max(square - mean**2 / math.sqrt(2 * math.pi), 0.0)
    return REACHES[int(np.argmax(enough))], math.sqrt(variance) + 0.1 * math.sqrt(square)


def _is_rough(function: Function, low: Array, high: Array, scale: float) -> Array:
    """Tell where the last two Legendre coefficients, weighted by `√γ`, are not negligible."""
    x, _ = panels(low, high)
    last = np.abs(function(x) @ TO_LEGENDRE[-2:].T).max(axis=1)
    nearest = np.where(low * high < 0, 0.0, np.minimum(np.abs(low), np.abs(high)))
    return np.asarray(last * np.exp(-(nearest**2) / 4) > RESOLVED * scale)


def _name(function: Function) -> str:
    return f"the activation {getattr(function, '__name__', function)!r}"
