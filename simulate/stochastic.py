"""Do small batches bring near-clones together or drive them apart (claims S1 to S4)?

`n` clones `(w, a)` of a unit in a network with one hidden layer and one output, each moved by a little that sums to
zero over them, `v = (ε, α)`. On the trajectory of the clones each step of stochastic descent multiplies `v` by

    I − η H_t,    H_t = [[a A_t, b_t], [b_tᵀ, 0]],    b = ℓ' φ'(z) x,    A = ℓ' φ''(z) x xᵀ,

means over the batch, so the Lyapunov exponents of this product say whether near-clones part. The Hessian is the
mean of `H_t`; the exponents also depend on its fluctuations and on their *order*. `follow` records `H_t`,
`exponents` multiplies, `shuffled` forgets the order, `noise_matrix` and `isotropic_exponent` are what theory says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.integrate import quad

from simulate.randomness import seeded
from simulate.stochastic_kernels import descend_and_record, grow

Array = np.ndarray[Any, Any]
Activation = Literal["relu", "tanh", "gelu"]
BLOCKS = 10  # pieces of a trajectory, whose spread gives standard errors


@dataclass(frozen=True)
class Setting:
    """A network of clones, the teacher that it learns from a stream of samples, and the rule.

    Attributes:
        W, a: In-weights (units, inputs) and out-weights (units,) of one clone of each unit.
        teacher_W, teacher_a: Of the teacher, shapes (others, inputs) and (others,).
        rate: Learning rate `η`.
        activation, teacher_activation: `"relu"`, `"tanh"` or `"gelu"`.
        noise: Standard deviation of Gaussian noise on targets.
        batch: Samples a step.
        copies: `n`; the network is `n Σ a_k φ(w_k · x)`.
        output: `s`: the network's output is multiplied by `s` and the rate divided by `s²`: large values are the
            lazy regime (Chizat, Oyallon & Bach 2019).
        mixing: Inputs are `x = M g` with standard normal `g`; shape (inputs, inputs), the identity if `None`.

    Raises:
        ValueError: Shapes do not fit, a name is unknown, or a number is out of range.

    >>> Setting.matched(2, rate=0.1).W.shape
    (1, 2)
    """

    W: Array
    a: Array
    teacher_W: Array
    teacher_a: Array
    rate: float
    activation: Activation = "relu"
    teacher_activation: Activation = "relu"
    noise: float = 0.0
    batch: int = 1
    copies: int = 2
    output: float = 1.0
    mixing: Array | None = None

    def __post_init__(self) -> None:
        inputs = self.W.shape[-1]
        shapes = [(self.W, self.a, "W and a"), (self.teacher_W, self.teacher_a, "teacher_W and teacher_a")]
        for W, a, name in shapes:
            if W.ndim != 2 or a.shape != W.shape[:1] or W.shape[1] != inputs:
                raise ValueError(f"{name}: got shapes {W.shape} and {a.shape}; allowed are (n, {inputs}) and (n,)")
        if self.mixing is not None and self.mixing.shape != (inputs, inputs):
            raise ValueError(f"mixing: got shape {self.mixing.shape}; allowed is {(inputs, inputs)}")
        for one in (self.activation, self.teacher_activation):
            if one not in get_args(Activation):
                raise ValueError(f"activation {one!r} is unknown; allowed are {', '.join(get_args(Activation))}")
        for name in ("rate", "output", "batch", "copies"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed are positive numbers")
        if not self.noise >= 0:
            raise ValueError(f"noise is {self.noise!r}; allowed are numbers ≥ 0")

    @classmethod
    def matched(cls, inputs: int, *, rate: float, activation: Activation = "relu", **options: Any) -> Setting:
        """Return clones of one unit that start at the teacher, so that label noise alone moves them.

        The teacher is `√d φ(1 · x / √d)`; `options` are fields of `Setting`, with noise 1 by default.

        >>> Setting.matched(4, rate=0.1, copies=2).a
        array([0.5])
        """
        options = {"noise": 1.0, "copies": 2} | options
        share = options["copies"] * options.get("output", 1.0)
        scale = inputs**-0.25 if inputs else 1.0
        W = np.full((1, inputs), scale)
        a = np.full(1, 1.0)
        return cls(W, a / share, W, a, rate, activation, activation, **options)


@dataclass(frozen=True)
class Record:
    """The matrices `H_t` along a trajectory, for one unit.

    Attributes:
        b: Shape (steps, inputs).
        curvature: `a A_t`, shape (steps, inputs, inputs); `None` for ReLU, where it is 0.
        weights: `(w_t, a_t)` before each step, shape (steps, inputs + 1).
        rate: `η`.

    >>> record = follow(Setting.matched(2, rate=0.1), 5)
    >>> record.b.shape, record.curvature, record.weights.shape
    ((5, 2), None, (5, 3))
    """

    b: Array
    curvature: Array | None
    weights: Array
    rate: float


class Exponents(NamedTuple):
    """Lyapunov exponents a step, largest first, and their standard errors."""

    values: Array
    errors: Array


def follow(setting: Setting, steps: int, *, warmup: int = 0, seed: int = 0, unit: int = 0) -> Record:
    """Descend on the manifold for `warmup + steps` steps and record `H_t` of a unit's clones in the last `steps`.

    Args:
        setting: Network, data and rule.
        steps: How many are recorded.
        warmup: How many come before.
        seed: Of inputs and noise.
        unit: Which unit.

    Raises:
        ValueError: `steps` is below 1, or there is no such unit.
        ArithmeticError: Descent diverged.

    >>> record = follow(Setting.matched(1, rate=0.1, noise=0.0), 3)
    >>> bool(record.b.any()), bool(record.weights.any())  # at the teacher and without noise nothing moves
    (False, True)
    """
    if steps < 1 or not 0 <= unit < len(setting.a):
        raise ValueError(f"steps is {steps} and unit {unit}; allowed are steps ≥ 1, units below {len(setting.a)}")
    W, a = setting.W.astype(np.float64), setting.a.astype(np.float64)
    inputs, names = W.shape[1], get_args(Activation)
    smooth = setting.activation != "relu"
    b, weights = np.empty((steps, inputs)), np.empty((steps, inputs + 1))
    curvature = np.empty((steps, inputs, inputs) if smooth else (0, inputs, inputs))
    descend_and_record(
        W,
        a,
        setting.teacher_W.astype(np.float64),
        setting.teacher_a.astype(np.float64),
        np.eye(inputs) if setting.mixing is None else setting.mixing.astype(np.float64),
        (names.index(setting.activation), names.index(setting.teacher_activation), setting.batch, warmup, unit),
        (setting.rate / setting.output**2, setting.noise, setting.output * setting.copies, setting.output),
        seeded(seed),
        b,
        curvature,
        weights,
    )
    if not (np.isfinite(weights).all() and np.isfinite(b).all()):
        raise ArithmeticError(f"descent diverged; lower the rate, now {setting.rate:g}")
    return Record(b, curvature if smooth else None, weights, setting.rate / setting.output**2)


def shuffled(record: Record, seed: int = 0) -> Record:
    """Return the same matrices in a random order: what independent noise of this distribution would do.

    >>> record = follow(Setting.matched(2, rate=0.1), 5)
    >>> bool(np.allclose(shuffled(record).b.sum(axis=0), record.b.sum(axis=0)))
    True
    """
    order = np.random.default_rng(seed).permutation(len(record.b))
    curvature = None if record.curvature is None else record.curvature[order]
    return replace(record, b=record.b[order], curvature=curvature, weights=record.weights[order])


def exponents(record: Record, count: int | None = None) -> Exponents:
    """Return the largest Lyapunov exponents a step of the product of `I − η H_t`.

    Vectors are made orthogonal again every few steps (Benettin et al. 1980). An eleventh of the steps
    aligns them; means over ten pieces of the rest give errors, which are too large where pieces compensate each
    other, as those of ordered steps do.

    Args:
        record: The matrices.
        count: How many exponents; all, inputs + 1, if `None`.

    Raises:
        ValueError: There are fewer than 20 steps or not as many exponents.

    >>> b = np.full((1000, 1), -1.0)  # eigenvalues ±1 in each step
    >>> exponents(Record(b, None, np.zeros((1000, 2)), 0.1)).values.round(6).tolist()  # ln 1.1, ln 0.9
    [0.09531, -0.105361]
    """
    steps, inputs = record.b.shape
    count = inputs + 1 if count is None else count
    if steps < 2 * BLOCKS or not 1 <= count <= inputs + 1:
        raise ValueError(
            f"got {steps} steps and count {count}; allowed are {2 * BLOCKS} steps or more and 1 to {inputs + 1}"
        )
    curvature = np.empty((0, inputs, inputs)) if record.curvature is None else record.curvature
    grown = grow(record.b, curvature, record.rate, count, BLOCKS)
    return Exponents(grown.mean(axis=0), grown.std(axis=0, ddof=1) / np.sqrt(BLOCKS))


def mean_matrix(record: Record) -> Array:
    """Return the mean of `H_t`, the normal Hessian of one clone averaged over the trajectory.

    >>> mean_matrix(Record(np.array([[1.0], [3.0]]), None, np.zeros((2, 2)), 0.1)).tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    inputs = record.b.shape[1]
    H = np.zeros((inputs + 1, inputs + 1))
    if record.curvature is not None:
        H[:inputs, :inputs] = record.curvature.mean(axis=0)
    H[:inputs, inputs] = H[inputs, :inputs] = record.b.mean(axis=0)
    return H


