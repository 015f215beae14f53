"""What a run measures on an agent, as rows of its record."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scipy.stats import t as student
from torch import Tensor

from torch_experiments.certificates.certificate import certify
from torch_experiments.lab.rl.environments import Array
from torch_experiments.lab.rl.ppo import ActorCritic
from torch_experiments.lab.training.measures import FROZEN, WHOLE, Measured, unit_rows
from torch_experiments.metrics import layers
from torch_experiments.metrics.parameters import norm

RETURN, LOW, HIGH = "return", "return_low", "return_high"
ENTROPY, GAP, WIDEST, SATURATED = "policy_entropy", "logit_gap", "largest_logit_gap", "saturated_policy_fraction"
FREE = "free_fraction"
BEYOND = 17.0  # a gap from which 1 − p is zero in float32, so that the larger logit gets no gradient


def returned(found: Array) -> Iterator[Measured]:
    """Yield the mean of what episodes returned, and its 95 % t-interval over them.

    >>> import numpy as np
    >>> [round(value, 2) for _, _, value in returned(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.48, 4.48]
    """
    n, mean = len(found), float(found.mean())
    half = float(student.ppf(0.975, n - 1) * found.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    for name, value in ((RETURN, mean), (LOW, mean - half), (HIGH, mean + half)):
        yield WHOLE, name, value


def policy_rows(logits: Tensor) -> Iterator[Measured]:
    """Yield how decided a policy is on ``logits [n, actions]``.

    Mean entropy in nats, mean and largest difference of the largest logit from the next, and the share of
    observations where it is `BEYOND`.

    >>> import torch
    >>> [round(value, 3) for _, _, value in policy_rows(torch.tensor([[0.0, 0.0], [20.0, 0.0]]))]
    [0.347, 10.0, 20.0, 0.5]
    """
    log_p = logits.double().log_softmax(dim=1)
    top = logits.double().topk(2, dim=1).values
    gap = top[:, 0] - top[:, 1]
    yield WHOLE, ENTROPY, float(-(log_p.exp() * log_p).sum(dim=1).mean())
    yield WHOLE, GAP, float(gap.mean())
    yield WHOLE, WIDEST, float(gap.max())
    yield WHOLE, SATURATED, float((gap >= BEYOND).double().mean())


def network_rows(policy: ActorCritic, x: Tensor) -> Iterator[Measured]:
    """Yield the metrics of units on observations, layer by layer, the actor's first, and what is free of both nets.

    The last is `Certificate.unheld_fraction`, which takes units that are frozen on ``x`` and exact copies away.
    """
    gathered, outputs = layers.gather(policy, [x])
    yield from policy_rows(outputs[0][0])
    yield from unit_rows(gathered)
    yield WHOLE, "weight_norm", norm(policy.parameters())
    yield WHOLE, FREE, certify(policy, x, parts=FROZEN).unheld_fraction
