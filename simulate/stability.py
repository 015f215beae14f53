"""Of which type is a loss-of-plasticity manifold: stable, unstable, a saddle or degenerate (claims D2, C10)?

The type is read off the quadratic form `q(v) = vᵀ ∇²L v` on the normal space. Small networks get the whole matrix,
with exact inertia where the weights are exact; large ones the two ends of the spectrum, by Lanczos with
Hessian-vector products. Under small batches the type may not be what decides: `simulate.near_clones` says whether
it does, from samples, and `simulate.stochastic` what the products of the steps do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from simulate.inertia import Inertia as Inertia
from simulate.inertia import Kind as Kind
from simulate.inertia import kind_of as kind_of
from theory.curvature import Curvature
from theory.manifolds import Manifold
from theory.network import Network, SquaredError
from theory.tolerances import SPECTRUM_END, float64_identity

Array = np.ndarray[Any, Any]

LARGEST_DENSE = 1500  # parameters: some seconds for all eigenvalues


@dataclass(frozen=True)
class Stability:
    """The type of a manifold at one point, and what shows it.

    Attributes:
        kind: `"stable"` (`q > 0` on all normal directions), `"unstable"` (`q < 0`), `"saddle"` (both signs), or
            `"degenerate"`.
        lowest, highest: The smallest and the largest eigenvalue on the normal space.
        ascent, descent: Normal unit vectors of shape (parameters,) at which `q` is `highest` and `lowest`.
        noise: What rounding may do to `q` of a unit vector, measured against the terms that cancel in it; smaller
            eigenvalues count as zero. 0 for exact weights.
        inertia: How many eigenvalues are positive, negative and zero; `None` where only the ends were computed.
        certified: Whether `kind` follows from signs beyond `noise`. A saddle needs two vectors; anything else all
            eigenvalues, so that it is not certified by the ends alone. Nothing is where a sample lies on a kink.
    """

    kind: Kind
    lowest: float
    highest: float
    ascent: Array
    descent: Array
    noise: float
    inertia: Inertia | None
    certified: bool


def classify(network: Network, manifold: Manifold, x: Array, criterion: SquaredError) -> Stability:
    """Return the type of the manifold at the network's parameters.

    Up to 1,500 parameters, or for exact weights, from the whole normal Hessian, `O(parameters³)`; beyond from its
    ends, each Lanczos step a Hessian-vector product of `O(edges · samples)`.

    Args:
        network: Its parameters have to lie on the manifold.
        manifold: `theory.manifolds.cloned_manifold` or `frozen_manifold`.
        x: Inputs of shape (inputs, samples).
        criterion: The loss.

    Raises:
        ValueError: The parameters are not on the manifold, there is no normal direction, or exact weights come with
            inexact data.

    Source: claims D2 and C10.

    >>> from theory.partitions import Partition
    >>> from theory.manifolds import cloned_manifold
    >>> network, goal = Network.layered([[[1.0], [1.0]], [[1.0, 1.0]]], "tanh"), SquaredError(np.array([[0.0]]))
    >>> manifold = cloned_manifold(network, Partition(np.array([0, 1, 1, 2])))
    >>> found = classify(network, manifold, np.array([[1.0]]), goal)
    >>> found.kind, found.inertia, found.certified
    ('saddle', (1, 1, 0), True)
    """
    _check_on(network, manifold)
    curvature = Curvature(network, x, criterion)
    if network.parameters.dtype == object:
        _check_exact(x, criterion)
        found = _exact(curvature, manifold)
    else:
        rough = Curvature(network, x, criterion.magnitude())
        small = len(network.parameters) <= LARGEST_DENSE
        found = (_dense if small else _ends)(curvature, rough, manifold)
    return replace(found, certified=found.certified and not curvature.on_kinks)


def normal_hessian(network: Network, manifold: Manifold, x: Array, criterion: SquaredError) -> Array:
    """Return `Bᵀ ∇²L B` with the columns of `B = normal_basis(manifold)`; shape (codimension, codimension).

    Arguments as `classify`.

    Raises:
        ValueError: The parameters are not on the manifold, or there is no normal direction.

    >>> network, goal = Network.layered([[[2.0, 1.0]]], "linear"), SquaredError(np.array([[0.0]]))
    >>> normal_hessian(network, Manifold(network.parameters, np.array([0, 0]), np.ones(2)), [[3.0], [1.0]], goal)
    array([[2.]])
    """
    _check_on(network, manifold)
    return _restricted(Curvature(network, x, criterion), normal_basis(manifold))


def normal_basis(manifold: Manifold) -> Array:
    """Return a basis of the normal space, shape (parameters, codimension): orthonormal in float64, else rational.

    A group of parameters that move together, with coefficients `c`, contributes `m − 1` vectors that are orthogonal
    to each other and to `c`; a fixed parameter contributes itself.

    Raises:
        ValueError: The manifold is the whole space.

    >>> normal_basis(Manifold(np.array([Fraction(1)] * 3), np.array([0, 0, -1]), np.array([1, 1, 1]))).T.astype(int)
    array([[ 0,  0,  1],
           [ 1, -1,  0]])
    """
    exact = manifold.base.dtype == object
    one = Fraction(1) if exact else 1.0
    columns = [_unit(manifold, int(p), one) for p in np.flatnonzero(manifold.group < 0)]
    for k in range(manifold.dimension):
        members = np.flatnonzero(manifold.group == k)
        columns += _contrasts(manifold, members, one)
    if not columns:
        raise ValueError("the manifold is the whole space: it has no normal direction, so it has no type")
    B = np.stack(columns, axis=1)
    return B if exact else B / np.linalg.norm(B, axis=0)


def _unit(manifold: Manifold, p: int, one: Any) -> Array:
    vector = np.full(len(manifold.base), one * 0)
    vector[p] = one
    return vector


def _contrasts(manifold: Manifold, members: Array, one: Any) -> list[Array]:
    """Return `(c₁, …, c_j, −Σ_{i≤j} c_i²/c_{j+1}, 0, …)` for `j < m`: orthogonal to `c` and to each other."""
    c = manifold.coefficient[members]
    vectors = []
    for j in range(1, len(members)):
        vector = np.full(len(manifold.base), one * 0)
        vector[members[:j]] = c[:j] * one
        vector[members[j]] = -sum(v * v for v in c[:j]) * one / c[j]
        vectors.append(vector)
    return vectors


def inertia(A: Array) -> Inertia:
    """Return how many eigenvalues of an exact symmetric matrix are positive, negative and zero.

    By congruences (Sylvester): a non-zero diagonal entry is eliminated with its sign; if there is none, a non-zero
    entry off the diagonal is worth one positive and one negative eigenvalue.

    Args:
        A: Exact scalars that can be divided, shape (n, n).

    >>> inertia(np.array([[Fraction(0), Fraction(1)], [Fraction(1), Fraction(0)]]))
    (1, 1, 0)
    """
    A, positive, negative = A.copy(), 0, 0
    while len(A):
        diagonal = next((i for i in range(len(A)) if A[i, i] != 0), None)
        if diagonal is not None:
            positive, negative = positive + (A[diagonal, diagonal] > 0), negative + (A[diagonal, diagonal] < 0)
            A = _eliminated(A, [diagonal], 1 / A[diagonal : diagonal + 1, diagonal : diagonal + 1])
            continue
        pair = next(((i, j) for i in range(len(A)) for j in range(i) if A[i, j] != 0), None)
        if pair is None:
            break
        positive, negative = positive + 1, negative + 1
        inverse = np.array([[0, 1 / A[pair]], [1 / A[pair], 0]], dtype=object)
        A = _eliminated(A, list(pair), inverse)
    return positive, negative, len(A)


def _eliminated(A: Array, chosen: list[int], inverse: Array) -> Array:
    """Return the Schur complement of the chosen rows and columns."""
    rest = [i for i in range(len(A)) if i not in chosen]
    edge = A[np.ix_(rest, chosen)]
    return np.asarray(A[np.ix_(rest, rest)] - edge @ inverse @ edge.T)


def _restricted(curvature: Curvature, B: Array) -> Array:
    images = np.stack([curvature.times(column) for column in B.T], axis=1)
    A = B.T @ images
    return A if A.dtype == object else (A + A.T) / 2


def _exact(curvature: Curvature, manifold: Manifold) -> Stability:
    B = normal_basis(manifold)
    A = _restricted(curvature, B)
    counts = inertia(A)
    size = np.array([float(sum(v * v for v in column)) ** 0.5 for column in B.T])
    values, vectors = np.linalg.eigh(A.astype(np.float64) / size[:, None] / size)
    unit = (B.astype(np.float64) / size) @ vectors
    kind = kind_of(counts)
    return Stability(kind, float(values[0]), float(values[-1]), unit[:, -1], unit[:, 0], 0.0, counts, True)


def _dense(curvature: Curvature, rough: Curvature, manifold: Manifold) -> Stability:
    B = normal_basis(manifold)
    A = _restricted(curvature, B)
    values, vectors = np.linalg.eigh(A)
    noise = _noise(float(np.abs(_restricted(rough, B)).max()), len(A))
    counts = int((values > noise).sum()), int((values < -noise).sum()), int((np.abs(values) <= noise).sum())
    unit, kind = B @ vectors[:, [0, -1]], kind_of(counts)
    low, high = float(values[0]), float(values[-1])
    return Stability(kind, low, high, unit[:, 1], unit[:, 0], noise, counts, kind != "degenerate")


def _ends(curvature: Curvature, rough: Curvature, manifold: Manifold) -> Stability:
    """Return what the two ends of the spectrum on the normal space tell; a shift moves tangent vectors inside."""
    lowest, highest = (_end(curvature, manifold, sign) for sign in (1.0, -1.0))
    low, high = _form(curvature, lowest), _form(curvature, highest)
    noise = _noise(max(float(np.linalg.norm(rough.times(v))) for v in (lowest, highest)), len(manifold.base))
    flat = low <= noise and high >= -noise and not (low < -noise and high > noise)
    kind = kind_of((int(high > noise), int(low < -noise), int(flat)))
    return Stability(kind, low, high, highest, lowest, noise, None, kind == "saddle")


def _end(curvature: Curvature, manifold: Manifold, sign: float) -> Array:
    """Return a normal unit vector at the lowest (`sign` 1) or highest (−1) end of the spectrum, as far as found."""
    size = len(manifold.base)
    start = manifold.project_normal(np.random.default_rng(0).standard_normal(size))
    start /= np.linalg.norm(start)
    image = manifold.project_normal(curvature.times(start))
    if not image.any():
        return start
    shift = 100 * float(np.linalg.norm(image))  # far beyond what a random vector shows of the spectrum

    def shifted(v: Array) -> Array:
        normal = manifold.project_normal(v.ravel())
        return sign * manifold.project_normal(curvature.times(normal)) + shift * (v.ravel() - normal)

    operator = LinearOperator((size, size), matvec=shifted, dtype=np.float64)
    try:
        _, vectors = eigsh(operator, k=1, which="SA", v0=start, tol=SPECTRUM_END, ncv=min(size - 1, 24))
    except ArpackNoConvergence as partial:
        vectors = partial.eigenvectors if partial.eigenvectors.size else start[:, None]
    end = manifold.project_normal(vectors[:, 0])
    return np.asarray(end / np.linalg.norm(end)) if np.linalg.norm(end) > 0.5 else start


def _form(curvature: Curvature, v: Array) -> float:
    """Return `q(v)/|v|²`, which bounds an end of the spectrum from inside."""
    return float(v @ curvature.times(v) / (v @ v))


def _noise(scale: float, size: int) -> float:
    return float64_identity() * scale * max(size, 1) ** 0.5


def _check_exact(x: Array, criterion: SquaredError) -> None:
    values = [*np.asarray(x).flat, *np.asarray(criterion.y).flat]
    if any(isinstance(value, (float, np.floating)) for value in values):
        raise ValueError(
            "the weights are exact but x or the targets are floats; give all as fractions, or all as floats"
        )


def _check_on(network: Network, manifold: Manifold) -> None:
    tol = 0 if network.parameters.dtype == object else float64_identity(float(np.abs(network.parameters).max()))
    if not manifold.contains(network.parameters, tol):
        raise ValueError(
            f"the network is at distance {manifold.distance(network.parameters):.3g} from the manifold; its type "
            "is defined at points of the manifold: project the parameters first"
        )
