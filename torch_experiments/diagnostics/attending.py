"""Where a network attends: every softmax whose result weighs values, in whatever way it is written.

Seen are ``torch.nn.MultiheadAttention``, ``scaled_dot_product_attention`` and what models of Hugging Face write
out: below autograd all of them are a softmax and a product of matrices, once fused kernels are off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_experiments.metrics.attention import Heads, heads_of
from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.graph import Step
from torch_experiments.units.hooks import hooked
from torch_experiments.units.inputs import Inputs, call, reference_kernels
from torch_experiments.units.softmaxes import Found

WEIGHTS = ("aten::_softmax", "aten::_safe_softmax")
COPIES = ("aten::_to_copy", "aten::clone")  # of weights: another dtype, another layout
DROPOUT = ("aten::mul", "aten::native_dropout")  # of weights, as the CPU writes it and as an accelerator does
PRODUCT = "aten::bmm"


class Attended(NamedTuple):
    """One use of attention, with an axis for the heads.

    Attributes:
        name: of the module that was running; from its second use in a pass on with the number, ``"attn#2"``.
        logits: ``[batch, heads, queries, keys]``, with one for a sink that has no value, where there is one.
        values: ``[batch, heads, keys, d]``.
        returned: ``[batch, heads, queries, d]``.
    """

    name: str
    logits: Tensor
    values: Tensor
    returned: Tensor


def attention_of(model: nn.Module, inputs: Inputs) -> dict[str, Heads]:
    """Return what the heads of every attention of ``model`` do on ``inputs``, by layer, in the order of use.

    The model runs once, in the mode in which it is, without gradients and fused kernels. With dropout on weights
    the entropy is that of the softmax before it, and what heads return is what was left after it.

    >>> model = nn.MultiheadAttention(4, 2, batch_first=True)
    >>> x = torch.randn(3, 5, 4)
    >>> {name: tuple(heads.entropy.shape) for name, heads in attention_of(model, (x, x, x)).items()}
    {'': (2,)}
    """
    found: dict[str, Heads] = {}
    attend(model, inputs, lambda seen: found.update({seen.name: heads_of(*seen[1:])}))
    return found


def weights_of(model: nn.Module, inputs: Inputs) -> int:
    """Return how many weights the largest attention of ``model`` has on ``inputs``, 0 if it has none.

    >>> weights_of(nn.Linear(2, 1), torch.ones(3, 2))
    0
    """
    sizes: list[int] = []
    attend(model, inputs, lambda seen: sizes.append(seen.logits.numel()))
    return max(sizes, default=0)


def attend(model: nn.Module, inputs: Inputs, see: Callable[[Attended], object]) -> None:
    """Run ``model`` without gradients and call ``see`` at every use of attention."""
    running: list[tuple[str, nn.Module]] = []
    with torch.no_grad(), reference_kernels(), hooked(_located(model, running)), _Watch(running, see):
        call(model, inputs)


def _located(model: nn.Module, running: list[tuple[str, nn.Module]]) -> Iterator[RemovableHandle]:
    """Keep the modules that are running."""
    for name, module in model.named_modules():
        yield module.register_forward_pre_hook(lambda own, _, name=name: running.append((name, own)))
        yield module.register_forward_hook(lambda *_: _left(running), always_call=True)


def _left(running: list[tuple[str, nn.Module]]) -> None:
    running.pop()


class _Watch(TorchDispatchMode):
    """Follow the results of softmaxes to the product with values."""

    def __init__(self, running: list[tuple[str, nn.Module]], see: Callable[[Attended], object]) -> None:
        super().__init__()
        self.running, self.see, self.found = running, see, Found()
        self.weights: dict[int, tuple[Tensor, Tensor]] = {}  # by storage: weights, kept alive, and their logits
        self.uses: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; note a softmax, follow copies of it, and report where it weighs values."""
        result = func(*args, **(kwargs or {}))
        step = Step(0, "", 0, func, args, kwargs or {}, result)
        name = step.name
        if name in WEIGHTS:
            logits = self.found.logits(step)
            if logits is not None and logits.ndim > 2 and step.arguments["dim"] in (-1, logits.ndim - 1):
                self.weights[_storage(result)] = result, logits
        elif name in COPIES and (known := self._weights_in(args[0])) is not None:
            self.weights[_storage(result)] = result, known[1]
        elif name in DROPOUT and (known := self._weights_in(args[0])) is not None:
            dropped = result if name == "aten::mul" else result[0]
            if dropped.shape == args[0].shape:
                self.weights[_storage(dropped)] = dropped, known[1]
        elif name == PRODUCT and (known := self._weights_in(args[0])) is not None:
            weights, logits = known
            queries, keys = args[0].shape[-2:]
            if queries == weights.shape[-2] and keys <= weights.shape[-1]:  # a sink is left out, of GPT-OSS say
                self._report(logits, args[1], result)
                del self.weights[_storage(args[0])]
        return result

    def _weights_in(self, x: Any) -> tuple[Tensor, Tensor] | None:
        return self.weights.get(_storage(x)) if isinstance(x, Tensor) else None

    def _report(self, logits: Tensor, values: Tensor, returned: Tensor) -> None:
        name, module = self.running[-1] if self.running else ("", None)
        queries, keys = logits.shape[-2:]
        heads = logits.shape[-3] if logits.ndim > 3 else int(getattr(module, "num_heads", 1))
        heads = heads if len(values) % heads == 0 else 1
        self.uses[name] += 1
        own = name if self.uses[name] == 1 else f"{name}#{self.uses[name]}"
        parts = ((logits, queries, keys), (values, *values.shape[-2:]), (returned, *returned.shape[-2:]))
        self.see(Attended(own, *(x.reshape(-1, heads, *sizes) for x, *sizes in parts)))


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
