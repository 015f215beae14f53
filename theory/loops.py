"""Dual kernels on blocks of float64, by loops that numba compiles: one pass over a block, nothing allocated but the
result.

Each loop writes `(K(ρ) − shift) · scale`; `fill` chooses the one of a closed form. The formulas are those of
`theory.closed_forms`, which does without numba and its second of import.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import singledispatch
from typing import Any

import numba
import numpy as np

from theory import closed_forms
from theory.closed_forms import ArcCosine, ErrorFunction, GaussianUnit, Gelu, Polynomial, Sine
from theory.scalars import Array

ENOUGH = Fraction(10**300)  # e^{−10³⁰⁰ (1 − ρ)} is 0 for every float64 ρ < 1
SPARING = 300  # e^{−2 · 300} is a normal float64, so that a quotient of two such exponentials keeps its digits

orthant_mass = numba.njit(closed_forms.orthant_mass)
orthant_product = numba.njit(closed_forms.orthant_product)
orthant_squares = numba.njit(closed_forms.orthant_squares)
gelu_kernel = numba.njit(closed_forms.gelu_kernel, error_model="numpy")


@numba.njit(cache=True, error_model="numpy")
def fill_step(rho, angle, same, opposite, shift, scale, out):
    """Write an arc-cosine kernel of degree 0 for `angle = arccos ρ`."""
    for i in range(rho.size):
        mass = orthant_mass(rho[i], 0.0, angle[i], math.pi)
        other = orthant_mass(-rho[i], 0.0, math.pi - angle[i], math.pi)
        out[i] = (same * mass + opposite * other - shift) * scale


@numba.njit(cache=True, error_model="numpy")
def fill_ramp(rho, angle, same, opposite, shift, scale, out):
    """Write an arc-cosine kernel of degree 1 for `angle = arccos ρ`."""
    for i in range(rho.size):
        sine = math.sqrt((1 - rho[i]) * (1 + rho[i]))
        product = orthant_product(rho[i], sine, angle[i], math.pi)
        other = orthant_product(-rho[i], sine, math.pi - angle[i], math.pi)
        out[i] = (same * product + opposite * other - shift) * scale


@numba.njit(cache=True, error_model="numpy")
def fill_parabola(rho, angle, same, opposite, shift, scale, out):
    """Write an arc-cosine kernel of degree 2 for `angle = arccos ρ`."""
    for i in range(rho.size):
        sine = math.sqrt((1 - rho[i]) * (1 + rho[i]))
        squares = orthant_squares(rho[i], sine, angle[i], math.pi)
        other = orthant_squares(-rho[i], sine, math.pi - angle[i], math.pi)
        out[i] = (same * squares + opposite * other - shift) * scale


@numba.njit(cache=True, error_model="numpy")
def fill_waves(near, far, phase, shift, scale, out):
    """Write `½ (near + phase · far)`, the kernel of a sine or cosine: `near = e^{−a²(1−ρ)}`, `far = e^{−a²(1+ρ)}`.

    The two exponentials come from outside, since NumPy takes them for a whole block at once.
    """
    for i in range(out.size):
        out[i] = ((near[i] + phase * far[i]) / 2 - shift) * scale


@numba.njit(cache=True, error_model="numpy")
def fill_gaussian(rho, rest, ratio, shifted, shift, scale, out):
    """Write the kernel of `exp(−(a z + b)²/2)`: `rest = 1/(1 + a²)`, `ratio = a² rest`, `shifted = b² rest`.

    `rest e^{−shifted/far}/√(near far)` with `near, far = rest + ratio (1 ∓ ρ)`: the formula divided through by
    `1 + a²`, so that no term is large where `a` is.
    """
    for i in range(rho.size):
        near, far = rest + ratio * (1 - rho[i]), rest + ratio * (1 + rho[i])
        out[i] = (rest / math.sqrt(near * far) * math.exp(-shifted / far) - shift) * scale


@numba.njit(cache=True, error_model="numpy")
def fill_gelu(rho, angle, shift, scale, out):
    """Write the kernel of GELU for `angle = arcsin(ρ/2)`."""
    for i in range(rho.size):
        root = math.sqrt((2 - rho[i]) * (2 + rho[i]))
        out[i] = (gelu_kernel(rho[i], root, angle[i], math.pi) - shift) * scale


@numba.njit(cache=True, error_model="numpy")
def fill_polynomial(rho, shares, out):
    """Write `Σ_k shares[k] ρᵏ`, shifted and scaled beforehand, by Horner's rule."""
    out[:] = shares[-1]
    for k in range(shares.size - 2, -1, -1):
        share = shares[k]
        for i in range(rho.size):
            out[i] = out[i] * rho[i] + share


fill_arc_cosine = (fill_step, fill_ramp, fill_parabola)


