"""Gradient flow `θ̇ = −∇L(θ)` on networks of `theory`, with events at a manifold and conserved quantities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from scipy.integrate import OdeSolution, solve_ivp

from theory.conservation import balances as balances
from theory.manifolds import Manifold
from theory.network import Network, SquaredError, gradient, loss
from theory.tolerances import FLOW_ATOL, FLOW_RTOL

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Flow:
    """A solution of the gradient flow.

    Attributes:
        network: The network at time 0.
        times: When the solver stepped, shape (steps,).
        solution: Dense output.
        left: The first time at which the distance from the manifold is `leave` or more, or `None`; 0 at the start.
        reached: The first time at which it is `reach` or less, or `None`.
    """

    network: Network
    times: Array
    solution: OdeSolution
    left: float | None
    reached: float | None

    def parameters(self, time: float) -> Array:
        """Return the parameters at a time within the solution, shape (parameters,)."""
        return np.asarray(self.solution(time))

    def at(self, time: float) -> Network:
        """Return the network at a time within the solution."""
        return self.network.with_parameters(self.parameters(time))

    @property
    def end(self) -> float:
        """The last time."""
        return float(self.times[-1])


def gradient_flow(
    network: Network,
    x: Array,
    criterion: SquaredError,
    duration: float,
    *,
    manifold: Manifold | None = None,
    leave: float | None = None,
    reach: float | None = None,
    stop: bool = False,
    method: str = "DOP853",
    rtol: float = FLOW_RTOL,
    atol: float = FLOW_ATOL,
    longest: int = 200_000,
) -> Flow:
    """Solve `θ̇ = −∇L(θ)` from the network's parameters.

    The right-hand side of ReLU networks jumps wherever a sample crosses a unit's kink. Step control has to find
    each such time, and crawls where the flow slides along a kink: give them `method="RK23"` and `rtol=1e-5`, or
    descend in small steps instead (`simulate.descent`).

    Args:
        network: Weights in float64.
        x: Inputs of shape (inputs, samples).
        criterion: The loss.
        duration: Time to integrate, positive.
        manifold: Where the distance of the events is measured from.
        leave, reach: Distances that are events when exceeded, and when gone below.
        stop: Whether the first event ends the solution.
        method: An explicit method of `scipy.integrate.solve_ivp`; the default is of order 8.
        rtol, atol: Tolerances of the solver.
        longest: After how many gradients to give up.

    Raises:
        ValueError: `duration` is not positive, a distance is given without a manifold or is not positive, or the
            weights are not float64.
        ArithmeticError: The solver failed, as it does where the flow blows up, or needed too many gradients.

    >>> network, goal = Network.layered([[[1.0]]], "linear"), SquaredError(np.array([[0.0]]))
    >>> flow = gradient_flow(network, [[1.0]], goal, 2.0)  # ẇ = −w
    >>> f"{flow.parameters(1.0)[0]:.9f}", flow.end
    ('0.367879441', 2.0)
    """
    _check(network, duration, manifold, leave, reach)
    velocity = _limited(
        lambda theta: -gradient(network.with_parameters(theta), x, criterion.gradient), duration, longest
    )
    events = [_crossing(manifold, level, sign, stop) for level, sign in ((leave, 1.0), (reach, -1.0))]
    with np.errstate(over="ignore", invalid="ignore"):  # where the flow blows up the solver says so itself
        result = solve_ivp(
            velocity,
            (0.0, duration),
            network.parameters,
            method=method,
            dense_output=True,
            events=events,
            rtol=rtol,
            atol=atol,
        )
    if not result.success:
        raise ArithmeticError(f"the flow could not be followed to {duration}: {result.message}; shorten it")
    left, reached = (
        0.0 if _beyond(manifold, network.parameters, level, sign) else float(hits[0]) if len(hits) else None
        for (level, sign), hits in zip(((leave, 1.0), (reach, -1.0)), result.t_events, strict=True)
    )
    return Flow(network, result.t, result.sol, left, reached)


def _limited(velocity: Callable[[Array], Array], duration: float, longest: int) -> Callable[[float, Array], Array]:
    """Return the velocity as a solver wants it, for so many calls."""
    spent = count()

    def limited(time: float, theta: Array) -> Array:
        if next(spent) >= longest:
            raise ArithmeticError(
                f"{longest} gradients took the flow to {time:.3g} of {duration:.3g} only; shorten it, raise rtol, "
                "or descend in small steps where units slide along their kinks"
            )
        return velocity(theta)

    return limited


def _beyond(manifold: Manifold | None, theta: Array, level: float | None, sign: float) -> bool:
    """Tell whether a level is passed already, which the solver does not report: it looks for changes of sign."""
    return level is not None and manifold is not None and sign * (manifold.distance(theta) - level) >= 0


def _crossing(manifold: Manifold | None, level: float | None, sign: float, stop: bool) -> Callable[..., float]:
    def event(_: float, theta: Array) -> float:
        return 1.0 if level is None or manifold is None else manifold.distance(theta) - level

    event.terminal = stop and level is not None  # type: ignore[attr-defined]
    event.direction = sign  # type: ignore[attr-defined]
    return event


def _check(
    network: Network, duration: float, manifold: Manifold | None, leave: float | None, reach: float | None
) -> None:
    if network.parameters.dtype == object:
        raise ValueError("the flow is solved in float64; give a network with float weights")
    if not duration > 0:
        raise ValueError(f"duration is {duration!r}; allowed are positive times")
    for name, level in (("leave", leave), ("reach", reach)):
        if level is not None and manifold is None:
            raise ValueError(f"{name} is a distance from a manifold; give `manifold`, too")
        if level is not None and not level > 0:
            raise ValueError(f"{name} is {level!r}; allowed are positive distances")


def energy_drift(flow: Flow, x: Array, criterion: SquaredError) -> float:
    """Return `|L(0) − L(T) − ∫ ‖∇L‖² dt| / L(0)`: the loss that is lost has to be the length of the gradient.

    Args:
        flow: A solution.
        x, criterion: The data and the loss of which it is the flow.

    >>> network, goal = Network.layered([[[1.0]]], "linear"), SquaredError(np.array([[0.0]]))
    >>> flow = gradient_flow(network, [[1.0]], goal, 1.0)
    >>> bool(energy_drift(flow, [[1.0]], goal) < 1e-9)
    True
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    dissipated = 0.0
    for start, end in zip(flow.times[:-1], flow.times[1:], strict=True):
        half = (end - start) / 2
        for node, weight in zip(nodes, weights, strict=True):
            g = gradient(flow.at(start + half * (1 + node)), x, criterion.gradient)
            dissipated += half * weight * float(g @ g)
    first, last = (float(loss(flow.at(t), x, criterion)) for t in (0.0, flow.end))
    return abs(first - last - dissipated) / first
