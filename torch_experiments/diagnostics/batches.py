"""Batches of inputs, with or without targets: one, or a stream of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from torch_experiments.units.entry import prepared, prepared_targets
from torch_experiments.units.inputs import (
    Inputs,
    arguments,
    each,
    fits,
    flatten,
    is_examples,
    is_packed,
    is_record,
    normal,
)

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
        if isinstance(self.inputs, PackedSequence):
            return int(self.inputs.batch_sizes[0])
        return next((len(x) for x in flatten(self.inputs) if x.ndim), 0)

    def take(self, index: Tensor | slice) -> Batch:
        """Return some samples: every tensor with one entry a sample is indexed, others and packed ones are kept."""
        if is_packed(self.inputs):
            return self
        count = len(self)
        return Batch(each(self.inputs, _taking(index, count)), each(self.targets, _taking(index, count)))

    def to(self, dtype: torch.dtype) -> Batch:
        """Return the batch with its floating-point inputs in another precision."""
        return Batch(each(self.inputs, lambda x: x.to(dtype) if x.is_floating_point() else x), self.targets)


def opened(batch: Any, targets: Any = None, model: nn.Module | None = None) -> Iterator[Batch]:
    """Yield batches: a tensor, a mapping of keyword arguments, or a tuple (inputs, targets) is one.

    So are an instance of a dataclass, a packed sequence, and a tuple of positional arguments, of which ``model``
    takes all and not the first alone. Anything else is a stream: it yields such batches, with ``targets`` a stream
    of the same length, or pairs of both, as a DataLoader does.

    Raises:
        TypeError: for a batch that is none of these.

    >>> [len(batch) for batch in opened([torch.ones(3, 2), torch.ones(1, 2)])]
    [3, 1]
    """
    if _is_one(batch) or (isinstance(batch, tuple) and _is_positional(batch, targets, model)):
        yield _batch(batch, targets, model)
        return
    if isinstance(batch, tuple) and len(batch) == 2 and targets is None:
        yield _batch(batch[0], batch[1], model)
        return
    if not isinstance(batch, Iterable):
        raise TypeError(f"batch: got {type(batch).__name__}; pass a tensor, a mapping, or an iterable of them")
    if targets is not None:
        for x, y in zip(batch, targets, strict=True):
            yield _batch(x, y, model)
        return
    for item in batch:
        pair = isinstance(item, tuple | list) and len(item) == 2 and not _is_one(item)
        pair = pair and not _is_positional(tuple(item), None, model)
        yield _batch(item[0], item[1], model) if pair else _batch(item, None, model)


def _is_one(batch: Any) -> bool:
    known = isinstance(batch, Tensor | Mapping | numpy.ndarray | PackedSequence)
    return known or is_record(batch) or hasattr(batch, "_fields")


def _is_positional(batch: tuple[Any, ...], targets: Any, model: nn.Module | None) -> bool:
    """Return whether a tuple holds the positional arguments of a model, not inputs and targets, or batches."""
    if model is None or not batch or not fits(model, batch):
        return False
    return len(batch) > 1 and (isinstance(targets, Tensor) or not fits(model, batch[:1]))


def _batch(inputs: Any, targets: Any, model: nn.Module | None) -> Batch:
    given = inputs if model is None else normal(prepared(model, inputs))
    return Batch(given, prepared_targets(targets))


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
    args, kwargs = arguments(model, inputs)
    try:
        signature.bind(*args, **kwargs)
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
