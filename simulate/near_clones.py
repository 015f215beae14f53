"""What one state of training tells about near-clones under small batches (claims C10, C15, S2, S3).

A clone `(w, c)` with pre-activation `z = w · x` and out-weights `c`, moved by a little that sums to zero over the
clones, is multiplied in each step by `I − η H` with `H` the mean over the batch of

    H_i = [[(c · δ_i) φ''(z_i) x_i x_iᵀ, m_i], [m_iᵀ, 0]],      m_i = φ'(z_i) x_i δ_iᵀ,      δ = ∂ℓ/∂f.

Three sizes can be read off samples at one state: how fast `E H` parts clones now; how fast it would where the base
is at rest; and how much the noise of a batch can add to an exponent. Their order says what decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from theory.curvature import second_slope
from theory.network import Network, SquaredError, Unit, backward, forward, slope

Array = np.ndarray[Any, Any]
Decides = Literal["hessian", "noise", "trajectory"]


@dataclass(frozen=True)
class Forecast:
    """What one state tells about the near-clones of a unit; rates are logarithms of growth a step.

    Attributes:
        now: by the Hessian at this state, all of it.
        rest: by what a base at rest keeps of it: there `m c = 0`, and `mᵀ w = 0` if `φ` is homogeneous. In a
            network that learns errors change, and so does this; much below `now` says that the base does not rest.
        held: the lowest rate at which `E (c · δ) φ'' x xᵀ` pulls in-weights together; 0 unless it is definite.
        noise: what batches of independent samples add to an exponent, or take from it, at most.
        decides: `"hessian"`: `rest` or `held` exceeds the noise; `"noise"`: a homogeneous unit with one output and
            a base at rest as far as noise tells, so that noise makes near-clones proportional and never parts them;
            `"trajectory"`: one state does not tell, follow training.

    >>> Forecast(now=0.1, rest=0.0, held=0.0, noise=0.01, decides="trajectory").parts
    False
    """

    now: float
    rest: float
    held: float
    noise: float
    decides: Decides

    @property
    def parts(self) -> bool:
        """Whether clones part as long as the Hessian is what it is and the base is at rest."""
        return self.decides == "hessian" and self.rest > self.noise


def forecast(
    x: Array, delta: Array, slopes: Array, bends: Array, w: Array, c: Array, *, rate: float, batch: int
) -> Forecast:
    """Return what samples at one state tell about the near-clones of a unit.

    `noise` is `(η²/2B) ‖E (H_i − E H)²‖`: the second-order part of an exponent of independent matrices lies between
    minus and plus this. Time `O(samples (d + m)²)`.

    Args:
        x: Inputs of the unit, shape (samples, d), with a column of ones for a bias.
        delta: `∂ℓ/∂f` of each sample's own loss, shape (samples, m).
        slopes, bends: `φ'(z)` and `φ''(z)`, shape (samples,); a unit without bends counts as homogeneous.
        w, c: Weights of one clone, shapes (d,) and (m,).
        rate: Learning rate `η`.
        batch: Samples a step, `B`.

    Raises:
        ValueError: The shapes do not fit, or the rate or the batch is not positive.

    Source: claims C10, C15, S2 and S3.

    >>> x, delta = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[0.0, 1.0], [0.0, -1.0]])  # the example of C15
    >>> unit = np.array([1.0, 0.0])
    >>> found = forecast(x, delta, np.ones(2), np.zeros(2), unit, unit, rate=0.01, batch=2)
    >>> f"{found.now:.5f} {found.rest:.5f} {found.noise:.5f}", found.decides, found.parts
    ('0.00995 0.00995 0.00003', 'hessian', True)
    """
    _check(x, delta, slopes, bends, w, c, rate, batch)
    n = len(x)
    pull = (delta @ c) * bends
    A, m = (x * pull[:, None]).T @ x / n, (x * slopes[:, None]).T @ delta / n
    flat = not bends.any()
    kept = m - np.outer(m @ c, c) / max(float(c @ c), np.finfo(float).tiny)
    if flat:
        kept = kept - np.outer(w, w @ kept) / max(float(w @ w), np.finfo(float).tiny)
    H = _blocks(A, m)
    noise = rate**2 / (2 * batch) * float(np.linalg.eigvalsh(_square(x, delta, slopes, pull) - H @ H)[-1])
    now, rest = (_growth(rate, B) for B in (H, _blocks(A, kept)))
    held = rate * max(0.0, float(np.linalg.eigvalsh(A)[0]))
    if max(rest, held if len(c) == 1 else 0.0) > noise:
        decides: Decides = "hessian"
    elif flat and len(c) == 1 and now <= noise:
        decides = "noise"
    else:
        decides = "trajectory"
    return Forecast(now, rest, held, noise, decides)


def forecast_of_clone(
    network: Network, unit: Unit, x: Array, criterion: SquaredError, *, rate: float, batch: int
) -> Forecast:
    """Return what samples at one state tell about the near-clones of a unit of a network.

    Beside `simulate.stability.classify`, whose Hessian is that of the sum over samples; here it is the mean, and
    clones part by `η` times it. Tied edges count as if they were not.

    Args:
        network: On its manifold, float64.
        unit: A hidden unit that is one of several clones: an edge into it is an input of the clone, an edge out of
            it an out-weight.
        x: Inputs of shape (inputs, samples).
        criterion: The loss; each sample's own is its part of the sum.
        rate: Learning rate of descent on the mean of a batch.
        batch: Samples a step.

    Raises:
        ValueError: The unit is none of the network, an input or an output, or as `forecast`.

    >>> network, goal = Network.layered([[[1.0], [1.0]], [[1.0, 1.0]]], "tanh"), SquaredError(np.array([[0.0]]))
    >>> found = forecast_of_clone(network, network.units[1], np.array([[1.0]]), goal, rate=0.1, batch=1)
    >>> found.decides, found.parts
    ('hessian', True)
    """
    if unit not in network.index:
        raise ValueError(f"unit {unit!r} is none of the network; it has {', '.join(map(repr, network.units))}")
    v = network.index[unit]
    into, out = np.flatnonzero(network.target == v), np.flatnonzero(network.source == v)
    if not len(into) or not len(out):
        raise ValueError(f"unit {unit!r} has {len(into)} edges in and {len(out)} out; give a hidden unit")
    trace = forward(network, x)
    errors = backward(network, trace, criterion.gradient(trace.h[list(network.outputs)]))
    slopes, bends = slope(network, trace), second_slope(network, trace)
    delta = (errors * slopes)[network.target[out]]
    w, c, sources = network.weights[into], network.weights[out], trace.h[network.source[into]]
    return forecast(sources.T, delta.T, slopes[v], bends[v], w, c, rate=rate, batch=batch)


def _blocks(A: Array, m: Array) -> Array:
    return np.block([[A, m], [m.T, np.zeros((m.shape[1], m.shape[1]))]])


def _square(x: Array, delta: Array, slope: Array, pull: Array) -> Array:
    """Return `E H_i²`, without forming any `H_i`."""
    n, size = len(x), (x**2).sum(axis=1)
    first = pull**2 * size + slope**2 * (delta**2).sum(axis=1)
    top, cross = (x * first[:, None]).T @ x, (x * (pull * slope * size)[:, None]).T @ delta
    return np.block([[top, cross], [cross.T, (delta * (slope**2 * size)[:, None]).T @ delta]]) / n


def _growth(rate: float, H: Array) -> float:
    return math.log1p(rate * max(0.0, -float(np.linalg.eigvalsh(H)[0])))


def _check(x: Array, delta: Array, slope: Array, bend: Array, w: Array, c: Array, rate: float, batch: int) -> None:
    n = len(x)
    if (len(delta), slope.shape, bend.shape) != (n, (n,), (n,)) or (x.shape[1:], delta.shape[1:]) != (
        w.shape,
        c.shape,
    ):
        shapes = ", ".join(str(a.shape) for a in (x, delta, slope, bend, w, c))
        raise ValueError(
            f"x, delta, slope, bend, w, c: got shapes {shapes}; allowed are (n, d), (n, m), (n,), (n,), (d,), (m,)"
        )
    if not rate > 0 or not batch >= 1:
        raise ValueError(
            f"rate is {rate!r} and batch {batch!r}; allowed are positive rates and batches of 1 or more"
        )
