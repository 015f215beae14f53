"""Slowly changing regression, "bit flipping": binary inputs of which some hold still, and a fixed target network.

Dohare et al. (2024), Nature 632; JL25 figure B.1. Of `m` input bits the first `f` are slow: they hold for `T`
steps, a *task*, then change. The others are fair coins at every step, so a task has `2^(m−f)` different inputs. The
target is a network of linear threshold units (LTUs) with weights ±1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Array = np.ndarray[Any, Any]
Kind = Literal["redraw", "flip-one"]
Threshold = Literal["paper", "code"]
MOST_FAST_BITS = 16  # so that a pattern's number fits into uint16
TARGET, SLOW, ORDER = range(3)  # which of the independent random sequences of a seed


@dataclass(frozen=True)
class Stream:
    """What the learner sees.

    Attributes:
        kind: every `T` steps "redraw" draws all slow bits (Dohare et al.), "flip-one" flips one of them (JL25).
        bits: `m`, without the constant.
        slow: `f`.
        hold: `T`, in steps.
        units: LTUs of the target network.
        beta: `β` of their thresholds.
        threshold: "paper" or "code", see `threshold`.

    >>> Stream(bits=5, slow=3, hold=10).kind
    'redraw'
    """

    kind: Kind = "redraw"
    bits: int = 20
    slow: int = 15
    hold: int = 10_000
    units: int = 100
    beta: float = 0.7
    threshold: Threshold = "code"

    def __post_init__(self) -> None:
        for name, allowed in (("kind", get_args(Kind)), ("threshold", get_args(Threshold))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: got {getattr(self, name)!r}; choose from {', '.join(allowed)}")
        for name in ("bits", "slow", "hold", "units"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; it has to be at least 1")
        if not 0 <= self.bits - self.slow <= MOST_FAST_BITS:
            raise ValueError(
                f"slow: got {self.slow} of {self.bits} bits; 0 to {MOST_FAST_BITS} bits have to be left fast"
            )


class Target(NamedTuple):
    """LTUs: weights (units, bits), offsets, thresholds and outgoing weights (units,), and the output's bias."""

    weights: Array
    offsets: Array
    thresholds: Array
    outgoing: Array
    bias: float


class Task(NamedTuple):
    """All different inputs (patterns, bits) of a task, their targets (patterns,), and which comes when (T,)."""

    inputs: Array
    targets: Array
    order: Array


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return the generator that belongs to a place of a seed's randomness; it depends on nothing else.

    >>> int(generator(0, 1).integers(100)) == int(generator(0, 1).integers(100))
    True
    """
    return np.random.default_rng([seed, *place])


def target(stream: Stream, seed: int) -> Target:
    """Return the target network of a seed; all its weights are ±1 with equal probability.

    >>> network = target(Stream(bits=5, slow=3, units=7), seed=0)
    >>> network.weights.shape, set(network.outgoing.tolist()) <= {-1.0, 1.0}
    ((7, 5), True)
    """
    draws = generator(seed, TARGET)
    weights, offsets = _signs(draws, (stream.units, stream.bits)), _signs(draws, (stream.units,))
    outgoing, bias = _signs(draws, (stream.units,)), _signs(draws, (1,))
    return Target(weights, offsets, threshold(stream, weights, offsets), outgoing, float(bias[0]))


def threshold(stream: Stream, weights: Array, offsets: Array) -> Array:
    """Return the thresholds `θ_i = β (m + 1) − S_i` of shape (units,).

    "paper": `S_i` is the number of negative weights, the constant's (the offset `b_i`) among them, so that a unit
    fires when more than `β (m+1)` of its m + 1 inputs agree with the signs of its weights. "code": the published
    code computes `S_i = (m − Σ w_i + b_i) / 2`, which needs 14 agreeing bits of 20 where `b_i = 1`, as the paper,
    and 17 instead of 15 where `b_i = −1`.

    Args:
        stream: `β`, `m` and which of the two.
        weights: ±1, shape (units, bits).
        offsets: ±1, shape (units,).

    Source: Dohare et al. 2024.

    >>> weights, offsets = np.array([[1.0, -1.0]]), np.array([-1.0])
    >>> for kind in ("paper", "code"):
    ...     print(threshold(Stream(bits=2, slow=1, beta=0.5, threshold=kind), weights, offsets))
    [-0.5]
    [1.]
    """
    negative = (weights < 0).sum(axis=1)
    counted = negative + (offsets < 0) if stream.threshold == "paper" else negative + offsets / 2
    return stream.beta * (stream.bits + 1) - counted


def respond(network: Target, x: Array) -> Array:
    """Return `y = b + Σ_i v_i 1[w_i·x + b_i > θ_i]` of shape (samples,) for `x` (samples, bits).

    >>> unit = Target(np.array([[1.0, 1.0]]), np.array([1.0]), np.array([2.5]), np.array([5.0]), -1.0)
    >>> respond(unit, np.array([[1.0, 1.0], [1.0, 0.0]])).tolist()
    [4.0, -1.0]
    """
    fires = x @ network.weights.T + network.offsets > network.thresholds
    return fires @ network.outgoing + network.bias


def slow_bits(stream: Stream, seed: int, tasks: int) -> Array:
    """Return the slow bits (tasks, f) of the first tasks; more tasks go on from fewer.

    Args:
        stream: How many bits, and how they change.
        seed: Of the stream.
        tasks: How many.

    >>> bits = slow_bits(Stream("flip-one", bits=5, slow=3), seed=0, tasks=3)
    >>> np.abs(np.diff(bits, axis=0)).sum(axis=1).tolist()
    [1.0, 1.0]
    """
    draws = generator(seed, SLOW)
    if stream.kind == "redraw":
        return draws.integers(0, 2, (tasks, stream.slow)).astype(float)
    bits = np.zeros((tasks, stream.slow), dtype=np.int64)
    bits[0] = draws.integers(0, 2, stream.slow)
    bits[np.arange(1, tasks), draws.integers(0, stream.slow, tasks - 1)] = 1
    return (bits.cumsum(axis=0) % 2).astype(float)


def patterns(stream: Stream, slow: Array) -> Array:
    """Return the inputs (settings · 2^(m−f), bits) that slow bits (settings, f) allow, setting by setting.

    >>> patterns(Stream(bits=3, slow=1), np.array([[1.0]])).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    """
    fast = stream.bits - stream.slow
    values = (np.arange(2**fast)[:, None] >> np.arange(fast)) & 1
    return np.hstack([np.repeat(slow, 2**fast, axis=0), np.tile(values, (len(slow), 1))])


def task(stream: Stream, network: Target, slow: Array, seed: int, index: int) -> Task:
    """Return the task of that index.

    Args:
        stream: What the learner sees.
        network: The target.
        slow: Its slow bits, shape (f,).
        seed: Of the order in which inputs come.
        index: Of the task.

    >>> stream = Stream(bits=3, slow=1, hold=10)
    >>> found = task(stream, target(stream, 0), np.ones(1), seed=0, index=0)
    >>> found.inputs.shape, found.targets.shape, found.order.shape
    ((4, 3), (4,), (10,))
    """
    inputs = patterns(stream, slow[None])
    order = generator(seed, ORDER, index).integers(0, len(inputs), stream.hold, dtype=np.uint16)
    return Task(inputs, respond(network, inputs), order)


def _signs(draws: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 2.0 * draws.integers(0, 2, shape) - 1
