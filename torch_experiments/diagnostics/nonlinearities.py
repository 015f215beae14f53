"""Where a network applies nonlinear activations, as modules or as functions, in the order in which they run.

Modules are all classes of ``torch.nn.modules.activation`` but softmax and attention, and those of
``transformers.activations``. Functions are those of the same names in ``torch``, ``torch.nn.functional`` and
``torch.Tensor``, outside of such modules. What is written by other operations (``torch.clamp``, ``torch.sin``,
``torch.maximum``) or inside of fused kernels (``nn.LSTM``) is not seen: name the modules around it in ``layers``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import activation
from torch.overrides import TorchFunctionMode

from torch_experiments.metrics.statistics import Apply
from torch_experiments.support import torch_private
from torch_experiments.units.inputs import flatten

NO_UNITS = {"MultiheadAttention", "Softmax", "Softmin", "Softmax2d", "LogSoftmax"}
KINDS = tuple(getattr(activation, name) for name in activation.__all__ if name not in NO_UNITS)
NAMES: tuple[str, ...] = (
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
)
NAMES += ("logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus")
NAMES += ("softshrink", "softsign", "tanh", "tanhshrink", "threshold")
HOMES = (torch.nn.functional, torch, Tensor, torch_private.FUNCTIONS)
FUNCTIONS: Mapping[Any, str] = {
    getattr(home, name + end): name + end
    for home in HOMES
    for name in NAMES
    for end in ("", "_")
    if hasattr(home, name + end)
}


class Applied(NamedTuple):
    """One application of an activation, or one output of a module that was asked for.

    Attributes:
        name: of the module, or of the module around the function and the function: ``"block.relu"``; from the
            second call in a pass on with its number, ``"block.relu#2"``.
        h: the output.
        z: the input, as it was before an operation in place; None where units are not those of ``h`` (GLU).
        apply: the activation as a function of any tensor, None for a module that was asked for.
    """

    name: str
    h: Tensor
    z: Tensor | None = None
    apply: Apply | None = None


def is_activation(module: nn.Module) -> bool:
    """Return whether a module is a nonlinear activation."""
    kind = type(module)
    hugging_face = kind.__module__ == "transformers.activations" and kind.__name__ != "LinearActivation"
    return isinstance(module, KINDS) or hugging_face


@contextmanager
def watching(model: nn.Module, layers: Sequence[str], see: Callable[[Applied], None]) -> Iterator[None]:
    """Applied ``see`` at every activation of ``model``, and at the outputs of the modules named in ``layers``.

    Raises:
        ValueError: for a name that is no module of ``model``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with watching(model, ["0"], lambda seen: print(seen.name, tuple(seen.h.shape))):
    ...     _ = model(torch.ones(4, 2))
    0 (4, 3)
    1 (4, 3)
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            raise ValueError(f"layers: got {name!r}, which is no module; see dict(model.named_modules())")
    watch = Watch(see)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused encoder layer would hide its activation
    try:
        with ExitStack() as stack:
            for name, module in modules.items():
                for handle in watch.hooks(name, module, name in layers):
                    stack.callback(handle.remove)
            stack.enter_context(watch)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Watch(TorchFunctionMode):
    """Report activations, those inside of activation modules once."""

    def __init__(self, see: Callable[[Applied], None]) -> None:
        super().__init__()
        self.see = see
        self.running: list[str] = []
        self.calls: Counter[str] = Counter()
        self.hidden = 0
        self.inputs: list[Tensor | None] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and report it if it is an activation of features."""
        kwargs = kwargs or {}
        name = FUNCTIONS.get(func)
        z = args[0] if args else kwargs.get("input")
        if name is None or self.hidden or not _features(z):
            return func(*args, **kwargs)
        in_place = name.endswith("_") or bool(kwargs.get("inplace")) or any(a is True for a in args[1:])
        kept = z.detach().clone() if in_place else z
        result = func(*args, **kwargs)
        rest = {key: value for key, value in kwargs.items() if key != "input"}
        around = f"{self.running[-1]}." if self.running and self.running[-1] else ""
        self.report(around + name.rstrip("_"), result, kept, partial(_again, func, args[1:], rest))
        return result

    def report(self, name: str, h: Tensor, z: Tensor | None = None, apply: Apply | None = None) -> None:
        """Pass a call on under a name that is its own within the pass."""
        self.calls[name] += 1
        count = self.calls[name]
        same = z is not None and z.shape == h.shape
        own = name if count == 1 else f"{name}#{count}"
        self.hidden += 1
        try:
            self.see(Applied(own, h, z if same else None, apply if same else None))
        finally:
            self.hidden -= 1

    def hooks(self, name: str, module: nn.Module, asked: bool) -> Iterator[Any]:
        """Yield the handles of the hooks that follow one module."""
        active = is_activation(module)
        yield module.register_forward_pre_hook(partial(self._enter, name, active))
        yield module.register_forward_hook(partial(self._leave, name, active, asked))

    def _enter(self, name: str, active: bool, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not self.running:
            self.calls.clear()
        self.running.append(name)
        if active:
            self.hidden += 1
            z = next((x for x in inputs if _features(x)), None)
            self.inputs.append(z.detach().clone() if z is not None and getattr(module, "inplace", False) else z)

    def _leave(self, name: str, active: bool, asked: bool, module: nn.Module, inputs: Any, output: Any) -> None:
        self.running.pop()
        if active:
            self.hidden -= 1
            z = self.inputs.pop()
            if z is not None and not self.hidden:
                self.report(name, output, z, partial(_again, module.forward, (), {}))
        elif asked:
            self.report(name, next(h for h in flatten(output) if _features(h)))


def _features(x: Any) -> bool:
    """Return whether ``x`` holds features of samples, and not a parameter."""
    return isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1 and not isinstance(x, nn.Parameter)


def _again(func: Callable[..., Tensor], rest: tuple[Any, ...], options: dict[str, Any], z: Tensor) -> Tensor:
    return func(z.clone(), *rest, **options)
