"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) on environments that are arrays.

A rollout lets all copies act for a few steps; generalised advantages (Schulman et al. 2016, arXiv 1506.02438) say
how much better their actions were than expected; then a few epochs of minibatches ascend the clipped surrogate

    ``E min(r A, clip(r, 1 − ε, 1 + ε) A) + c_H H − c_v (v − R)²``

with the ratio ``r`` of new to old probability of the action, advantages ``A`` of mean 0 and variance 1 in every
minibatch, the entropy ``H`` of the policy, and the values ``v`` drawn to the returns ``R = A + v_old``. The policy
is a softmax or, where actions are continuous, Gaussian (`distributions`). Details that matter are as in
stable-baselines3: an episode that is cut by its limit goes on in expectation, weights are orthogonal at the start,
and the norm of the gradients is clipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_experiments.lab.rl import gradients
from torch_experiments.lab.rl.distributions import Categorical, Distribution, Gaussian, sampled, scattered
from torch_experiments.lab.rl.environments import Array
from torch_experiments.lab.rl.tasks import Seen
from torch_experiments.metrics.layers import ACTIVATIONS
from torch_experiments.support.choices import above_zero, at_least_one, choose, two_betas, up_to


@dataclass(frozen=True)
class Settings:
    """How a policy is trained.

    Attributes:
        copies: of the environment.  horizon: steps of each in a rollout.
        epochs: passes over a rollout.  batch: samples of a minibatch.
        lr, betas: of Adam.
        gamma, lam: discount, and the decay of generalised advantages.
        clip: ε.  entropy: c_H.  value: c_v.
        max_norm: of the gradients.

    Raises:
        ValueError: for a number out of its range; the message names the field.
    """

    copies: int = 32
    horizon: int = 64
    epochs: int = 10
    batch: int = 256
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    value: float = 0.5
    max_norm: float = 0.5

    def __post_init__(self) -> None:
        at_least_one(**{name: getattr(self, name) for name in ("copies", "horizon", "epochs", "batch")})
        up_to(math.inf, lr=self.lr, entropy=self.entropy, value=self.value)
        up_to(1, gamma=self.gamma, lam=self.lam)
        above_zero(clip=self.clip, max_norm=self.max_norm)
        two_betas(self.betas)
        if self.copies * self.horizon % self.batch:
            asked = f"{self.batch} samples from a rollout of {self.copies * self.horizon}"
            raise ValueError(f"batch: got {asked}; it has to divide it")


class ActorCritic(nn.Module):
    """A network for the logits of the actions and one for the value, of hidden layers of one width.

    If actions are continuous the first gives their means, and ``log_sd [actions]`` are the logarithms of their
    deviations. Weights are orthogonal with gain √2, 0.01 for logits and means and 1 for the value, drawn from
    ``seed``; biases and ``log_sd`` zero.

    >>> logits, values = ActorCritic(4, 2, width=8, depth=1)(torch.zeros(5, 4))
    >>> logits.shape, values.shape
    (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        observations: int,
        actions: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        continuous: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(width=width, depth=depth)
        activate, source = choose("activation", activation, ACTIVATIONS), torch.Generator().manual_seed(seed)

        def chain(outputs: int, gain: float) -> nn.Sequential:
            parts: list[nn.Module] = []
            for inputs in [observations] + [width] * (depth - 1):
                parts += [_orthogonal(inputs, width, math.sqrt(2), source), activate()]
            return nn.Sequential(*parts, _orthogonal(width, outputs, gain, source))

        self.actor, self.critic = chain(actions, 0.01), chain(1, 1.0)
        self.log_sd = nn.Parameter(torch.zeros(actions)) if continuous else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, or means, ``[n, actions]`` and values ``[n]`` of observations ``[n, observations]``."""
        return self.actor(x), self.critic(x).squeeze(-1)

    def distribution(self, outputs: Tensor) -> Distribution:
        """Return what actions are drawn from, for logits or means ``[n, actions]``."""
        return Categorical(outputs) if self.log_sd is None else Gaussian(outputs, self.log_sd)

    def act(self, observations: Array, source: np.random.Generator) -> Array:
        """Return actions, ``[n]`` or, if continuous, ``[n, actions]``, for observations of float32."""
        outputs = self.actor(torch.from_numpy(observations)).detach().numpy()
        if self.log_sd is None:
            return sampled(outputs, source)
        return scattered(outputs, self.log_sd.detach().numpy(), source)


class Rollout(NamedTuple):
    """What was seen and done, ``[horizon · copies, …]``, and how good it was."""

    observations: Tensor
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor


def advantages(rewards: Array, values: Array, after: Array, over: Array, gamma: float, lam: float) -> Array:
    """Return generalised advantages ``A_t = δ_t + γ λ (1 − over_t) A_{t+1}``, ``δ_t = r_t + γ v'_t − v_t``.

    Args:
        rewards, values: ``[horizon, copies]``, the values of what was seen before the step.
        after: of what was seen after it, zero where the environment ended the episode.
        over: whether the episode was over.
        gamma, lam: discount and decay.

    >>> advantages(np.ones((2, 1)), np.zeros((2, 1)), np.zeros((2, 1)), np.zeros((2, 1)), 1.0, 0.5).T
    array([[1.5, 1. ]])
    """
    found = rewards + gamma * after - values
    for t in reversed(range(len(found) - 1)):
        found[t] += gamma * lam * (1.0 - over[t]) * found[t + 1]
    return found


