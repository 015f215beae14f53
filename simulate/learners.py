"""Online learners of slowly changing regression: what they are made of, by name, and the state they carry.

A learner is `ŷ = c + Σ_k v_k φ(Σ_i W_ik x_i + b_k)`, trained by one step on `(ŷ − y)²` a sample, plus what keeps it
plastic. `simulate.learner_reference` and `simulate.learner_kernels` both run it: the one to be read, the
other to be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil, inf, log, sqrt
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.special import expit

from simulate import randomness
from theory.tolerances import COPY

Array = np.ndarray[Any, Any]
Rule = Literal["sgd", "adam"]
Resets = Literal["none", "cbp", "redo", "escape"]
Utility = Literal["contribution", "zero-contribution", "adaptable-contribution", "weight", "adaptation"]
RULES: tuple[Rule, ...] = get_args(Rule)
RESETS: tuple[Resets, ...] = get_args(Resets)
UTILITIES: tuple[Utility, ...] = get_args(Utility)
LEAK = 0.01  # slope of a leaky ReLU below zero
SQUARED_GAINS: Mapping[str, float] = {
    "relu": 2.0,
    "leaky_relu": 2 / (1 + LEAK**2),
    "elu": 2.0,
    "tanh": 25 / 9,
    "sigmoid": 1.0,
    "swish": 2.0,
}  # of the initial weights by activation, as in the code of Dohare et al. (2024)
ACTIVATIONS = tuple(SQUARED_GAINS)
INITIAL = 3  # the random sequence of initial weights; streams use the ones before


def choose(argument: str, given: str, allowed: tuple[str, ...]) -> str:
    """Return `given` if it is allowed.

    Args:
        argument: What the caller calls it.
        given: The value.
        allowed: All values that are.

    Raises:
        ValueError: it is not; the message lists near names, or all.

    >>> choose("rule", "sgd", RULES)
    'sgd'
    >>> choose("rule", "adm", RULES)
    Traceback (most recent call last):
    ValueError: rule: 'adm' is unknown; did you mean adam?
    """
    if given not in allowed:
        near = get_close_matches(given, allowed)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(allowed)}"
        raise ValueError(f"{argument}: {given!r} is unknown; {hint}")
    return given


def _require(name: str, given: Any, holds: bool, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}: got {given}; {allowed}")


@dataclass(frozen=True)
class Learner:
    """The settings of a learner; all parts can be combined.

    Attributes:
        rule: "sgd" (with momentum) or "adam", as in `simulate.optimizers`.
        rate: `η`.
        momentum: `μ` of SGD, `β₁` of Adam.
        beta2, eps: of Adam.
        l2: `λ` of `λ w` added to the gradient (coupled).
        decay: `λ` of `w ← (1 − ηλ) w` before the step (decoupled, as AdamW).
        pull: `λ` of `λ (w − w₀)` added to the gradient: L2 Init (Kumar et al. 2023).
        shrink, noise: after every step `w ← (1 − shrink) w + noise · N(0, 1)`: shrink and perturb (Ash & Adams
            2020), at every step as in Dohare et al. (2024).
        resets: "cbp" continual backprop (Dohare et al. 2024), "redo" (Sokar et al. 2023), "escape" re-draws dead
            units and copies without changing the function on recent inputs (claim E2), or "none".
        start: steps before `resets` begins, with units that count as new then.
        dropout: probability with which a hidden unit is silent for a step, the others being scaled up; errors and
            `resets` are of the network without it.
        utility: of continual backprop; see `UTILITIES`.
        replacement: `ρ` of continual backprop, replacements a step and mature unit.
        maturity: steps during which a new unit is safe.
        smoothing: `η` of the running means of continual backprop.
        period: steps between two passes of "redo" or "escape".
        dormant: `τ` of "redo": a unit goes when its mean activation is at most `τ` times the mean over units.
        tolerance: of "escape": largest relative difference between a unit and a multiple of another one, its copy.
        memory: of "escape": the last so many tasks are recent, that at hand among them.
        linear: the baseline `ŷ = w·x + b`, one unit without activation function.
        activation: `φ`, one of `ACTIVATIONS`; "leaky_relu" has slope 0.01 below zero, "swish" is `z / (1 + e^−z)`.

    >>> Learner("adam", rate=1e-3, resets="cbp").utility
    'adaptable-contribution'
    """

    rule: Rule = "sgd"
    rate: float = 0.01
    momentum: float = 0.0
    beta2: float = 0.999
    eps: float = 1e-8
    l2: float = 0.0
    decay: float = 0.0
    pull: float = 0.0
    shrink: float = 0.0
    noise: float = 0.0
    resets: Resets = "none"
    start: int = 0
    dropout: float = 0.0
    utility: Utility = "adaptable-contribution"
    replacement: float = 1e-4
    maturity: int = 100
    smoothing: float = 0.99
    period: int = 1000
    dormant: float = 0.025
    tolerance: float = COPY
    memory: int = 1
    linear: bool = False
    activation: str = "relu"

    def __post_init__(self) -> None:
        kinds = (("rule", RULES), ("resets", RESETS), ("utility", UTILITIES), ("activation", ACTIVATIONS))
        for name, allowed in kinds:
            choose(name, getattr(self, name), allowed)
        for name in (
            "rate",
            "eps",
            "l2",
            "decay",
            "pull",
            "shrink",
            "noise",
            "replacement",
            "dormant",
            "tolerance",
        ):
            _require(name, getattr(self, name), 0 <= getattr(self, name) < inf, "it has to be finite, 0 or more")
        for name in ("momentum", "beta2", "smoothing", "dropout"):
            _require(
                name, getattr(self, name), 0 <= getattr(self, name) <= 1 - 1e-6, "it has to be in [0, 1 − 1e-6]"
            )
        for name in ("shrink", "replacement"):
            _require(name, getattr(self, name), getattr(self, name) <= 1, "it has to be at most 1")
        for name in ("period", "memory"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "it has to be at least 1")
        for name in ("maturity", "start"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "it has to be 0 or more")
        units = not (self.dropout and self.linear)
        _require("dropout", self.dropout, units, "a linear learner has no hidden units")


LEARNERS: Mapping[str, Learner] = {
    "sgd": Learner(),
    "momentum": Learner(rate=1e-3, momentum=0.9),
    "adam": Learner("adam", rate=1e-3, momentum=0.9),
    "l2": Learner(l2=1e-3),
    "adamw": Learner("adam", rate=1e-3, momentum=0.9, decay=0.01),
    "l2-init": Learner(pull=1e-2),
    "dropout": Learner(dropout=0.1),
    "shrink-perturb": Learner(shrink=1e-4, noise=3e-3),
    "redo": Learner(resets="redo"),
    "cbp": Learner(resets="cbp"),
    "cbp-contribution": Learner(resets="cbp", utility="contribution"),
    "cbp-adam": Learner("adam", rate=1e-3, momentum=0.9, resets="cbp"),
    "escape": Learner(resets="escape"),
    "linear": Learner(linear=True),
}


class Settings(NamedTuple):
    """A learner in numbers, as compiled code takes it; the corrections are tables of `1 − βᵗ` over `t`.

    The activation is its place in `ACTIVATIONS`, or the one after the last for a linear learner.
    """

    adam: bool
    rate: float
    momentum: float
    beta2: float
    eps: float
    l2: float
    decay: float
    pull: float
    shrink: float
    noise: float
    resets: int
    start: int
    dropout: float
    utility: int
    replacement: float
    maturity: int
    smoothing: float
    period: int
    dormant: float
    tolerance: float
    linear: bool
    activation: int
    squared_gain: float
    correction1: Array
    correction2: Array
    correction: Array


class State(NamedTuple):
    """All that a learner carries from one step to the next; arrays, changed in place.

    `weights` holds, row by row, a matrix (m + 2, hidden), rows `W_1 … W_m`, `b`, `v`, and then `c`.
    """

    weights: Array  # (parameters,)
    anchor: Array  # (parameters,): w₀ of L2 Init
    first: Array  # (parameters,): momentum
    second: Array  # (parameters,): mean squares of Adam
    counts: Array  # (hidden + 1,) int64: optimizer steps since the unit, or at last c, was new
    utility: Array  # (hidden,): running mean of the utility
    mean: Array  # (hidden,): running mean of the activation
    age: Array  # (hidden,) int64: steps since the unit was new
    activity: Array  # (hidden,): activations summed since the last pass of "redo"
    budget: Array  # (1,): replacements due
    clock: Array  # (2,) int64: steps, units re-drawn so far
    random: Array  # (1,) uint64


class Segment(NamedTuple):
    """Steps of one task: inputs (patterns, bits), targets (patterns,), order (steps,), recent (samples, bits).

    >>> x = np.array([[0.0], [1.0]])
    >>> Segment(x, targets=np.array([2.0, 3.0]), order=np.array([0, 1, 1]), recent=x).targets[[0, 1, 1]].tolist()
    [2.0, 3.0, 3.0]
    """

    inputs: Array
    targets: Array
    order: Array
    recent: Array


def named(name: str) -> Learner:
    """Return the learner of that name.

    Raises:
        ValueError: there is none; the message lists near names.

    >>> named("cbp-adam").rule
    'adam'
    """
    return LEARNERS[choose("learner", name, tuple(LEARNERS))]


def settings(learner: Learner) -> Settings:
    """Return the learner in numbers; names become their places in `RESETS` and `UTILITIES`.

    >>> numbers = settings(named("redo"))
    >>> numbers.adam, numbers.resets, numbers.correction1.tolist()
    (False, 2, [0.0, 1.0])
    """
    values = {name: getattr(learner, name) for name in Settings._fields if hasattr(learner, name)}
    return Settings(
        **values
        | {
            "adam": learner.rule == "adam",
            "resets": RESETS.index(learner.resets),
            "utility": UTILITIES.index(learner.utility),
            "activation": len(ACTIVATIONS) if learner.linear else ACTIVATIONS.index(learner.activation),
            "squared_gain": SQUARED_GAINS[learner.activation],
            "correction1": corrections(learner.momentum),
            "correction2": corrections(learner.beta2),
            "correction": corrections(learner.smoothing),
        }
    )


def corrections(beta: float) -> Array:
    """Return `1 − βᵗ` for `t = 0, 1, …` until it rounds to 1, where the table ends; `0 ≤ β < 1`.

    >>> corrections(0.5)[:4].tolist(), float(corrections(0.5)[-1])
    ([0.0, 0.5, 0.75, 0.875], 1.0)
    """
    length = 2 if beta == 0 else ceil(log(2.0**-54) / log(beta)) + 2
    return 1.0 - beta ** np.arange(length)


def initial(learner: Learner, bits: int, hidden: int, seed: int) -> State:
    """Return the state of a new learner.

    Kaiming's uniform weights (He et al. 2015): `W ~ U(±g √(3/m))` with the gain `g` of the activation, √2 for ReLU,
    `v ~ U(±√(3/h))`, no biases; linear: `W ~ U(±√(3/m))`.

    Args:
        learner: Whether it is linear, and its activation.
        bits: `m`, inputs.
        hidden: `h`, units.
        seed: Of the weights, and of what the learner draws later.

    >>> state = initial(Learner(), bits=3, hidden=2, seed=0)
    >>> state.weights.shape, state.weights[6:8].tolist(), state.clock.tolist()  # (3 + 2) · 2 + 1; biases; steps
    ((11,), [0.0, 0.0], [0, 0])
    """
    draws = np.random.default_rng([seed, INITIAL])
    matrix = np.zeros((bits + 2, hidden))
    matrix[:bits] = draws.uniform(-1, 1, (bits, hidden)) * bound(
        bits, 1.0 if learner.linear else SQUARED_GAINS[learner.activation]
    )
    matrix[-1] = 1.0 if learner.linear else draws.uniform(-1, 1, hidden) * sqrt(3 / hidden)
    weights = np.append(matrix.ravel(), 0.0)
    return State(
        weights=weights,
        anchor=weights.copy(),
        first=np.zeros_like(weights),
        second=np.zeros_like(weights),
        counts=np.zeros(hidden + 1, dtype=np.int64),
        utility=np.zeros(hidden),
        mean=np.zeros(hidden),
        age=np.zeros(hidden, dtype=np.int64),
        activity=np.zeros(hidden),
        budget=np.zeros(1),
        clock=np.zeros(2, dtype=np.int64),
        random=randomness.seeded(seed),
    )


def bound(bits: int, squared_gain: float = 2.0) -> float:
    """Return the largest size of an incoming weight of a new unit, `g √(3/m)`.

    >>> bound(6)
    1.0
    """
    return sqrt(3 * squared_gain / bits)


def unpack(weights: Array, hidden: int) -> tuple[Array, Array, Array, Any]:
    """Return `W` (bits, hidden), `b` (hidden,), `v` (hidden,) as views of the weights, and `c`.

    >>> W, b, v, c = unpack(np.arange(9.0), hidden=2)
    >>> W.tolist(), b.tolist(), v.tolist(), float(c)
    ([[0.0, 1.0], [2.0, 3.0]], [4.0, 5.0], [6.0, 7.0], 8.0)
    """
    matrix = weights[:-1].reshape(-1, hidden)
    return matrix[:-2], matrix[-2], matrix[-1], weights[-1]


def activations(weights: Array, hidden: int, x: Array, learner: Learner = Learner()) -> Array:
    """Return `φ(x W + b)`, or `x W + b` if linear, of shape (samples, hidden).

    Args:
        weights: As `State` holds them.
        hidden: How many units.
        x: Inputs, shape (samples, bits).
        learner: Whose activation it is; ReLU if not given.

    >>> activations(np.array([1.0, -1.0, 0.5, 0.0, 1.0, 1.0, 0.0]), 2, np.array([[1.0]])).tolist()
    [[1.5, 0.0]]
    """
    W, b, _, _ = unpack(weights, hidden)
    return x @ W + b if learner.linear else activated(ACTIVATIONS.index(learner.activation), x @ W + b)[0]


def activated(place: int, z: Array) -> tuple[Array, Array]:
    """Return `φ(z)` and `φ'(z)`, elementwise; at 0 as torch has it.

    Args:
        place: Of the activation in `ACTIVATIONS`, or the one after the last for none.
        z: Preactivations.

    >>> [side.tolist() for side in activated(ACTIVATIONS.index("leaky_relu"), np.array([-2.0, 3.0]))]
    [[-0.02, 3.0], [0.01, 1.0]]
    """
    formulas: tuple[Callable[[], tuple[Array, Array]], ...] = (
        lambda: (np.maximum(z, 0.0), np.where(z > 0, 1.0, 0.0)),
        lambda: (np.where(z > 0, z, LEAK * z), np.where(z > 0, 1.0, LEAK)),
        lambda: (np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))), np.exp(np.minimum(z, 0.0))),
        lambda: (np.tanh(z), 1 - np.tanh(z) ** 2),
        lambda: (expit(z), expit(z) * (1 - expit(z))),
        lambda: (z * expit(z), expit(z) * (1 + z * (1 - expit(z)))),
        lambda: (z, np.ones_like(z)),
    )
    return formulas[place]()
