"""Inputs of a network in any nesting, how it is called with them, and where it first returns nan or inf.

Inputs are a tensor, a tuple of positional or a mapping of keyword arguments. A list is of positional arguments
too, or of *examples*, each with inputs of its own: a network with several heads is called once for each of them.
A packed sequence and an instance of a dataclass are one argument, and so are a named tuple or a mapping that does
not fit the arguments.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import PackedSequence
from torch.nn.utils.spectral_norm import SpectralNorm

from torch_experiments.support.duplicates import normalising
from torch_experiments.support.torch_private import COMPILER, SpectralParametrization
from torch_experiments.units.graph import TraceError
from torch_experiments.units.hooks import hooked, outputs_of

FIX = "run elementary operations, such as scaled_dot_product_attention with a mask"
Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
DOES_NOT_RUN = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)  # what wrong sizes raise


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Call ``model`` with a tensor, positional or keyword arguments; the autocast of the caller is in force.

    Of a list of examples the outputs are a list, too. What the model raises is noted with the inputs it was given.

    >>> call(nn.Identity(), {"input": torch.ones(1)})
    tensor([1.])
    >>> call(nn.Identity(), [{"input": torch.ones(1)}, (torch.zeros(1),)])
    [tensor([1.]), tensor([0.])]
    """
    if is_examples(model, inputs):
        return [call(model, example) for example in inputs]
    try:
        with fresh_casts():
            args, kwargs = arguments(model, inputs)
            return model(*args, **kwargs)
    except Exception as error:
        if "HigherOrderOperator" in str(error) or type(error).__module__.startswith(COMPILER):
            said = str(error).partition("\n")[0].partition(" and mode")[0]
            raise TraceError(
                f"model: it compiles a part of itself, which cannot be followed ({said}); {FIX}"
            ) from error
        given = ", ".join(f"{tuple(x.shape)} {x.dtype}".replace("torch.", "") for x in flatten(inputs))
        place = _failing(model, error)
        error.add_note(
            f"inputs: {type(model).__name__} was called with {given or 'no tensor'}{place}; does it run on them?"
        )
        raise


def _failing(model: nn.Module, error: Exception) -> str:
    """Return in words in which layer of ``model`` an error was raised, empty if in the model itself."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = traceback.walk_tb(error.__traceback__)
    running = [names[id(own)] for frame, _ in frames if id(own := frame.f_locals.get("self")) in names]
    return f", and layer {running[-1]!r} failed" if running and running[-1] else ""


def arguments(model: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments that ``inputs`` are.

    >>> arguments(nn.Linear(2, 1), {"input": 1}), arguments(nn.Linear(2, 1), {"x": 1, "y": 2})
    (((), {'input': 1}), (({'x': 1, 'y': 2},), {}))
    """
    if isinstance(inputs, Tensor | PackedSequence) or is_record(inputs):
        return (inputs,), {}
    single = (inputs,)
    if isinstance(inputs, Mapping):
        named = all(isinstance(key, str) for key in inputs)
        alone = not (named and fits(model, inputs)) and fits(model, single)
        return (single, {}) if alone else ((), dict(inputs))
    named = hasattr(inputs, "_fields")
    return (single if named and not fits(model, tuple(inputs)) and fits(model, single) else tuple(inputs)), {}


def is_record(item: Any) -> bool:
    """Return whether an object is an instance of a dataclass, and no mapping."""
    return is_dataclass(item) and not isinstance(item, type | Mapping)


def is_examples(model: nn.Module, inputs: Any) -> bool:
    """Return whether ``inputs`` are a list of examples, not one list of positional arguments.

    So they are where all are tuples or mappings that fit the arguments of ``model.forward``, and where all are
    tensors which fit it one by one, but not together.

    >>> x = torch.ones(1, 2)
    >>> [is_examples(nn.Linear(2, 1), given) for given in ([x, x], [(x,), {"input": x}], [x], (x,))]
    [True, True, False, False]
    """
    if not isinstance(inputs, list) or not inputs:
        return False
    if all(isinstance(example, Tensor | PackedSequence) or is_record(example) for example in inputs):
        return not fits(model, inputs) and fits(model, inputs[:1])
    several = all(isinstance(example, tuple | Mapping) for example in inputs)
    return several and all(fits(model, example) for example in inputs)


