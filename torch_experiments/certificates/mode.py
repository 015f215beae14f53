"""In which mode a network is handed over, and what its mode changes of the traced operations.

Traces run in eval mode. A network that trains normalises by its batch, drops units, and does whatever else its code
asks ``self.training`` for, so the operations of one pass in its own mode are compared with the traced ones.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self

import numpy
import torch
from torch import Tensor, nn

from theory.tolerances import REPEATED
from torch_experiments.certificates.frozen.activation_sites import SHAPES
from torch_experiments.certificates.frozen.replay import plain_name
from torch_experiments.certificates.oracle import draws, left_alone
from torch_experiments.support.draws import seeded
from torch_experiments.support.torch_private import BatchNorm, TorchDispatchMode, schema
from torch_experiments.units.graph import Graph, Step, in_words
from torch_experiments.units.inputs import Inputs, call, flatten, normal, reference_kernels, settled
from torch_experiments.units.reads import home

DECIDES = "numbers that weights have made decide what runs"
TURNING = (nn.AlphaDropout, nn.FeatureAlphaDropout)  # what they drop becomes negative
Operation = tuple[str, tuple[float, ...]]
OTHER = 0x5DEECE66D  # changes a seed
MEMORY = ("empty", "new_empty")  # of which nobody knows what it holds
PLAIN = ("mul", "div", "add")
RANDOM = ("native_dropout", "bernoulli", "_fused_dropout", "rrelu_with_noise", "rrelu_with_noise_functional")
OF_TRAINING = frozenset({
    *RANDOM, *SHAPES,
    "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "_batch_norm_with_update",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "empty",
    "_local_scalar_dense", "is_nonzero", "equal", "item",  # of inputs: the trace hands them on
    "batch_norm_update_stats", "ones_like", "new_empty", "copy",
})  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """What the mode of a network changes.

    Attributes:
        restless: the layers that normalise by the statistics of the batch.
        random: what is drawn anew in every pass, empty if two passes over the same samples are the same.
        foreign: what else differs from the traced operations, empty if nothing does: then nothing that rests on the
            structure alone (signs, bounds) is certified.
    """

    restless: frozenset[str] = frozenset()
    random: str = ""
    foreign: str = ""

    @property
    def whole(self) -> bool:
        """Whether only whole batches show what training sees."""
        return bool(self.restless or self.random or self.foreign)


def mode_of(model: nn.Module, graph: Graph, inputs: Inputs) -> Mode:
    """Return what the mode of ``model`` changes of the operations of ``graph``.

    Costs two forward passes, which tell whether it draws random numbers: a generator of torch, NumPy or Python has
    moved on, or, if it has one of its own, the passes differ.
    """
    first = _Ran.of(model, inputs)
    differ = first.drew or not first.agrees(_Ran.of(model, inputs, other_draws=True))
    training = {name for name, module in model.named_modules() if module.training}
    restless = {name for name, module in model.named_modules() if name in training and _by_batch(module)}
    dropped = dropping(model, graph)
    drawing = sorted(dropped) if dropped else ["the network"] * (differ or draws(model))
    turning = [n for n, m in model.named_modules() if isinstance(m, TURNING) and m.training and m.p > 0]
    said = f"{', '.join(turning)}: what is dropped becomes negative"
    foreign = said if turning else _foreign(first, graph) if training else ""
    if graph.decided:
        foreign = f"{DECIDES} in {in_words(graph.decided)}"
    return Mode(frozenset(restless), in_words(drawing), foreign)


def dropping(model: nn.Module, graph: Graph) -> set[str]:
    """Return the layers in which a function drops a share, in their mode."""
    shares = graph.dropped.items()
    return {layer for layer, share in shares if share > 0 and model.get_submodule(layer).training}


def _by_batch(module: nn.Module) -> bool:
    return isinstance(module, BatchNorm) or bool(getattr(module, "track_running_stats", False))


class _Ran(TorchDispatchMode):
    """The operations that run, each with its real numbers; masks and counters that training makes are left out.

    The sizes of their results tell whether two passes are the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[Operation] = Counter()
        self.sizes: list[float] = []
        self.drew = False
        self.drawn: list[Tensor] = []  # kept alive, so that their identities stay theirs

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs, *, other_draws: bool = False) -> Self:
        """Run a network in its own mode; the network and the random state stay as they are."""
        seen = cls()
        with left_alone(model), torch.no_grad(), reference_kernels(), settled(model):
            seed = torch.initial_seed() ^ OTHER
            with seeded(model, seed) if other_draws else nullcontext():
                before = _generators()
                with seen:
                    call(model, normal(inputs))
                seen.drew = _generators() != before
        return seen

    def agrees(self, other: Self) -> bool:
        """Return whether the same operations gave the same results, but for rounding."""
        if self.ran != other.ran or len(self.sizes) != len(other.sizes):
            return False
        pairs = zip(self.sizes, other.sizes, strict=True)
        return all(math.isclose(a, b, rel_tol=REPEATED) or a != a for a, b in pairs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and count it."""
        step = Step(0, "", 0, func, args, kwargs or {}, None)
        read = [t for t in flatten([args, kwargs or {}]) if t.is_floating_point()]
        drawn = [t for t in read if any(t is other for other in self.drawn)]
        of_masks = self._is_of_masks(plain_name(step), read, drawn)
        result = func(*args, **(kwargs or {}))
        if next(flatten([result]), None) is not None and not of_masks:
            self.ran[_operation(step)] += 1  # profiler's marks and assertions compute nothing
        if not plain_name(step).startswith(MEMORY):
            self.sizes += [_size(t) for t in flatten([result]) if t.is_floating_point() and _is_new(func, t, read)]
        if torch.Tag.nondeterministic_seeded in func.tags or (read and len(drawn) == len(read)):
            self.drawn += flatten([result])
        return result

    def _is_of_masks(self, name: str, read: Sequence[Tensor], drawn: Sequence[Tensor]) -> bool:
        """Return whether numbers are counted, a mask is scaled, or one that is not negative is applied."""
        applied = name in ("mul", "div") and bool(drawn) and all(bool((mask >= 0).all()) for mask in drawn)
        return applied or (name in PLAIN and len(drawn) == len(read))


def _is_new(operation: Any, result: Tensor, read: Sequence[Tensor]) -> bool:
    """Return whether a result may hold other numbers than were read: no view of them, such as a transpose."""
    return schema(operation).is_mutable or all(home(result) != home(tensor) for tensor in read)


def _size(x: Tensor) -> float:
    """Return the norm; in the dtype of ``x`` if it has the range, as float64 takes ten times as long."""
    return float((x.float() if x.is_floating_point() and x.element_size() < 4 else x).norm())


def _generators() -> tuple[Any, ...]:
    """Return the states of the generators that are shared by all."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    shared = [state.numpy().tobytes() for state in (torch.get_rng_state(), *devices)]
    state: Any = numpy.random.get_state(legacy=True)  # noqa: NPY002 - what networks may draw from
    return random.getstate(), state[1].tobytes(), state[2], shared


def _operation(step: Step) -> Operation:
    """Return the name and the real numbers that an operation gets: ``0.1`` of a leaky ReLU."""
    return plain_name(step), tuple(x for x in step.arguments.values() if isinstance(x, float))


def _foreign(seen: _Ran, graph: Graph) -> str:
    """Return the operations of the network's own mode that are none of the trace and none of known modules."""
    known = Counter(map(_operation, graph.steps))
    extra = sorted({name for name, _ in seen.ran - known if name not in OF_TRAINING})
    return f"in training mode it runs {', '.join(extra)}, which the trace in eval mode does not" if extra else ""
