"""How long does it take to leave a cloned manifold (claims C10, E1)?

Close to the manifold a perturbation `δ` in the normal space follows `δ̇ = −H(t) δ`, with `H(t)` the normal Hessian
along the trajectory on the manifold. If `λ(t)` is the rate of the fastest growing direction, the component along it
grows like `exp ∫ λ dt`: from `δ₀` to `δ₁` in the time at which `∫ λ dt = ln(δ₁/δ₀)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulate.clones import Convention, Disturbance, entry_noise
from simulate.descent import Batch
from theory.curvature import Curvature
from theory.manifolds import Manifold
from theory.network import Network, SquaredError, gradient
from theory.tolerances import NO_SPLIT, ON_MANIFOLD

Array = np.ndarray[Any, Any]
Noise = Callable[[int, Array, np.random.Generator], Array]


@dataclass(frozen=True)
class Prediction:
    """What linearisation around the manifold says.

    Attributes:
        steps: The first step at which the predicted distance is `δ₁` or more, or `None` if it is not in time.
        distances: Predicted distance after each step, shape (steps + 1,), up to the first that is `δ₁` or more.
    """

    steps: int | None
    distances: Array


def predict_escape_time(
    network: Network,
    manifold: Manifold,
    x: Array,
    criterion: SquaredError,
    *,
    rate: float,
    start: Array,
    goal: float,
    longest: int,
) -> Prediction:
    """Return when a perturbed descent reaches a distance, predicted from the unperturbed one.

    Gradient descent on the manifold, and beside it `δ ← δ − η P H δ`: the linearised step, with `H` the Hessian at
    the point on the manifold. Each step costs a gradient and a Hessian-vector product.

    Args:
        network: A network on the manifold, float64.
        manifold: The cloned manifold.
        x: Inputs of shape (inputs, samples).
        criterion: The loss.
        rate: Learning rate `η`.
        start: The perturbation at the start, shape (parameters,); its tangent part is ignored.
        goal: The distance `δ₁` that counts as escaped.
        longest: After how many steps to give up.

    Raises:
        ValueError: The network is not on the manifold, the perturbation is tangent or beyond the goal already, or a
            number is not positive.

    >>> network, goal = Network.layered([[[1.0], [1.0]], [[0.5, 0.5]]], "relu"), SquaredError(np.array([[0.0]]))
    >>> pairs = Manifold(network.parameters, np.array([0, 0, 1, 1]), np.ones(4))
    >>> ways = dict(rate=0.01, start=np.array([1e-3, -1e-3, -1e-3, 1e-3]), goal=2.1e-3, longest=100)
    >>> predict_escape_time(network, pairs, np.array([[1.0]]), goal, **ways).steps
    6
    """
    delta = _checked_start(manifold, start, goal, rate, longest)
    _check_on(network, manifold)
    distances = [float(np.linalg.norm(delta))]
    for _ in range(longest):
        curvature = Curvature(network, x, criterion)
        delta = delta - rate * manifold.project_normal(curvature.times(delta))
        network = network.with_parameters(network.parameters - rate * gradient(network, x, criterion.gradient))
        distances.append(float(np.linalg.norm(delta)))
        if distances[-1] >= goal:
            return Prediction(len(distances) - 1, np.array(distances))
    return Prediction(None, np.array(distances))


def predict_by_rate(rates: Array, step: float, start: float, goal: float) -> int | None:
    """Return the first step at which `Σ ln(1 + η λ) ≥ ln(δ₁/δ₀)`, or `None`.

    Args:
        rates: Unstable rate `λ` at each step along the manifold, shape (steps,).
        step: Learning rate `η`.
        start: `δ₀`, the size of the component along the growing direction.
        goal: `δ₁`.

    >>> predict_by_rate(np.ones(100), 0.1, 1.0, 2.0)  # 1.1⁸ > 2 > 1.1⁷
    8
    """
    grown = np.cumsum(np.log1p(step * np.asarray(rates)))
    enough = np.flatnonzero(grown >= np.log(goal / start))
    return int(enough[0]) + 1 if enough.size else None


def unstable_rate(base: Network, x: Array, criterion: SquaredError) -> float:
    """Return `max ‖∂L/∂w‖ / |a|` over the hidden ReLU units of a base network with one hidden layer and one output.

    It is `‖b‖` of claim C10 (iii), the rate at which the clones of that unit part under gradient flow.

    Args:
        base: The network that was cloned; float64, no `a` zero.
        x: Inputs of shape (inputs, samples).
        criterion: The loss.

    Raises:
        ValueError: The network has another shape.

    >>> base, goal = Network.layered([[[1.0]], [[2.0]]], "relu"), SquaredError(np.array([[5.0]]))
    >>> unstable_rate(base, np.array([[3.0]]), goal)  # (2 · 3 − 5) · 3
    3.0
    """
    if len(base.outputs) != 1 or set(base.depth.tolist()) - {0, 1, 2}:
        raise ValueError("the rate is known for one hidden layer and one output; use simulate.stability.classify")
    slope, output = gradient(base, x, criterion.gradient), base.outputs[0]
    out = base.target == output
    size = np.sqrt(np.bincount(base.target[~out], slope[~out] ** 2, minlength=len(base.units)))
    hidden = base.source[out]
    return float(np.max(size[hidden] / np.abs(base.weights[out])))


def measure_escape_time(
    network: Network,
    manifold: Manifold,
    batches: Iterator[Batch],
    *,
    rate: float,
    goal: float,
    longest: int,
    noise: Noise | None = None,
    rng: np.random.Generator | None = None,
) -> int | None:
    """Return the first step of descent at which the distance from the manifold is `δ₁` or more, 0 at the start.

    `None` if there is none.

    Args:
        network: Where to start, on the manifold or near it.
        manifold: Where the distance is measured from.
        batches: One batch a step.
        rate: Learning rate.
        goal: `δ₁`.
        longest: After how many steps to give up.
        noise: `(step, gradient, rng) -> gradient`, as `per_entry` and `per_vector` return.
        rng: Source of its randomness.

    Raises:
        ValueError: A number is not positive, noise is given without `rng`, or the batches end too early.
        ArithmeticError: Descent diverged.

    >>> from itertools import repeat
    >>> network, goal = Network.layered([[[1.0]]], "linear"), SquaredError(np.array([[1.0]]))
    >>> point = Manifold(np.zeros(1), np.array([-1]), np.ones(1))
    >>> batches = repeat((np.array([[1.0]]), SquaredError(np.array([[3.0]]))))
    >>> measure_escape_time(network, point, batches, rate=0.5, goal=2.5, longest=10)  # at 2, then 2.5
    2
    """
    _check_positive(rate=rate, goal=goal, longest=longest)
    if noise is not None and rng is None:
        raise ValueError("noise needs a source of randomness: give rng=numpy.random.default_rng(seed)")
    if manifold.distance(network.parameters) >= goal:
        return 0
    for step in range(1, longest + 1):
        x, criterion = _next_of(batches, step, longest)
        slope = gradient(network, x, criterion.gradient)
        if noise is not None and rng is not None:
            slope = noise(step, slope, rng)
        if not np.isfinite(slope).all():
            raise ArithmeticError(f"descent diverged at step {step}; lower the rate, now {rate:g}")
        network = network.with_parameters(network.parameters - rate * slope)
        if manifold.distance(network.parameters) >= goal:
            return step
    return None


def _next_of(batches: Iterator[Batch], step: int, longest: int) -> Batch:
    batch = next(batches, None)
    if batch is None:
        raise ValueError(
            f"batches ended after {step - 1} of {longest} steps; give itertools.repeat((x, criterion))"
        )
    return batch


def per_entry(sigma: float, decay: float = 1.0) -> Noise:
    """Return noise `N(0, (σ₀ λᵗ ‖g‖)²)` on each entry of the gradient, as in JL25's code: `√d` times `σ`.

    Args:
        sigma: `σ₀ > 0`.
        decay: `λ` in [0, 1].

    Raises:
        ValueError: One of them is out of range.

    >>> noisy = per_entry(0.1)(1, np.ones(10_000), np.random.default_rng(0)) - 1  # 0.1 √10⁴ = 10
    >>> bool(abs(noisy.std() - 10) < 0.5)
    True
    """
    return _noisy(sigma, decay, "entry")


def per_vector(sigma: float, decay: float = 1.0) -> Noise:
    """Return noise of expected length `σ₀ λᵗ ‖g‖`: per entry, divided by `√d`.

    Arguments and errors as `per_entry`.

    >>> noisy = per_vector(0.1)(1, np.ones(10_000), np.random.default_rng(0)) - 1
    >>> bool(abs(noisy.std() - 0.1) < 0.005)
    True
    """
    return _noisy(sigma, decay, "vector")


def _noisy(sigma: float, decay: float, convention: Convention) -> Noise:
    _check_positive(sigma=sigma)
    disturbance = Disturbance(sigma, decay, convention)

    def noisy(step: int, g: Array, rng: np.random.Generator) -> Array:
        return g + rng.standard_normal(g.shape) * entry_noise(disturbance, step, float(np.linalg.norm(g)), g.size)

    return noisy


def function_preserving_split(
    network: Network, manifold: Manifold, size: float, rng: np.random.Generator
) -> Network:
    """Return the network with the weights out of each block of clones perturbed so that the function is kept (E2).

    For every target the perturbation of the edges from one block adds up to zero, so that clones, which have equal
    activations, still send the same sum.

    Args:
        network: A network on a cloned manifold without scales.
        manifold: That manifold; its groups are the edges between pairs of blocks.
        size: Euclidean length of the perturbation, positive.
        rng: Source of randomness.

    Raises:
        ValueError: `size` is not positive and finite, the network is not on the manifold, this has ties, fixed
            weights or scales, or no unit has two edges from one block, so that nothing can be split.

    >>> network = Network.layered([[[1.0], [1.0]], [[2.0, 2.0]]], "relu")
    >>> pairs = Manifold(network.parameters, np.array([0, 0, 1, 1]), np.ones(4))
    >>> a = function_preserving_split(network, pairs, 0.5, np.random.default_rng(0)).weights[2:]
    >>> f"{a.sum():.6f} {abs(a[0] - a[1]):.6f}"  # ½ √2 apart
    '4.000000 0.707107'
    """
    _check_positive(size=size)
    if not np.isfinite(size):
        raise ValueError(f"size is {size!r}; allowed are finite lengths")
    if (
        len(network.parameters) < len(network.tie)
        or (manifold.group < 0).any()
        or (manifold.coefficient != 1).any()
    ):
        raise ValueError("splitting is for cloned manifolds without ties, fixed weights or scales")
    _check_on(network, manifold)
    draw = rng.standard_normal(len(network.parameters))
    key = manifold.group[network.tie] * len(network.units) + network.target
    _, cell = np.unique(key, return_inverse=True)
    draw = draw - (np.bincount(cell, draw) / np.bincount(cell))[cell]
    length = float(np.linalg.norm(draw))
    if length < NO_SPLIT:
        raise ValueError("no unit receives two edges from one block: there are no clones to split")
    return network.with_parameters(network.parameters + size / length * draw)


def _checked_start(manifold: Manifold, start: Array, goal: float, rate: float, longest: int) -> Array:
    _check_positive(goal=goal, rate=rate, longest=longest)
    delta = manifold.project_normal(np.asarray(start, dtype=np.float64))
    size = float(np.linalg.norm(delta))
    if not 0 < size < goal:
        raise ValueError(
            f"start has a normal part of length {size:.3g}; allowed are lengths between 0 and {goal:.3g}"
        )
    return delta


def _check_on(network: Network, manifold: Manifold) -> None:
    if manifold.distance(network.parameters) > ON_MANIFOLD * (1 + float(np.abs(network.parameters).max())):
        raise ValueError("the network is not on the manifold, so its units are no clones; project it first")


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; allowed are positive numbers")
