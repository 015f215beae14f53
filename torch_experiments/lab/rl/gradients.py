"""Gradients of the objective of `ppo` in closed form: a third of the time that autograd takes at these sizes.

For a sample with action ``a``, probabilities ``p``, ratio ``r`` and advantage ``A`` the clipped surrogate has the
gradient ``r A (e_a − p)`` in the logits where it is not clipped, and none where it is; the entropy ``H`` has
``−p (log p + H)``. What follows is the chain rule through Linear layers, ReLU and tanh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch_experiments.lab.rl.ppo import ActorCritic, Rollout, Settings

KNOWN = (nn.Linear, nn.ReLU, nn.Tanh)


def known(policy: ActorCritic) -> bool:
    """Return whether the gradients of a policy are found here."""
    return all(isinstance(module, KNOWN) for chain in (policy.actor, policy.critic) for module in chain)


@torch.no_grad()
def set_gradients(policy: ActorCritic, batch: Rollout, settings: Settings) -> None:
    """Set the gradient of `ppo.objective` in all parameters, up to rounding as autograd would."""
    logits, values = (_values(chain, batch.observations) for chain in (policy.actor, policy.critic))
    _backward(policy.actor, logits, of_logits(logits[-1], batch, settings))
    error = values[-1].squeeze(-1) - batch.returns
    _backward(policy.critic, values, (error * (2 * settings.value / len(error)))[:, None])


def of_logits(logits: Tensor, batch: Rollout, settings: Settings) -> Tensor:
    """Return the gradient of the objective in the logits, ``[n, actions]``."""
    n, actions = len(logits), batch.actions[:, None]
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    ratio = (log_p.gather(1, actions).squeeze(1) - batch.log_probabilities).exp()
    rising = batch.advantages > 0
    free = torch.where(rising, ratio <= 1 + settings.clip, ratio >= 1 - settings.clip)
    weight = (ratio * batch.advantages * free) / -n
    found = p * -weight[:, None]
    found.scatter_add_(1, actions, weight[:, None])
    if settings.entropy:
        entropy = -(p * log_p).sum(1, keepdim=True)
        found += p * (log_p + entropy) * (settings.entropy / n)
    return found


def _values(chain: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return the input and the outputs of all modules, which are called, so that their hooks see them."""
    found = [x]
    for module in chain:
        found.append(module(found[-1]))
    return found


def _backward(chain: nn.Sequential, values: list[Tensor], error: Tensor) -> None:
    for k in reversed(range(len(chain))):
        module = chain[k]
        if isinstance(module, nn.Linear):
            module.weight.grad, module.bias.grad = error.T @ values[k], error.sum(0)
            error = error @ module.weight if k else error
        elif isinstance(module, nn.ReLU):
            error = error * (values[k + 1] > 0)
        else:
            error = error * (1 - values[k + 1].square())
