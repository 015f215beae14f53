"""Remedies that act on all weights: shrinking, clipping, forgetting, starting again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from torch_experiments.remedies.base import PERTURBATION, RESTART, WEIGHTED, Remedy, State, Touched, seed_of, whole
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.surgery import Edit, Forget, Whole, commit


@dataclass(frozen=True)
class ShrinkPerturb(Remedy):
    """At the start of a task ``w ← shrink · w + perturb · w'``, ``w'`` freshly initialised weights.

    Source: Ash & Adams (2020), arXiv 1910.08475, with the noise of their code (a fresh initialisation, scaled).
    """

    shrink: float = 0.4
    perturb: float = 0.1

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
    """

    kappa: float = 3.0

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
    """A new network and optimizer for every task: no remedy, but what plasticity is measured against."""

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
