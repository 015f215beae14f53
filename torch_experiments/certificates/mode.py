"""In which mode a network is handed over, and what its mode changes of the traced operations.

Traces run in eval mode. A network that trains normalises by its batch, drops units, and does whatever else its code
asks ``self.training`` for, so the operations of one pass in its own mode are compared with the traced ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torch_experiments.certificates.frozen.activation_sites import SHAPES
from torch_experiments.certificates.frozen.replay import plain_name
from torch_experiments.certificates.oracle import draws, left_alone, normal
from torch_experiments.support.torch_private import BatchNorm, TorchDispatchMode
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import Inputs, call, reference_kernels

TURNING = (nn.AlphaDropout, nn.FeatureAlphaDropout)  # what they drop becomes negative
RANDOM = ("native_dropout", "bernoulli", "_fused_dropout", "rrelu_with_noise", "rrelu_with_noise_functional")
OF_TRAINING = frozenset({
    *RANDOM, *SHAPES,
    "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "_batch_norm_with_update",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "leaky_relu", "mul", "div", "add", "empty",
    "_local_scalar_dense", "is_nonzero", "equal", "item",  # of inputs: the trace hands them on
    "batch_norm_update_stats", "ones_like", "new_empty", "copy",
})  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """What the mode of a network changes.

    Attributes:
        restless: the layers that normalise by the statistics of the batch.
        random: what is drawn anew in every pass, empty if nothing is.
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

    Costs one forward pass where a module is in training mode, nothing in eval mode.
    """
    training = {name for name, module in model.named_modules() if module.training}
    if not training:
        return Mode()
    restless = {name for name, module in model.named_modules() if name in training and _by_batch(module)}
    dropped = {layer for layer, share in graph.dropped.items() if share > 0 and layer in training}
    random = sorted(dropped) if dropped else ["the network"] * draws(model)
    turning = [n for n, m in model.named_modules() if isinstance(m, TURNING) and m.training and m.p > 0]
    said = f"{', '.join(turning)}: what is dropped becomes negative"
    foreign = said if turning else _foreign(model, graph, inputs)
    return Mode(frozenset(restless), ", ".join(name or "the network" for name in random), foreign)


def _by_batch(module: nn.Module) -> bool:
    return isinstance(module, BatchNorm) or bool(getattr(module, "track_running_stats", False))


class _Names(TorchDispatchMode):
    """The names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and count it."""
        self.names[plain_name(Step(0, "", 0, func, args, kwargs or {}, None))] += 1
        return func(*args, **(kwargs or {}))


def _foreign(model: nn.Module, graph: Graph, inputs: Inputs) -> str:
    """Return the operations of the network's own mode that are none of the trace and none of known modules."""
    seen = _Names()
    with left_alone(model), torch.no_grad(), reference_kernels(), seen:
        call(model, normal(inputs))
    known = Counter(plain_name(step) for step in graph.steps)
    extra = sorted(name for name in seen.names - known if name not in OF_TRAINING)
    return f"in training mode it runs {', '.join(extra)}, which the trace in eval mode does not" if extra else ""
