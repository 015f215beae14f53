"""A CUDA device on a CPU: tensors that say ``cuda:0``, compute here, and refuse what a device would refuse.

Every operation looks at where its tensors are said to be. Tensors of both places together are an error, as on a
device, but for numbers, copies and indices. What makes the host wait for the device (reading a number, a search for
nonzero entries, a copy back) and what is copied over without pinned memory is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torch_experiments.support.torch_private import COMPILER, TorchDispatchMode, tree_map_only

aten = torch.ops.aten
HERE, THERE = torch.device("cpu"), torch.device("cuda", 0)
INDEXING = {f"aten.{name}" for name in ("index", "index_put", "index_put_", "_index_put_impl_")}
MIXING = {"aten.copy_", "aten._to_copy"} | INDEXING
SEARCHING = {f"aten.{name}" for name in ("nonzero", "masked_select", "_unique2", "unique_dim", "equal")}
READING = {"aten._local_scalar_dense", "aten.is_nonzero"}
BACK = {Tensor.cpu, Tensor.numpy, Tensor.tolist}
GET, SET = Tensor.data.__get__, Tensor.data.__set__  # type: ignore[attr-defined]  # a descriptor
Plain = (Tensor, nn.Parameter)


class OnDevice(Tensor):
    """A tensor that says that it is on the device."""

    __torch_function__ = nn.Parameter.__torch_function__  # treated as a plain tensor is
    device = property(lambda self: THERE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0


def there(x: Tensor) -> Tensor:
    """Say that a tensor is on the device."""
    if not isinstance(x, OnDevice) and type(x) in Plain:
        held = isinstance(x, nn.Parameter)
        x.__class__ = OnDevice  # type: ignore[assignment]
        if held:
            setattr(x, "_is_param", True)  # noqa: B010  # by which isinstance knows a parameter
    return x


Generator = torch.Generator


class GeneratorOnDevice(Generator):
    """A generator that says that it is on the device."""

    device = property(lambda self: THERE)  # type: ignore[assignment]


class Operations(TorchDispatchMode):
    """Look at the places of all operands, and put results where the operands are."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors: list[Tensor] = []
        tree_map_only(Tensor, tensors.append, (args, kwargs))
        on = [x for x in tensors if isinstance(x, OnDevice)]
        if not on:
            return func(*args, **kwargs)
        self._look(func, tensors, on, args)
        if func.overloadpacket is aten.native_group_norm_backward:
            args = (*args[:-1], [True, True, True])  # the CPU's dies without the first in channels_last
        found = func(*args, **kwargs)
        tree_map_only(Tensor, there, found)
        return found

    def _look(self, func: Any, tensors: list[Tensor], on: list[Tensor], args: Any) -> None:
        name = str(func.overloadpacket)
        here = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim]
        if here and name not in MIXING:
            shapes = [tuple(x.shape) for x in here]
            raise RuntimeError(f"{func}: tensors of shapes {shapes} are on the CPU, others on {THERE}")
        masks = name == "aten.index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in SEARCHING or name in READING or masks or (here and name in INDEXING):
            self.device.waits[name] += 1
        if here and name == "aten.copy_":
            self.device.copied(args[1], non_blocking=len(args) > 2 and args[2])


class Functions(TorchFunctionMode):
    """What names a device: functions that make tensors, copies from and to the device."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == SET:  # an object of its own each time
            func(*args, **kwargs)
            return there(args[0]) if isinstance(args[1], OnDevice) else None
        if func == GET:
            found = func(*args, **kwargs)
            return there(found) if isinstance(args[0], OnDevice) else found
        if func is Tensor.pin_memory:
            found = args[0].clone()
            found.pinned = True
            return found
        if func in (Tensor.to, Tensor.cuda, *BACK) and args:
            return self._moved(func, args, kwargs)
        if (place := kwargs.get("device")) is None:
            return func(*args, **kwargs)
        kwargs["device"] = HERE if torch.device(place).type == "cuda" else place
        found = func(*args, **kwargs)
        if torch.device(place).type != "cuda":
            return found
        if isinstance(source := kwargs.get("generator"), torch.Generator):
            assert isinstance(source, GeneratorOnDevice), "a generator of the CPU draws on the device"
        return tree_map_only(Tensor, there, found)

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        x, target = args[0], args[0].device
        if func in BACK:
            target = HERE
            if func is Tensor.numpy and isinstance(x, OnDevice):
                raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
        elif func is Tensor.cuda:
            target, func, args = THERE, Tensor.to, (x,)
        else:
            named = next((a for a in args[1:] if isinstance(a, str | torch.device)), kwargs.get("device"))
            other = next((a for a in args[1:] if isinstance(a, Tensor)), kwargs.get("other"))
            named = other.device if other is not None else named
            target = target if named is None else torch.device(named)
            args = (x, *map(_replaced, args[1:]))
            kwargs = {name: _replaced(a) for name, a in kwargs.items()}
        on, goes = isinstance(x, OnDevice), target.type == "cuda"
        found = func(*args, **kwargs)
        if on == goes:
            return there(found) if on and isinstance(found, Tensor) else found
        if on:
            self.device.waits[f"{func.__name__} to the CPU"] += 1
        else:
            self.device.copied(x, non_blocking=bool(kwargs.get("non_blocking")))
        if not isinstance(found, Tensor):
            return found
        found = found.clone() if found is x or found.untyped_storage().data_ptr() else found
        return there(found) if goes else _back(found)


def _replaced(given: Any) -> Any:
    if isinstance(given, Tensor):
        return given.dtype
    if isinstance(given, torch.device) or (isinstance(given, str) and given.split(":")[0] in ("cuda", "cpu")):
        return HERE
    return given


def _back(x: Tensor) -> Tensor:
    if isinstance(x, OnDevice):
        x.__class__ = Tensor
    return x


class Device:
    """What the device was asked.

    Attributes:
        waits: how often the host waited, by operation.
        unpinned: copies from the host that were not both pinned and non-blocking.
        copies: all copies from the host.
        synchronised: calls of `torch.cuda.synchronize`.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.unpinned = self.copies = self.synchronised = 0

    def copied(self, x: Any, *, non_blocking: bool) -> None:
        self.copies += 1
        self.unpinned += not (non_blocking and getattr(x, "pinned", False))

    def forget(self) -> None:
        """Count from 0 again."""
        self.waits.clear()
        self.unpinned = self.copies = self.synchronised = 0

    def generator(self, device: Any = "cpu") -> torch.Generator:
        if torch.device(device).type == "cuda":
            return GeneratorOnDevice()
        return Generator()

    def synchronize(self, device: Any = None) -> None:
        self.synchronised += 1


@contextmanager
def emulated() -> Iterator[Device]:
    """Let torch see one CUDA device for a block."""
    import_module(COMPILER)  # which modes would follow, when the first function with a generator loads it
    device = Device()
    patches: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "emulated",
        "synchronize": device.synchronize,
        "device": lambda where: nullcontext(),
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }
    with ExitStack() as stack:
        for name, patch in patches.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, patch))
        stack.enter_context(mock.patch.object(torch, "Generator", _generators(device)))
        stack.enter_context(Operations(device))
        stack.enter_context(Functions(device))
        yield device


def _generators(device: Device) -> type:
    """Return `torch.Generator` with a device; its instances are those of torch."""

    class Kind(type):
        def __instancecheck__(cls, item: Any) -> bool:
            return isinstance(item, Generator)

    class Made(metaclass=Kind):
        def __new__(cls, where: Any = "cpu") -> Any:
            return device.generator(where)

    return Made