def fits(model: nn.Module, arguments: Any) -> bool:
    """Return whether the forward of ``model`` takes these positional or keyword arguments.

    >>> fits(nn.Linear(2, 1), (1,)), fits(nn.Linear(2, 1), {"x": 1})
    (True, False)
    """
    named = isinstance(arguments, Mapping)
    try:
        signature = inspect.signature(model.forward)
        signature.bind(**arguments) if named else signature.bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def fresh_casts() -> Iterator[None]:
    """Let ``torch.autocast`` cast weights anew: a cast that it kept is no operation of this run.

    >>> with torch.autocast("cpu", torch.bfloat16), fresh_casts():
    ...     torch.is_autocast_cache_enabled()
    False
    """
    kept = torch.is_autocast_cache_enabled()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


def flatten(item: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested sequences, mappings and dataclasses, and the parameters of distributions.

    Other objects, such as caches, are not looked into.

    >>> [len(x) for x in flatten({"a": torch.ones(2), "b": [torch.ones(3), None]})]
    [2, 3]
    """
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, Mapping):
        yield from flatten(list(item.values()))
    elif isinstance(item, list | tuple):
        for part in item:
            yield from flatten(part)
    elif is_record(item):
        yield from flatten([getattr(item, field.name, None) for field in fields(item)])
    elif isinstance(item, Distribution):
        yield from flatten(list(vars(item).values()))


def each(item: Any, act: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """Return nested ``item`` with ``act`` applied to what it holds of a kind; other objects stay as they are.

    >>> each({"x": torch.ones(2), "n": 3}, lambda x: x + 1)
    {'x': tensor([2., 2.]), 'n': 3}
    """
    if isinstance(item, kind):
        return act(item)
    if isinstance(item, Mapping):
        return _like(item, {key: each(value, act, kind) for key, value in item.items()})
    if isinstance(item, list | tuple):
        parts = [each(part, act, kind) for part in item]
        if hasattr(item, "_make"):
            return item._make(parts)
        return tuple(parts) if isinstance(item, tuple) else parts
    if is_record(item):
        made = copy.copy(item)
        for field in fields(item):
            if hasattr(item, field.name):
                object.__setattr__(made, field.name, each(getattr(item, field.name), act, kind))
        return made
    return item


def _like(item: Mapping[Any, Any], parts: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return a mapping of the kind of ``item``, which may be asked for attributes, with other values."""
    if type(item) is dict or not isinstance(item, MutableMapping):
        return parts
    made = copy.copy(item)
    made.update(parts)
    return made


def sample_count(inputs: Inputs) -> int:
    """Return the size of the first axis that all tensors of ``inputs`` share; 0 where they share none.

    >>> sample_count([torch.ones(5, 2), torch.ones(5)]), sample_count([torch.ones(5), torch.ones(4)])
    (5, 0)
    """
    sizes = {t.shape[0] if t.ndim else 0 for t in flatten(inputs)}
    return sizes.pop() if len(sizes) == 1 and not is_packed(inputs) else 0


def is_packed(item: Any) -> bool:
    """Return whether samples cannot be taken one by one: from packed sequences, or sparse or nested tensors."""
    if isinstance(item, Tensor):
        return item.layout is not torch.strided or item.is_nested
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, list | tuple) else ()
    return isinstance(item, PackedSequence) or any(map(is_packed, parts))


def samples_between(inputs: Any, start: int, stop: int) -> Any:
    """Return nested ``inputs`` with a range of the first axis of every tensor; other objects stay."""
    return each(inputs, lambda x: x[start:stop])


def normal(inputs: Any) -> Any:
    """Return nested inputs whose inference tensors are plain ones, which autograd may save."""
    return each(inputs, lambda x: x.clone() if x.is_inference() else x)


