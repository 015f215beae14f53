"""Update rules as pure functions `(state, w, g) -> (state, w)`; the state before the first step is `None`.

They run on float64 arrays and, where no root is taken, on exact scalars. Each is `torch.optim`'s rule of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Rule = Callable[[Any, Array, Array], tuple[Any, Array]]


def sgd(rate: Any, *, momentum: Any = 0, decay: Any = 0, nesterov: bool = False) -> Rule:
    """Return `b ← μ b + g + λ w`, `w ← w − η b`, or with `nesterov` `w ← w − η (g + λ w + μ b)`.

    Args:
        rate: `η`, a scalar or one value a parameter.
        momentum: `μ`.
        decay: `λ`, coupled L2.
    """

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        g = g + decay * w if decay else g
        buffer = g if state is None else momentum * state + g
        return buffer, w - rate * (g + momentum * buffer if nesterov else buffer)

    return rule


def adam(
    rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decay: float = 0,
    decoupled: bool = False,
) -> Rule:
    """Return `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`, `w ← w − η m̂ / (√v̂ + ε)` with bias-corrected `m̂, v̂`.

    With `decay` the gradient becomes `g + λ w` (Adam with coupled L2), or, `decoupled`, the weights shrink by
    `1 − η λ` first (AdamW).
    """

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        step, m, v = state if state is not None else (0, 0 * w, 0 * w)
        w, g = (w * (1 - rate * decay), g) if decoupled else (w, g + decay * w)
        step += 1
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        scale = np.sqrt(v / (1 - betas[1] ** step)) + eps
        return (step, m, v), w - rate * (m / (1 - betas[0] ** step)) / scale

    return rule


def rmsprop(rate: float, *, alpha: float = 0.99, eps: float = 1e-8) -> Rule:
    """Return `v ← α v + (1−α) g²`, `w ← w − η g / (√v + ε)` (Tieleman & Hinton 2012), without centring."""

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        v = alpha * (0 * w if state is None else state) + (1 - alpha) * g * g
        return v, w - rate * g / (np.sqrt(v) + eps)

    return rule


def adagrad(rate: float, *, eps: float = 1e-10) -> Rule:
    """Return `v ← v + g²`, `w ← w − η g / (√v + ε)` (Duchi, Hazan & Singer 2011)."""

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        v = (0 * w if state is None else state) + g * g
        return v, w - rate * g / (np.sqrt(v) + eps)

    return rule


def rprop(
    rate: float, *, etas: tuple[float, float] = (0.5, 1.2), sizes: tuple[float, float] = (1e-6, 50.0)
) -> Rule:
    """Return `w ← w − Δ sign(g)`, each `Δ` multiplied by `η₊` while its sign holds, by `η₋` when it turns.

    After a turn the gradient counts as zero for one step (Riedmiller & Braun 1993). The first `Δ` is `rate`.
    """

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        before, size = state if state is not None else (0 * w, 0 * w + rate)
        turn = np.sign(g * before)
        size = np.clip(size * np.where(turn > 0, etas[1], np.where(turn < 0, etas[0], 1.0)), *sizes)
        g = np.where(turn < 0, 0.0, g)
        return (g, size), w - size * np.sign(g)

    return rule


def sign_sgd(rate: Any) -> Rule:
    """Return `w ← w − η sign(g)` (Bernstein et al. 2018)."""
    return lambda state, w, g: (None, w - rate * np.sign(g))


def clipped_by_norm(rule: Rule, bound: float) -> Rule:
    """Return `rule` on `g min(1, bound / (‖g‖ + 10⁻⁶))`, the norm over all parameters (Pascanu et al. 2013)."""
    return lambda state, w, g: rule(state, w, g * min(1.0, bound / (float(np.linalg.norm(g)) + 1e-6)))


def clipped_by_value(rule: Rule, bound: float) -> Rule:
    """Return `rule` on every entry of `g` cut off at `±bound`."""
    return lambda state, w, g: rule(state, w, np.clip(g, -bound, bound))
