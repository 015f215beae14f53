"""Softmaxes that run, in whatever operation, and which of their rows are saturated (claim F4).

A row is saturated where the mass beside its largest entry, ``Σ_{i≠m} e^{z_i − z_m}``, is below half an ulp of 1 in
the dtype of the logits: to rounding its largest entry is 1. Of two choices that is a gap of 16.6 in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.graph import Step

SOFTMAXES = ("aten::_softmax", "aten::_safe_softmax", "aten::_log_softmax")
MASKED = 0.9e4  # a choice that lies so far below the largest was masked: fills are -1e4 or lower


class Rows(NamedTuple):
    """Of every row with two choices that are not masked, ``[rows]``, whether it is saturated, and its gap."""

    saturated: Tensor
    gap: Tensor


class Found:
    """Which operations are softmaxes: those by name, and logits less their ``logsumexp``, as in `Categorical`."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[Tensor, Tensor, int]] = {}  # kept alive, so that identities stay theirs

    def logits(self, step: Step) -> Tensor | None:
        """Return what an operation that has run takes the softmax of, that dimension last; None if it is none."""
        if step.name == "aten::logsumexp":
            x, dims = step.args[0], step.arguments["dim"]
            if len(dims) == 1:
                self._sums[id(step.result)] = (x, step.result, dims[0])
        elif step.name in SOFTMAXES:
            return _last(step.args[0], step.arguments["dim"])
        elif step.name == "aten::sub" and id(step.args[1]) in self._sums:
            x, _, dim = self._sums[id(step.args[1])]
            return _last(x, dim) if step.args[0] is x else None
        return None


def _last(x: Tensor, dim: int) -> Tensor | None:
    several = x.is_floating_point() and x.ndim > 0 and x.shape[dim] > 1 and x.numel() > 0
    return x.detach().movedim(dim, -1) if several else None


def rows_of(logits: Tensor) -> Rows:
    """Return which rows are saturated, and the largest logit less the second largest, float64.

    >>> rows_of(torch.tensor([[1.0, 5.0, 2.0], [0.0, -torch.inf, -1e9], [20.0, 0.0, 0.0]]))
    Rows(saturated=tensor([False,  True]), gap=tensor([ 3., 20.], dtype=torch.float64))
    """
    z = logits.double().flatten(0, -2) if logits.ndim > 1 else logits.double()[None]
    z = z[z.isfinite().any(dim=-1) & ~z.isnan().any(dim=-1)]
    below = z - z.amax(dim=-1, keepdim=True)
    gap = -below.topk(2, dim=-1).values[:, 1]
    beside = below.scatter(1, below.argmax(dim=-1, keepdim=True), -torch.inf).exp().sum(dim=-1)
    saturated, kept = beside <= torch.finfo(logits.dtype).eps / 2, gap < MASKED
    return Rows(saturated[kept].cpu(), gap[kept].cpu())


class Counted(TorchDispatchMode):
    """The rows of all softmaxes that run: how many, and how many of them are saturated."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.saturated = 0
        self._found = Found()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; of a softmax, count the rows."""
        result = func(*args, **(kwargs or {}))
        logits = self._found.logits(Step(0, "", 0, func, args, kwargs or {}, result))
        if logits is not None:
            rows = rows_of(logits)
            self.rows += len(rows.gap)
            self.saturated += int(rows.saturated.sum())
        return result
