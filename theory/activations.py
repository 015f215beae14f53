"""Activation functions that act on float64 arrays, rationals, SymPy expressions and Arb balls alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import flint
import numpy as np
import sympy

INFINITY = math.inf
Array = np.ndarray[Any, Any]
Scaling = Literal["positive", "sign", "linear"]


@dataclass(frozen=True)
class Activation:
    """An activation `f` with its derivative and the facts that the certificates rest on.

    Attributes:
        name: Two units may share a block only if their activations bear the same name.
        value: `z -> f(z)`, elementwise, on float64 arrays and on object arrays of exact scalars.
        slope: `z -> f'(z)`, likewise; at a kink the derivative that torch.autograd uses.
        kinks: Points where `f` is continuous but `f'` is not.
        scaling: The scales `s` with `f(s z) = s f(z)`: `"positive"` (all `s > 0`), `"sign"` (`s = ±1`),
            `"linear"` (all `s ≠ 0`), `None` (only `s = 1`).
        flat: Closed intervals on which `f' = 0`: a unit whose pre-activation stays there is frozen.
        range: Infimum and supremum of `f` over the reals.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    kinks: tuple[float, ...] = ()
    scaling: Scaling | None = None
    flat: tuple[tuple[float, float], ...] = ()
    range: tuple[float, float] = (-INFINITY, INFINITY)

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name; an `Activation` is returned as it is.

    Raises:
        ValueError: The name is unknown; the message lists the names that are near.
    """
    if isinstance(activation, Activation):
        return activation
    known = named()
    if activation not in known:
        near = get_close_matches(str(activation), known) or sorted(known)
        raise ValueError(f"activation {activation!r} is unknown; did you mean one of {', '.join(near)}?")
    return known[activation]


def unspecified(name: str) -> Activation:
    """Return a symbolic activation about which nothing is assumed but that `f` and `f'` are functions.

    Both are undefined SymPy functions, `name` and `d{name}`: what holds for them holds for every activation.
    """
    f, df = sympy.Function(name), sympy.Function(f"d{name}")
    return Activation(name, _elementwise(f), _elementwise(df))


def _elementwise(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """Return `function` lifted to arrays of exact scalars."""

    def lifted(z: Array) -> Array:
        return np.asarray(np.frompyfunc(function, 1, 1)(np.asarray(z, dtype=object)), dtype=object)

    return lifted


def _on(floats: Callable[[Array], Array], exact: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """Return a function that uses `floats` on float arrays and `exact` on each scalar of any other array."""
    lifted = _elementwise(exact)

    def function(z: Array) -> Array:
        z = np.asarray(z)
        return lifted(z) if z.dtype == object else np.asarray(floats(z))

    return function


def _transcendental(name: str) -> Callable[[Any], Any]:
    """Return the function of that name on one SymPy expression or one Arb ball."""

    def function(z: Any) -> Any:
        if isinstance(z, flint.arb):
            return getattr(z, name)()
        if isinstance(z, sympy.Basic):
            return getattr(sympy, name)(z)
        raise TypeError(f"{name}({z!r}) is no rational number; for an exact {name} give SymPy numbers or Arb balls")

    return function


def _is_ball(z: Any) -> bool:
    return isinstance(z, flint.arb)


def _step(z: Any) -> Any:
    """Return the derivative of ReLU, 0 at 0; on a ball that contains 0, the ball [0, 1]."""
    if _is_ball(z):
        return flint.arb(1) if z > 0 else flint.arb(0) if z <= 0 else flint.arb(0.5, 0.5)
    if isinstance(z, sympy.Basic):
        return sympy.Piecewise((1, z > 0), (0, True))
    return type(z)(z > 0)


def _relu(z: Any) -> Any:
    if _is_ball(z):
        return z.max(flint.arb(0))
    if isinstance(z, sympy.Basic):
        return sympy.Max(z, 0)
    return max(z, type(z)(0))


def _box(z: Any) -> Any:
    """Return the indicator of (-1, 1); on a ball that crosses an end, the ball [0, 1]."""
    if _is_ball(z):
        outside = z <= -1 or z >= 1
        return flint.arb(1) if abs(z) < 1 else flint.arb(0) if outside else flint.arb(0.5, 0.5)
    if isinstance(z, sympy.Basic):
        return sympy.Piecewise((1, sympy.Abs(z) < 1), (0, True))
    return type(z)(abs(z) < 1)


def _clamp(z: Any) -> Any:
    if _is_ball(z):
        return z.max(flint.arb(-1)).min(flint.arb(1))
    if isinstance(z, sympy.Basic):
        return sympy.Max(sympy.Min(z, 1), -1)
    return max(min(z, type(z)(1)), type(z)(-1))


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + _transcendental("exp")(-z))


def _one(z: Any) -> Any:
    return z * 0 + 1


def _leak(slope: Fraction) -> Activation:
    """Return leaky ReLU, `z` above zero and `slope · z` below."""

    def exact_slope(z: Any) -> Any:
        return slope_like(z) + (1 - slope_like(z)) * _step(z)

    def slope_like(z: Any) -> Any:
        return flint.arb(flint.fmpq(slope.numerator, slope.denominator)) if _is_ball(z) else slope

    return Activation(
        f"leaky_relu({slope})" if slope != Fraction(1, 100) else "leaky_relu",
        _on(
            lambda z: np.where(z > 0, z, float(slope) * z),
            lambda z: slope_like(z) * z + (1 - slope_like(z)) * _relu(z),
        ),
        _on(lambda z: np.where(z > 0, 1.0, float(slope)), exact_slope),
        kinks=(0.0,),
        scaling="positive",
    )


@cache
def named() -> dict[str, Activation]:
    """Return every activation that has a name, by that name."""
    tanh, erf, sin = _transcendental("tanh"), _transcendental("erf"), _transcendental("sin")
    exp, cos = _transcendental("exp"), _transcendental("cos")
    activations = (
        Activation("linear", lambda z: np.asarray(z) + 0, _on(np.ones_like, _one), scaling="linear"),
        Activation(
            "one",
            _on(np.ones_like, _one),
            _on(np.zeros_like, lambda z: z * 0),
            flat=((-INFINITY, INFINITY),),
            range=(1.0, 1.0),
        ),
        Activation(
            "relu",
            _on(lambda z: np.maximum(z, 0.0), _relu),
            _on(lambda z: np.where(z > 0, 1.0, 0.0), _step),
            kinks=(0.0,),
            scaling="positive",
            flat=((-INFINITY, 0.0),),
            range=(0.0, INFINITY),
        ),
        _leak(Fraction(1, 100)),
        Activation("square", lambda z: np.asarray(z) * z, lambda z: 2 * np.asarray(z), range=(0.0, INFINITY)),
        Activation("cube", lambda z: np.asarray(z) * z * z, lambda z: 3 * np.asarray(z) * z, scaling="sign"),
        Activation(
            "hardtanh",
            _on(lambda z: np.clip(z, -1.0, 1.0), _clamp),
            _on(lambda z: np.where(np.abs(z) < 1, 1.0, 0.0), _box),
            kinks=(-1.0, 1.0),
            scaling="sign",
            flat=((-INFINITY, -1.0), (1.0, INFINITY)),
            range=(-1.0, 1.0),
        ),
        Activation(
            "tanh",
            _on(np.tanh, tanh),
            _on(lambda z: 1 - np.tanh(z) ** 2, lambda z: 1 - tanh(z) ** 2),
            scaling="sign",
            range=(-1.0, 1.0),
        ),
        Activation("sin", _on(np.sin, sin), _on(np.cos, cos), scaling="sign", range=(-1.0, 1.0)),
        Activation(
            "sigmoid",
            _on(lambda z: 0.5 * (1 + np.tanh(z / 2)), _sigmoid),
            _on(lambda z: 0.25 * (1 - np.tanh(z / 2) ** 2), lambda z: _sigmoid(z) * (1 - _sigmoid(z))),
            range=(0.0, 1.0),
        ),
        Activation(
            "gelu",
            _on(_gelu, lambda z: z * _normal_cdf(z, erf)),
            _on(_gelu_slope, lambda z: _normal_cdf(z, erf) + z * _normal_pdf(z, exp)),
            range=(-0.16997120747, INFINITY),
        ),
    )
    return {activation.name: activation for activation in activations}


def _gelu(z: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(z * ndtr(z))


def _gelu_slope(z: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


def _normal_cdf(z: Any, erf: Callable[[Any], Any]) -> Any:
    root_two = flint.arb(2).sqrt() if _is_ball(z) else sympy.sqrt(2)
    return (1 + erf(z / root_two)) / 2


def _normal_pdf(z: Any, exp: Callable[[Any], Any]) -> Any:
    two_pi = 2 * flint.arb.pi() if _is_ball(z) else 2 * sympy.pi
    return exp(-z * z / 2) / (two_pi.sqrt() if _is_ball(z) else sympy.sqrt(two_pi))
