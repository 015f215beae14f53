"""Remedies that act on all weights: shrinking, clipping, forgetting, starting again."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_experiments.remedies.base import PERTURBATION, RESTART, WEIGHTED, Remedy, State, Touched, seed_of, whole
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.settings import ANY, NONNEGATIVE, setting
from torch_experiments.remedies.surgery import Edit, Forget, Whole, commit


@dataclass(frozen=True)
class ShrinkPerturb(Remedy):
    """At the start of a task ``w ← shrink · w + perturb · w'``, ``w'`` freshly initialised weights.

    Weights that are not trained are left.

    Source: Ash & Adams (2020), arXiv 1910.08475, with the noise of their code (a fresh initialisation, scaled).

    >>> model = torch.nn.Linear(1, 1)
    >>> before = model.bias.detach().clone()
    >>> _ = ShrinkPerturb(0.5, 0.0).on(model, torch.optim.SGD(model.parameters())).apply()
    >>> torch.equal(model.bias, 0.5 * before)
    True
    """

    shrink: float = setting(0.4, ANY)
    perturb: float = setting(0.1, ANY)

    @property
    def draws(self) -> bool:
        """Return whether it cannot do without a network whose weights are drawn anew."""
        return True

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Shrink and perturb all parameters that are trained."""
        self.apply(network, state, task)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Shrink and perturb all parameters that are trained."""
        other = network.fresh(seed_of(network, PERTURBATION, place))
        new = dict(other.named_parameters())
        commit([Whole(w, self._mixed(w.detach(), new[name].detach())) for name, w in network.trained().items()])
        return whole(network)

    def _mixed(self, w: Tensor, new: Tensor) -> Tensor:
        return (w * self.shrink).add_(new.to(w), alpha=self.perturb)


@dataclass(frozen=True)
class WeightClipping(Remedy):
    """After every step ``w ← clip(w, −κ s, κ s)`` with ``s = 1/√m``, the bound of the uniform initialisation.

    ``m`` is the fan-in of a Linear or convolutional module; its bias has the same bound. Norms are left alone, and
    so are weights that are not trained. To clip twice is to clip once, so an interrupted step is simply repeated.

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
        trained = {id(w) for w in network.trained().values()}
        with torch.no_grad():
            for module in network.model.modules():
                if isinstance(module, WEIGHTED):
                    bound = self.kappa / math.sqrt(module.weight[0].numel())
                    for w in module.parameters(recurse=False):
                        if id(w) in trained:
                            w.clamp_(-bound, bound)
        return whole(network)


@dataclass(frozen=True)
class OptimizerReset(Remedy):
    """Forget the optimizer's state at the start of every task (Asadi et al. 2023, arXiv 2306.17833).

    What the optimizer remembers of other networks that it trains is kept.

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

    Parameters that are not trained stay, and so do the buffers of modules of which none is.

    >>> model = torch.nn.Linear(1, 1)
    >>> bound = Fresh().on(model, torch.optim.SGD(model.parameters()), fresh=lambda seed: torch.nn.Linear(1, 1))
    >>> sorted(bound.apply())
    ['bias', 'weight']
    """

    @property
    def draws(self) -> bool:
        """Return whether it cannot do without a network whose weights are drawn anew."""
        return True

    def at_task(self, network: Network, state: State, task: int) -> None:
        """Start again."""
        self.apply(network, state, task)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Start again."""
        other = network.fresh(seed_of(network, RESTART, place))
        old: dict[str, Tensor] = dict(network.trained())
        moving = {id(w) for w in old.values()}
        named = dict(network.model.named_buffers())
        old |= {name: b for name, b in named.items() if _has_trained(network.model, name, moving)}
        new = dict(other.named_buffers()) | dict(other.named_parameters())
        edits: list[Edit] = [Whole(w, new[name]) for name, w in old.items()]
        commit([*edits, Forget(network.memory)])
        return whole(network)


def _has_trained(model: nn.Module, buffer: str, trained: Set[int]) -> bool:
    """Return whether the innermost module around a buffer that has parameters has one that is trained."""
    path = buffer.rpartition(".")[0]
    while path and next(model.get_submodule(path).parameters(), None) is None:
        path = path.rpartition(".")[0]
    return any(id(p) in trained for p in model.get_submodule(path).parameters())
