"""What attention does: how far its heads look about, and how many directions their values have."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention_entropy(q: Tensor, k: Tensor, *, causal: bool) -> Tensor:
    """Return for every head the mean of ``H(softmax(q kᵀ/√d)) / ln(visible keys)`` over queries, ``[heads]``.

    1 is attention to all visible keys alike, 0 to one key alone, where the softmax is saturated and passes no
    gradient. Queries that see one key only are left out.

    Args:
        q, k: queries and keys ``[batch, heads, tokens, d]``.
        causal: whether a query sees itself and the tokens before it, or all.

    Source: Zhai et al. (2023), arXiv 2303.06296 (entropy collapse), here as a share of its maximum.

    >>> q = torch.zeros(1, 1, 3, 2)
    >>> round(attention_entropy(q, q, causal=True).item(), 12)
    1.0
    >>> bool(attention_entropy(q + 100, torch.eye(3, 2)[None, None], causal=False) < 0.7)
    True
    """
    scores = q.detach().double() @ k.detach().double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    tokens = scores.shape[-1]
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
    seen = seen.tril() if causal else seen
    logs = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=-1)
    entropy = -(logs.exp() * logs.masked_fill(~seen, 0)).sum(dim=-1)
    most = seen.sum(dim=-1).double().log()
    counted = most > 0
    if tokens < 2 or not bool(counted.any()):
        return torch.full((q.shape[1],), torch.nan, dtype=torch.float64)
    return (entropy[..., counted] / most[counted]).mean(dim=(0, 2)).cpu()
