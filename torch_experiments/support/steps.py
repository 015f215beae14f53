"""Hooks on the steps of optimizers, with `torch.optim.Optimizer.register_step_post_hook` and its like.

``optimizer.step(closure)`` calls the closure, which clears, computes and perhaps clips the gradients, inside of the
step, so that a plain pre-hook would edit gradients that are then thrown away. The closure is therefore replaced by
one that edits after every evaluation (`with_edit`). L-BFGS evaluates it many times a step, and Lightning always
passes one.

`torch.amp.GradScaler` lets fused optimizers step with scaled gradients and tells them the scale; what is edited
then are the gradients without it. Steps that it makes the optimizer skip are no steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import currentframe
from types import FrameType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torch_experiments.support.closures import with_edit
from torch_experiments.support.torch_private import COMPILER

Act = Callable[[], object]


class Steps:
    """What happens in every step of one optimizer.

    A subclass whose ``step`` calls that of its base runs all hooks twice; the inner ones are left out.

    Args:
        edit: called once the gradients of an evaluation are there.
        after: called after the step.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> sgd, calls = torch.optim.SGD([weight]), []
    >>> _ = Steps(lambda: calls.append("edit"), lambda: calls.append("after")).register(sgd)
    >>> def closure():
    ...     calls.append("closure")
    >>> sgd.step(closure)
    >>> calls
    ['closure', 'edit', 'after']
    """

    def __init__(self, edit: Act | None, after: Act | None) -> None:
        self.edit, self.after = edit, after
        self._outer: FrameType | None = None

    def register(self, optimizer: Optimizer) -> list[RemovableHandle]:
        """Put the hooks on an optimizer, and return what takes them off; a compiled step is left for them."""
        before, behind = map(torch.compiler.disable, (self._before, self._behind))
        return [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(behind)]

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if self._is_inner():
            return None
        self._outer = _caller()
        if self.edit is None:
            return None
        changed = with_edit(args, kwargs, self.edit)
        if changed is None:
            unscaled(optimizer, self.edit)
        return changed

    def _behind(self, optimizer: Optimizer, *_: Any) -> None:
        if self._outer is not _caller():
            return
        self._outer = None
        if self.after is not None and not _overflowed(optimizer):
            self.after()

    def _is_inner(self) -> bool:
        frame = None if self._outer is None else _caller()
        while frame is not None and frame.f_back is not None:
            frame = frame.f_back
            if frame is self._outer:
                return True
        return False


def _caller() -> FrameType | None:
    """Return the frame in which torch runs the hooks of a step: that of the step's wrapper."""
    frame = currentframe()
    while frame is not None and frame.f_globals["__name__"].startswith((__name__, COMPILER)):
        frame = frame.f_back
    return frame


def unscaled(optimizer: Optimizer, edit: Act) -> None:
    """Call ``edit`` while the gradients of an optimizer are without a GradScaler's scale; never on overflow."""
    scale = getattr(optimizer, "grad_scale", None)
    if _overflowed(optimizer):
        return
    if scale is None:
        edit()
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    for gradient in gradients:
        gradient.div_(scale.to(gradient.device))
    try:
        edit()
    finally:
        for gradient in gradients:
            gradient.mul_(scale.to(gradient.device))


def _overflowed(optimizer: Optimizer) -> bool:
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found > 0)


def inner(optimizer: Any) -> Optimizer:
    """Return the optimizer that takes the steps, inside of the wrappers of Lightning and Accelerate.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    >>> inner(sgd) is sgd
    True
    """
    while isinstance(inside := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inside
    found: Optimizer = optimizer
    return found


@contextmanager
def after_steps(optimizers: Iterable[Any], act: Act) -> Iterator[None]:
    """Call ``act`` after every step of some optimizers, or of those inside of wrappers, as long as a block lasts.

    Raises:
        TypeError: for what takes no hooks on its steps.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    >>> with after_steps([sgd], lambda: print("a step")):
    ...     sgd.step()
    a step
    """
    handles: list[RemovableHandle] = []
    try:
        for optimizer in {id(found): found for found in map(inner, optimizers)}.values():  # each counts once
            if not hasattr(optimizer, "register_step_post_hook"):
                raise TypeError(
                    f"optimizer: got {type(optimizer).__name__}, which has no register_step_post_hook; give the "
                    "torch.optim.Optimizer that takes the steps"
                )
            handles += Steps(None, act).register(optimizer)
        yield
    finally:
        for handle in handles:
            handle.remove()
