"""What is known of an activation, on float64 arrays, rationals, SymPy expressions and Arb balls alike; activations
made from a polynomial or from any function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import sympy

from theory import gaussian
from theory.closed_forms import ClosedForm, Polynomial
from theory.pieces import Pieces, Term
from theory.scalars import elementwise, on, rational, to_float
from theory.tolerances import float64_identity

INFINITY = math.inf
Array = np.ndarray[Any, Any]
Scaling = Literal["positive", "sign", "linear"]
Symmetry = Literal["odd", "even"]
Tails = Literal["half-vanishing", "plateau", "neither"]
Number = float | int | Fraction


@dataclass(frozen=True)
class Strip:
    """Where `f` is analytic, with `|f(x + iy)| ≤ offset + growth |x|` for `|y| ≤ width`; real on the real line.

    >>> Strip(Fraction(2), Fraction(4)).compose(Fraction(4), Fraction(0)).width
    Fraction(1, 2)
    """

    width: Fraction
    offset: Fraction
    growth: Fraction = Fraction(0)

    def compose(self, a: Fraction, b: Fraction) -> Strip:
        """Return the strip of `f(a z + b)` for `a ≠ 0`."""
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

    >>> step = Activation("step", lambda z: (z > 0) * 1.0, lambda z: z * 0.0, kinks=(0.0,), range=(0.0, 1.0))
    >>> step, step.value(np.array([-1.0, 2.0])).tolist(), step.breaks
    (Activation('step'), [0.0, 1.0], (0.0,))
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

    @property
    def breaks(self) -> tuple[float, ...]:
        """Points where `f` is not analytic: the kinks, and where a higher derivative jumps."""
        knots = (float(knot) for knot in self.pieces.knots) if self.pieces else ()
        return tuple(sorted({*self.kinks, *knots}))


AnyActivation = str | Activation | Callable[[Array], Array]


def unspecified(name: str) -> Activation:
    """Return a symbolic activation about which nothing is assumed but that `f` and `f'` are functions.

    Both are undefined SymPy functions, `name` and `d{name}`: what holds for them holds for every activation.

    >>> unspecified("f").value([sympy.Symbol("z")]).tolist()
    [f(z)]
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

    >>> from_callable(lambda z: np.maximum(z, 0), kinks=[0.0], name="mine").value([-1, 2]).tolist()
    [0.0, 2.0]
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
        inside = np.where(np.abs(u) <= 1 + float64_identity(), u, np.nan)
        basis = np.polynomial.legendre.legvander(inside, coefficients.shape[1] - 1)
        return np.asarray((basis * coefficients[panel]).sum(axis=-1))

    return slope


def polynomial(coefficients: Sequence[Number], name: str | None = None) -> Activation:
    """Return `f(z) = Σ_j coefficients[j] zʲ`, exact for every scalar.

    Args:
        coefficients: Of rising degree; floats count as the rationals that they are.
        name: By default made of the coefficients.

    Raises:
        ValueError: There are no coefficients, or one is not finite or too large for float64.

    >>> polynomial((0, 0, 1)).value([Fraction(1, 3)]).tolist()
    [Fraction(1, 9)]
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

    >>> hermite(3)  # z³ − 3 z
    Activation('hermite(3)')
    >>> hermite(3).value([2]).tolist()
    [2.0]
    """
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"n is {n!r}; allowed are integers n ≥ 0")
    below: list[Fraction] = [Fraction(1)]
    previous: list[Fraction] = []
    for k in range(n):
        padded = [*previous, *[Fraction(0)] * (k + 2 - len(previous))]
        below, previous = [c - k * d for c, d in zip([Fraction(0), *below], padded, strict=True)], below
    return polynomial(tuple(below), f"hermite({n})")
