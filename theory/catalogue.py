"""The activations that have names, each with the facts that kernels and certificates rest on."""

from __future__ import annotations

import copyreg
import math
from dataclasses import replace
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import sympy
from scipy import special

from theory.activation_facts import INFINITY, Activation, AnyActivation, Strip, from_callable, polynomial
from theory.closed_forms import ArcCosine, ErrorFunction, GaussianUnit, Gelu, Sine
from theory.pieces import Part, Pieces, Reciprocal, Term, normal_cdf, normal_pdf
from theory.scalars import Array, is_ball, like, on, pi_like, power, root, transcendental

Q = Fraction
ZERO, ONE, LEAK = Q(0), Q(1), Q(1, 100)
SELU_ALPHA = Q("1.6732632423543772848170429916717")  # Klambauer et al. 2017
SELU_SCALE = Q("1.0507009873554804934193349852946")
GELU_CUBIC = Q("0.044715")  # Hendrycks and Gimpel 2016
GELU_LINEAR = math.sqrt(2 / math.pi)
REALS, LEFT = ((-INFINITY, INFINITY),), ((-INFINITY, 0.0),)

_exp, _log, _tanh = transcendental("exp"), transcendental("log"), transcendental("tanh")
_erf, _sin, _cos = transcendental("erf"), transcendental("sin"), transcendental("cos")
ALIASES = {"swish": "silu", "hardswish": "hard_swish", "leakyrelu": "leaky_relu", "identity": "linear"}


