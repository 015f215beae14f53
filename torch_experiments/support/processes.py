"""Sums over the processes of ``torch.distributed``; without it, or with one process, nothing happens."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed


def processes() -> int:
    """Return the number of processes that share the work.

    >>> processes(), leads()
    (1, True)
    """
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def leads() -> bool:
    """Return whether this is the process that writes files."""
    return processes() == 1 or distributed.get_rank() == 0


def leave() -> None:
    """Leave the group of processes, for good.

    What still refers to the group goes first, networks in cycles of references included: a worker of gloo that
    holds a tensor when the interpreter ends aborts the process (https://github.com/pytorch/pytorch/issues/190489,
    seen with torch 2.13).

    >>> distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    >>> leave(); processes()
    1
    """
    gc.collect()
    distributed.destroy_process_group()
    gc.collect()


def summed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums over all processes of tensors of one dtype, by one reduction.

    >>> summed({"n": torch.ones(2)})
    {'n': tensor([1., 1.])}
    """
    if processes() == 1 or not tensors:
        return dict(tensors)
    flat = torch.cat([x.flatten() for x in tensors.values()])
    distributed.all_reduce(flat)
    parts = flat.split([x.numel() for x in tensors.values()])
    return {name: part.view_as(x) for (name, x), part in zip(tensors.items(), parts, strict=True)}


def joined(rows: Tensor) -> Tensor:
    """Return the rows ``[n, …]`` of all processes, in their order; ``n`` may differ.

    >>> joined(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """
    if processes() == 1:
        return rows
    found: list[Any] = [None] * processes()
    distributed.all_gather_object(found, rows.cpu())
    return torch.cat([part.to(rows.device) for part in found])


def agreed(answer: bool) -> bool:
    """Return the answer of the first process.

    >>> agreed(True)
    True
    """
    if processes() == 1:
        return answer
    box: list[Any] = [answer]
    distributed.broadcast_object_list(box)
    return bool(box[0])


def total(values: Iterable[float]) -> list[float]:
    """Return the sums over all processes of plain numbers, in float64.

    >>> total([1, 2.5])
    [1.0, 2.5]
    """
    numbers = torch.tensor(list(values), dtype=torch.float64)
    if processes() > 1:
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        numbers = numbers.to(device)
        distributed.all_reduce(numbers)
    return [float(x) for x in numbers.tolist()]
