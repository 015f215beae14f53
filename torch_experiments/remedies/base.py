"""What a remedy is: settings, bound to a network by whoever trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_experiments.remedies.bound import Bound, bind
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.settings import check
from torch_experiments.support.generators import generator
from torch_experiments.support.torch_private import ConvNd

State = dict[str, Tensor]
Touched = Mapping[str, list[int]]
NOISE, PERTURBATION, REPLACEMENT, RESTART, SPLIT, OFFSET = range(6)
WEIGHTED = (nn.Linear, ConvNd)  # modules whose weights regularisers act on


@dataclass(frozen=True)
class Remedy:
    """Nothing: the plain training that the others are compared with.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> Remedy().on(model, torch.optim.SGD(model.parameters())).apply()
    Traceback (most recent call last):
    TypeError: remedy: Remedy does not act at once; attach it to every step
    """

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: for a setting that is not allowed, see `settings`.
        """
        check(self)

    @property
    def edits_gradients(self) -> bool:
        """Return whether ``before_step`` does something."""
        return type(self).before_step is not Remedy.before_step

    @property
    def acts_at_once(self) -> bool:
        """Return whether ``apply`` does something, so that a controller can ask for it."""
        return type(self).apply is not Remedy.apply

    @property
    def watches(self) -> bool:
        """Return whether the training passes of the network itself are observed, so that it cannot be stacked."""
        return False

    @property
    def draws(self) -> bool:
        """Return whether it cannot do without a network whose weights are drawn anew."""
        return False

    def on(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer], **given: Any
    ) -> Bound:
        """Return this remedy bound to ``model`` and ``optimizer``, or several; arguments as in `bound.bind`."""
        return bind(self, model, optimizer, **given)

    def begin(self, network: Network) -> State:
        """Return the state at the start of a run."""
        return {}

    def attach(self, network: Network, state: State) -> list[RemovableHandle]:
        """Watch ``network`` from now on, at the start of a run or after it was resumed; return what ends it."""
        return []

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Act before task 1, 2, …"""

    def before_step(self, network: Network, state: State, step: int) -> None:
        """Change the gradients of step 0, 1, …"""

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Act after the optimizer's step 0, 1, …"""

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Act now, once; return the units that were touched by layer, an empty list for a whole parameter.

        ``place`` chooses the random numbers.

        Raises:
            TypeError: for a remedy that acts at every step or not at all.
        """
        raise TypeError(f"remedy: {type(self).__name__} does not act at once; attach it to every step")


def seed_of(network: Network, purpose: int, place: int) -> int:
    """Return a seed for this network, purpose and place."""
    return int(torch.randint(2**31, (), generator=generator(network.seed, purpose, place)))


def whole(network: Network) -> dict[str, list[int]]:
    """Return all parameters that are trained as touched."""
    return {name: [] for name in network.trained()}
