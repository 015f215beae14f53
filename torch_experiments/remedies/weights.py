"""Remedies that act on all weights: shrinking, clipping, forgetting, starting again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from torch_experiments.remedies.base import PERTURBATION, RESTART, WEIGHTED, Remedy, State, Touched, seed_of, whole
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.settings import ANY, NONNEGATIVE, setting
from torch_experiments.remedies.surgery import Edit, Forget, Whole, commit


@dataclass(frozen=True)
class ShrinkPerturb(Remedy):
    """At the start of a task ``w ← shrink · w + perturb · w'``, ``w'`` freshly initialised weights.

    Source: Ash & Adams (2020), arXiv 1910.08475, with the noise of their code (a fresh initialisation, scaled).

    >>> model = torch.nn.Linear(1, 1)
    >>> before = model.bias.detach().clone()
    >>> _ = ShrinkPerturb(0.5, 0.0).on(model, torch.optim.SGD(model.parameters())).apply()
    >>> torch.equal(model.bias, 0.5 * before)
    True
    """

    shrink: float = setting(0.4, ANY)
    perturb: float = setting(0.1, ANY)

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Shrink and perturb all parameters."""
        self.apply(network, state, task)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Shrink and perturb all parameters."""
        other = network.fresh(seed_of(network, PERTURBATION, place))
        pairs = zip(network.model.parameters(), other.parameters(), strict=True)
        mixed = ((w, (w.detach() * self.shrink).add_(new.detach().to(w), alpha=self.perturb)) for w, new in pairs)
        commit([Whole(w, value) for w, value in mixed])
        return whole(network)


@dataclass(frozen=True)
class WeightClipping(Remedy):
    """After every step ``w ← clip(w, −κ s, κ s)`` with ``s = 1/√m``, the bound of the uniform initialisation.

    ``m`` is the fan-in of a Linear or convolutional module; its bias has the same bound. Norms are left alone.

    Source: Elsayed, Lan, Lyle & Mahmood (2024), arXiv 2407.01704.

    >>> model = torch.nn.Linear(4, 1)
    >>> _ = torch.nn.init.constant_(model.bias, 100.0)
    >>> _ = WeightClipping(3.0).on(model, torch.optim.SGD(model.parameters())).apply()
    >>> model.bias.item()
    1.5
    """

    kappa: float = setting(3.0, NONNEGATIVE)

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Clip."""
        self.apply(network, state, step)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Clip."""
        with torch.no_grad():
            for module in network.model.modules():
                if isinstance(module, WEIGHTED):
                    bound = self.kappa / math.sqrt(module.weight[0].numel())
                    for w in module.parameters(recurse=False):
                        w.clamp_(-bound, bound)
        return whole(network)


@dataclass(frozen=True)
class OptimizerReset(Remedy):
    """Forget the optimizer's state at the start of every task (Asadi et al. 2023, arXiv 2306.17833).

    Adam with equal betas (Dohare et al. 2023) is no remedy here but a setting of the optimizer:
    ``torch.optim.Adam(..., betas=(0.9, 0.9))``.

    >>> model = torch.nn.Linear(1, 1)
    >>> adam = torch.optim.Adam(model.parameters())
    >>> model(torch.ones(1, 1)).sum().backward(), adam.step()
    (None, None)
    >>> OptimizerReset().on(model, adam).task()
    >>> len(adam.state)
    0
    """

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Forget."""
        self.apply(network, state, task)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Forget."""
        commit([Forget(network.memory)])
        return {}


@dataclass(frozen=True)
class Fresh(Remedy):
    """A new network and optimizer for every task: no remedy, but what plasticity is measured against.

    >>> model = torch.nn.Linear(1, 1)
    >>> bound = Fresh().on(model, torch.optim.SGD(model.parameters()), fresh=lambda seed: torch.nn.Linear(1, 1))
    >>> sorted(bound.apply())
    ['bias', 'weight']
    """

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Start again."""
        self.apply(network, state, task)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Start again."""
        other = network.fresh(seed_of(network, RESTART, place))
        old, new = ([*net.parameters(), *net.buffers()] for net in (network.model, other))
        edits: list[Edit] = [Whole(a, b) for a, b in zip(old, new, strict=True)]
        commit([*edits, Forget(network.memory)])
        return whole(network)
