"""What a policy draws its actions from: the softmax of its logits, or Gaussians around its means.

A categorical policy has ``log π(a) = z_a − log Σ_b exp z_b``. A Gaussian one has for an action of many numbers
``log π(a) = Σ_j −(a_j − μ_j)² / 2 σ_j² − log σ_j − log √(2π)``, with deviations ``σ`` that are the same wherever it
is, and learnt beside its network, as in stable-baselines3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from torch import Tensor

from torch_experiments.lab.rl.environments import Array

LOG_ROOT = 0.5 * math.log(2 * math.pi)


class Distribution(Protocol):
    """Of actions, one a row."""

    def log_probability(self, actions: Tensor) -> Tensor:
        """Return ``log π`` of actions ``[n, …]``, ``[n]``."""

    def entropy(self) -> Tensor:
        """Return the entropies in nats, ``[n]``."""


@dataclass(frozen=True)
class Categorical:
    """The softmax of ``logits [n, actions]``.

    >>> import torch
    >>> Categorical(torch.zeros(1, 4)).log_probability(torch.tensor([2])).exp()
    tensor([0.2500])
    """

    logits: Tensor

    @cached_property
    def log_p(self) -> Tensor:
        """Return the logarithms of all probabilities, ``[n, actions]``."""
        return self.logits.log_softmax(1)

    def log_probability(self, actions: Tensor) -> Tensor:
        """Return ``log π`` of actions ``[n]``."""
        return self.log_p.gather(1, actions[:, None]).squeeze(1)

    def entropy(self) -> Tensor:
        """Return ``−Σ p log p``."""
        return -(self.log_p.exp() * self.log_p).sum(1)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians around ``mean [n, actions]`` with the logarithms of deviations ``log_sd [actions]``.

    >>> import torch
    >>> Gaussian(torch.zeros(2, 1), torch.zeros(1)).entropy()
    tensor([1.4189, 1.4189])
    """

    mean: Tensor
    log_sd: Tensor

    def log_probability(self, actions: Tensor) -> Tensor:
        """Return ``log π`` of actions ``[n, actions]``."""
        z = (actions - self.mean) / self.log_sd.exp()
        return (-0.5 * z.square() - self.log_sd - LOG_ROOT).sum(1)

    def entropy(self) -> Tensor:
        """Return ``Σ_j log σ_j + ½ + log √(2π)``, the same for all rows."""
        return (self.log_sd + 0.5 + LOG_ROOT).sum().expand(len(self.mean))


def sampled(logits: Array, source: np.random.Generator) -> Array:
    """Return an action a row, drawn from the softmax of ``logits [n, actions]``, by adding Gumbel noise.

    >>> sampled(np.array([[0.0, 50.0], [50.0, 0.0]]), np.random.default_rng(0))
    array([1, 0])
    """
    found: Array = (logits + source.gumbel(size=logits.shape)).argmax(axis=1)
    return found


def scattered(mean: Array, log_sd: Array, source: np.random.Generator) -> Array:
    """Return an action a row, drawn from Gaussians around ``mean [n, actions]``, in its precision.

    >>> scattered(np.ones((1, 2)), np.array([-50.0, -50.0]), np.random.default_rng(0)).round(6)
    array([[1., 1.]])
    """
    found: Array = (mean + np.exp(log_sd) * source.standard_normal(mean.shape)).astype(mean.dtype)
    return found
