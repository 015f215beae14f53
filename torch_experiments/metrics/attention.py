"""What attention does: how far its heads look about, what they return, how many directions their values have."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.tolerances import CANCELLED, EPS
from torch_experiments.metrics.activity import dormant
from torch_experiments.metrics.moments import ALIKE, Moments, moments
from torch_experiments.units.softmaxes import masked


class Heads(NamedTuple):
    """The heads of one attention on a batch.

    Attributes:
        entropy: of every head, as `head_entropy`, ``[heads]``.
        size: mean over queries of the length of what every head returns, ``[heads]``.
        alike: correlation of what two heads return, all queries and features together, ``[heads, heads]``.
        values: of the value features of all heads, over the keys.
    """

    entropy: Tensor
    size: Tensor
    alike: Tensor
    values: Moments

    @property
    def idle(self) -> Tensor:
        """Whether what a head returns is at most 0.025 times as long as that of the mean head, ``[heads]``."""
        return dormant(self.size)

    @property
    def duplicate(self) -> Tensor:
        """Whether what a head returns correlates with another's by 0.95 or more in absolute value, ``[heads]``."""
        others = self.alike.abs().clone().fill_diagonal_(0)
        return (others >= ALIKE).any(dim=1)


def heads_of(logits: Tensor, values: Tensor, returned: Tensor) -> Heads:
    """Return what the heads of an attention do.

    Keys that `units.softmaxes.masked` hides from every query of a sample, as padding, are left out of the values.
    Where there are as many queries as keys, as in self-attention, the queries at their positions are left out of
    everything else; so they are of attention to another sequence that is as long.

    Args:
        logits: before the softmax, masked ones as they are, ``[batch, heads, queries, keys]``, sinks last.
        values: ``[batch, heads, keys, d]``.
        returned: the sums of values that the softmax weighs, ``[batch, heads, queries, d]``.

    >>> found = heads_of(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 1), torch.tensor([2.0, 0.0]).view(1, 2, 1, 1))
    >>> found.entropy.round(decimals=9).tolist(), found.idle.tolist()
    ([1.0, 1.0], [False, True])
    """
    hidden = masked(logits)
    seen = ~hidden & (logits < torch.inf).all(dim=-1, keepdim=True)
    o, features = returned.detach().double(), values.detach().transpose(1, 2).flatten(2)
    read = ~hidden[..., : features.shape[1]].all(dim=2).all(dim=1)
    if read.any() and not read.all():
        features = features[read][None]
        if read.shape[1] == o.shape[2]:
            seen = seen & read[:, None, :, None]
            o = o.transpose(1, 2)[read].transpose(0, 1)[None]
    return Heads(
        head_entropy(logits, seen),
        o.norm(dim=-1).mean(dim=(0, 2)).cpu(),
        _correlations(o).cpu(),
        moments(features.flatten(0, 1)),
    )


def attention_entropy(q: Tensor, k: Tensor, *, causal: bool) -> Tensor:
    """Return `head_entropy` of ``softmax(q kᵀ/√d)``, ``[heads]``.

    Args:
        q, k: queries and keys ``[batch, heads, tokens, d]``.
        causal: whether a query sees itself and the tokens before it, or all.

    >>> q = torch.zeros(1, 1, 3, 2)
    >>> round(attention_entropy(q, q, causal=True).item(), 12)
    1.0
    >>> bool(attention_entropy(q + 100, torch.eye(3, 2)[None, None], causal=False) < 0.7)
    True
    """
    scores = q.detach().double() @ k.detach().double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
    return head_entropy(scores, (seen.tril() if causal else seen).expand_as(scores))


def head_entropy(logits: Tensor, seen: Tensor) -> Tensor:
    """Return for every head the mean of ``H(softmax(z)) / ln(visible keys)`` over queries, ``[heads]``.

    1 is attention to all visible keys alike, 0 to one key alone, where the softmax is saturated and passes no
    gradient. Queries that see one key only are left out; nan where there is no other.

    Args:
        logits: ``z``, ``[batch, heads, queries, keys]``.
        seen: which keys a query sees, of the same shape.

    Source: Zhai et al. (2023), arXiv 2303.06296 (entropy collapse), here as a share of its maximum.

    >>> head_entropy(torch.zeros(1, 1, 1, 4), torch.tensor([True, True, False, False]).expand(1, 1, 1, 4)).item()
    1.0
    """
    logs = logits.detach().double().masked_fill(~seen, -torch.inf).log_softmax(dim=-1)
    entropy = -(logs.exp() * logs.masked_fill(~seen, 0)).sum(dim=-1)
    most = seen.sum(dim=-1).double().log()
    counted = most > 0
    shares = torch.where(counted, entropy / most, 0.0)
    return (shares.sum(dim=(0, 2)) / counted.sum(dim=(0, 2))).cpu()


def _correlations(o: Tensor) -> Tensor:
    """Return the correlations of heads ``[batch, heads, queries, d]``, 0 with one that is constant to rounding."""
    rows = (o - o.mean(dim=(0, 2), keepdim=True)).transpose(0, 1).flatten(1)
    square, rounding = rows.square().sum(dim=1), o.square().sum(dim=(0, 2, 3)) * CANCELLED * EPS
    norm = torch.where(square > rounding, square, torch.inf).sqrt()
    return rows @ rows.T / torch.outer(norm, norm)
