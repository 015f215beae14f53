"""Changes of weights and of the optimizer's state that happen together or not at all.

A remedy computes everything it wants to write first, as a list of edits, and `commit` writes them. If anything
interrupts it, a keyboard interrupt too, what was written is taken back, so weights never go without their moments.

A moment is a tensor of the optimizer's state that has the shape of its parameter: momentum buffers (SGD, Muon,
RMSprop), ``exp_avg``, ``exp_avg_sq``, ``max_exp_avg_sq`` (Adam and its relatives), ``sum`` (Adagrad), ``prev`` and
``step_size`` (Rprop), and so on. The moments of replaced units are set to zero. Counters of steps are one a tensor,
not one a unit, and are left as they are. Adam's bias correction has then long ended when a replaced unit starts,
and under a constant gradient its step number ``t`` is ``(1 − β₁ᵗ) / √(1 − β₂ᵗ)`` times the learning rate: 3.2 times
at first and 6.6 times at the twelfth step, with the usual betas. `SecondMoments` ``"mean"`` avoids it: second
moments of replaced units become the mean of their tensor, so that a replaced unit moves as fast as the others do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

from torch_experiments.remedies.network import moments_of
from torch_experiments.remedies.settings import OneOf

Undo = Callable[[], object]
SecondMoments = Literal["zero", "mean"]
KEPT_SECOND_MOMENTS = OneOf(get_args(SecondMoments))
SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum", "acc_delta")


class Edit(Protocol):
    """Something to write."""

    def prepare(self) -> Undo:
        """Return what takes it back; nothing is written yet."""

    def write(self) -> None:
        """Write it."""


class Slice(NamedTuple):
    """Write ``value`` to the indices ``at`` along a dimension of a tensor."""

    tensor: Tensor
    dim: int
    at: Tensor
    value: Tensor

    def prepare(self) -> Undo:
        """Keep the old entries."""
        return self._replace(value=self.tensor.detach().index_select(self.dim, self._place)).write

    def write(self) -> None:
        """Write the entries."""
        self.tensor.detach().index_copy_(self.dim, self._place, self.value.to(self.tensor))

    @property
    def _place(self) -> Tensor:
        return self.at.to(self.tensor.device)


class Whole(NamedTuple):
    """Write ``value`` to all of a tensor."""

    tensor: Tensor
    value: Tensor

    def prepare(self) -> Undo:
        """Keep the old tensor."""
        return self._replace(value=self.tensor.detach().clone()).write

    def write(self) -> None:
        """Write the tensor."""
        self.tensor.detach().copy_(self.value)


class Forget(NamedTuple):
    """Empty the state of an optimizer."""

    memory: MutableMapping[Any, Any]

    def prepare(self) -> Undo:
        """Keep the old state."""
        old = dict(self.memory)
        return lambda: self.memory.update(old)

    def write(self) -> None:
        """Forget."""
        self.memory.clear()


def commit(edits: Sequence[Edit]) -> None:
    """Write all edits, in order, or none: whatever interrupts it, what was written is taken back."""
    undos = [edit.prepare() for edit in edits]
    try:
        for edit in edits:
            edit.write()
    except BaseException:
        for undo in reversed(undos):
            undo()
        raise


def zeroed(tensor: Tensor, dim: int, index: Tensor) -> Slice:
    """Return the edit that sets entries to zero."""
    shape = list(tensor.shape)
    shape[dim] = len(index)
    return Slice(tensor, dim, index, tensor.new_zeros(shape))


def forgotten(name: str, moment: Tensor, dim: int, index: Tensor, second: SecondMoments) -> Slice:
    """Return the edit of the moments of replaced units: zero, or for second moments what ``second`` says."""
    edit = zeroed(moment, dim, index)
    return edit._replace(value=edit.value + moment.mean()) if second == "mean" and name in SQUARES else edit


class Moments:
    """The tensors of an optimizer's state that have the shape of their parameter.

    Called with a parameter it returns them. What else is stored for it and is neither a number nor of its shape
    (factored or packed statistics) cannot be split by units; it is left, with one warning that names it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.warned: set[str] = set()

    def __call__(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return the tensors by name, to be changed in place."""
        state = self.optimizer.state.get(parameter, {})
        self._warn([name for name, value in state.items() if _unknown(value, parameter)])
        return moments_of(state, parameter)

    def _warn(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self.warned]
        self.warned.update(new)
        if new:
            warnings.warn(
                f"optimizer: {type(self.optimizer).__name__} keeps {', '.join(map(repr, new))}, which do not have "
                "the shape of their parameter, so they are left as they are where units are replaced; "
                "remedies.OptimizerReset forgets them",
                stacklevel=3,
            )


def _unknown(value: Any, parameter: Tensor) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > 1 and value.shape != parameter.shape
    return isinstance(value, list | tuple | dict) and len(value) > 0
