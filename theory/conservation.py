"""What gradient flow conserves: balancedness of homogeneous units, and all laws of two-layer networks (N1, N2).

A hidden unit with a positively homogeneous activation (`f(cz) = c f(z)` for `c > 0`: linear, ReLU, leaky ReLU) has
`z f'(z) = f(z)`, so that on every sample the gradients of its in-weights and of its out-weights have the same inner
product with the weights themselves. Hence gradient flow conserves `Σ_in w² − Σ_out w²`, whatever data and loss are:
its level sets are quadrics that the flow cannot leave, manifolds of lost plasticity that are not linear.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import sympy

from theory.network import Network

Array = np.ndarray[Any, Any]


def balanced_units(network: Network) -> Array:
    """Return the hidden units whose balance gradient flow conserves, as positions in `network.units`.

    They have a positively homogeneous activation, in-edges and out-edges, and are no outputs.

    >>> balanced_units(Network.layered([[[1.0], [2.0]], [[3.0, 1.0]]], "relu")).tolist()
    [1, 2]
    """
    hidden = set(network.source.tolist()) & set(network.target.tolist()) - set(network.outputs)
    scaling = (getattr(network.activations[u], "scaling", None) for u in sorted(hidden))
    found = [u for u, kind in zip(sorted(hidden), scaling, strict=True) if kind in ("positive", "linear")]
    return np.array(found, dtype=np.int64)


def balances(network: Network) -> Array:
    """Return `Σ_in w² − Σ_out w²` of `balanced_units`, shape (units,): gradient flow conserves them.

    Scaling all in-edges by `s` and all out-edges by `1/s` leaves the function; by Noether's theorem for gradient
    flow the derivative of the loss along that direction, `Σ_in w ∂L − Σ_out w ∂L`, vanishes.

    Raises:
        ValueError: Weights are tied.

    Source: Du et al. 2018 (layered networks), Kunin et al. 2021; on any graph N1.

    >>> balances(Network.layered([[[1.0], [2.0]], [[3.0, 1.0]]], "relu")).tolist()
    [-8.0, 3.0]
    """
    return signed_sum(network, network.weights**2)


def signed_sum(network: Network, values: Array) -> Array:
    """Return `Σ_in x − Σ_out x` of one value an edge, for every unit of `balanced_units`.

    Raises:
        ValueError: Weights are tied.

    >>> signed_sum(Network.layered([[[1.0], [2.0]], [[3.0, 1.0]]], "relu"), np.ones(4)).tolist()
    [0.0, 0.0]
    """
    if len(network.parameters) < len(network.tie):
        raise ValueError("balances are conserved for untied weights; untie the network first")
    total = np.zeros(len(network.units), dtype=values.dtype)
    np.add.at(total, network.target, values)
    np.subtract.at(total, network.source, values)
    return total[balanced_units(network)]


Kind = Literal["linear", "relu"]


def laws(widths: tuple[int, int, int], kind: Kind) -> list[sympy.Expr]:
    """Return the known conservation laws of a two-layer network, polynomials in its weights `U` and `V`.

    ReLU: `‖u_j‖² − ‖v_j‖²` for every hidden unit. Linear: the entries of `U Uᵀ − Vᵀ V`, which hold these and
    more, since rotations of the hidden space are symmetries too.

    Args:
        widths: Inputs, hidden units, outputs.
        kind: Of the hidden units.

    >>> laws((1, 1, 1), "relu")
    [U0_0**2 - V0_0**2]
    """
    U, V = _weights(widths)
    M = U * U.T - V.T * V
    hidden = range(widths[1])
    pairs = [(i, j) for i in hidden for j in hidden if (i == j if kind == "relu" else i <= j)]
    return [sympy.expand(M[i, j]) for i, j in pairs]


def reachable_dimension(widths: tuple[int, int, int], kind: Kind, weights: list[Any]) -> int:
    """Return the dimension of the span of all gradients of the outputs, over all data, and of their Lie brackets.

    The output `k` on the input `e_i` is a quadratic form in the weights, for ReLU one for every hidden unit, as
    data on which it alone differs tell it apart. Their gradients are linear vector fields `w ↦ A w`; brackets of
    such are commutators. The matrices are closed under commutators, exactly, and applied to the weights. The flows
    of all losses reach a set of this dimension (Frobenius; Nagano for analytic fields), so that there are as many
    independent laws as dimensions are missing.

    Args:
        widths: Inputs, hidden units, outputs.
        kind: Of the hidden units.
        weights: Rational numbers, `U` row by row, then `V`.

    Source: Marcotte, Gribonval and Peyré 2023.

    >>> reachable_dimension((1, 1, 1), "relu", [1, 2])
    1
    """
    algebra = _closed([np.array(A, dtype=object) for A in _forms(widths, kind)])
    w = np.array([sympy.Rational(x) for x in weights], dtype=object)
    return int(sympy.Matrix([list(A @ w) for A in algebra]).rank())


def independent_laws(widths: tuple[int, int, int], kind: Kind, weights: list[Any]) -> int:
    """Return how many of the known laws are independent at some weights: the rank of their gradients.

    >>> independent_laws((1, 1, 1), "relu", [1, 2])
    1
    """
    U, V = _weights(widths)
    names = [*U, *V]
    at = dict(zip(names, map(sympy.Rational, weights), strict=True))
    return int(sympy.Matrix([[law.diff(x).subs(at) for x in names] for law in laws(widths, kind)]).rank())


def _weights(widths: tuple[int, int, int]) -> tuple[sympy.Matrix, sympy.Matrix]:
    inputs, hidden, outputs = widths
    U = sympy.Matrix(hidden, inputs, lambda j, i: sympy.Symbol(f"U{j}_{i}", real=True))
    return U, sympy.Matrix(outputs, hidden, lambda k, j: sympy.Symbol(f"V{k}_{j}", real=True))


def _forms(widths: tuple[int, int, int], kind: Kind) -> list[list[list[int]]]:
    """Return the Hessians of `Σ_j V_kj U_ji` (linear), or of each `V_kj U_ji` (ReLU), in the weights."""
    inputs, hidden, outputs = widths
    size = hidden * (inputs + outputs)
    groups = [[j] for j in range(hidden)] if kind == "relu" else [list(range(hidden))]
    forms = []
    for group in groups:
        for i in range(inputs):
            for k in range(outputs):
                A = [[0] * size for _ in range(size)]
                for j in group:
                    u, v = j * inputs + i, hidden * inputs + k * hidden + j
                    A[u][v] = A[v][u] = 1
                forms.append(A)
    return forms


def _closed(matrices: list[Array]) -> list[Array]:
    """Return a basis of the Lie algebra that some matrices generate, with rational arithmetic."""
    basis: list[Array] = []
    reduced: list[tuple[int, Array]] = []  # rows in echelon form, with the place of their pivot
    todo = list(matrices)
    while todo:
        A = todo.pop(0)
        rest = _remainder(A.ravel(), reduced)
        pivot = next((p for p, x in enumerate(rest) if x), None)
        if pivot is None:
            continue
        reduced.append((pivot, rest / sympy.Rational(rest[pivot])))
        todo += [A @ B - B @ A for B in basis]
        basis.append(A)
    return basis


def _remainder(row: Array, reduced: list[tuple[int, Array]]) -> Array:
    row = row.copy()
    for pivot, other in reduced:
        if row[pivot]:
            row = row - row[pivot] * other
    return row
