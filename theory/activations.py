"""Activation functions that act on float64 arrays, rationals, SymPy expressions and Arb balls alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import sympy

from theory import gaussian
from theory.closed_forms import ClosedForm, Polynomial
from theory.pieces import Pieces, Term
from theory.scalars import elementwise, is_ball, on, rational, root, to_float
from theory.tolerances import EPS

INFINITY = math.inf
Array = np.ndarray[Any, Any]
Scaling = Literal["positive", "sign", "linear"]
Symmetry = Literal["odd", "even"]
Tails = Literal["half-vanishing", "plateau", "neither"]
Number = float | int | Fraction
ALIASES = {"swish": "silu", "hardswish": "hard_swish", "leakyrelu": "leaky_relu", "identity": "linear"}


@dataclass(frozen=True)
class Strip:
    """Where `f` is analytic, with `|f(x + iy)| ≤ offset + growth |x|` for `|y| ≤ width`; real on the real line."""

    width: Fraction
    offset: Fraction
    growth: Fraction = Fraction(0)

    def compose(self, a: Fraction, b: Fraction) -> Strip:
        """Return the strip of `f(a z + b)`."""
        return Strip(self.width / abs(a), self.offset + self.growth * abs(b), self.growth * abs(a))


@dataclass(frozen=True)
class Activation:
    """An activation `f` with its derivative and the facts that the certificates rest on.

    Attributes:
        name: Two units may share a block only if their activations bear the same name.
        value: `z -> f(z)`, elementwise, on float64 arrays and on object arrays of exact scalars.
        slope: `z -> f'(z)`, likewise; at a kink the derivative that torch.autograd uses.
        kinks: Points where `f` or `f'` jumps.
        scaling: The scales `s` with `f(s z) = s f(z)`: `"positive"` (all `s > 0`), `"sign"` (`s = ±1`),
            `"linear"` (all `s ≠ 0`), `None` (only `s = 1`).
        flat: Closed intervals on which `f' = 0`: a unit whose pre-activation stays there is frozen.
        range: Infimum and supremum of `f` over the reals.
        symmetry: `"odd"`, `"even"` or `None`.
        degree: `m` with `f(s z) = sᵐ f(z)` for all `s > 0`, or `None`.
        tails: `"half-vanishing"` if `f' → 0` on one side and `f` grows like a power on the other, `"plateau"` if
            `f` has a limit on both sides, `"neither"`; `None` if nobody said.
        kernel: The dual kernel where it is elementary.
        pieces: `f` as a piecewise exponential polynomial, exactly, where it is one.
        strip: A strip around the real line where `f` is analytic, with a bound.
        origin: The activation of which this is the standardised form.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    kinks: tuple[float, ...] = ()
    scaling: Scaling | None = None
    flat: tuple[tuple[float, float], ...] = ()
    range: tuple[float, float] = (-INFINITY, INFINITY)
    symmetry: Symmetry | None = None
    degree: int | None = None
    tails: Tails | None = None
    kernel: ClosedForm | None = None
    pieces: Pieces | None = None
    strip: Strip | None = None
    origin: Activation | None = None

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a named activation by its name; others hold functions, which cannot be pickled."""
        known = named().get(self.name) is self
        return (get, (self.name,)) if known else super().__reduce_ex__(protocol)

    @property
    def breaks(self) -> tuple[float, ...]:
        """Points where `f` is not analytic: the kinks, and where a higher derivative jumps."""
        knots = (float(knot) for knot in self.pieces.knots) if self.pieces else ()
        return tuple(sorted({*self.kinks, *knots}))


@dataclass(frozen=True)
class Moments:
    """What a standard Gaussian `Z` makes of an activation, in float64.

    Attributes:
        mean: `E f(Z)`.
        square: `E f(Z)²`.
        variance: `E (f(Z) − E f(Z))²`.
        slope_square: `E f'(Z)²`; infinite where `f` jumps.
        linear: `c₁ = E Z f(Z)`.
    """

    mean: float
    square: float
    variance: float
    slope_square: float
    linear: float

    @property
    def linear_share(self) -> float:
        """`c₁² / Var f(Z)`, the share of the variance that is linear."""
        return self.linear**2 / self._nonzero(self.variance)

    @property
    def strength_raw(self) -> float:
        """`α = E f'² / E f² − 1` of the activation as it is."""
        return self.slope_square / self._nonzero(self.square) - 1

    @property
    def strength(self) -> float:
        """`α = E f'² / Var f − 1` of the centred activation."""
        return self.slope_square / self._nonzero(self.variance) - 1

    def _nonzero(self, size: float) -> float:
        if size == 0:
            raise ValueError(
                f"the activation is constant (mean {self.mean:.3g}, variance {self.variance:.3g}): it has no "
                "linear share and no strength"
            )
        return size


AnyActivation = str | Activation | Callable[[Array], Array]


def get(activation: AnyActivation) -> Activation:
    """Return the activation of that name; an `Activation` is returned as it is, a callable without kinks is
    wrapped.

    Raises:
        TypeError: It is neither a name nor an activation nor a callable.
        ValueError: The name is unknown; the message lists the names that are near.
    """
    if isinstance(activation, Activation):
        return activation
    if callable(activation):
        return from_callable(activation)
    if not isinstance(activation, str):
        raise TypeError(f"activation is {activation!r}; give a name, an Activation or a callable")
    known, name = named(), activation.strip().lower().replace("-", "_")
    name = ALIASES.get(name, name)
    if name not in known:
        near = get_close_matches(name, known) or sorted(known)
        raise ValueError(f"activation {activation!r} is unknown; did you mean one of {', '.join(near)}?")
    return known[name]


@cache
def named() -> dict[str, Activation]:
    """Return every activation that has a name, by that name."""
    from theory.catalogue import catalogue

    return {activation.name: activation for activation in catalogue()}


def unspecified(name: str) -> Activation:
    """Return a symbolic activation about which nothing is assumed but that `f` and `f'` are functions.

    Both are undefined SymPy functions, `name` and `d{name}`: what holds for them holds for every activation.
    """
    f, df = sympy.Function(name), sympy.Function(f"d{name}")
    return Activation(name, elementwise(f), elementwise(df))


def from_callable(
    function: Callable[[Array], Array],
    kinks: Sequence[float] = (),
    slope: Callable[[Array], Array] | None = None,
    name: str | None = None,
) -> Activation:
    """Return any function as an activation.

    Args:
        function: Elementwise on float64 arrays.
        kinks: Every point where it or a derivative of it jumps; results keep their digits only if none is missing.
        slope: Its derivative; by default that of the interpolating polynomials, good to about 1e-11 relative to the
            size of the slope for `|z| ≤ 9`, and NaN far outside.
        name: By default the function's own name and address, since two functions may share a name.

    Raises:
        TypeError: `function` is not callable or not hashable; or it takes no arrays (raised where it is first
            evaluated).
        ValueError: It returns no real number for each number (raised where it is first evaluated).
    """
    if not callable(function):
        raise TypeError(f"function is {function!r}; give a callable that acts on float64 arrays")
    try:
        return _from_callable(function, _checked_kinks(kinks), slope, name)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        raise TypeError(
            f"{function!r} is not hashable, so nothing can be kept for it; wrap it in a lambda"
        ) from None


def _checked_kinks(kinks: Any) -> tuple[float, ...]:
    points = np.atleast_1d(np.asarray(kinks, dtype=np.float64))
    if not np.isfinite(points).all():
        raise ValueError(f"kinks is {kinks!r}; allowed are finite points")
    return tuple(sorted(points.tolist()))


@lru_cache(maxsize=1024)
def _from_callable(
    function: Callable[[Array], Array],
    kinks: tuple[float, ...],
    slope: Callable[[Array], Array] | None,
    name: str | None,
) -> Activation:
    label = name or f"{getattr(function, '__name__', type(function).__name__)}@{id(function):x}"

    def value(z: Array) -> Array:
        try:
            out = np.asarray(function(np.asarray(z, dtype=np.float64)))
        except TypeError as error:
            raise TypeError(
                f"the activation {label!r} failed on a float64 array ({error}); give a function that acts on each "
                "element of arrays, such as np.tanh for math.tanh, or wrap it in np.vectorize"
            ) from error
        if out.dtype.kind not in "biuf" or out.shape not in ((), np.shape(z)):
            raise ValueError(
                f"the activation {label!r} returned {out.dtype} of shape {out.shape} for float64 of shape "
                f"{np.shape(z)}; give a real function that acts on each element"
            )
        return np.broadcast_to(out.astype(np.float64), np.shape(z))

    value.__name__ = label
    return Activation(label, value, slope or _interpolated_slope(value, kinks), kinks=kinks)


def _interpolated_slope(value: Callable[[Array], Array], kinks: tuple[float, ...]) -> Callable[[Array], Array]:
    """Return the derivative of the polynomial that interpolates on the panel of each point."""

    @cache
    def table() -> tuple[Array, Array]:
        edges = gaussian.resolve(value, kinks).edges
        x, _ = gaussian.panels(edges[:-1], edges[1:])
        coefficients = np.polynomial.legendre.legder(value(x) @ gaussian.TO_LEGENDRE.T, axis=1)
        return edges, coefficients * (2 / np.diff(edges))[:, None]

    def slope(z: Array) -> Array:
        edges, coefficients = table()
        z = np.asarray(z, dtype=np.float64)
        panel = np.clip(np.searchsorted(edges, z) - 1, 0, len(edges) - 2)
        u = 2 * (z - edges[panel]) / (edges[panel + 1] - edges[panel]) - 1
        inside = np.where(np.abs(u) <= 1 + 64 * EPS, u, np.nan)
        basis = np.polynomial.legendre.legvander(inside, coefficients.shape[1] - 1)
        return np.asarray((basis * coefficients[panel]).sum(axis=-1))

    return slope


def polynomial(coefficients: Sequence[Number], name: str | None = None) -> Activation:
    """Return `f(z) = Σ_j coefficients[j] zʲ`, exact for every scalar.

    Raises:
        ValueError: There are no coefficients, or one is not finite or too large for float64.
    """
    return _polynomial(tuple(coefficients), name)


@lru_cache(maxsize=1024)
def _polynomial(coefficients: tuple[Number, ...], name: str | None) -> Activation:
    if not coefficients:
        raise ValueError("coefficients is empty: give at least the constant term")
    a = tuple(rational(c) for c in coefficients)
    if not all(math.isfinite(to_float(c * (j + 1))) for j, c in enumerate(a)):
        raise ValueError("a coefficient is too large for float64; scale the polynomial down")
    while len(a) > 1 and not a[-1]:
        a = a[:-1]
    whole = Pieces((), ((Term(a),),))
    slope = whole.derivative()
    label = name or "polynomial(" + ", ".join(str(c) for c in a) + ")"
    monomial = sum(map(bool, a)) == 1
    return Activation(
        label,
        on(whole.floats(), whole),
        on(slope.floats(), slope),
        scaling=_polynomial_scaling(a),
        flat=((-INFINITY, INFINITY),) if len(a) == 1 else (),
        range=(float(a[0]), float(a[0])) if len(a) == 1 else (-INFINITY, INFINITY),
        symmetry=_parity(a),
        degree=len(a) - 1 if monomial else None,
        tails="plateau" if len(a) == 1 else "neither",
        kernel=Polynomial(a),
        pieces=whole,
    )


def _parity(a: Sequence[Fraction]) -> Symmetry | None:
    if not any(a[0::2]):
        return "odd"
    return "even" if not any(a[1::2]) else None


def _polynomial_scaling(a: Sequence[Fraction]) -> Scaling | None:
    if len(a) == 2 and not a[0]:
        return "linear"
    return "sign" if _parity(a) == "odd" else None


def hermite(n: int) -> Activation:
    """Return `He_n`, the n-th probabilists' Hermite polynomial, not normalised: `E He_n² = n!`.

    Raises:
        ValueError: `n` is negative or no integer.
    """
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"n is {n!r}; allowed are integers n ≥ 0")
    below: list[Fraction] = [Fraction(1)]
    previous: list[Fraction] = []
    for k in range(n):
        padded = [*previous, *[Fraction(0)] * (k + 2 - len(previous))]
        below, previous = [c - k * d for c, d in zip([Fraction(0), *below], padded, strict=True)], below
    return polynomial(tuple(below), f"hermite({n})")


@lru_cache(maxsize=4096)
def modulate(phi: AnyActivation, a: Number, b: Number = 0) -> Activation:
    """Return `z ↦ φ(a z + b)`, with every fact of `φ` that survives.

    Args:
        phi: An activation, its name, or a callable.
        a: Gain; not zero.
        b: Shift.

    Raises:
        ValueError: `a` is zero, or one of them is not finite.
    """
    phi, gain, shift = get(phi), rational(a), rational(b)
    if not gain:
        raise ValueError("a is 0: φ(b) is a constant, not a modulation of φ; give a ≠ 0")

    def inner(z: Array) -> Array:
        z = np.asarray(z)
        if z.dtype != object:
            return float(gain) * z + float(shift)
        return elementwise(Term((shift, gain)))(z)

    def slope(z: Array) -> Array:
        z = np.asarray(z)
        outer = phi.slope(inner(z))
        return float(gain) * outer if z.dtype != object else elementwise(Term((Fraction(0), gain)))(outer)

    centred = not shift
    return Activation(
        f"{phi.name}({_short(gain)}·z{'' if centred else f' + {_short(shift)}'})",
        lambda z: phi.value(inner(z)),
        slope,
        kinks=tuple(sorted((kink - float(shift)) / float(gain) for kink in phi.kinks)),
        scaling=phi.scaling if centred else None,
        flat=tuple(_preimage(interval, float(gain), float(shift)) for interval in phi.flat),
        range=phi.range,
        symmetry=phi.symmetry if centred else None,
        degree=phi.degree if centred else None,
        tails=phi.tails,
        kernel=phi.kernel.compose(gain, shift) if phi.kernel else None,
        pieces=phi.pieces.compose(gain, shift) if phi.pieces else None,
        strip=phi.strip.compose(gain, shift) if phi.strip else None,
    )


def _short(number: Fraction) -> str:
    """Return the rational, or the shortest float that equals it."""
    return str(number) if number.denominator < 1000 else repr(float(number))


def _preimage(interval: tuple[float, float], a: float, b: float) -> tuple[float, float]:
    low, high = sorted(((interval[0] - b) / a, (interval[1] - b) / a))
    return low, high


@lru_cache(maxsize=4096)
def standardise(phi: AnyActivation) -> Activation:
    """Return `(φ − E φ)/√Var φ`, which has mean 0 and variance 1 under the standard Gaussian.

    On Arb balls the moments are enclosures; on SymPy expressions they are exact where the dual kernel is
    elementary.

    Raises:
        ValueError: `φ` is constant, or not square integrable under the Gaussian.
    """
    phi = get(phi)
    if phi.origin:
        return phi
    floats = moments(phi)
    check_not_constant(phi, floats)

    def affine(function: Callable[[Array], Array], centre: bool) -> Callable[[Array], Array]:
        def applied(z: Array) -> Array:
            z = np.asarray(z)
            if z.dtype != object:
                return (function(z) - centre * floats.mean) / math.sqrt(floats.variance)
            mean, deviation = _moments_like(phi, z.flat[0]) if z.size else (0, 1)
            return (function(z) - (mean if centre else 0)) / deviation

        return applied

    low, high = ((end - floats.mean) / math.sqrt(floats.variance) for end in phi.range)
    centred = floats.mean == 0 or phi.symmetry == "odd"
    return Activation(
        f"standardised {phi.name}",
        affine(phi.value, True),
        affine(phi.slope, False),
        kinks=phi.kinks,
        scaling=phi.scaling if centred else None,
        flat=phi.flat,
        range=(low, high),
        symmetry=phi.symmetry,
        degree=phi.degree if centred else None,
        tails=phi.tails,
        origin=phi,
    )


def _moments_like(phi: Activation, z: Any) -> tuple[Any, Any]:
    """Return `E φ` and `√Var φ` as scalars that combine with `z`."""
    if is_ball(z):
        from theory.enclosures import moment_balls

        mean, square = moment_balls(phi)
        return mean, (square - mean * mean).sqrt()
    if isinstance(z, sympy.Basic) and phi.kernel:
        at_zero, at_one = (sympy.simplify(phi.kernel.formula(sympy.Integer(k))) for k in (0, 1))
        return sympy.simplify(phi.kernel.mean(sympy.Integer(0))), root(at_one - at_zero)
    raise TypeError(
        f"the moments of {phi.name!r} are not known exactly as {type(z).__name__}; use floats or Arb balls"
    )


@lru_cache(maxsize=4096)
def moments(phi: AnyActivation) -> Moments:
    """Return the Gaussian moments of an activation, by quadrature split at its kinks.

    The error is about 1e-14 of `√E φ²`; for slopes by interpolation (`from_callable` without `slope`) about 1e-10.

    Raises:
        ValueError: It is not square integrable under the Gaussian.
    """
    phi = get(phi)
    if isinstance(phi.kernel, Polynomial):
        return _polynomial_moments(phi.kernel)
    f = resolved(phi)
    mean = 0.0 if phi.symmetry == "odd" else gaussian.expectation(f.function, f)
    return Moments(
        mean=mean,
        square=gaussian.expectation(lambda z: f.function(z) ** 2, f),
        variance=gaussian.expectation(lambda z: (f.function(z) - mean) ** 2, f),
        slope_square=INFINITY if _jumps(f) else gaussian.expectation(lambda z: phi.slope(z) ** 2, f),
        linear=0.0 if phi.symmetry == "even" else gaussian.expectation(lambda z: z * f.function(z), f),
    )


def _polynomial_moments(kernel: Polynomial) -> Moments:
    """Return the moments of a polynomial, exact but for one rounding: `E φ'² = K'(1) = Σ k c_k²`."""
    mean, shares = kernel.means[0], kernel.shares
    given = Moments(
        mean=to_float(mean),
        square=to_float(Fraction(sum(shares))),
        variance=to_float(Fraction(sum(shares[1:]))),
        slope_square=to_float(Fraction(sum(k * share for k, share in enumerate(shares)))),
        linear=to_float(kernel.means[1]) if len(kernel.means) > 1 else 0.0,
    )
    if not math.isfinite(given.square + given.slope_square):
        raise ValueError(
            f"the moments of a polynomial of degree {len(shares) - 1} are too large for float64; scale it down"
        )
    return given


@lru_cache(maxsize=1024)
def resolved(phi: Activation) -> gaussian.Resolved:
    """Return the activation with the panels on which it is smooth."""

    def value(z: Array) -> Array:
        return phi.value(z)

    value.__name__ = phi.name
    return gaussian.resolve(value, phi.breaks)


def _jumps(f: gaussian.Resolved) -> bool:
    """Tell whether the function is discontinuous at a kink."""
    kinks = np.array(f.kinks)
    near = 1e-9 * (1 + np.abs(kinks))
    leap = np.abs(f.function(kinks + near) - f.function(kinks - near))
    return bool((leap > 1e-6 * (1 + np.abs(f.function(kinks)))).any())


def check_not_constant(phi: Activation, given: Moments) -> None:
    """Check that an activation varies by more than rounding.

    Raises:
        ValueError: It does not, so that it cannot be standardised.
    """
    if given.variance <= (64 * EPS) ** 2 * given.square:
        raise ValueError(
            f"the activation {phi.name!r} is constant (variance {given.variance:.3g} at mean {given.mean:.3g}), so "
            "it cannot be standardised; use standardised=False, or an activation that varies"
        )
