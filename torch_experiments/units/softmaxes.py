"""The gap of a softmax's logits, and from which gap on it is saturated (claim F4), in whatever operation it is."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.graph import Step

SOFTMAXES = ("aten::_softmax", "aten::_safe_softmax", "aten::_log_softmax", "aten::logsumexp")
MASKED = -1e8  # logits below it were masked: a row with one choice left is one-hot by design


def logits_of(step: Step) -> Tensor | None:
    """Return what an operation takes the softmax of, that dimension last; None if it is no softmax of several."""
    if step.name not in SOFTMAXES:
        return None
    x, dim = step.args[0], step.arguments.get("dim", -1)
    dims = dim if isinstance(dim, list | tuple) else [dim]
    if not x.is_floating_point() or x.ndim == 0 or len(dims) != 1 or x.shape[dims[0]] < 2 or not x.numel():
        return None
    return x.detach().movedim(dims[0], -1)


def gaps(logits: Tensor) -> Tensor:
    """Return the largest logit less the second, of every row with two that are not masked, float64 ``[rows]``.

    >>> gaps(torch.tensor([[1.0, 5.0, 2.0], [0.0, -torch.inf, -torch.inf]])).tolist()
    [3.0]
    """
    first, second = logits.topk(2, dim=-1).values.double().unbind(-1)
    return (first - second)[second > MASKED].flatten().cpu()


def saturating(dtype: torch.dtype) -> float:
    """Return the gap ``−ln(ε/2)`` from which on the largest of two probabilities is 1 to rounding.

    >>> round(saturating(torch.float32), 1)
    16.6
    """
    return -math.log(torch.finfo(dtype).eps / 2)


class Rows(TorchDispatchMode):
    """The rows of all softmaxes that run: how many, and how many of them are saturated."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.saturated = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; of a softmax, count the rows."""
        logits = logits_of(Step(0, "", 0, func, args, kwargs or {}, None))
        if logits is not None:
            found = gaps(logits)
            self.rows += len(found)
            self.saturated += int((found >= saturating(logits.dtype)).sum())
        return func(*args, **(kwargs or {}))