def noise_matrix(record: Record) -> Array:
    """Return `N = [[C, −C w/a], [·, tr C]]`, with `C = E b bᵀ` and mean `w` and `a` (claim S2).

    For a ReLU unit with one output that stays near a point but for its scale, the exponents are `−η²/2` times the
    eigenvalues of `N`. There noise has balanced the unit: `a² tr C = wᵀ C w`, so that `N (w, a) = 0`.

    >>> record = Record(np.array([[1.0], [-1.0]]), None, np.array([[2.0, 2.0]] * 2), 0.1)
    >>> noise_matrix(record).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    w, a = record.weights[:, :-1].mean(axis=0), record.weights[:, -1].mean()
    C = second_moment(record)
    cross = -C @ w / a
    return np.block([[C, cross[:, None]], [cross[None], np.full((1, 1), np.trace(C))]])


def second_moment(record: Record) -> Array:
    """Return `C = E b bᵀ` over the trajectory, of shape (inputs, inputs).

    >>> second_moment(Record(np.array([[1.0], [-3.0]]), None, np.zeros((2, 2)), 0.1)).tolist()
    [[5.0]]
    """
    return np.asarray(record.b.T @ record.b / len(record.b))


def participation(C: Array) -> float:
    """Return the participation ratio `(tr C)² / tr C²`, a soft count of directions.

    >>> participation(np.eye(3))
    3.0
    """
    return float(np.trace(C) ** 2 / np.trace(C @ C))


def independent(C: Array, steps: int, *, rate: float, seed: int = 0) -> Record:
    """Return a record of independent `b_t ~ N(0, C)` without curvature: the model of claim S1.

    Args:
        C: Covariance, shape (inputs, inputs).
        steps: How many.
        rate: `η`.
        seed: Of the draws.

    >>> independent(np.diag([1.0, 0.0]), 3, rate=0.1).b[:, 1].tolist()
    [0.0, 0.0, 0.0]
    """
    values, vectors = np.linalg.eigh(C)
    root = vectors * np.sqrt(np.maximum(values, 0))
    b = np.random.default_rng(seed).standard_normal((steps, len(C))) @ root.T
    return Record(b, None, np.zeros((steps, len(C) + 1)), rate)


def isotropic_exponent(rank: int, variance: float) -> float:
    """Return `λ/η²` of independent `b ~ N(0, s² I)` of rank `r` for small rates (claim S1).

    `(s²/2) ((r − 1) E u² − 1)`, where `u` has the density `∝ (1 + u²)^{(r−2)/2} exp(−(r − 1) u²/2)`; `−s²/2` for
    `r = 1`.

    Args:
        rank: `r ≥ 1`.
        variance: `s²`.

    Raises:
        ValueError: `rank` is below 1.

    >>> [f"{isotropic_exponent(r, 1 / r):.4f}" for r in (3, 5, 10, 50)]
    ['0.0473', '0.0682', '0.0680', '0.0406']
    """
    if rank < 1:
        raise ValueError(f"rank is {rank!r}; allowed are integers ≥ 1")
    if rank == 1:
        return -variance / 2
    even = quad(_density, 0, np.inf, args=(rank, 0))[0]
    square = quad(_density, 0, np.inf, args=(rank, 2))[0]
    return float(variance / 2 * ((rank - 1) * square / even - 1))


def _density(u: float, rank: int, power: int) -> float:
    logarithm = (rank - 2) / 2 * np.log1p(u * u) - (rank - 1) * u * u / 2
    return float(u**power * np.exp(logarithm))
