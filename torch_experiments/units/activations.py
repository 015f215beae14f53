"""Activations by the operation that computes them: where they are flat, their range, and their symmetries.

One line an activation. Derivatives are those of torch.autograd, at kinks too: at its ends `relu` is flat, `clamp`
is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

INFINITY = math.inf


class Piece(NamedTuple):
    """A closed interval ``[low, high]`` on which an activation is constant."""

    low: float
    high: float
    value: float


@dataclass(frozen=True)
class Activation:
    """What is known of an activation ``f`` with its arguments.

    Attributes:
        flat: intervals on which ``f' = 0``.
        low, high: bounds of ``f`` over the reals; a minimum inside is rounded down.
        shape: ``"monotone"`` (never decreasing), ``"valley"`` (decreasing up to ``turning``, then increasing),
            ``"neither"``.
        turning: where a valley has its minimum.
        odd: ``f(−z) = −f(z)``: units may be copied with the opposite sign.
        homogeneous: ``f(s z) = s f(z)`` for all ``s > 0``: units may be copied with a scale.
        exact: ``f`` only chooses among ``z`` and constants, so it does not round.
    """

    flat: tuple[Piece, ...] = ()
    low: float = -INFINITY
    high: float = INFINITY
    shape: Literal["monotone", "valley", "neither"] = "monotone"
    turning: float = 0.0
    odd: bool = False
    homogeneous: bool = False
    exact: bool = False

    @property
    def nonnegative(self) -> bool:
        """Whether ``f(z) ≥ 0`` for all ``z``."""
        return self.low >= 0

    def piece(self, low: float, high: float) -> Piece | None:
        """Return the flat piece that contains ``[low, high]``, if there is one."""
        return next((p for p in self.flat if p.low <= low and high <= p.high), None)


Arguments = Mapping[str, Any]
UNKNOWN = Activation(shape="neither")


def activation(name: str, arguments: Arguments) -> Activation | None:
    """Return the activation that an operation computes, None if it is none.

    Args:
        name: ATen name, as ``"aten::relu_"``.
        arguments: all of its arguments by name, as in `registry.Call`.

    >>> relu = activation("aten::relu", {})
    >>> relu.flat, relu.homogeneous, relu.piece(-2, -1).value
    ((Piece(low=-inf, high=0, value=0.0),), True, 0.0)
    """
    make = ACTIVATIONS.get(name.removeprefix("aten::").removesuffix("_"))
    return None if make is None else make(arguments)


def _always(**facts: Any) -> Callable[[Arguments], Activation]:
    found = Activation(**facts)
    return lambda _: found


def _leaky(slope: float) -> Activation:
    """Return ``max(z, 0) + slope · min(z, 0)``."""
    if slope == 0:
        return Activation((Piece(-INFINITY, 0, 0.0),), 0.0, homogeneous=True)
    if slope < 0:
        return Activation((), 0.0, shape="valley", homogeneous=True)
    return Activation(homogeneous=True)


def _between(low: float, high: float) -> Activation:
    """Return ``min(max(z, low), high)``, whose derivative is zero at ``low`` and ``high``."""
    flat = (Piece(-INFINITY, low, low), Piece(high, INFINITY, high))
    return Activation(flat, low, high, odd=low == -high, exact=True)


def _clamp(low: Any, high: Any) -> Activation | None:
    """Return ``min(max(z, low), high)``, whose derivative is one at ``low`` and ``high``; tensors are no bounds."""
    if not all(bound is None or isinstance(bound, int | float) for bound in (low, high)):
        return None
    below = () if low is None else (Piece(-INFINITY, math.nextafter(low, -INFINITY), float(low)),)
    above = () if high is None else (Piece(math.nextafter(high, INFINITY), INFINITY, float(high)),)
    if low is not None and high is not None and low > high:  # torch takes the upper bound, whatever comes in
        return Activation((Piece(-INFINITY, INFINITY, float(high)),), float(high), float(high), exact=True)
    lowest, highest = -INFINITY if low is None else float(low), INFINITY if high is None else float(high)
    return Activation(
        below + above,
        lowest,
        highest,
        odd=lowest == -highest and low is not None,
        homogeneous={lowest, highest} <= {0.0, -INFINITY, INFINITY},
        exact=True,
    )


def _threshold(at: float, value: float) -> Activation:
    """Return ``z`` above ``at``, else ``value``."""
    shape: Literal["monotone", "neither"] = "monotone" if value <= at else "neither"
    plain = at == value == 0
    return Activation((Piece(-INFINITY, at, value),), min(at, value), shape=shape, homogeneous=plain, exact=True)


def _shrink(width: float) -> Activation:
    """Return an odd function that is zero on ``[−width, width]``; shrinking by nothing is the identity."""
    flat = (Piece(-width, width, 0.0),) if width > 0 else ()
    return Activation(flat, odd=True, homogeneous=not width)


def _elu(alpha: float, scale: float, steepness: float) -> Activation:
    """Return ``scale · z`` above zero, ``alpha · scale · (exp(steepness · z) − 1)`` below."""
    if min(alpha, scale, steepness) < 0:
        return UNKNOWN  # the branch below zero then rises to the left, or the whole is turned over
    return Activation((), -alpha * scale)


def _softplus(beta: float, threshold: float) -> Activation:
    """Return ``log(1 + exp(beta · z)) / beta``, and ``z`` where ``beta · z > threshold``."""
    if beta <= 0 or threshold < 0:
        return UNKNOWN
    # at a low threshold the switch to z is a jump downwards; at 20, torch's default, of 2e-9
    return Activation(low=0.0, shape="monotone" if threshold >= 20 else "neither")


def _random_leaky(lower: float, upper: float) -> Activation:
    """Return a leaky ReLU whose slope is drawn between two numbers in training, their mean in eval mode."""
    return _leaky((lower + upper) / 2) if lower > 0 or lower == upper else UNKNOWN


def _gelu(approximate: str) -> Activation:
    if approximate == "tanh":
        return Activation((), -0.17004075057125413, shape="valley", turning=-0.752461422071016258)
    return Activation((), -0.16997120747990373, shape="valley", turning=-0.751791524693564457)


ACTIVATIONS: Mapping[str, Callable[[Arguments], Activation | None]] = {
    "relu": _always(flat=(Piece(-INFINITY, 0, 0.0),), low=0.0, homogeneous=True, exact=True),
    "leaky_relu": lambda a: _leaky(a["negative_slope"]),
    "rrelu_with_noise": lambda a: _random_leaky(a["lower"], a["upper"]),
    "_prelu_kernel": _always(shape="neither", homogeneous=True),
    "prelu": _always(shape="neither", homogeneous=True),
    "hardtanh": lambda a: _between(a["min_val"], a["max_val"]),
    "clamp": lambda a: _clamp(a["min"], a["max"]),
    "clamp_min": lambda a: _clamp(a["min"], None),
    "clamp_max": lambda a: _clamp(None, a["max"]),
    "threshold": lambda a: _threshold(a["threshold"], a["value"]),
    "hardsigmoid": _always(flat=(Piece(-INFINITY, -3, 0.0), Piece(3, INFINITY, 1.0)), low=0.0, high=1.0),
    "hardswish": _always(flat=(Piece(-INFINITY, -3, 0.0),), low=-0.375, shape="valley", turning=-1.5),
    "softshrink": lambda a: _shrink(a["lambd"]),
    "hardshrink": lambda a: _shrink(a["lambd"]),
    "sigmoid": _always(low=0.0, high=1.0),
    "log_sigmoid_forward": _always(high=0.0),
    "softplus": lambda a: _softplus(a["beta"], a["threshold"]),
    "tanh": _always(low=-1.0, high=1.0, odd=True),
    "erf": _always(low=-1.0, high=1.0, odd=True),
    "sin": _always(low=-1.0, high=1.0, shape="neither", odd=True),
    "elu": lambda a: _elu(a["alpha"], a["scale"], a["input_scale"]),
    "celu": lambda a: Activation((), -a["alpha"]) if a["alpha"] > 0 else UNKNOWN,
    "gelu": lambda a: _gelu(a["approximate"]),
    "silu": _always(low=-0.27846454276107390, shape="valley", turning=-1.2784645427610738),
    "mish": _always(low=-0.30884341301725052, shape="valley", turning=-1.19243121451549521),
}
