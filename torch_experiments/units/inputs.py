"""Inputs of a network in any nesting, and how it is called with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.units.graph import TraceError

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Call ``model`` with a tensor, positional or keyword arguments."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def flatten(item: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested sequences and mappings; other objects, such as caches, are not looked into."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, Mapping):
        yield from flatten(list(item.values()))
    elif isinstance(item, list | tuple):
        for part in item:
            yield from flatten(part)


def not_finite(model: nn.Module, inputs: Inputs) -> str:
    """Return the name of the first module without children whose output holds nan or inf, empty if none does."""
    names: list[str] = []

    def look(name: str, output: Any) -> None:
        if not all(bool(x.isfinite().all()) for x in flatten(output) if x.is_floating_point()):
            names.append(name)

    leaves = [(name, m) for name, m in model.named_modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(lambda _m, _i, out, name=name: look(name, out)) for name, m in leaves]
    try:
        with torch.no_grad():
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return names[0] if names else ""


def sample_count(inputs: Inputs) -> int:
    """Return the size of the first axis that all tensors of ``inputs`` share; 0 where they share none."""
    sizes = {t.shape[0] if t.ndim else 0 for t in flatten(inputs)}
    return sizes.pop() if len(sizes) == 1 else 0


def samples_between(inputs: Any, start: int, stop: int) -> Any:
    """Return nested ``inputs`` with a range of the first axis of every tensor; other objects stay."""
    if isinstance(inputs, Tensor):
        return inputs[start:stop]
    if isinstance(inputs, Mapping):
        return {key: samples_between(item, start, stop) for key, item in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [samples_between(item, start, stop) for item in inputs]
    return inputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode; the mode of every module is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def has_samples(inputs: Inputs) -> None:
    """Check that a tensor of real numbers has an axis of samples; raise a TraceError that says how to add it."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim < 2:
        raise TraceError(
            f"inputs: a tensor of shape {tuple(inputs.shape)} has no axis of samples before that of features; give "
            "a batch, such as x[None]"
        )


def same_device(model: nn.Module, inputs: Inputs) -> None:
    """Check that inputs hold numbers, where the parameters are; raise a TraceError that says what is not so."""
    if not isinstance(inputs, Tensor | Mapping | list | tuple):
        raise TraceError(
            f"inputs: got {type(inputs).__name__}; give one batch: a tensor, a list or tuple of positional or a "
            "mapping of keyword arguments (of a DataLoader, next(iter(loader)))"
        )
    first = next((p for p in model.named_parameters()), None)
    for tensor in flatten(inputs):
        if first is not None and tensor.device != first[1].device:
            raise TraceError(
                f"layer {first[0].rpartition('.')[0]!r}: its parameters are on {first[1].device}, an input on "
                f"{tensor.device}; move one of them with .to(...)"
            )
        if tensor.is_meta or not tensor.numel():
            lacks = "is on the meta device" if tensor.is_meta else f"has shape {tuple(tensor.shape)}"
            raise TraceError(f"inputs: a tensor {lacks}, so it holds no numbers; give at least one sample of data")
