"""One policy for every tolerance, so that no test and no certificate invents its own.

Exact algebra compares with `==` and enclosures by containment; neither has a tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

EPS = float(np.finfo(np.float64).eps)
IDENTITY = 64  # eps: some tens of operations each, whose errors add up in the worst case
SINGLE = float(np.finfo(np.float32).eps)
HALVES = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # eps of types in which sums are not kept, only their results


def float64_identity(scale: float = 0.0) -> float:
    """Return `64 eps (1 + scale)`: how far two float64 evaluations of one identity may lie apart.

    >>> float64_identity(1.0) == 128 * EPS
    True
    """
    return IDENTITY * EPS * (1 + abs(scale))


def float32_identity(scale: float = 0.0) -> float:
    """Return `10 √eps₃₂ (1 + scale)`: how far two float32 evaluations of one identity may lie apart.

    The same test belongs beside it in float64, since half the digits hide much.

    >>> float64_identity() < float32_identity() < 0.004
    True
    """
    return 10 * math.sqrt(float(np.finfo(np.float32).eps)) * (1 + abs(scale))


def quadrature(estimate: float) -> float:
    """Return ten times the error that a quadrature rule estimates for itself.

    >>> quadrature(-0.5)
    5.0
    """
    return 10 * abs(estimate)


def ode(rtol: float) -> float:
    """Return a hundred times the relative tolerance given to an ODE solver, which bounds a step, not their sum.

    >>> ode(0.25)
    25.0
    """
    return 100 * rtol


def monte_carlo(standard_error: float) -> float:
    """Return five standard errors: a right value is farther off once in two million draws.

    >>> monte_carlo(0.5)
    2.5
    """
    return 5 * abs(standard_error)


# ------------------------------------------------------------------------------------------------ theory in float64


def correlation(dtype: Any = np.float64) -> float:
    """Return `64 eps` of float32 or float64: a cosine that is off by a few roundings still counts as ±1.

    >>> correlation(np.float32) == 2**29 * correlation()
    True
    """
    return IDENTITY * float(np.finfo(np.float32 if dtype == np.float32 else np.float64).eps)


def rounding_unit(values: Any) -> float:
    """Return `eps` of the type in which values were given, of NumPy or torch; other types are read as float64.

    >>> rounding_unit([1.0]) == EPS < rounding_unit(np.float32([1.0])) < rounding_unit(np.float16([1.0]))
    True
    """
    return ({"float32": SINGLE} | HALVES).get(_type_name(values), EPS)


def zero_eigenvalue(matrix: Any) -> float:
    """Return `64 n eps`: what rounding leaves of an eigenvalue that is zero, relative to the largest.

    In half precision it is `2 √n eps`, at most a half: products are summed in float32 there, and an entry is
    rounded a few times, each by `eps/2` of itself. That moves no eigenvalue by more than
    `eps/2 ‖C‖_F ≤ eps/2 √n λ_max`.

    >>> zero_eigenvalue(np.eye(3)) == 192 * EPS, zero_eigenvalue(np.eye(4, dtype=np.float16)) == 2**-8
    (True, True)
    """
    n = np.shape(matrix)[-1]
    if _type_name(matrix) in HALVES:
        return min(0.5, 2 * math.sqrt(n) * rounding_unit(matrix))
    return IDENTITY * n * rounding_unit(matrix)


def matrix_entry(matrix: Any) -> float:
    """Return `64 eps (1 + √n)`: what rounding its entries may do to an eigenvalue of a matrix of unit size.

    In half precision `2 eps (1 + √n)`, at most a half, as in `zero_eigenvalue`.

    >>> matrix_entry(np.eye(4)) == 192 * EPS, matrix_entry(np.eye(4, dtype=np.float16)) == 6 * 2**-10
    (True, True)
    """
    grown = rounding_unit(matrix) * (1 + math.sqrt(np.shape(matrix)[-1] if np.ndim(matrix) else 1))
    return min(0.5, 2 * grown) if _type_name(matrix) in HALVES else IDENTITY * grown


def _type_name(values: Any) -> str:
    given = values.dtype if hasattr(values, "dtype") else np.asarray(values).dtype
    return str(getattr(given, "name", given)).removeprefix("torch.")


CONSTANT = float64_identity()  # of √E φ²: a deviation below it is rounding, and nothing is left to standardise
LEAST_SHARE = 1e-3  # of √E φ²: below it, subtracting the mean leaves float64 fewer than 12 digits
CRITICAL = float64_identity(10)  # of a slope at a fixed point: a ratio of two quadratures, each of size up to 10
KINK = 1e-9  # step to either side of a kink, relative to where it lies
JUMP = 1e-6  # of f over two such steps: a slope below 500 moves it by less, a jump by more
RESOLVED = 1e-14  # of the largest: coefficients of a series below it are the rounding of the values they come from
VANISHED = 1e-17  # of the largest: coefficients below it cannot change a sum in float64
NODE = EPS / 100  # noise of a Chebyshev coefficient; it is averaged over many nodes, and so below that of one value
TAIL = 1e-18  # of E f²: mass that is left out beyond the panels; a hundredth of what rounding costs
SQUARED_TAIL = 1e-34  # the same where f h_n is integrated: Cauchy and Schwarz take its root
NARROWEST = 1e-9  # a panel still rough at this width holds a kink; it errs by the order of its width squared
FIXED_POINT = 1e-12  # how far from its ball a fixed point in float64 may lie, unless it is nearly critical
ROOT = 1e-15  # of a root in [0, 1]: the last few float64 below 1
SINE_SERIES = 1e-3  # of s²: the series of s² coth s² − 1 is better below, where the difference has lost six digits

# ------------------------------------------------------------------------------------------- simulations in float64

FLOW_RTOL, FLOW_ATOL = 1e-9, 1e-12  # of an order-8 solver, so that `ode` grants seven digits
ON_MANIFOLD = 1e-9  # of the largest weight: what many steps of descent that keep the manifold may add up to
NO_SPLIT = 1e-12  # length of what is left of a standard normal vector when projected onto no direction at all
SPECTRUM_END = 1e-6  # of ARPACK's Ritz values: only their signs and directions count, `q` is evaluated anew
KEPT, LEFT = 1e-12, 1e-3  # relative residual of a manifold: of rounding after 300 steps, and of a rule that leaves
NO_GRADIENT = 1e-30  # a norm below it is that of a zero matrix, which stays zero instead of becoming NaN
SILENT = 1e-12  # of the largest column: a column below it is zero to rounding, and its cosines are noise
SMALLEST = 1e-300  # stands for the largest column where all are zero
COPY = 1e-12  # of a unit's activations: a multiple of another unit up to rounding of some hundred products

# ----------------------------------------------------------------------------------------------- networks in torch
# Multiples of eps, the rounding unit of the dtype in which a number was computed:

KRYLOV = 8  # of ‖A q‖: what two orthogonalisations leave of A q when its direction is in the Krylov space already
ULPS = 8  # of the value: assumed error of exp, tanh, erf, …; libraries state one to a few
EQUAL = 16  # of the size of entries that are equal but for the few operations by which each was computed
BATCH = 64 * EQUAL  # the same for gradients and moments: sums over a batch, each in an order of its own
CANCELLED = 1000  # of Σ x²: what its difference with (Σ x)²/n leaves of a variance that is zero
SINGULAR = 8  # of the largest singular value of activations, where they are at hand themselves
KERNEL = 128  # of the largest eigenvalue of a Gram matrix: its entries are sums over all parameters

# Relative to what is named, in any dtype:

PRODUCTS = 1e-7  # of the largest singular value: from eigenvalues of float64 products those below √eps are rounding
VARIES = 1e-12  # of Σ x²: a variance below it is that of a constant, over as many values as a data set has
ZERO_SUM = 1e-12  # of the root mean square of a layer's sums: a sum below it has no direction to scale by
PROPORTION = 1e-12  # of a scale: copies whose scales are closer have the same
EQUIVARIANT = 1e-3  # of |s f(z)|: activations that are equivariant err by rounding, others by shares of one
NEAR_MANIFOLD = 1e-6  # of a layer's norm: float32 weights after many steps, still close enough for one type
SUMS = 1e-9  # of the norm of what two sums of float64 weights add up: equal after many steps of training
REPEATED = 1e-6  # of a result's norm: two passes that draw nothing, on devices that add up in any order
GROWN = 10  # times the distance at which copies parted: more than the bits that rounding adds up to in some steps
LAYER = 10  # times the tolerance of one sum: what a whole layer may be off when each of its sums is

# By dtype; `"other"` is any that is not named:

# COPIES are of sums over copies' weights after training, BLOCKS too but wider, so that none is missed; TWINS of the
# largest output, of two networks that are one function; APART of a layer, of copies that two steps have parted by
# more than rounding.

COPIES = {"float64": SUMS, "float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3, "other": 1e-5}
BLOCKS = {"float64": SUMS, "other": 1e-4}
TWINS = {"float64": 1e-11, "float32": 1e-4, "other": 0.05}
APART = {"float64": 1e-7, "bfloat16": 0.1, "float16": 0.05, "other": 1e-3}


def of_dtype(table: Mapping[str, float], dtype: Any) -> float:
    """Return the tolerance of a dtype of NumPy or torch."""
    return table.get(str(dtype).removeprefix("torch."), table["other"])
