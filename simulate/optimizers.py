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

    >>> from fractions import Fraction
    >>> sgd(Fraction(1, 10), momentum=Fraction(9, 10))(Fraction(2), Fraction(1), Fraction(1))
    (Fraction(14, 5), Fraction(18, 25))
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
    """Return `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`, `w ← w − η m̂ / (√v̂ + ε)`.

    `m̂ = m/(1 − β₁ᵗ)` and `v̂ = v/(1 − β₂ᵗ)` undo the bias of the start at 0. With `decay` the gradient becomes
    `g + λ w` (Adam with coupled L2), or, `decoupled`, the weights shrink by `1 − η λ` first (AdamW).

    Args:
        rate: `η`.
        betas: `β₁` and `β₂`, below 1.
        eps: `ε`.
        decay: `λ`.
        decoupled: Whether weights decay apart from the gradient.

    Source: Kingma & Ba 2015; Loshchilov & Hutter 2019.

    >>> _, w = adam(0.1)(None, np.array([1.0]), np.array([1e-3]))
    >>> f"{w[0]:.4f}"  # the first step has the length of the rate
    '0.9000'
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
    """Return `v ← α v + (1−α) g²`, `w ← w − η g / (√v + ε)` (Tieleman & Hinton 2012), without centring.

    >>> _, w = rmsprop(0.1, alpha=0.75)(None, np.array([1.0]), np.array([4.0]))
    >>> f"{w[0]:.4f}"  # 0.1 / √0.25
    '0.8000'
    """

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        v = alpha * (0 * w if state is None else state) + (1 - alpha) * g * g
        return v, w - rate * g / (np.sqrt(v) + eps)

    return rule


def adagrad(rate: float, *, eps: float = 1e-10) -> Rule:
    """Return `v ← v + g²`, `w ← w − η g / (√v + ε)` (Duchi, Hazan & Singer 2011).

    >>> _, w = adagrad(0.1)(np.array([9.0]), np.array([1.0]), np.array([4.0]))
    >>> f"{w[0]:.4f}"  # 0.1 · 4/√(9 + 16)
    '0.9200'
    """

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        v = (0 * w if state is None else state) + g * g
        return v, w - rate * g / (np.sqrt(v) + eps)

    return rule


def rprop(
    rate: float, *, etas: tuple[float, float] = (0.5, 1.2), sizes: tuple[float, float] = (1e-6, 50.0)
) -> Rule:
    """Return `w ← w − Δ sign(g)`, each `Δ` multiplied by `η₊` while its sign holds, by `η₋` when it turns.

    After a turn the gradient counts as zero for one step (Riedmiller & Braun 1993). The first `Δ` is `rate`.

    >>> state, w = rprop(0.5)(None, np.array([1.0]), np.array([3.0]))
    >>> w.tolist(), rprop(0.5)(state, w, np.array([1.0]))[1].round(6).tolist()
    ([0.5], [-0.1])
    """

    def rule(state: Any, w: Array, g: Array) -> tuple[Any, Array]:
        before, size = state if state is not None else (0 * w, 0 * w + rate)
        turn = np.sign(g * before)
        size = np.clip(size * np.where(turn > 0, etas[1], np.where(turn < 0, etas[0], 1.0)), *sizes)
        g = np.where(turn < 0, 0.0, g)
        return (g, size), w - size * np.sign(g)

    return rule


def sign_sgd(rate: Any) -> Rule:
    """Return `w ← w − η sign(g)` (Bernstein et al. 2018).

    >>> sign_sgd(0.5)(None, np.array([1.0, 1.0]), np.array([-7.0, 0.0]))[1].tolist()
    [1.5, 1.0]
    """
    return lambda state, w, g: (None, w - rate * np.sign(g))


def clipped_by_norm(rule: Rule, bound: float) -> Rule:
    """Return `rule` on `g min(1, bound / (‖g‖ + 10⁻⁶))`, the norm over all parameters (Pascanu et al. 2013).

    >>> _, w = clipped_by_norm(sgd(1.0), 1.0)(None, np.zeros(2), np.array([3.0, 4.0]))
    >>> w.round(4).tolist()
    [-0.6, -0.8]
    """
    return lambda state, w, g: rule(state, w, g * min(1.0, bound / (float(np.linalg.norm(g)) + 1e-6)))


def clipped_by_value(rule: Rule, bound: float) -> Rule:
    """Return `rule` on every entry of `g` cut off at `±bound`.

    >>> clipped_by_value(sgd(1.0), 1.0)(None, np.zeros(2), np.array([3.0, 0.5]))[1].tolist()
    [-1.0, -0.5]
    """
    return lambda state, w, g: rule(state, w, np.clip(g, -bound, bound))
