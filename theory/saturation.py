"""Strong nonlinearities: when does `α → ∞` freeze a unit, and when does it not?

`f(z) = sin(s z)` has `α = s² coth s² − 1 → ∞` and slopes that grow almost everywhere. Under `f(z) = φ(a z + b)`
with bounded `E f²` it is different: where `φ'` is integrable (plateaus on both sides), or `w φ'(w) → 0` on one side
and `|φ| → ∞` on the other, `α → ∞` leaves `f' → 0` in probability as the only way out of every compact set of
`(a, b)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from theory import gaussian
from theory.activations import Activation, AnyActivation, get
from theory.catalogue import SELU_ALPHA, SELU_SCALE
from theory.scalars import reals
from theory.tolerances import SINE_SERIES

Array = np.ndarray[Any, Any]

REACH, WIDEST = 12.0, 1.5  # mass beyond 12 is below 1e-32; panels of 16 nodes resolve γ on 1.5 to rounding
CELLS = 4096  # of gains and shifts in one block: some 20 MB an array


def sine_strength(s: Any) -> Any:
    """Return `α = s² coth s² − 1` of `sin(s z)`, from `E f² = e^{−s²} sinh s²` and `E f'² = s² e^{−s²} cosh s²`.

    For `s² < 10⁻³` by its series, `s⁴/3 − s⁸/45`.

    Args:
        s: Real numbers, of any shape.

    Returns:
        float64 of the shape of `s`; a float for a scalar.

    Raises:
        TypeError, ValueError: `s` is no finite real number, or an array of them.

    >>> f"{sine_strength(1.0):.9f} {sine_strength(0.01):.4e}"
    '0.313035285 3.3333e-09'
    """
    square = np.square(reals("s", s))
    small = square < SINE_SERIES
    with np.errstate(invalid="ignore"):
        strength = np.where(small, square**2 / 3 - square**4 / 45, square / np.tanh(np.where(small, 1, square)) - 1)
    return strength if strength.ndim else float(strength)


def sine_frozen(s: float, delta: float) -> float:
    """Return `P(|f'| ≤ δ) = P(|cos(s Z)| ≤ δ/s)` for `f(z) = sin(s z)`, to about 1e-14; 1 where `δ ≥ s`.

    Raises:
        ValueError: `s` or `delta` is not positive.

    >>> f"{sine_frozen(10.0, 0.1):.6f}", sine_frozen(1.0, 2.0)
    ('0.006366', 1.0)
    """
    centres, width = _troughs(s, delta)
    if 2 * width >= math.pi / s:
        return 1.0
    return float((special.ndtr(centres + width) - special.ndtr(centres - width)).sum())


def sine_frozen_bound(s: float, delta: float) -> float:
    """Return `(2/π) arcsin(min(δ/s, 1)) (1 + √(2π)/s)`, never below `P(|f'| ≤ δ)`; it tends to 0 as `s → ∞`.

    Every cell `[jπ/s, (j+1)π/s]` has the share `(2/π) arcsin(δ/s)` of its length where `|cos(s z)| ≤ δ/s`, and the
    cells' lengths times their largest densities sum to at most `1 + 2 (π/s) γ(0)`.

    Raises:
        ValueError: `s` or `delta` is not positive.

    >>> sine_frozen(10.0, 0.1) < sine_frozen_bound(10.0, 0.1) < 0.008
    True
    """
    _troughs(s, delta)
    return 2 / math.pi * math.asin(min(delta / s, 1.0)) * (1 + math.sqrt(2 * math.pi) / s)


def _troughs(s: float, delta: float) -> tuple[Array, float]:
    """Return the zeros of `cos(s z)` that matter, and half the width of `|cos(s z)| ≤ δ/s` around each."""
    if not (0 < s < math.inf and delta > 0):
        raise ValueError(f"s is {s!r} and delta is {delta!r}; both have to be positive, and s finite")
    count = math.ceil(REACH * s / math.pi)
    return (np.arange(-count, count) + 0.5) * math.pi / s, math.asin(min(delta / s, 1.0)) / s


@dataclass(frozen=True)
class Map:
    """What `f(z) = φ(a z + b)` does to a standard Gaussian, for arrays of `a` and `b`.

    Attributes:
        frozen: `P(|f'(Z)| < δ)`.
        strength: `α = E f'²/Var f − 1`, NaN where `f` is constant to rounding.
        square: `E f²`.
    """

    frozen: Array
    strength: Array
    square: Array


def maps(phi: AnyActivation, a: Any, b: Any, delta: float) -> Map:
    """Return frozen fraction, strength and size of `φ(a z + b)` over gains and shifts.

    Quadrature on panels in `z`, further split at `a z + b = w` for the kinks and a few `w` where `φ` bends.

    Args:
        phi: One of `LIVE`: relu, elu, selu, tanh, sigmoid, softsign.
        a: Gains, positive, broadcast against `b`.
        b: Shifts; for the strength of relu `b/a ≥ −8`.
        delta: A slope below this counts as frozen.

    Raises:
        TypeError: Something that should be a number is none.
        ValueError: A gain is not positive, `delta` is not, a number is not finite, or the frozen fraction of `φ` is
            not known.

    >>> found = maps("tanh", [1.0, 100.0], 0.0, 0.1)
    >>> [f"{x:.3f}" for x in found.frozen], [f"{x:.2f}" for x in found.strength]
    (['0.069', '0.967'], ['0.18', '52.62'])
    """
    phi = get(phi)
    gain, shift = np.broadcast_arrays(reals("a", a), reals("b", b))
    frozen, bends = (
        frozen_fraction(phi, gain, shift, delta),
        _bends(phi, float((REACH * gain + np.abs(shift)).max())),
    )
    blocks = [
        _moments(phi, gain.ravel()[i : i + CELLS], shift.ravel()[i : i + CELLS], bends)
        for i in range(0, gain.size, CELLS)
    ]
    slope_square, variance, square = np.concatenate(blocks, axis=1).reshape(3, *gain.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = np.where(variance > 0, slope_square / variance - 1, np.nan)
    return Map(frozen, strength, square)


def frozen_fraction(phi: AnyActivation, a: Any, b: Any, delta: float) -> Array:
    """Return `P(|f'(Z)| < δ)` for `f(z) = φ(a z + b)`: the mass outside `live_interval(φ, δ/a)`.

    Arguments as `maps`.

    Returns:
        float64 of the broadcast shape of `a` and `b`.

    Raises:
        TypeError, ValueError: As `maps`.

    >>> float(frozen_fraction("relu", 1.0, 0.0, 0.5))
    0.5
    """
    gain, shift = np.broadcast_arrays(reals("a", a), reals("b", b))
    if not ((gain > 0).all() and reals("delta", delta) > 0):
        raise ValueError(f"a is {a!r} and delta is {delta!r}; both have to be positive (reflect z for a < 0)")
    low, high = live_interval(phi, delta / gain)
    low, high = (low - shift) / gain, (high - shift) / gain
    live = np.where(low > 0, special.ndtr(-low) - special.ndtr(-high), special.ndtr(high) - special.ndtr(low))
    return np.where(high > low, 1 - live, 1.0)


def live_interval(phi: AnyActivation, eta: Any) -> tuple[Array, Array]:
    """Return the ends of the interval `{w : |φ'(w)| ≥ η}`, equal where it is empty.

    Args:
        phi: One of `LIVE`.
        eta: Positive numbers, of any shape.

    Raises:
        ValueError: `φ` is none of `LIVE`, or an `η` is not positive.

    >>> low, high = live_interval("softsign", [0.25, 2.0])  # 1/(1 + |w|)² ≥ 1/4
    >>> high.tolist(), (high - low).tolist()
    ([1.0, 0.0], [2.0, 0.0])
    """
    phi, eta = get(phi), reals("eta", eta, 0)
    if phi.name not in LIVE:
        raise ValueError(f"where {phi.name!r} is steep is not known; allowed are {', '.join(LIVE)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return LIVE[phi.name](eta)


def escape_bound(phi: AnyActivation, a: Any, delta: float) -> Array:
    """Return `|{w : |φ'(w)| ≥ δ/a}| / (a √(2π))`, never below `P(|f'| ≥ δ)`, whatever the shift is.

    It is `η |{|φ'| ≥ η}| / (δ √(2π))` with `η = δ/a`, and tends to 0 as `a → ∞` if `φ'` is integrable:
    `η 1{|φ'| ≥ η} ≤ |φ'|`, and the left side tends to 0.

    Raises:
        ValueError: As `live_interval`; or a gain or `delta` is not positive.

    >>> float(escape_bound("softsign", 1.0, 0.25)) == 2 / math.sqrt(2 * math.pi)
    True
    """
    gain = reals("a", a, 0)
    low, high = live_interval(phi, reals("delta", delta, 0) / gain)
    return np.asarray((high - low) / (gain * math.sqrt(2 * math.pi)))


def rescaled_softsign(t: float) -> tuple[float, float, float]:
    """Return strength and two quantiles of the slope of `softsign(a (z + t))`, divided by its standard deviation.

    With `a = γ(t)^{−2/5}` both `a² t³ γ(t) → 0` and `a³ t⁴ γ(t) → ∞` as `t → ∞`. The variance is that of the nearly
    linear part, `1/(a t²)²`: what `z < −t` adds is below `4 γ(t)/t`, and what `−t < z < −t/2` adds is of order
    `γ(t)/a + γ(t/2)/(a t)²`. But `E f'²` is at least that of the spike at `−t`, about `(2/3) a γ(t)`. So `α → ∞`,
    and yet `f' → 1` in probability.

    Returns:
        `α`, and the slopes at `Z = 1` and at `Z = −1`: with probability 0.68 the slope lies between them.

    Raises:
        ValueError: `t` is not above 1, or so large that quadrature does not reach the spike at `−t`.

    >>> strength, *slopes = rescaled_softsign(10.0)
    >>> f"{strength:.1e}", [f"{x:.2f}" for x in slopes]
    ('1.4e+08', ['0.74', '1.11'])
    """
    if not 1 < t < REACH - 1:
        raise ValueError(f"t is {t!r}; allowed are thresholds between 1 and {REACH - 1:g}")
    a = float(gaussian.density(np.array(t))) ** -0.4
    phi = get("softsign")
    slope_square, variance, _ = _moments(phi, np.array([a]), np.array([a * t]), _bends(phi, a * (t + REACH)))
    quantiles = a * phi.slope(a * (np.array([1.0, -1.0]) + t)) / math.sqrt(variance[0])
    return float(slope_square[0] / variance[0] - 1), float(quantiles[0]), float(quantiles[1])


def _bends(phi: Activation, reach: float) -> Array:
    """Return where to split: dense near 0, doubling up to `reach` for softsign, whose tails are powers."""
    ladder = np.array([0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 40])
    if phi.name == "softsign":
        ladder = np.concatenate([ladder, 2.0 ** np.arange(6, max(6, math.ceil(math.log2(reach))) + 1)])
    return np.unique([*-ladder, 0.0, *ladder, *phi.breaks])


def _moments(phi: Activation, a: Array, b: Array, knots: Array) -> Array:
    """Return `E f'²`, `Var f` and `E f²` of `φ(a z + b)`, shape (3, pairs)."""
    uniform = np.linspace(-REACH, REACH, round(2 * REACH / WIDEST) + 1)
    cuts = np.clip((knots - b[:, None]) / a[:, None], -REACH, REACH)
    edges = np.sort(np.concatenate([np.broadcast_to(uniform, (a.size, uniform.size)), cuts], axis=1), axis=1)
    z, weights = (x.reshape(a.size, -1) for x in gaussian.panels(edges[:, :-1].ravel(), edges[:, 1:].ravel()))
    weights = weights * gaussian.density(z)
    w = a[:, None] * z + b[:, None]
    f, slope = phi.value(w), a[:, None] * phi.slope(w)
    centred = f - (weights * f).sum(axis=1, keepdims=True)
    return np.stack([(weights * g * g).sum(axis=1) for g in (slope, centred, f)])


def _relu(eta: Array) -> tuple[Array, Array]:
    return np.zeros_like(eta), np.where(eta <= 1, np.inf, 0.0)


def _exponential_unit(scale: float, alpha: float) -> Callable[[Array], tuple[Array, Array]]:
    """`φ' = scale` above 0 and `scale α eʷ` below, where `α ≥ 1`."""

    def interval(eta: Array) -> tuple[Array, Array]:
        low = np.minimum(np.log(eta / (scale * alpha)), 0.0)
        return low, np.where(eta <= scale, np.inf, 0.0)

    return interval


def _tanh(eta: Array) -> tuple[Array, Array]:
    """`φ' = 1/cosh² w ≥ η` for `|w| ≤ arcosh(1/√η)`."""
    half = np.arccosh(np.maximum(1 / np.sqrt(eta), 1.0))
    return -half, half


def _sigmoid(eta: Array) -> tuple[Array, Array]:
    """`φ' = 1/(4 cosh²(w/2))`."""
    low, high = _tanh(4 * eta)
    return 2 * low, 2 * high


def _softsign(eta: Array) -> tuple[Array, Array]:
    half = np.maximum(1 / np.sqrt(eta) - 1, 0.0)
    return -half, half


LIVE: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "relu": _relu,
    "elu": _exponential_unit(1.0, 1.0),
    "selu": _exponential_unit(float(SELU_SCALE), float(SELU_ALPHA)),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softsign": _softsign,
}
