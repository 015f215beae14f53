"""Which update rules keep which cloned manifold (claim C9), in NumPy, in float32 and float64.

A network with two hidden layers, `W` of shape (targets, sources), on a manifold with the profiles `P`: unit `u` of
block `i` has `P[u, i] = s_u`, all else is 0. Its equations are

    RE: W P_in = P_out C,      CE: Wᵀ P_out = P_in D      for some C and D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from simulate import optimizers
from theory.activations import get
from theory.tolerances import KEPT, LEFT, NO_GRADIENT

Array = np.ndarray[Any, Any]
Matrices = list[Array]
MatrixRule = Callable[[Any, Matrices, Matrices], tuple[Any, Matrices]]
Verdict = Literal["keeps", "leaves", "drifts"]

INPUTS, WIDTH, OUTPUTS, SAMPLES, FACTOR = 5, 4, 3, 16, 3
EARLY = 30  # steps
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)


@dataclass(frozen=True)
class Manifold:
    """A kind of cloned manifold: the scales of copies, the part that is not block-constant, the activation."""

    scales: Literal["one", "positive", "sign"] = "one"
    spread: float = 0.0
    activation: str = "relu"


@dataclass(frozen=True)
class Row:
    """An update rule, and what is done to gradients: noise in labels, dropout of hidden units, K-FAC's damping.

    Without damping (0) gradients are not preconditioned.
    """

    rule: MatrixRule
    label_noise: float = 0.0
    dropout: float = 0.0
    damping: float = 0.0


MANIFOLDS: Mapping[str, Manifold] = {
    "identical": Manifold(),
    "equitable": Manifold(spread=1.0),
    "scaled": Manifold(scales="positive"),
    "signed": Manifold(scales="sign", activation="tanh"),
}


def flat(rule: optimizers.Rule) -> MatrixRule:
    """Return a rule of `simulate.optimizers` on all matrices as one vector.

    >>> _, W = flat(optimizers.sgd(0.5))(None, [np.ones((1, 2))], [np.ones((1, 2))])
    >>> W[0].tolist()
    [[0.5, 0.5]]
    """

    def moved(state: Any, W: Matrices, G: Matrices) -> tuple[Any, Matrices]:
        state, w = rule(state, *(np.concatenate([A.ravel() for A in x]) for x in (W, G)))
        parts = np.split(w, np.cumsum([A.size for A in W])[:-1])
        return state, [part.reshape(A.shape).astype(A.dtype) for part, A in zip(parts, W, strict=True)]

    return moved


def shampoo(rate: float, eps: float = 1e-4) -> MatrixRule:
    """Return `W ← W − η L^{−1/4} G R^{−1/4}` with `L = εI + Σ GGᵀ`, `R = εI + Σ GᵀG`, sums over all steps so far.

    Source: Gupta et al. 2018.
    """

    def moved(state: Any, W: Matrices, G: Matrices) -> tuple[Any, Matrices]:
        state = state or [tuple(eps * np.eye(n, dtype=A.dtype) for n in A.shape) for A in W]
        state = [(L + A @ A.T, R + A.T @ A) for (L, R), A in zip(state, G, strict=True)]
        steps = [_power(L, -0.25) @ A @ _power(R, -0.25) for (L, R), A in zip(state, G, strict=True)]
        return state, [A - rate * step for A, step in zip(W, steps, strict=True)]

    return moved


def muon(rate: float, momentum: float = 0.95) -> MatrixRule:
    """Return `B ← μ B + G`, `W ← W − η NS(B)` with five steps of Newton and Schulz, see `orthogonalised`.

    Source: Jordan et al. 2024.
    """

    def moved(state: Any, W: Matrices, G: Matrices) -> tuple[Any, Matrices]:
        state = [momentum * B + A for B, A in zip(state or [0 * A for A in W], G, strict=True)]
        return state, [A - rate * orthogonalised(B) for A, B in zip(W, state, strict=True)]

    return moved


def per_unit(rate: float) -> MatrixRule:
    """Return SGD whose odd units learn at half the rate: `W ← W − η D G`, `D = diag(1, ½, 1, ½, …)`."""

    def moved(state: Any, W: Matrices, G: Matrices) -> tuple[Any, Matrices]:
        rates = [rate * (1 - 0.5 * (np.arange(len(A)) % 2))[:, None].astype(A.dtype) for A in W]
        return None, [A - r * B for A, r, B in zip(W, rates, G, strict=True)]

    return moved


def orthogonalised(G: Array) -> Array:
    """Return five Newton-Schulz steps `X ← a X + (b XXᵀ + c (XXᵀ)²) X` from `G/‖G‖`: singular values near 1.

    >>> values = np.linalg.svd(orthogonalised(np.diag([1.0, 0.3])), compute_uv=False)
    >>> bool((np.abs(values - 1) < 0.35).all())
    True
    """
    a, b, c = NEWTON_SCHULZ
    X = G / max(float(np.linalg.norm(G)), NO_GRADIENT)
    for _ in range(5):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


SGD = flat(optimizers.sgd(0.05))
ROWS: Mapping[str, Row] = {
    "SGD": Row(SGD),
    "SGD, momentum": Row(flat(optimizers.sgd(0.05, momentum=0.9))),
    "Adam": Row(flat(optimizers.adam(0.01))),
    "Rprop": Row(flat(optimizers.rprop(0.001))),
    "sign-SGD": Row(flat(optimizers.sign_sgd(0.005))),
    "SGD, clipped by norm": Row(flat(optimizers.clipped_by_norm(optimizers.sgd(0.05), 0.1))),
    "SGD, clipped by value": Row(flat(optimizers.clipped_by_value(optimizers.sgd(0.05), 0.01))),
    "Shampoo": Row(shampoo(0.01)),
    "K-FAC": Row(flat(optimizers.sgd(0.02)), damping=0.3),
    "Muon in float64": Row(muon(0.01)),
    "SGD, label noise": Row(SGD, label_noise=0.3),
    "SGD, unequal rates per unit": Row(per_unit(0.05)),
    "SGD, dropout on clones": Row(SGD, dropout=0.1),
}


def follow(row: Row, manifold: Manifold, steps: int = 300, seed: int = 0, dtype: Any = np.float64) -> Array:
    """Return the residual of the equations before and after each step, shape (steps + 1,).

    Raises:
        ValueError: `steps` is below 1.

    >>> bool(follow(ROWS["SGD"], MANIFOLDS["identical"], steps=5).max() < 1e-13)
    True
    """
    if steps < 1:
        raise ValueError(f"steps is {steps!r}; allowed are integers ≥ 1")
    rng = np.random.default_rng(seed)
    P = profiles(manifold, rng)
    W = [A.astype(dtype) for A in start(manifold, P, rng)]
    state, found = None, [residual(W, P)]
    for _ in range(steps):
        state, W = row.rule(state, W, _gradients(row, manifold, W, rng))
        found.append(residual(W, P))
    return np.array(found)


def profiles(manifold: Manifold, rng: np.random.Generator) -> Matrices:
    """Return `P` of each layer: copies in the hidden ones, with random scales.

    Args:
        manifold: Its `scales`.
        rng: Source of randomness.

    >>> [P.shape for P in profiles(MANIFOLDS["identical"], np.random.default_rng(0))]
    [(5, 5), (12, 4), (12, 4), (3, 3)]
    """
    units = WIDTH * FACTOR
    draws: Mapping[str, Callable[[], Array]] = {
        "one": lambda: np.ones(units),
        "positive": lambda: rng.uniform(0.5, 2.0, units),
        "sign": lambda: rng.choice([-1.0, 1.0], units),
    }
    block = np.kron(np.eye(WIDTH), np.ones((FACTOR, 1)))
    hidden = [draws[manifold.scales]()[:, None] * block for _ in range(2)]
    return [np.eye(INPUTS), *hidden, np.eye(OUTPUTS)]


def start(manifold: Manifold, P: Matrices, rng: np.random.Generator) -> Matrices:
    """Return weights `P_out C P_in⁺`, and `spread` times a random part that both equations send to zero.

    Args:
        manifold: Its `spread`.
        P: Of each layer, as `profiles` returns them.
        rng: Source of randomness.

    >>> rng = np.random.default_rng(0)
    >>> P = profiles(MANIFOLDS["scaled"], rng)
    >>> residual(start(MANIFOLDS["scaled"], P, rng), P) < 1e-14
    True
    """
    found = []
    for Q, R in pairwise(P):
        C = rng.standard_normal((R.shape[1], Q.shape[1])) * np.sqrt(2 / Q.shape[1])
        rest = [np.eye(len(A)) - A @ np.linalg.pinv(A) for A in (R, Q)]
        free = rest[0] @ rng.standard_normal((len(R), len(Q))) @ rest[1]
        found.append(R @ C @ np.linalg.pinv(Q) + manifold.spread * free / np.sqrt(len(Q)))
    return found


def residual(W: Matrices, P: Matrices) -> float:
    """Return the largest relative violation of RE and CE over the layers, computed in float64.

    `‖W P_in − P_out P_out⁺ W P_in‖/‖W P_in‖`, and likewise of the transposes.
    """
    found = []
    for A, Q, R in zip(W, P, P[1:], strict=False):
        for B, source, target in ((A, Q, R), (A.T, R, Q)):
            image = B.astype(np.float64) @ source
            off = image - target @ (np.linalg.pinv(target) @ image)
            found.append(float(np.linalg.norm(off) / np.linalg.norm(image)))
    return max(found)


def gradients(W: Matrices, activation: str, x: Array, y: Array, masks: Array | None = None) -> Matrices:
    """Return the gradient of the mean squared error, one matrix a layer.

    Arguments as `signals`.
    """
    return [error @ h.T for error, h in signals(W, activation, x, y, masks)]


def signals(
    W: Matrices, activation: str, x: Array, y: Array, masks: Array | None = None
) -> list[tuple[Array, Array]]:
    """Return the error signals and the inputs of each layer, one column a sample; `G = error inputᵀ`.

    Args:
        W: Three matrices.
        activation: Of both hidden layers.
        x, y: Inputs and targets, one column a sample.
        masks: What hidden activations are multiplied by, shape (2, units, samples); all 1 if `None`.
    """
    masks = np.ones((2, 1, 1), dtype=x.dtype) if masks is None else masks
    phi = get(activation)
    z = W[0] @ x
    h = phi.value(z) * masks[0]
    u = W[1] @ h
    k = phi.value(u) * masks[1]
    error = 2 * (W[2] @ k - y) / y.size
    back = W[2].T @ error * masks[1] * phi.slope(u)
    first = W[1].T @ back * masks[0] * phi.slope(z)
    return [(first, x), (back, h), (error, k)]


def _gradients(row: Row, manifold: Manifold, W: Matrices, rng: np.random.Generator) -> Matrices:
    x = rng.standard_normal((INPUTS, SAMPLES))
    y = np.sin(x[:OUTPUTS] + 2 * x[-OUTPUTS:]) + row.label_noise * rng.standard_normal((OUTPUTS, SAMPLES))
    kept = rng.random((2, WIDTH * FACTOR, SAMPLES)) >= row.dropout
    dtype = W[0].dtype
    masks = (kept / (1 - row.dropout)).astype(dtype)
    found = signals(W, manifold.activation, x.astype(dtype), y.astype(dtype), masks)
    direct = [error @ h.T for error, h in found]
    natural = [preconditioned(*pair, row.damping) for pair in found] if row.damping else direct
    return [G.astype(dtype) for G in natural]


def preconditioned(error: Array, h: Array, damping: float) -> Array:
    """Return `(S + εI)⁻¹ G (A + εI)⁻¹` with `A = E h hᵀ`, `S = E g gᵀ` (K-FAC: Martens & Grosse 2015).

    Args:
        error: `g/N`, shape (targets, N).
        h: Inputs of the layer, shape (sources, N).
        damping: `ε`.
    """
    count = h.shape[1]
    A, S = h @ h.T / count, count * error @ error.T
    left = np.linalg.solve(S + damping * np.eye(len(S), dtype=S.dtype), error @ h.T)
    return np.asarray(np.linalg.solve(A + damping * np.eye(len(A), dtype=A.dtype), left.T).T)


def verdict(residuals: Array) -> Verdict:
    """Return whether a rule keeps the manifold (1e-12 at the end), leaves it (1e-3 in 30 steps), or drifts.

    >>> verdict(np.array([0.0, 1e-15])), verdict(np.array([0.0, 1.0])), verdict(np.array([0.0] * 40 + [1e-6]))
    ('keeps', 'leaves', 'drifts')
    """
    if not np.isfinite(residuals).all() or residuals[: EARLY + 1].max() >= LEFT:
        return "leaves"
    return "keeps" if residuals[-1] <= KEPT else "drifts"


def table(steps: int = 300, seed: int = 0) -> dict[tuple[str, str], Verdict]:
    """Return the verdict in float64 for each rule on each manifold, by the names in `ROWS` and `MANIFOLDS`.

    Arguments as `follow`.
    """
    run = partial(follow, steps=steps, seed=seed)
    return {(name, kind): verdict(run(row, on)) for name, row in ROWS.items() for kind, on in MANIFOLDS.items()}


def growth(row: Row, manifold: Manifold, steps: int = 300, seed: int = 0) -> dict[str, float]:
    """Return by how many units of rounding the residual is off at the end, in float32 and float64.

    Arguments as `follow`.
    """
    found = {np.dtype(d).name: follow(row, manifold, steps, seed, d)[-1] for d in (np.float32, np.float64)}
    return {name: float(value / np.finfo(name).eps) for name, value in found.items()}


def _power(A: Array, exponent: float) -> Array:
    values, V = np.linalg.eigh(A)
    return np.asarray((V * values**exponent) @ V.T)
