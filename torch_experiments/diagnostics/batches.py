"""Batches of inputs, with or without targets: one, or a stream of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_experiments.units.inputs import Inputs, each, flatten, is_examples

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Batch(NamedTuple):
    """What a model is called with, and what its outputs are compared with.

    >>> len(Batch({"x": torch.ones(5, 2), "scale": 3.0}).take(slice(0, 2)))
    2
    """

    inputs: Inputs
    targets: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of samples, the first dimension of the first tensor."""
        return next((len(x) for x in flatten(self.inputs) if x.ndim), 0)

    def take(self, index: Tensor | slice) -> Batch:
        """Return some samples: every tensor with one entry a sample is indexed, others are kept."""
        count = len(self)
        return Batch(each(self.inputs, _taking(index, count)), each(self.targets, _taking(index, count)))

    def to(self, dtype: torch.dtype) -> Batch:
        """Return the batch with its floating-point inputs in another precision."""
        return Batch(each(self.inputs, lambda x: x.to(dtype) if x.is_floating_point() else x), self.targets)


def opened(batch: Any, targets: Any = None) -> Iterator[Batch]:
    """Yield batches: a tensor, a mapping of keyword arguments, or a tuple (inputs, targets) is one.

    Anything else is a stream: it yields tensors or mappings, with ``targets`` a stream of the same length, or pairs
    of both, as a DataLoader does.

    Raises:
        TypeError: for a batch that is none of these.

    >>> [len(batch) for batch in opened([torch.ones(3, 2), torch.ones(1, 2)])]
    [3, 1]
    """
    if isinstance(batch, Tensor | Mapping):
        yield Batch(batch, targets)
        return
    if isinstance(batch, tuple) and len(batch) == 2 and targets is None:
        yield Batch(*batch)
        return
    if not isinstance(batch, Iterable):
        raise TypeError(f"batch: got {type(batch).__name__}; pass a tensor, a mapping, or an iterable of them")
    if targets is not None:
        for x, y in zip(batch, targets, strict=True):
            yield Batch(x, y)
        return
    for item in batch:
        pair = isinstance(item, tuple | list) and len(item) == 2
        yield Batch(*item) if pair else Batch(item)


def check_arguments(model: nn.Module, inputs: Inputs) -> None:
    """Raise a TypeError where the forward of ``model`` takes other arguments than ``inputs``.

    >>> check_arguments(nn.Bilinear(1, 1, 1), torch.ones(2, 1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: batch: Bilinear does not take it (missing a required argument: 'input2'); give several arguments ...
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # of compiled code, which has none
        return
    if is_examples(model, inputs):
        return
    try:
        if isinstance(inputs, Mapping):
            signature.bind(**inputs)
        else:
            signature.bind(*([inputs] if isinstance(inputs, Tensor) else inputs))
    except TypeError as error:
        needed = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind in NAMED]
        named = ", ".join(f'"{name}": …' for name in needed)
        raise TypeError(
            f"batch: {type(model).__name__} does not take it ({error}); give several arguments as a mapping by "
            f"name, {{{named}}}, as a tuple is (inputs, targets)"
        ) from error


def spread(count: int, wanted: int) -> Tensor:
    """Return ``wanted`` of ``count`` indices, evenly spread, in order."""
    return torch.linspace(0, count - 1, min(wanted, count), dtype=torch.float64).round().long()


def precision(model: nn.Module) -> torch.dtype:
    """Return the dtype of the first floating-point parameter."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


def _taking(index: Tensor | slice, count: int) -> Any:
    def taken(x: Tensor) -> Tensor:
        place = index.to(x.device) if isinstance(index, Tensor) else index
        return x[place] if x.ndim and len(x) == count else x

    return taken