@numba.njit(cache=True, fastmath={"contract"})
def chebyshev_sum(t, unit, coefficients, shift, scale, out):
    """Write `shift + scale · Σ_n coefficients[n] T_n(unit · t)` into `out`, by Clenshaw's recurrence.

    Runs over 64 points at a time, so that the recurrence is one of vectors that stay in registers and cache; two
    steps a turn, so that nothing is moved. Fused multiply-add is allowed, no other reordering.

    Args:
        t: Float64 of shape (n,), `|unit · t| ≤ 1`.
        unit: A number.
        coefficients: Float64, at least one.
        shift, scale: Numbers.
        out: Float64 of shape (n,).

    >>> out = np.empty(1)
    >>> chebyshev_sum(np.array([0.5]), 1.0, np.array([1.0, 2.0, 4.0]), 0.0, 1.0, out)  # 1 + 2 t + 4 (2 t² − 1)
    >>> out.tolist()
    [0.0]
    """
    width, even = 64, coefficients.size % 2
    high, low, double = np.empty(width), np.empty(width), np.empty(width)
    for start in range(0, t.size, width):
        count = min(width, t.size - start)
        for j in range(count):
            high[j], low[j], double[j] = 0.0, 0.0, 2 * unit * t[start + j]
        for n in range(coefficients.size - 1, 1, -2):
            c, d = coefficients[n], coefficients[n - 1]
            for j in range(count):
                low[j] = double[j] * high[j] - low[j] + c
                high[j] = double[j] * low[j] - high[j] + d
        last = 0.0 if even else coefficients[1]
        for j in range(count):
            if not even:
                high[j], low[j] = double[j] * high[j] - low[j] + last, high[j]
            out[start + j] = shift + scale * (coefficients[0] + double[j] / 2 * high[j] - low[j])


@numba.njit(cache=True)
def pin(rho, out, at_minus_one, at_zero, at_one):
    """Write the exact values at −1, 0 and 1.

    >>> out = np.full(3, 0.1)
    >>> pin(np.array([-1.0, 0.5, 1.0]), out, -1.0, 0.0, 1.0)
    >>> out.tolist()
    [-1.0, 0.1, 1.0]
    """
    for i in range(rho.size):
        value = at_zero if rho[i] == 0 else out[i]
        value = at_one if rho[i] == 1 else value
        out[i] = at_minus_one if rho[i] == -1 else value


@singledispatch
def fill(kernel: Any, rho: Array, out: Array, shift: float, scale: float) -> None:
    """Write `(K(ρ) − shift) · scale` of an elementary kernel into `out`.

    Args:
        kernel: A closed form.
        rho: Correlations in [−1, 1], float64 of shape (n,).
        out: Float64 of shape (n,).
        shift, scale: Finite numbers.

    Raises:
        NotImplementedError: There is no loop for a kernel of this kind.

    >>> out = np.empty(2)
    >>> fill(Polynomial((Fraction(0), Fraction(1))), np.array([0.5, 1.0]), out, 0.0, 2.0)
    >>> out.tolist()
    [1.0, 2.0]
    """
    raise NotImplementedError(f"there is no loop for {kernel!r}; register one with theory.loops.fill")


@fill.register
def _arc_cosine(kernel: ArcCosine, rho: Array, out: Array, shift: float, scale: float) -> None:
    same, opposite = float(kernel.right**2 + kernel.left**2), float(2 * kernel.right * kernel.left)
    fill_arc_cosine[kernel.degree](rho, np.arccos(rho), same, opposite, shift, scale, out)


@fill.register
def _sine(kernel: Sine, rho: Array, out: Array, shift: float, scale: float) -> None:
    square = float(min(kernel.a**2, ENOUGH))
    near = np.exp(square * (rho - 1))
    far = math.exp(-2 * square) / near if square < SPARING else np.exp(-square * (rho + 1))
    fill_waves(near, far, kernel.float_phase, shift, scale, out)


@fill.register
def _error_function(kernel: ErrorFunction, rho: Array, out: Array, shift: float, scale: float) -> None:
    ratio, rest = float(kernel.ratio), float(1 - kernel.ratio)
    cosine = np.sqrt((rest + ratio * (1 - rho)) * (rest + ratio * (1 + rho)))
    np.arctan2(ratio * rho, cosine, out=out)
    out *= 2 * scale / math.pi
    if shift:
        out -= shift * scale


@fill.register
def _gaussian(kernel: GaussianUnit, rho: Array, out: Array, shift: float, scale: float) -> None:
    rest = 1 / (1 + kernel.a**2)
    fill_gaussian(rho, float(rest), float(1 - rest), float(kernel.b**2 * rest), shift, scale, out)


@fill.register
def _gelu(kernel: Gelu, rho: Array, out: Array, shift: float, scale: float) -> None:
    fill_gelu(rho, np.arcsin(rho / 2), shift, scale, out)


@fill.register
def _polynomial(kernel: Polynomial, rho: Array, out: Array, shift: float, scale: float) -> None:
    shares = np.array(kernel.shares, dtype=np.float64)
    shares[0] -= shift
    fill_polynomial(rho, scale * shares, out)
