"""Which dimensions of an activation count units, from the traced graph, and which samples and positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from torch_experiments.diagnostics.attending import weights_of
from torch_experiments.diagnostics.nonlinearities import Applied, watching
from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.axes import Axis, atoms, factors, find, is_fixed
from torch_experiments.units.inputs import Inputs, call, evaluating, flatten
from torch_experiments.units.trace import trace


class Dimension(NamedTuple):
    """A dimension of an activation: factors of its axis (one of any size if ``sizes`` is empty), units or not."""

    sizes: tuple[int, ...]
    units: tuple[bool, ...]


Dimensions = tuple[Dimension, ...]
OUTPUT = "an axis of an output"  # the reason that `trace` gives
UNITS, POSITIONS = Dimension((), (True,)), Dimension((), (False,))


@dataclass
class Anatomy:
    """What is known of a network before it is measured.

    Attributes:
        dimensions: of every activation that the trace could follow, by name.
        flops: floating-point operations of a forward pass, a sample.
        weights: of the largest attention, a sample; 0 where there is none.
        trouble: why the trace failed, empty if it did not.
    """

    dimensions: dict[str, Dimensions] = field(default_factory=dict)
    flops: float = 0.0
    weights: float = 0.0
    trouble: str = ""


_KNOWN: WeakKeyDictionary[nn.Module, dict[object, Anatomy]] = WeakKeyDictionary()


def anatomy(model: nn.Module, inputs: Inputs, layers: Sequence[str]) -> Anatomy:
    """Return the `Anatomy` of ``model``; it is kept for the next call with inputs of this shape."""
    how = getattr(vars(model).get("forward"), "how", None)  # another method runs other layers
    key = (how, *((tuple(x.shape), x.dtype) for x in flatten(inputs)), *layers, *map(type, model.modules()))
    known = _KNOWN.setdefault(model, {})
    if key not in known:
        known[key] = _examined(model, inputs, layers)
    return known[key]


def as_rows(x: Tensor, dimensions: Dimensions) -> Tensor:
    """Return ``x`` as ``[samples, positions, units]``, a view where there can be one.

    >>> as_rows(torch.zeros(2, 3, 4, 4), guessed([2, 3, 4, 4])).shape
    torch.Size([2, 16, 3])
    """
    sizes = [size for n, d in zip(x.shape, dimensions, strict=True) for size in d.sizes or (n,)]
    flags = [flag for d in dimensions for flag in d.units]
    order = sorted(range(len(flags)), key=lambda k: flags[k])
    units = math.prod(size for size, flag in zip(sizes, flags, strict=True) if flag)
    return x.reshape(sizes).permute(order).reshape(sizes[order[0]], -1, units)


def guessed(shape: Sequence[int]) -> Dimensions:
    """Return dimensions by a rule of thumb: units are the last of two or three dimensions, else the second."""
    unit = len(shape) - 1 if len(shape) < 4 else 1
    return tuple(UNITS if k == unit else POSITIONS for k in range(len(shape)))


def _examined(model: nn.Module, inputs: Inputs, layers: Sequence[str]) -> Anatomy:
    samples = next((len(x) for x in flatten(inputs) if x.ndim), 1)
    found = Anatomy(flops=_flops(model, inputs) / samples, weights=weights_of(model, inputs) / samples)
    calls: list[Applied] = []
    try:
        with watching(model, layers, calls.append):
            graph = trace(model, inputs)
    except Exception as error:
        found.trouble = f"{type(error).__name__}: {error}"
        return found
    for seen in calls:
        known = graph.values.get(id(seen.h))
        dimensions = () if known is None else tuple(_dimension(axis) for axis in known[1].axes)
        if any(any(d.units) for d in dimensions):
            found.dimensions[seen.name] = dimensions
    return found


def _dimension(axis: Axis) -> Dimension:
    """Split an axis only where some of its factors are units and others positions, as in flattened images."""
    parts = factors(axis) if find(axis).kind == "product" else []
    flags = tuple(_has_units(part) for part in parts)
    if len(set(flags)) < 2:
        return UNITS if _has_units(axis) else POSITIONS
    return Dimension(tuple(part.size for part in parts), flags)


def _has_units(axis: Axis) -> bool:
    """Return whether an axis may be copied, or may not only because it is one of the network's output."""
    return not is_fixed(axis) or all(atom.fixed.endswith(OUTPUT) for atom in atoms(axis))


class _Counter(TorchDispatchMode):
    """Counts floating-point operations, as torch's own counter does, which fails where parameters are inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and count its operations."""
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(getattr(func, "overloadpacket", None))
        self.flops += 0 if count is None else count(*args, **(kwargs or {}), out_val=result)
        return result


def _flops(model: nn.Module, inputs: Inputs) -> float:
    with evaluating(model), torch.no_grad(), _Counter() as counter:
        call(model, inputs)
    return counter.flops
