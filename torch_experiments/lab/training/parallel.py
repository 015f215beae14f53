"""One run on several processes: each takes its part of every batch, and all end with the same weights.

With ``P`` processes the batch ``B`` is cut into ``P`` parts of one size. The mean of the parts' gradients is the
gradient of the whole batch, batch norms share their statistics, and dropout draws the mask of the whole batch and
takes its part, so that the run is that of one process up to rounding. Every process holds the whole state; the
first one measures, writes, and answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import dropout
from torch.nn.parallel import DistributedDataParallel

from torch_experiments.lab.training.ensemble import Ensemble, Make, Separate, make_ensemble
from torch_experiments.remedies.bound import mean_over_processes
from torch_experiments.remedies.network import alone
from torch_experiments.support.processes import leads, leave, processes
from torch_experiments.support.torch_private import BatchNorm, check_dimensions

T = TypeVar("T")
COMMAND = "torchrun --standalone --nproc-per-node 2 -m lop run … --ddp"


@contextmanager
def joined(active: bool = True) -> Iterator[None]:
    """Join the processes that ``torchrun`` has started for the time of a block; do nothing if not ``active``.

    Raises:
        ValueError: when there is no ``torchrun`` around this process.
    """
    if not active:
        yield
        return
    if "LOCAL_RANK" not in os.environ:
        raise ValueError(f"ddp: torchrun has not started this process; use {COMMAND}")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        leave()


def part(batch: int) -> slice:
    """Return which samples of a batch this process takes.

    Raises:
        ValueError: when the parts are not of one size.
    """
    count = processes()
    if batch % count:
        raise ValueError(f"batch: got {batch} for {count} processes; it has to be a multiple of them")
    size = batch // count
    first = size * distributed.get_rank() if count > 1 else 0
    return slice(first, first + size)


def averaged(x: Tensor) -> Tensor:
    """Return the mean of ``x`` over the processes."""
    return mean_over_processes(x) if processes() > 1 else alone(x)


def largest(number: int) -> int:
    """Return the largest of the processes' numbers."""
    if processes() == 1:
        return number
    found = torch.tensor(number)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def told(make: Callable[[], T]) -> T:
    """Return what ``make`` returns, or raise what it raises, in the first process; the others do not call it."""
    if processes() == 1:
        return make()
    box: list[Any] = [None, None]
    if leads():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    distributed.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    found: T = box[0]
    return found


def first_other(name: str, usual: str) -> str:
    """Return the first of the processes' names that is not ``usual``, if there is one."""
    found = [name] * processes()
    if processes() > 1:
        distributed.all_gather_object(found, name)
    return next((other for other in found if other != usual), usual)


class Parallel(Separate):
    """One network, its batch shared by the processes (`torch.nn.parallel.DistributedDataParallel`)."""

    def __init__(self, models: Sequence[nn.Module], make: Make) -> None:
        super().__init__(models, make)
        share(self.model)
        self.parallel = DistributedDataParallel(self.model, broadcast_buffers=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``[1, part of the batch, outputs]``."""
        found: Tensor = self.parallel(self._ordered(x[0]))[None]
        return found


def shared_ensemble(models: Sequence[nn.Module], make: Make) -> Ensemble:
    """Return the ensemble for these networks in this process, or in all.

    Raises:
        ValueError: for several networks in several processes.
    """
    if processes() == 1:
        return make_ensemble(models, make)
    if len(models) > 1:
        raise ValueError(f"stack: got {len(models)} seeds in {processes()} processes; drop --stack or --ddp")
    return Parallel(models, make)


def share(model: nn.Module) -> None:
    """Let the batch norms and dropouts of ``model`` act on the whole batch in training, in place.

    `torch.nn.SyncBatchNorm` has no CPU implementation; this one is slower and runs anywhere.
    """
    for module in model.modules():
        if isinstance(module, BatchNorm):  # overrides of a subclass stay, since the shared one is a base of it
            module.__class__ = type(f"Shared{type(module).__name__}", (type(module), SharedBatchNorm), {})
        elif isinstance(module, nn.Dropout):
            module.__class__ = SharedDropout


class SharedBatchNorm(BatchNorm):
    """BatchNorm with mean and variance of the batch of all processes: ``(x − μ) / √(σ² + ε) · γ + β``.

    Running statistics are updated as by `torch.nn.BatchNorm1d`, the variance unbiased.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised batch, of the shape of ``x``."""
        if not self.training:
            return super().forward(x)
        check_dimensions(self, x)
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * processes()
        centred = x - (mean := total(x.sum(axes)) / count).view(shape)
        variance = total(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


class SharedDropout(nn.Dropout):
    """Dropout by this process's part of the mask of the whole batch; all processes need one generator state."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its part of the mask."""
        if not self.training or not self.p:
            return x
        count = len(x) * processes()
        mask = dropout(x.new_ones(count, *x.shape[1:]), self.p)
        return x * mask[part(count)]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = x.clone()
        distributed.all_reduce(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Total.forward(ctx, gradients[0].contiguous())


def total(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over the processes, differentiable: the gradient is that of all their losses."""
    found: Tensor = _Total.apply(x)
    return found
