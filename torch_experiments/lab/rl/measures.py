"""What a run measures on an agent, as rows of its record."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scipy.stats import t as student
from torch import Tensor, nn

from torch_experiments.certificates.certificate import certify
from torch_experiments.lab.rl.distributions import Gaussian
from torch_experiments.lab.rl.environments import Array
from torch_experiments.lab.rl.ppo import ActorCritic
from torch_experiments.lab.training.measures import FROZEN, WHOLE, Measured, unit_rows
from torch_experiments.metrics import activity, layers, spectra
from torch_experiments.metrics.parameters import norm

RETURN, LOW, HIGH = "return", "return_low", "return_high"
ENTROPY, GAP, WIDEST, SATURATED = "policy_entropy", "logit_gap", "largest_logit_gap", "saturated_policy_fraction"
SPREAD, LARGEST_MEAN = "action_deviation", "largest_mean"
FREE = "free_fraction"
DORMANT, FEATURES, VALUE, DEAD = "dormant_fraction_0.1", "feature_srank", "mean_value", "dead_fraction"
BOUND, SURE = 1.0, 2.0  # where continuous actions are cut; deviations beyond it at which 98 % of them are
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


def gaussian_rows(mean: Tensor, log_sd: Tensor) -> Iterator[Measured]:
    """Yield how decided a Gaussian policy is with ``mean [n, actions]`` and deviations ``exp(log_sd) [actions]``.

    Entropy in nats, which may be negative, mean deviation, largest size of a mean, and the share of means that are
    beyond the bound of actions by two deviations: nearly all that is drawn there is cut to the same action.

    >>> import torch
    >>> [round(value, 3) for _, _, value in gaussian_rows(torch.tensor([[0.0, 4.0]]), torch.zeros(2))]
    [2.838, 1.0, 4.0, 0.5]
    """
    found, sd = Gaussian(mean.double(), log_sd.double()), log_sd.double().exp()
    yield WHOLE, ENTROPY, float(found.entropy().mean())
    yield WHOLE, SPREAD, float(sd.mean())
    yield WHOLE, LARGEST_MEAN, float(found.mean.abs().max())
    yield WHOLE, SATURATED, float((found.mean.abs() >= BOUND + SURE * sd).double().mean())


def network_rows(policy: ActorCritic, x: Tensor) -> Iterator[Measured]:
    """Yield the metrics of units on observations, layer by layer, the actor's first, and what is free of both nets.

    The last is `Certificate.unheld_fraction`, which takes units that are frozen on ``x`` and exact copies away.
    """
    gathered, outputs = layers.gather(policy, [x])
    actions = outputs[0][0]
    yield from policy_rows(actions) if policy.log_sd is None else gaussian_rows(actions, policy.log_sd.detach())
    yield from unit_rows(gathered)
    yield WHOLE, "weight_norm", norm(policy.parameters())
    yield WHOLE, FREE, certify(policy, x, parts=FROZEN).unheld_fraction


def value_rows(network: nn.Module, x: Tensor) -> Iterator[Measured]:
    """Yield the metrics of units of a network of values on observations, layer by layer, and what is free of it.

    Of the whole network besides: the mean of the largest values, and `unit_scores`.
    """
    gathered, outputs = layers.gather(network, [x])
    yield WHOLE, VALUE, float(outputs[0].double().max(dim=1).values.mean())
    yield from unit_rows(gathered)
    scores = unit_scores(network, x)
    yield from ((WHOLE, name, scores[name]) for name in scores if name != DEAD)  # which stands there already
    yield WHOLE, "weight_norm", norm(network.parameters())
    yield WHOLE, FREE, certify(network, x, parts=FROZEN).unheld_fraction


def twin_rows(network: nn.Module, name: str, x: Tensor) -> Iterator[Measured]:
    """Yield `unit_scores` of another network on the same observations, with its name before theirs."""
    yield from ((WHOLE, f"{name}_{metric}", value) for metric, value in unit_scores(network, x).items())


def unit_scores(network: nn.Module, x: Tensor) -> dict[str, float]:
    """Return the dormant share at two thresholds and the dead share, means over layers, and the rank of features.

    Dormant (Sokar et al. 2023): ``E|h_u| ≤ τ · mean_v E|h_v|``, τ = 0.025 and 0.1. The rank is ``srank`` at 1 %
    (Kumar et al. 2021) of what the last hidden layer says.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = network[0].weight.data.copy_(torch.tensor([[1.0], [0.05]])), network[0].bias.data.zero_()
    >>> unit_scores(network, torch.ones(3, 1))[DORMANT]
    0.5
    """
    found = layers.activations(network, x)
    sizes = [h.detach().double().abs().mean(dim=0) for h in found]
    shares = {
        "dormant_fraction": [activity.share(activity.dormant(size)) for size in sizes],
        DORMANT: [activity.share(activity.dormant(size, 0.1)) for size in sizes],
        DEAD: [activity.share(activity.dead(size)) for size in sizes],
    }
    means = {name: math.fsum(values) / len(values) for name, values in shares.items()}
    return means | {FEATURES: spectra.srank(spectra.spectrum(found[-1], centred=False))}
