"""How a network is handed over: in wrappers, with a callable other than ``forward``, with inputs of any kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torch_experiments.units.graph import TraceError
from torch_experiments.units.inputs import each

Callee = str | Callable[..., Any] | None
LISTED = 6  # names of methods that a message lists
NUMERIC = "biufc"  # kinds of NumPy's dtypes that torch has, too
FLAT = "_fsdp_wrapped_module"  # how FullyShardedDataParallel names what it has sharded
ABSENT = nn.Module.forward  # what a module without a forward of its own has


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside of `torch.compile`, `DistributedDataParallel` and `DataParallel`.

    >>> layer = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(layer)) is layer
    True
    """
    while (inner := inside(model)) is not None:
        model = inner
    return model


def inside(model: nn.Module) -> nn.Module | None:
    """Return what one wrapper wraps, None where there is no wrapper."""
    parallel = isinstance(model, DistributedDataParallel | nn.DataParallel)
    found: Any = model.module if parallel else getattr(model, "_orig_mod", None)
    return found


@contextmanager
def calling(model: nn.Module, how: Callee) -> Iterator[nn.Module]:
    """Let a call of ``model`` be one of another of its methods for a while, of copies made meanwhile too.

    Args:
        model: is as before afterwards; where the method calls the model itself, that is its forward.
        how: the name of a method, a method, or a function of the module and its inputs; None for the forward.

    Raises:
        TraceError: for a module without a forward where ``how`` is None; it lists what could be called.
        ValueError: for a name that the module does not have.
        TypeError: for what cannot be called.

    >>> class Agent(nn.Module):
    ...     def act(self, x):
    ...         return x + 1
    >>> agent = Agent()
    >>> with calling(agent, "act"):
    ...     agent(torch.ones(1))
    tensor([2.])
    """
    if how is None:
        _check_forward(model)
        yield model
        return
    kept = vars(model).get("forward")
    vars(model)["forward"] = Called(model, _named(model, how), kept)
    try:
        yield model
    finally:
        released(model)


def released(model: nn.Module) -> nn.Module:
    """Return ``model``, a copy that was made in `calling` say, with its own forward."""
    found = vars(model).get("forward")
    if isinstance(found, Called):
        del vars(model)["forward"]
        if found.kept is not None:
            vars(model)["forward"] = found.kept
    return model


class Called:
    """Another callable in the place of a forward; a copy of the module has one that calls the copy."""

    def __init__(self, module: nn.Module, how: str | Callable[..., Any], kept: Any) -> None:
        self.module, self.how, self.kept, self.running = module, how, kept, False
        self.__signature__ = _signature(module, how)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; within, the module's own forward."""
        if self.running:
            return (self.kept or type(self.module).forward.__get__(self.module))(*args, **kwargs)
        self.running = True
        try:
            if isinstance(self.how, str):
                return getattr(self.module, self.how)(*args, **kwargs)
            return self.how(self.module, *args, **kwargs)
        finally:
            self.running = False


def _named(model: nn.Module, how: str | Callable[..., Any]) -> str | Callable[..., Any]:
    """Return the name of a method of ``model``, or a function of it."""
    if getattr(how, "__self__", None) is model:
        how = how.__name__  # type: ignore[union-attr]
    if isinstance(how, str) and not callable(getattr(model, how, None)):
        raise ValueError(f"call: {type(model).__name__} has no method {how!r}; it has {_methods(model)}")
    if not callable(how) and not isinstance(how, str):
        raise TypeError(f"call: got {type(how).__name__}; give the name of a method, or a function of the model")
    return how


def _signature(module: nn.Module, how: str | Callable[..., Any]) -> inspect.Signature:
    if isinstance(how, str):
        return inspect.signature(getattr(module, how))
    whole = inspect.signature(how)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _check_forward(model: nn.Module) -> None:
    if inspect.getattr_static(type(model), "forward") is ABSENT and "forward" not in vars(model):
        raise TraceError(
            f"model: {type(model).__name__} has no forward; name what is to be called, as in "
            f"call={_first(model)!r}; it has {_methods(model)}"
        )


def _own(model: nn.Module) -> list[str]:
    kinds = [kind for kind in type(model).__mro__ if issubclass(kind, nn.Module) and kind is not nn.Module]
    names = [name for kind in kinds for name, value in vars(kind).items() if inspect.isfunction(value)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_") and not hasattr(nn.Module, name)]


def _first(model: nn.Module) -> str:
    return next(iter(_own(model)), "method")


def _methods(model: nn.Module) -> str:
    return ", ".join(_own(model)[:LISTED]) or "no methods of its own"


def prepared(model: nn.Module, inputs: Any) -> Any:
    """Return inputs as ``model`` takes them: NumPy's arrays as tensors, real numbers in the parameters' dtype.

    Numbers of a dtype that some parameter has stay as they are.

    Raises:
        TraceError: for parameters that hold no numbers here: sharded over processes, or on the meta device.

    >>> prepared(nn.Linear(2, 1), {"x": numpy.ones((3, 2)), "n": 4})["x"].dtype
    torch.float32
    """
    _check_parameters(model)
    kinds = [p.dtype for p in model.parameters() if p.is_floating_point()]
    wanted = kinds[0] if kinds else torch.get_default_dtype()

    def cast(x: Tensor) -> Tensor:
        foreign = x.is_floating_point() and bool(kinds) and x.dtype not in kinds
        return x.to(wanted) if foreign else x

    return each(each(inputs, lambda x: _tensor(x, wanted), numpy.ndarray), cast)


def prepared_targets(targets: Any) -> Any:
    """Return targets, those of NumPy as tensors.

    >>> prepared_targets(numpy.arange(2))
    tensor([0, 1])
    """
    return each(targets, lambda x: _tensor(x, torch.get_default_dtype()), numpy.ndarray)


def _tensor(array: numpy.ndarray, wanted: torch.dtype) -> Any:
    if array.dtype.kind not in NUMERIC:
        return array
    found = torch.tensor(array)
    return found.to(wanted) if found.is_floating_point() else found


def _check_parameters(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        layer = name.rpartition(".")[0]
        if hasattr(p, "full_tensor") or FLAT in name:
            raise TraceError(
                f"layer {layer!r}: its parameters are sharded over processes, so none has all of its units; load a "
                "full state dict (torch.distributed.checkpoint.state_dict) into the plain module, and give that"
            )
        if p.is_meta:
            raise TraceError(
                f"layer {layer!r}: its parameters are on the meta device and hold no numbers; make it on a real "
                "one, as by model.to_empty(device='cpu') and load_state_dict"
            )
    for name, module in model.named_modules():
        if type(module) is torch.jit.RecursiveScriptModule:
            raise TraceError(
                f"layer {name!r}: a module of torch.jit.script shows no operations; give what it was made of"
            )