def get(activation: AnyActivation) -> Activation:
    """Return the activation of that name; an `Activation` is returned as it is, a callable without kinks is
    wrapped.

    Raises:
        TypeError: It is neither a name nor an activation nor a callable.
        ValueError: The name is unknown; the message lists the names that are near.

    >>> get("ReLU"), get("swish"), get(np.tanh).name.startswith("tanh@")
    (Activation('relu'), Activation('silu'), True)
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
    """Return every activation that has a name, by that name.

    >>> sorted(named())[:4]
    ['abs', 'celu', 'cos', 'cube']
    """
    return {activation.name: activation for activation in catalogue()}


def _reduced(activation: Activation) -> Any:
    """Pickle a named activation by its name; others hold functions, which cannot be pickled."""
    known = named().get(activation.name) is activation
    return (get, (activation.name,)) if known else activation.__reduce_ex__(2)


copyreg.pickle(Activation, _reduced)


def catalogue() -> tuple[Activation, ...]:
    """Return every activation that has a name.

    >>> len(catalogue()) == len(named())
    True
    """
    return (
        *_polynomials(),
        *_ramps(),
        _modulus(),
        *_jumps(),
        *_exponential_units(),
        *_kinked(),
        *_sigmoids(),
        *_gelus(),
        *_smooth_ramps(),
        *_waves(),
    )


def leaky_relu(slope: Fraction = LEAK) -> Activation:
    """Return `z` above zero and `slope · z` below; the name tells any slope but 1/100.

    >>> leaky_relu(Fraction(1, 4)).value([Fraction(-2)]).tolist()
    [Fraction(-1, 2)]
    """

    def exact_slope(z: Any) -> Any:
        return like(slope, z) + (1 - like(slope, z)) * _step(z)

    return Activation(
        f"leaky_relu({slope})" if slope != LEAK else "leaky_relu",
        on(
            lambda z: np.where(z > 0, z, float(slope) * z),
            lambda z: like(slope, z) * z + (1 - like(slope, z)) * _relu(z),
        ),
        on(lambda z: np.where(z > 0, 1.0, float(slope)), exact_slope),
        kinks=(0.0,),
        scaling="positive",
        degree=1,
        tails="neither",
        kernel=ArcCosine(1, ONE, -slope),
        pieces=_at_zero(_power(slope, 1), _power(ONE, 1)),
    )


def elu(alpha: Fraction = ONE) -> Activation:
    """Return `z` above zero and `α (eᶻ − 1)` below, for `α > 0`.

    Source: Clevert et al. 2016.

    >>> elu(Fraction(2)).range
    (-2.0, inf)
    """
    return _exponential_unit("elu" if alpha == 1 else f"elu({alpha})", ONE, alpha, ONE)


def celu(alpha: Fraction = ONE) -> Activation:
    """Return `z` above zero and `α (e^{z/α} − 1)` below, for `α > 0`; its slope does not jump.

    Source: Barron 2017.

    >>> celu(Fraction(2)).kinks
    ()
    """
    return _exponential_unit("celu" if alpha == 1 else f"celu({alpha})", ONE, alpha, 1 / alpha)


def _exponential_unit(name: str, scale: Fraction, alpha: Fraction, rate: Fraction) -> Activation:
    s, a, r = float(scale), float(scale * alpha), float(rate)
    decay = (Term((scale * alpha,), rate), Term((-scale * alpha,)))
    pieces = _at_zero(decay, _power(scale, 1))
    return Activation(
        name,
        on(lambda z: np.where(z > 0, s * z, a * np.expm1(r * np.minimum(z, 0))), pieces),
        on(lambda z: np.where(z > 0, s, a * r * np.exp(r * np.minimum(z, 0))), pieces.derivative()),
        kinks=(0.0,) if alpha * rate != 1 else (),
        range=(-a, INFINITY),
        tails="half-vanishing",
        pieces=pieces,
    )


def _polynomials() -> tuple[Activation, ...]:
    linear, square = polynomial((0, 1), "linear"), polynomial((0, 0, 1), "square")
    cube, one = polynomial((0, 0, 0, 1), "cube"), polynomial((1,), "one")
    return (
        replace(linear, value=lambda z: np.asarray(z) + 0, slope=on(np.ones_like, _one)),
        replace(one, value=on(np.ones_like, _one), slope=on(np.zeros_like, lambda z: z * 0)),
        replace(
            square, value=lambda z: np.asarray(z) * z, slope=lambda z: 2 * np.asarray(z), range=(0.0, INFINITY)
        ),
        replace(cube, value=lambda z: np.asarray(z) * z * z, slope=lambda z: 3 * np.asarray(z) * z),
    )


def _ramps() -> tuple[Activation, ...]:
    parabola = _at_zero((), _power(ONE, 2))
    return (
        Activation(
            "relu",
            on(lambda z: np.maximum(z, 0.0), _relu),
            on(lambda z: np.where(z > 0, 1.0, 0.0), _step),
            kinks=(0.0,),
            scaling="positive",
            flat=LEFT,
            range=(0.0, INFINITY),
            degree=1,
            tails="half-vanishing",
            kernel=ArcCosine(1, ONE, ZERO),
            pieces=_at_zero((), _power(ONE, 1)),
        ),
        leaky_relu(),
        Activation(
            "relu2",
            on(lambda z: np.maximum(z, 0.0) ** 2, parabola),
            on(lambda z: 2 * np.maximum(z, 0.0), parabola.derivative()),
            flat=LEFT,
            range=(0.0, INFINITY),
            degree=2,
            tails="half-vanishing",
            kernel=ArcCosine(2, ONE, ZERO),
            pieces=parabola,
        ),
    )


def _modulus() -> Activation:
    modulus = _at_zero(_power(-ONE, 1), _power(ONE, 1), 0)
    return Activation(
        "abs",
        on(np.abs, modulus),
        on(np.sign, modulus.derivative()),
        kinks=(0.0,),
        range=(0.0, INFINITY),
        symmetry="even",
        scaling="positive",
        degree=1,
        tails="neither",
        kernel=ArcCosine(1, ONE, ONE),
        pieces=modulus,
    )


def _jumps() -> tuple[Activation, ...]:
    step, sign = _at_zero((), _power(ONE, 0)), _at_zero(_power(-ONE, 0), _power(ONE, 0), 0)
    return (
        Activation(
            "step",
            on(lambda z: np.where(z > 0, 1.0, 0.0), step),
            on(np.zeros_like, step.derivative()),
            kinks=(0.0,),
            flat=REALS,
            range=(0.0, 1.0),
            degree=0,
            tails="plateau",
            kernel=ArcCosine(0, ONE, ZERO),
            pieces=step,
        ),
        Activation(
            "sign",
            on(np.sign, sign),
            on(np.zeros_like, sign.derivative()),
            kinks=(0.0,),
            scaling="sign",
            flat=REALS,
            range=(-1.0, 1.0),
            symmetry="odd",
            degree=0,
            tails="plateau",
            kernel=ArcCosine(0, ONE, -ONE),
            pieces=sign,
        ),
    )


def _exponential_units() -> tuple[Activation, ...]:
    return elu(), celu(), _exponential_unit("selu", SELU_SCALE, SELU_ALPHA, ONE)


def _kinked() -> tuple[Activation, ...]:
    outer = (-1, 1)
    clamp = Pieces((-ONE, ONE), (_power(-ONE, 0), _power(ONE, 1), _power(ONE, 0)), outer)
    swish = Pieces((Q(-3), Q(3)), ((), (Term((ZERO, Q(1, 2), Q(1, 6))),), _power(ONE, 1)), outer)
    left, right = Reciprocal(ONE, ONE, -ONE), Reciprocal(-ONE, ONE, ONE)
    soft = _at_zero((Term((-ONE,)), left), (Term((ONE,)), right))
    return (
        Activation(
            "hardtanh",
            on(lambda z: np.clip(z, -1.0, 1.0), _clamp),
            on(lambda z: np.where(np.abs(z) < 1, 1.0, 0.0), _box),
            kinks=(-1.0, 1.0),
            scaling="sign",
            flat=((-INFINITY, -1.0), (1.0, INFINITY)),
            range=(-1.0, 1.0),
            symmetry="odd",
            tails="plateau",
            pieces=clamp,
        ),
        Activation(
            "hard_swish",
            on(lambda z: z * np.clip(z + 3, 0.0, 6.0) / 6, swish),
            on(_hard_swish_slope, swish.derivative()),
            kinks=(-3.0, 3.0),
            flat=((-INFINITY, -3.0),),
            range=(-0.375, INFINITY),
            tails="half-vanishing",
            pieces=swish,
        ),
        Activation(
            "softsign",
            on(lambda z: z / (1 + np.abs(z)), soft),
            on(lambda z: 1 / (1 + np.abs(z)) ** 2, soft.derivative()),
            scaling="sign",
            range=(-1.0, 1.0),
            symmetry="odd",
            tails="plateau",
            pieces=soft,
        ),
    )


def _sigmoids() -> tuple[Activation, ...]:
    """Return the smooth activations with two plateaus.

    Strips: `|tanh(x + iy)|² = (sinh² x + sin² y)/(sinh² x + cos² y) ≤ tan² y` if `|y| ≥ π/4`, and `tan(5/4) < 4`;
    `|1 + e^{−z}|` is at least 1 or `|sin y|`, and `sin(5/2) > 1/2`; `|erf(x + iy)| ≤ 1 + (2/√π) |y| e^{y²} < 18`
    for `|y| ≤ 3/2`, integrating upwards from `x`.
    """
    return (
        Activation(
            "tanh",
            on(np.tanh, _tanh),
            on(lambda z: 4 * special.expit(2 * z) * special.expit(-2 * z), lambda z: 1 - power(_tanh(z), 2)),
            scaling="sign",
            range=(-1.0, 1.0),
            symmetry="odd",
            tails="plateau",
            strip=Strip(Q(5, 4), Q(4)),
        ),
        Activation(
            "sigmoid",
            on(special.expit, _sigmoid),
            on(lambda z: special.expit(z) * special.expit(-z), lambda z: _sigmoid(z) * (1 - _sigmoid(z))),
            range=(0.0, 1.0),
            tails="plateau",
            strip=Strip(Q(5, 2), Q(2)),
        ),
        Activation(
            "erf",
            on(special.erf, _erf),
            on(lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z), lambda z: 2 * _exp(-z * z) / root(pi_like(z))),
            scaling="sign",
            range=(-1.0, 1.0),
            symmetry="odd",
            tails="plateau",
            kernel=ErrorFunction(),
            strip=Strip(Q(3, 2), Q(18)),
        ),
    )


def _gelus() -> tuple[Activation, ...]:
    """Return GELU and its tanh form.

    Strips: GELU is `z Φ(z)` with `|Φ(x + iy)| ≤ 1 + |y| e^{y²/2}/√(2π) < 7` for `|y| ≤ 2`. Its tanh form is
    `z σ(w)`, `w = √(8/π) (z + 0.044715 z³)`; for `|y| ≤ 9/10`, `|Re w| < log 2` forces `|x| < 1/2` and so
    `|Im w| < π/2`, hence `|1 + e^{−w}| ≥ 1/2` in every case.
    """
    return (
        Activation(
            "gelu",
            on(lambda z: z * special.ndtr(z), lambda z: z * normal_cdf(z)),
            on(
                lambda z: special.ndtr(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi),
                lambda z: normal_cdf(z) + z * normal_pdf(z),
            ),
            range=(-0.16997120748, INFINITY),
            tails="half-vanishing",
            kernel=Gelu(),
            strip=Strip(Q(2), Q(14), Q(7)),
        ),
        Activation(
            "gelu_tanh",
            on(_gelu_tanh, lambda z: z * (1 + _tanh(_gelu_argument(z))) / 2),
            on(_gelu_tanh_slope, _exact_gelu_tanh_slope),
            range=(-0.17004076, INFINITY),
            tails="half-vanishing",
            strip=Strip(Q(9, 10), Q(2), Q(2)),
        ),
    )


def _smooth_ramps() -> tuple[Activation, ...]:
    """Return the other smooth relatives of ReLU.

    Strips: `|σ| ≤ 2` as for the sigmoid. For `|y| ≤ 3/2 < π/2`, `u = 1 + eᶻ` has `Re u ≥ 1`, so that
    `|log u| ≤ log(1 + eˣ) + π/2 ≤ |x| + 5/2` (softplus), and mish is `z (1 − 2/(u² + 1))` with
    `|u² + 1| = |u − i||u + i| ≥ 1`.
    """
    return (
        Activation(
            "silu",
            on(lambda z: z * special.expit(z), lambda z: z * _sigmoid(z)),
            on(
                lambda z: special.expit(z) * (1 + z * special.expit(-z)),
                lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z))),
            ),
            range=(-0.27846454277, INFINITY),
            tails="half-vanishing",
            strip=Strip(Q(5, 2), Q(5), Q(2)),
        ),
        Activation(
            "softplus",
            on(lambda z: np.logaddexp(0.0, z), lambda z: _log(1 + _exp(z))),
            on(special.expit, _sigmoid),
            range=(0.0, INFINITY),
            tails="half-vanishing",
            strip=Strip(Q(3, 2), Q(5, 2), ONE),
        ),
        Activation(
            "mish",
            on(lambda z: z * np.tanh(np.logaddexp(0.0, z)), lambda z: z * _mish_gate(z)),
            on(_mish_slope, lambda z: _mish_gate(z) + z * _sigmoid(z) * (1 - power(_mish_gate(z), 2))),
            range=(-0.30884342, INFINITY),
            tails="half-vanishing",
            strip=Strip(Q(3, 2), Q(9, 2), Q(3)),
        ),
    )


def _waves() -> tuple[Activation, ...]:
    """Return sine, cosine and the Gaussian `exp(−z²/2)`; for `|y| ≤ 2` they are below cosh 2 < 4 and e² < 8."""
    return (
        Activation(
            "sin",
            on(np.sin, _sin),
            on(np.cos, _cos),
            scaling="sign",
            range=(-1.0, 1.0),
            symmetry="odd",
            tails="neither",
            kernel=Sine(),
            strip=Strip(Q(2), Q(4)),
        ),
        Activation(
            "cos",
            on(np.cos, _cos),
            on(lambda z: -np.sin(z), lambda z: -_sin(z)),
            range=(-1.0, 1.0),
            symmetry="even",
            tails="neither",
            kernel=Sine(cosine=True),
            strip=Strip(Q(2), Q(4)),
        ),
        Activation(
            "gaussian",
            on(lambda z: np.exp(-(z**2) / 2), lambda z: _exp(-z * z / 2)),
            on(lambda z: -z * np.exp(-(z**2) / 2), lambda z: -z * _exp(-z * z / 2)),
            range=(0.0, 1.0),
            symmetry="even",
            tails="plateau",
            kernel=GaussianUnit(),
            strip=Strip(Q(2), Q(8)),
        ),
    )


def _at_zero(left: Part, right: Part, side: int = -1) -> Pieces:
    return Pieces((ZERO,), (left, right), (side,))


def _power(coefficient: Fraction, degree: int) -> Part:
    return (Term((ZERO,) * degree + (coefficient,)),)


def _one(z: Any) -> Any:
    return z * 0 + 1


def _relu(z: Any) -> Any:
    if is_ball(z):
        return z.max(z * 0)
    return sympy.Max(z, 0) if isinstance(z, sympy.Basic) else max(z, type(z)(0))


def _step(z: Any) -> Any:
    """Return the derivative of ReLU, 0 at 0; on a ball that contains 0, the ball [0, 1]."""
    if is_ball(z):
        return z * 0 + 1 if z > 0 else z * 0 if z <= 0 else _unit_interval(z)
    if isinstance(z, sympy.Basic):
        return sympy.Piecewise((1, z > 0), (0, True))
    return type(z)(z > 0)


def _clamp(z: Any) -> Any:
    if is_ball(z):
        return z.max(z * 0 - 1).min(z * 0 + 1)
    if isinstance(z, sympy.Basic):
        return sympy.Max(sympy.Min(z, 1), -1)
    return max(min(z, type(z)(1)), type(z)(-1))


def _box(z: Any) -> Any:
    """Return the indicator of (-1, 1); on a ball that crosses an end, the ball [0, 1]."""
    if is_ball(z):
        outside = z <= -1 or z >= 1
        return z * 0 + 1 if abs(z) < 1 else z * 0 if outside else _unit_interval(z)
    if isinstance(z, sympy.Basic):
        return sympy.Piecewise((1, sympy.Abs(z) < 1), (0, True))
    return type(z)(abs(z) < 1)


def _unit_interval(z: Any) -> Any:
    return type(z)(0.5, 0.5)


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + _exp(-z))


def _mish_gate(z: Any) -> Any:
    return 1 - 2 / (power(1 + _exp(z), 2) + 1)


def _gelu_argument(z: Any) -> Any:
    return root(2 / pi_like(z)) * (z + like(GELU_CUBIC, z) * power(z, 3))


def _exact_gelu_tanh_slope(z: Any) -> Any:
    gate = _tanh(_gelu_argument(z))
    inner = root(2 / pi_like(z)) * (1 + 3 * like(GELU_CUBIC, z) * z * z)
    return (1 + gate + z * (1 - power(gate, 2)) * inner) / 2


def _gelu_tanh(z: Array) -> Array:
    return np.asarray(z * special.expit(2 * GELU_LINEAR * z * (1 + float(GELU_CUBIC) * z * z)))


def _gelu_tanh_slope(z: Array) -> Array:
    square = z * z
    gate = np.tanh(z * (GELU_LINEAR + GELU_LINEAR * float(GELU_CUBIC) * square))
    inner = GELU_LINEAR * (1 + 3 * float(GELU_CUBIC) * square)
    return np.asarray((1 + gate + z * (1 - gate * gate) * inner) / 2)


def _mish_slope(z: Array) -> Array:
    gate = np.tanh(np.logaddexp(0.0, z))
    return np.asarray(gate + z * special.expit(z) * (1 - gate**2))


def _hard_swish_slope(z: Array) -> Array:
    return np.asarray(np.where(z <= -3, 0.0, np.where(z < 3, z / 3 + 0.5, 1.0)))
