"""Derivatives `φ⁽ᵐ⁾` of an activation as distributions: a function, and point masses where `φ⁽ᵐ⁻¹⁾` jumps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import sympy
from scipy import special

from theory.activations import Activation, Symmetry, polynomial
from theory.pieces import Part, Pieces, Term
from theory.scalars import Array, on


@dataclass(frozen=True)
class Derivative:
    """`φ⁽ᵐ⁾(z) = regular(z) + Σ_j jump_j δ(z − knot_j)`.

    Attributes:
        regular: The derivative between the knots.
        jumps: Each knot with the jump of `φ⁽ᵐ⁻¹⁾` there.
    """

    regular: Activation
    jumps: tuple[tuple[float, float], ...] = ()


@lru_cache(maxsize=512)
def derivative(phi: Activation, order: int) -> Derivative:
    """Return `φ⁽ᵐ⁾` for `m ≥ 1`.

    Args:
        phi: The activation.
        order: `m`.

    Raises:
        ValueError: `φ⁽ᵐ⁻²⁾` jumps, so that `φ⁽ᵐ⁾` is worse than a point mass; or no derivative but `φ'` is known.

    >>> square = polynomial((0, 0, 1))
    >>> derivative(square, 1).regular.value([3.0]).tolist(), derivative(square, 1).jumps
    ([6.0], ())
    """
    name, symmetry = f"{phi.name}^({order})", _symmetry(phi, order)
    if phi.pieces:
        return _of_pieces(phi, order, name, symmetry)
    if order == 1:
        return Derivative(Activation(name, phi.slope, phi.slope, kinks=phi.breaks, symmetry=symmetry))
    if phi.strip is None:
        raise ValueError(f"order is {order}; of the activation {phi.name!r} only the first derivative is known")
    value = _symbolic(phi, order)
    return Derivative(Activation(name, value, value, symmetry=symmetry))


def _of_pieces(phi: Activation, order: int, name: str, symmetry: Symmetry | None) -> Derivative:
    pieces = phi.pieces
    assert pieces is not None
    for below in range(1, order):
        if pieces.jumps():
            raise ValueError(
                f"order is {order}; the highest order for {phi.name!r} is {below}, because the derivative of order "
                f"{below - 1} jumps and E φ⁽ᵐ⁾(X) φ⁽ᵐ⁾(Y) knows no derivatives of point masses"
            )
        pieces = pieces.derivative()
    jumps = tuple((float(knot), float(jump)) for knot, jump in pieces.jumps())
    pieces = pieces.derivative()
    if all(is_zero(part) for part in pieces.parts):
        return Derivative(polynomial((0,), name), jumps)
    if not pieces.knots and _is_polynomial(pieces):
        return Derivative(polynomial(pieces.parts[0][0].polynomial, name))  # type: ignore[union-attr]
    kernel = phi.kernel.derivative(order) if phi.kernel else None
    value = on(pieces.floats(), pieces)
    return Derivative(Activation(name, value, value, symmetry=symmetry, kernel=kernel, pieces=pieces), jumps)


def is_zero(part: Part) -> bool:
    """Tell whether the sum of terms on one piece is zero, term by term; terms that cancel each other are not seen.

    >>> is_zero((Term((0, 0)),)), is_zero((Term((1,)), Term((-1,))))
    (True, False)
    """
    return all(isinstance(term, Term) and not any(term.polynomial) for term in part)


def _is_polynomial(pieces: Pieces) -> bool:
    return all(isinstance(term, Term) and not term.rate and not term.shift for term in pieces.parts[0])


def _symmetry(phi: Activation, order: int) -> Symmetry | None:
    """Return the symmetry of `φ⁽ᵐ⁾`."""
    if phi.symmetry is None or order % 2 == 0:
        return phi.symmetry
    return "even" if phi.symmetry == "odd" else "odd"


class Expit(sympy.Function):
    """`σ(u) = 1/(1 + e^{−u})`, whose derivative `σ(u) σ(−u)` neither overflows nor cancels.

    >>> u = sympy.Symbol("u")
    >>> sympy.diff(Expit(u), u) == Expit(u) * Expit(-u)
    True
    """

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return `σ(u) σ(−u)`."""
        (u,) = self.args
        return Expit(u) * Expit(-u)


class Softplus(sympy.Function):
    """`log(1 + eᵘ)`, whose derivative is `σ(u)`.

    >>> u = sympy.Symbol("u")
    >>> sympy.diff(Softplus(u), u)
    Expit(u)
    """

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return `σ(u)`."""
        return Expit(self.args[0])


FLOATS = [{"Expit": special.expit, "Softplus": lambda u: np.logaddexp(0.0, u)}, "scipy", "numpy"]


def stable(expression: sympy.Expr) -> sympy.Expr:
    """Return the same function with `1 + eᵘ = 1/σ(−u)` and `tanh u = σ(2u) − σ(−2u)`, for floats of any size.

    Mish's `1/((1 + eᵘ)² + 1)` becomes `σ(−u)²/(1 + σ(−u)²)`.

    >>> u = sympy.Symbol("u")
    >>> stable(sympy.log(1 + sympy.exp(u)))
    Softplus(u)
    """
    u = sympy.Wild("u")
    square = Expit(-u) ** 2
    for shape, same in (
        (sympy.tanh(u), Expit(2 * u) - Expit(-2 * u)),
        (sympy.log(1 + sympy.exp(u)), Softplus(u)),
        (1 / (1 + (1 + sympy.exp(u)) ** 2), square / (1 + square)),
        (1 / (1 + sympy.exp(u)), Expit(-u)),
    ):
        expression = expression.replace(shape, same)
    return expression


def _symbolic(phi: Activation, order: int) -> Callable[[Array], Array]:
    """Return the derivative of the activation's SymPy form, on float64 arrays."""
    z = sympy.Symbol("z", real=True)
    expression = sympy.diff(stable(phi.value(np.array([z], dtype=object))[0]), z, order)
    function = sympy.lambdify(z, expression, modules=FLOATS, cse=True)
    return lambda x: np.asarray(function(x), dtype=np.float64)
