"""Gradient descent on networks of `theory`, in the network's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from theory.network import Network, SquaredError, gradient

Array = np.ndarray[Any, Any]
Batch = tuple[Array, SquaredError]
Rule = Callable[[Any, Array, Array], tuple[Any, Array]]


def descend(network: Network, batches: Iterator[Batch] | list[Batch], rule: Rule) -> Iterator[Network]:
    """Yield the network, then the network after each step of an optimizer on one batch a step.

    Args:
        network: Where to start.
        batches: Pairs `(x, criterion)` with `x` of shape (inputs, samples).
        rule: `(state, parameters, gradient) -> (state, parameters)`, as in `simulate.optimizers`; the first state
            is `None`.

    Raises:
        ValueError: As `theory.network.gradient`.

    >>> from fractions import Fraction
    >>> from simulate.optimizers import sgd
    >>> network = Network.from_edges({("x", "y"): Fraction(1)}, "linear", ["x"], ["y"])
    >>> batches = [(np.array([[Fraction(1)]]), SquaredError(np.array([[Fraction(3)]])))] * 2
    >>> [str(step.weights[0]) for step in descend(network, batches, sgd(Fraction(1, 2)))]
    ['1', '2', '5/2']
    """
    state: Any = None
    yield network
    for x, criterion in batches:
        slope = gradient(network, x, criterion.gradient)
        state, parameters = rule(state, network.parameters, slope)
        network = network.with_parameters(parameters)
        yield network
