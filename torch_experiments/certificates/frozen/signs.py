"""Signs that hold whatever the data: bounds that use the weights of one linear map, and nothing of those upstream.

Every tensor has two bounds. The *generic* one holds for all inputs and all parameters: only the ranges of
activations enter (`relu ≥ 0`). The *local* one holds for all inputs and all parameters upstream of the last
linear map, whose own weights, bias and BatchNorm are what they are; it starts from the generic signs of what the
map reads.

Source: claim F2b.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_experiments.certificates.frozen.bounds import (
    AVERAGES,
    CONTRACTIONS,
    LARGEST,
    MOVES,
    NORMS,
    POOLS,
    SUMS,
    Bounds,
)
from torch_experiments.certificates.frozen.intervals import Interval, everything
from torch_experiments.certificates.frozen.replay import plain_name
from torch_experiments.support.torch_private import tree_map_only
from torch_experiments.units.graph import Step

VIEWS = ("view", "_unsafe_view", "reshape", "_reshape_alias", "_to_copy", "neg")
# What they make of a linear map's result is still about that map; behind anything else only signs are known.
LINEAR = frozenset({*MOVES, *LARGEST, *POOLS, *SUMS, *AVERAGES, *NORMS, *VIEWS, "mul", "div"})


@dataclass(frozen=True, eq=False)
class Signs:
    """Bounds for all parameters, bounds for the last linear map, and whether no input is behind it."""

    generic: Interval
    local: Interval
    weight: bool


class SignDomain:
    """The domain of signs.

    Args:
        parameters: ids of parameters and buffers, of which generic bounds know nothing.
        inputs: ids of inputs.
        nonnegative: whether real inputs are promised to be non-negative.
        restless: layers that normalise by the statistics of the batch.
        moving: by ids of parameters, the entries of which nothing is known, bool.
    """

    def __init__(
        self,
        parameters: Set[int],
        inputs: Set[int],
        nonnegative: bool,
        restless: Set[str],
        moving: Mapping[int, Tensor] | None = None,
    ) -> None:
        self.parameters, self.inputs, self.nonnegative = parameters, inputs, nonnegative
        self.moving = moving or {}
        self.bounds = Bounds({}, restless)

    def leaf(self, tensor: Tensor) -> Signs:
        """Return the bounds of an input, a parameter or a constant."""
        if id(tensor) in self.inputs:
            x = self._input(tensor)
            return Signs(x, x, False)
        exact = self.bounds.leaf(tensor)
        if id(tensor) in self.moving:
            mask = self.moving[id(tensor)]
            exact = Interval(exact.lo.masked_fill(mask, -torch.inf), exact.hi.masked_fill(mask, torch.inf))
        changes = id(tensor) in self.parameters and tensor.is_floating_point()
        return Signs(everything(tensor) if changes else exact, exact, True)

    def unknown(self, tensor: Tensor) -> Signs:
        """Return no bounds."""
        return Signs(everything(tensor), everything(tensor), False)

    def apply(self, step: Step) -> list[Signs]:
        """Return both bounds of every result of an operation."""
        given: list[Signs] = []
        tree_map_only(Signs, given.append, (step.args, dict(step.kwargs)))
        weight = all(s.weight for s in given)
        generic = self.bounds.apply(_replaced(step, "generic"))
        local = generic
        if weight or plain_name(step) in LINEAR:
            shared = plain_name(step) in ("mul", "div") and sum(not s.weight for s in given) > 1
            local = generic if shared else self.bounds.apply(_replaced(step, "local"))
        elif plain_name(step) in CONTRACTIONS:
            local = self.bounds.apply(_replaced(step, "read"))
        return [Signs(g, x, weight) for g, x in zip(generic, local, strict=True)]

    def _input(self, tensor: Tensor) -> Interval:
        x = everything(tensor)
        promised = self.nonnegative and tensor.is_floating_point()
        return Interval(torch.zeros_like(x.lo), x.hi) if promised else x


def _replaced(step: Step, which: str) -> Step:
    args, kwargs = tree_map_only(
        Signs, lambda s: _read(s) if which == "read" else getattr(s, which), (step.args, dict(step.kwargs))
    )
    return step._replace(args=args, kwargs=kwargs)


def _read(signs: Signs) -> Interval:
    """Return what a linear map knows of its argument: all of a weight, of an activation the sign alone."""
    if signs.weight or signs.generic.known:
        return signs.local
    lo, hi = signs.generic.lo, signs.generic.hi
    none = everything(lo)
    return Interval(none.lo.masked_fill(lo >= 0, 0), none.hi.masked_fill(hi <= 0, 0))