@torch.no_grad()
def collect(policy: ActorCritic, seen: Seen, settings: Settings, source: np.random.Generator) -> Rollout:
    """Let all copies act for ``horizon`` steps and return what came of it."""
    T, n = settings.horizon, settings.copies
    observations = np.empty((T + 1, n, seen.task.observations), np.float32)
    actions: list[Array] = []
    rewards, ended, cut = np.empty((T, n)), np.empty((T, n), bool), np.empty((T, n), bool)
    goes_on: list[tuple[Array, Array]] = []  # what was last seen of episodes that were cut, and where
    policy.eval()
    observations[0] = seen.observation
    for t in range(T):
        actions.append(policy.act(observations[t], source))
        step = seen.step(actions[t])
        observations[t + 1], rewards[t], ended[t], cut[t] = step.observation, step.reward, step.ended, step.cut
        if step.cut.any():
            goes_on.append((t * n + step.cut.nonzero()[0], step.last[step.cut]))
    outputs, values = policy(torch.from_numpy(observations).flatten(0, 1))
    every = values.double().numpy().reshape(T + 1, n)
    after = np.where(ended, 0.0, every[1:])
    if goes_on:
        places, last = (np.concatenate(parts) for parts in zip(*goes_on, strict=True))
        after.ravel()[places] = policy.critic(torch.from_numpy(last.astype(np.float32))).numpy()[:, 0]
    found = advantages(rewards, every[:-1], after, ended | cut, settings.gamma, settings.lam)
    done = torch.from_numpy(np.concatenate(actions))
    return Rollout(
        torch.from_numpy(observations[:-1]).flatten(0, 1),
        done,
        policy.distribution(outputs[: T * n]).log_probability(done),
        torch.from_numpy(found).flatten(),
        torch.from_numpy(found + every[:-1]).flatten().float(),
    )


def objective(policy: Distribution, values: Tensor, batch: Rollout, settings: Settings) -> Tensor:
    """Return the loss of a minibatch: minus clipped surrogate, minus entropy, plus the error of the values."""
    ratio = (policy.log_probability(batch.actions) - batch.log_probabilities).exp()
    clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    surrogate = torch.minimum(ratio * batch.advantages, clipped * batch.advantages).mean()
    entropy = policy.entropy().mean()
    error = (values - batch.returns).square().mean()
    return -surrogate - settings.entropy * entropy + settings.value * error


def learn(
    policy: ActorCritic,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    settings: Settings,
    source: np.random.Generator,
    *,
    watched: bool = False,
) -> float:
    """Take the steps of ``epochs`` passes over a rollout in minibatches; return the largest norm of a gradient.

    The gradients are those of `objective`, in closed form where `gradients` has it and nobody watches the modules'
    passes (``watched``), else by autograd.
    """
    policy.train()
    descend = _by_autograd if watched or not gradients.known(policy) else _in_closed_form
    norms = []
    for _ in range(settings.epochs):
        order = torch.from_numpy(source.permutation(len(rollout.actions)))
        shuffled = Rollout(*(x[order] for x in rollout))
        shuffled = shuffled._replace(advantages=_normal(shuffled.advantages, settings.batch))
        norms.append(descend(policy, optimizer, shuffled, settings))
    return float(np.max(norms))  # nan if one is


def _in_closed_form(
    policy: ActorCritic, optimizer: torch.optim.Optimizer, shuffled: Rollout, settings: Settings
) -> float:
    found, norms = gradients.Gradients(policy), []
    arrays = [x.numpy() for x in shuffled]
    with np.errstate(over="ignore", invalid="ignore"):  # whoever calls looks at the norm
        for start in range(0, len(shuffled.actions), settings.batch):
            found.find(gradients.Batch(*(x[start : start + settings.batch] for x in arrays)), settings)
            norms.append(found.clip(settings.max_norm))
            optimizer.step()
    return float(np.max(norms))  # nan if one is


def _by_autograd(
    policy: ActorCritic, optimizer: torch.optim.Optimizer, shuffled: Rollout, settings: Settings
) -> float:
    norms = []
    for parts in zip(*(x.split(settings.batch) for x in shuffled), strict=True):
        batch = Rollout(*parts)
        optimizer.zero_grad()
        outputs, values = policy(batch.observations)
        objective(policy.distribution(outputs), values, batch, settings).backward()
        norms.append(nn.utils.clip_grad_norm_(policy.parameters(), settings.max_norm))
        optimizer.step()
    return float(torch.stack(norms).max())


@torch.no_grad()
def evaluate(policy: ActorCritic, seen: Seen, source: np.random.Generator) -> Array:
    """Return what the first whole episode of each copy returns, as `Seen.play`; actions are sampled."""
    policy.eval()
    return seen.play(lambda x: policy.act(x, source))


def adam(policy: nn.Module, settings: Settings) -> torch.optim.Adam:
    """Return Adam with the rate and the betas of the settings."""
    return torch.optim.Adam(policy.parameters(), lr=settings.lr, betas=settings.betas, eps=1e-5, fused=True)


def _orthogonal(inputs: int, outputs: int, gain: float, source: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=source)
    nn.init.zeros_(layer.bias)
    return layer


def _normal(values: Tensor, batch: int) -> Tensor:
    """Return values of mean 0 and deviation 1 in every minibatch, float32.

    In float64: in float32 the mean of equal values is off by an ulp, and normalised they would all be ±0.99.
    """
    parts = values.view(-1, batch)
    centred = parts - parts.mean(dim=1, keepdim=True)
    return (centred / (parts.std(dim=1, keepdim=True) + 1e-8)).float().flatten() if batch > 1 else values.float()