def first_samples(inputs: Inputs, count: int) -> Inputs:
    """Return the first ``count`` samples; all of the inputs where they are fewer, or share no axis of samples.

    >>> first_samples((torch.zeros(9, 2), torch.zeros(9)), 7)[1].shape
    torch.Size([7])
    """
    return samples_between(inputs, 0, count) if sample_count(inputs) > count else inputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode; the mode of every module is restored.

    >>> model = nn.Sequential(nn.Dropout().eval(), nn.Dropout())
    >>> with evaluating(model):
    ...     model[1].training
    False
    >>> model[0].training, model[1].training
    (False, True)
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield model
    except NotImplementedError as error:
        if "eval()" not in str(error):
            raise
        raise TraceError(
            f"model: {type(model).__name__} cannot be put in eval mode; give the module that it was exported from"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def settled(model: nn.Module) -> Iterator[None]:
    """Let spectral norms of a network that trains use the singular vectors that they have, as in eval mode.

    Each training pass turns the vectors a little more towards their limit; nothing else of it is different.
    """
    held = [m for m in model.modules() if m.training and _iterates(m)]
    for module in held:
        module.training = False
    try:
        yield
    finally:
        for module in held:
            module.training = True


def _iterates(module: nn.Module) -> bool:
    """Return whether the mode of a module says whether it iterates, and nothing else."""
    hooked = any(isinstance(hook, SpectralNorm) for hook in normalising(module))
    return isinstance(module, SpectralParametrization) or hooked


@contextmanager
def reference_kernels() -> Iterator[None]:
    """Compute attention by matrix products and softmax, not by fused kernels, which hide the modules in them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def inspecting(model: nn.Module) -> Iterator[None]:
    """Run ``model`` as a trace does: in eval mode, without gradients, by `reference_kernels`.

    A layer of LSTM cells in float32 is one fused operation of oneDNN, so that is off where a model has one.
    """
    mkldnn = torch.backends.mkldnn
    enabled = mkldnn.is_available() and mkldnn.enabled
    if any(isinstance(module, nn.LSTM) for module in model.modules()):
        mkldnn.set_flags(_enabled=False, _fp32_precision=None)  # `flags` sets more, and warns of it
    try:
        with evaluating(model), reference_kernels(), torch.no_grad():
            yield
    finally:
        mkldnn.set_flags(_enabled=enabled, _fp32_precision=None)


def finite(item: Any) -> bool:
    """Return whether all numbers in the tensors of nested ``item`` are finite.

    The sum of a tensor with nan or inf is none either, so single numbers are looked at only where it is not finite.

    >>> finite([torch.ones(2), torch.tensor(float("inf"))]), finite(torch.tensor([3e38, 3e38]))
    (False, True)
    """
    numbers = (x for x in flatten(item) if x.is_floating_point() or x.is_complex())
    try:
        return all(bool(x.sum().isfinite()) or bool(x.isfinite().all()) for x in numbers)
    except RuntimeError:  # within torch.vmap numbers cannot be asked for
        return True


def not_finite(model: nn.Module, inputs: Inputs) -> str:
    """Return the name of the first module to return nan or inf in eval mode, empty if none does.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    >>> _ = nn.init.constant_(model[1].bias, float("nan"))
    >>> not_finite(model, torch.ones(1, 2))
    '1'
    """
    return first_module(model, inputs, lambda _module, output: not finite(output))


def first_module(model: nn.Module, inputs: Inputs, wrong: Callable[[nn.Module, Any], bool]) -> str:
    """Return the name of the first module for which ``wrong(module, output)``, in the order in which they return.

    A module returns after those that it calls, so the first one is the innermost.
    """
    modules = dict(model.named_modules())
    found: list[str] = []

    def look(name: str, output: Any) -> None:
        if not found and wrong(modules[name], output):
            found.append(name)

    with inspecting(model), hooked(outputs_of(modules, look)):
        call(model, inputs)
    return found[0] if found else ""


def has_samples(inputs: Inputs) -> None:
    """Check that a tensor of real numbers has an axis of samples; raise a TraceError that says how to add it."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim < 2:
        raise TraceError(
            f"inputs: a tensor of shape {tuple(inputs.shape)} has no axis of samples before that of features; give "
            "a batch, such as x[None]"
        )


def same_device(model: nn.Module, inputs: Inputs) -> None:
    """Check that inputs hold numbers, where the parameters are; raise a TraceError that says what is not so."""
    if not isinstance(inputs, Tensor | Mapping | list | tuple) and not is_record(inputs):
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
