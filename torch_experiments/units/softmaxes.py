"""Softmaxes that run, in whatever operation, and which of their rows are saturated (claim F4).

A row is saturated where the mass beside its largest entry, ``Σ_{i≠m} e^{z_i − z_m}``, is below half an ulp of 1 in
the dtype of the logits: to rounding its largest entry is 1. Of two choices that is a gap of 16.6 in float32.

Masked choices are no choices. `masked` tells them by value: a gap, however wide, is none of its signs, as logits
that diverge have the widest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.graph import Step

SOFTMAXES = ("aten::_softmax", "aten::_safe_softmax", "aten::_log_softmax")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FILLS = sorted(  # what masks write in place of a logit, as each precision rounds it
    {torch.finfo(dtype).min for dtype in FLOATS}
    | {float(torch.tensor(-(10.0**n), dtype=torch.float64).to(dtype)) for n in range(4, 13) for dtype in FLOATS}
)
APART = 4.0  # a sum of a fill and a logit is so many times as large as any other logit
LOWEST = 8e3  # of the fill -1e4 and logits that are a quarter of the sum


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
    z = z.masked_fill(masked(z), -torch.inf)
    z = z[(z < torch.inf).all(dim=-1) & (z.isfinite().sum(dim=-1) > 1)]
    below = z - z.amax(dim=-1, keepdim=True)
    gap = -below.topk(2, dim=-1).values[:, 1]
    beside = below.scatter(1, below.argmax(dim=-1, keepdim=True), -torch.inf).exp().sum(dim=-1)
    return Rows((beside <= torch.finfo(logits.dtype).eps / 2).cpu(), gap.cpu())


def masked(logits: Tensor) -> Tensor:
    """Return which logits a mask has made, by their values alone, of the same shape.

    These are -inf, the least number of a dtype, ``-10^n`` from ``-1e4`` on, and, as masks are also added to
    logits, all from ``-t`` down, where ``t ≥ 8000`` is the least number such that every logit above ``-t`` is
    within ``t/4`` of 0. Logits that diverge spread over all sizes, or have the largest far above 0: no such void.

    Not told from choices are fills above ``-1e4``, as the -100 of Swin, and fills that are added to logits of more
    than a fifth of their size. Not told from masks are logits of which all but some near 0 are below -8000.

    >>> masked(torch.tensor([[9500.0, 0.0, 1.0], [2.0, -1e4, 1.0]])).tolist()
    [[False, False, False], [False, True, False]]
    >>> masked(torch.tensor([[1.0, 2.0, -1e4 + 3.0], [1.0, -torch.inf, -1e9]])).tolist()
    [[False, False, True], [False, True, True]]
    """
    z = logits.detach().double()
    finite = z[z.isfinite()]
    if not len(finite) or finite.min() > -LOWEST:
        return z == -torch.inf
    filled = torch.isin(z, z.new_tensor(FILLS))
    own = z[z.isfinite() & ~filled]
    least = LOWEST
    while len(own):
        above = max(float(own.max().abs()), float(own.where(own > -least, 0.0).abs().max()))
        if APART * above <= least:
            break
        least = APART * above
    return (z == -torch.inf) | filled | (z <= -least)


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
