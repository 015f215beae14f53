"""One definition for every kind of number: elementwise functions on float64 arrays and on exact scalars.

Exact scalars are `fractions.Fraction`, SymPy expressions and the balls `flint.arb` and `flint.acb`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import sympy

Array = np.ndarray[Any, Any]
BALLS = (flint.arb, flint.acb)


def elementwise(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """Return `function` of one exact scalar, lifted to object arrays of them.

    >>> elementwise(lambda z: z * z)([Fraction(1, 2)]).tolist()
    [Fraction(1, 4)]
    """

    def lifted(z: Array) -> Array:
        return np.asarray(np.frompyfunc(function, 1, 1)(np.asarray(z, dtype=object)), dtype=object)

    return lifted


def on(floats: Callable[[Array], Array], exact: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """Return a function that uses `floats` on float arrays and `exact` on each scalar of any other array.

    >>> double = on(lambda z: 2 * z, lambda z: z + z)
    >>> double([1.5]).tolist(), double([Fraction(1, 3)]).tolist()
    ([3.0], [Fraction(2, 3)])
    """
    lifted = elementwise(exact)

    def function(z: Array) -> Array:
        z = np.asarray(z)
        return lifted(z) if z.dtype == object else np.asarray(floats(z))

    return function


def transcendental(name: str) -> Callable[[Any], Any]:
    """Return the function of that name (`"exp"`, `"tanh"`, …) on one SymPy expression or one ball.

    Raises:
        TypeError: The scalar is rational: its image is not.

    >>> transcendental("exp")(sympy.Integer(1))
    E
    """

    def function(z: Any) -> Any:
        if isinstance(z, BALLS):
            return getattr(z, name)()
        if isinstance(z, sympy.Basic):
            return getattr(sympy, name)(z)
        raise TypeError(
            f"{name}({z!r}) is no rational number: give SymPy numbers or Arb balls for an exact {name}, or floats"
        )

    return function


def is_ball(z: Any) -> bool:
    """Tell whether a scalar is a real or complex Arb ball.

    >>> is_ball(flint.arb(1)), is_ball(1.0)
    (True, False)
    """
    return isinstance(z, BALLS)


def like(constant: Any, z: Any) -> Any:
    """Return a rational constant as a scalar that combines with `z` and stays exact; a ball stays as it is.

    >>> like(Fraction(1, 2), sympy.Symbol("z")), like(Fraction(1, 2), flint.arb(0)) == 0.5
    (1/2, True)
    """
    if isinstance(constant, flint.arb):
        return constant
    if isinstance(z, BALLS):
        return flint.arb(flint.fmpq(constant.numerator, constant.denominator))
    return sympy.Rational(constant.numerator, constant.denominator) if isinstance(z, sympy.Basic) else constant


def pi_like(z: Any) -> Any:
    """Return π as a ball or as a symbol, whichever `z` is.

    >>> pi_like(sympy.Symbol("z")), pi_like(flint.arb(0)).contains(3)
    (pi, False)
    """
    return flint.arb.pi() if isinstance(z, BALLS) else sympy.pi


def root(z: Any) -> Any:
    """Return the square root of a ball or of a SymPy expression.

    >>> root(sympy.Integer(4)), root(flint.arb(4)) == 2
    (2, True)
    """
    return z.sqrt() if isinstance(z, BALLS) else sympy.sqrt(z)


def root_of_product(a: Any, b: Any) -> Any:
    """Return `√(a b)` for `a, b ≥ 0`: in one root of balls, in two of SymPy expressions, which simplify better.

    >>> rho = sympy.Symbol("rho")
    >>> root_of_product(1 - rho, 1 + rho)
    sqrt(1 - rho)*sqrt(rho + 1)
    """
    return (a * b).sqrt() if is_ball(a) else sympy.sqrt(a) * sympy.sqrt(b)


def fraction(ball: flint.arb) -> Fraction:
    """Return the centre of a ball.

    >>> fraction(flint.arb(0.75))
    Fraction(3, 4)
    """
    mantissa, exponent = ball.mid().man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def nearest(ball: flint.arb) -> float:
    """Return the float64 nearest to the centre of a ball, ±inf beyond float64; `float(ball)` may be a neighbour.

    >>> nearest(flint.arb(1) / 3) == 1 / 3
    True
    """
    centre = ball.mid()
    if not centre.is_finite():
        return float(centre)
    mantissa, exponent = (int(part) for part in centre.man_exp())
    size = mantissa.bit_length() + exponent
    if mantissa and not -1080 <= size <= 1024:  # spares a Fraction with millions of digits
        return math.copysign(0.0 if size < 0 else math.inf, 1 if mantissa > 0 else -1)
    return to_float(fraction(centre))


def to_float(number: Fraction) -> float:
    """Return the float64 nearest to a rational, ±inf beyond float64.

    >>> to_float(Fraction(1, 4)), to_float(Fraction(-(10**400)))
    (0.25, -inf)
    """
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def power(z: Any, n: int) -> Any:
    """Return `zⁿ` for an integer `n ≥ 0` by multiplication: FLINT's `ball ** 2` is NaN on a ball around 0.

    >>> power(Fraction(2, 3), 3)
    Fraction(8, 27)
    """
    value, square = z * 0 + 1, z
    while n:
        value, square, n = (value * square if n % 2 else value), square * square, n // 2
    return value


def reals(name: str, given: Any, least: float | None = None) -> Array:
    """Return real numbers as a float64 array.

    Args:
        name: What the caller calls them.
        given: The numbers, of any shape.
        least: If given, all of them have to be larger.

    Raises:
        TypeError: They are no real numbers.
        ValueError: One is infinite, NaN or too small.

    >>> reals("a", [1, 2]).tolist()
    [1.0, 2.0]
    """
    try:
        numbers = np.asarray(given)
        if numbers.dtype.kind not in "biufO" or (numbers.dtype == object and None in numbers.flat):
            raise TypeError
        numbers = numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {given!r}; give a real number or an array of them") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} is {given!r}; give finite numbers")
    if least is not None and not (numbers > least).all():
        raise ValueError(f"{name} is {given!r}; allowed are numbers > {least:g}")
    return numbers


def rational(number: float | int | Fraction) -> Fraction:
    """Return a finite real number as the rational that it is.

    Raises:
        ValueError: It is infinite, NaN or no real number.

    >>> rational(0.125)
    Fraction(1, 8)
    """
    try:
        return Fraction(number.item() if isinstance(number, np.generic) else number)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{number!r} is no finite real number") from None
