"""A network from the outside: a factory named on the command line, a checkpoint of tensors, a batch, an optimizer.

Checkpoints are read as tensors alone, safetensors or ``torch.load(weights_only=True)``: a file that would run code
when it is read is refused.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from torch_experiments.support.choices import choose

NESTED = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
TELLING = {"betas", "momentum", "rho", "alpha", "etas", "lambd"}  # settings by which kinds of optimizers differ
SAVED = (b"PK", b"\x80")  # how files of torch.save begin: as a zip archive, and of old releases as a pickle
OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optim")
PIECE = 1 << 24  # bytes of an archive that are checked at once
LISTED = 5  # names that a message lists before it counts the others


class Batch(NamedTuple):
    """Inputs, a tensor or a mapping of keyword arguments, and targets where the file has some."""

    inputs: Any
    targets: Tensor | None = None


def build(target: str, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """Return the network that ``module:name`` stands for: a module, or a function that returns one.

    The current folder can be imported from.

    Args:
        target: such as ``"my_package.models:make"``.
        settings: keyword arguments of the function.

    Raises:
        ValueError: for a target without a colon, a module that cannot be found, a name that it does not have,
            settings that do not fit, or something that is no ``nn.Module``.

    >>> build("torch.nn:Linear", {"in_features": 2, "out_features": 1})
    Linear(in_features=2, out_features=1, bias=True)
    """
    path, colon, name = target.partition(":")
    if not (path and colon and name):
        raise ValueError(f"model: got {target!r}; write module:function, such as my_package.models:make")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = _attribute(_imported(path), name, target)
    if isinstance(found, nn.Module):
        return found
    model = _called(found, dict(settings or {}), target)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: {target} returned {type(model).__name__}; it has to return an nn.Module")
    return model


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Return what a checkpoint holds: tensors by name, possibly nested with an optimizer's state.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for a file that is damaged, or that would run code when it is read.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {file}")
    if file.suffix == ".safetensors":
        return _safetensors("checkpoint", file)
    with file.open("rb") as stream:
        if not (start := stream.read(8)).startswith(SAVED):
            raise ValueError(f"checkpoint: {file} is damaged or no checkpoint of torch: it begins with {start!r}")
    try:
        _check_sums(file)
        with warnings.catch_warnings(action="ignore"):  # of old protocols; what matters is raised
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind, where a pickle breaks off or does not fit
        if isinstance(error, pickle.UnpicklingError):
            whole = zipfile.is_zipfile(file)  # its sums are right; a bare pickle has none
            raise ValueError(
                f"checkpoint: {file} {'' if whole else 'is damaged or no checkpoint of torch, or it '}holds Python "
                "objects, not only tensors; reading them could run code, so it is refused. Save model.state_dict() "
                "with safetensors.torch.save_file, where you trust the file"
            ) from error
        raise ValueError(
            f"checkpoint: {file} is damaged or no checkpoint of torch ({_first_line(error)})"
        ) from error
    if not isinstance(found, Mapping):
        raise ValueError(f"checkpoint: {file} holds a {type(found).__name__}; save a state dict, names to tensors")
    return dict(found)


def load_weights(model: nn.Module, file: str | Path) -> None:
    """Load a checkpoint into ``model``; every key and shape has to fit.

    Weights may stand under ``"state_dict"``, ``"model_state_dict"`` or ``"model"``, and names may begin with what
    DistributedDataParallel and torch.compile put there. A file of a larger module that holds the network, such as a
    LightningModule, may be given too: what is read stands under the one prefix where all names of the network do.
    A tied tensor has several names; a file that holds one of them (as Hugging Face writes it) holds them all.

    Raises:
        ValueError: naming the keys that are missing, unknown, or of another shape, and as `read_checkpoint`.
    """
    found = read_checkpoint(file)
    found = next((found[key] for key in NESTED if isinstance(found.get(key), Mapping)), found)
    found = {str(name): value for name, value in found.items()}
    own = model.state_dict()
    for prefix in WRAPPERS:
        if not any(name.startswith(prefix) for name in own):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    found = _with_tied(own, _of_part(own, found, file))
    wrong = [
        f"{name}: {_kind(found[name])} in the file, {_kind(own[name])} in the model"
        for name in own
        if name in found and _kind(found[name]) != _kind(own[name])
    ]
    faults = {
        "missing in the file": [name for name in own if name not in found],
        "unknown to the model": [name for name in found if name not in own],
        "of another shape": wrong,
    }
    if any(faults.values()):
        said = "; ".join(f"{what}: {_listed(names)}" for what, names in faults.items() if names)
        sizes = ". Make the network in the sizes of the file, such as by --settings" if wrong else ""
        raise ValueError(f"checkpoint: {file} does not fit {type(model).__name__}: {said}{_nested(found)}{sizes}")
    model.load_state_dict(found)


def make_optimizer(
    model: nn.Module, name: str, settings: Mapping[str, Any], checkpoint: str | Path | None
) -> Optimizer:
    """Return an optimizer of ``torch.optim`` by its name in small letters, with its state if the checkpoint has it.

    Raises:
        ValueError: for an unknown name or setting, or a state that does not fit.

    >>> make_optimizer(nn.Linear(1, 1), "sgd", {"lr": 0.1}, None).param_groups[0]["lr"]
    0.1
    """
    kinds = {kind.__name__.lower(): kind for kind in shipped()}
    kind = choose("optimizer", name.lower(), kinds)
    try:
        made = kind([p for p in model.parameters() if p.requires_grad], **settings)
    except (TypeError, ValueError) as error:
        known = ", ".join(list(inspect.signature(kind).parameters)[1:])
        given = json.dumps(dict(settings))
        raise ValueError(
            f"optimizer: {name} cannot be made with {given} ({error}); its settings are {known}"
        ) from error
    found = {} if checkpoint is None or Path(checkpoint).suffix == ".safetensors" else read_checkpoint(checkpoint)
    state = _optimizer_state(found, checkpoint)
    if state is not None:
        _check_kind(made, state, f"optimizer: its state in {checkpoint} is of another kind than {name}")
        try:
            made.load_state_dict(dict(state))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"optimizer: its state in {checkpoint} does not fit {name}: {error}") from error
    return made


def _optimizer_state(found: Mapping[str, Any], checkpoint: str | Path | None) -> Mapping[str, Any] | None:
    """Return the state of the optimizer in a checkpoint, None if it has none; Lightning has one an optimizer."""
    several = found.get("optimizer_states")
    several = several if isinstance(several, Sequence) else []
    if len(several) > 1:
        raise ValueError(
            f"optimizer: {checkpoint} holds the states of {len(several)} optimizers; save the one that is meant as "
            '"optimizer", beside the weights'
        )
    states = (*several, *(found.get(key) for key in OPTIMIZERS))
    return next((state for state in states if isinstance(state, Mapping)), None)


def random_batch(
    model: nn.Module,
    shape: Sequence[int],
    samples: int,
    *,
    tokens: int | None = None,
    box: tuple[float, float] | None = None,
    seed: int = 0,
) -> Batch:
    """Return inputs ``[samples, *shape]`` in the model's dtype: Gaussian, uniform in a box, or tokens.

    Raises:
        ValueError: for sizes or tokens below one, or an empty box.

    >>> random_batch(nn.Linear(3, 1), (3,), 2, box=(0, 1)).inputs.shape
    torch.Size([2, 3])
    """
    if samples < 1 or any(n < 1 for n in shape):
        raise ValueError(f"input: got {samples} samples of shape {tuple(shape)}; every size has to be 1 or more")
    if tokens is not None and tokens < 1:
        raise ValueError(f"tokens: got {tokens}; it has to be at least 1")
    if box is not None and not box[0] < box[1]:
        raise ValueError(f"box: got {box[0]} to {box[1]}; the lower bound comes first")
    source = torch.Generator().manual_seed(seed)
    if tokens is not None:
        return Batch(torch.randint(tokens, (samples, *shape), generator=source))
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    if box is not None:
        return Batch(torch.empty(samples, *shape).uniform_(*box, generator=source).to(first))
    return Batch(torch.randn((samples, *shape), generator=source).to(first))


def read_batch(file: str | Path, model: nn.Module) -> Batch:
    """Return the tensors ``inputs`` and ``targets`` of a ``.safetensors`` file, or inputs from a ``.npy`` array.

    Without ``inputs`` the tensors are the arguments of the network, if each has the name of one.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for a file without ``inputs``, or of another kind.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"batch: there is no file {file}")
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    if file.suffix == ".npy":
        return Batch(_as(_array(file), first))
    if file.suffix != ".safetensors":
        raise ValueError(f"batch: got {file.name}; it has to be .safetensors with inputs and targets, or .npy")
    found = _safetensors("batch", file)
    if "inputs" in found:
        return Batch(_as(found["inputs"], first), found.get("targets"))
    arguments = {name: _as(tensor, first) for name, tensor in found.items() if name != "targets"}
    if arguments and arguments.keys() <= inspect.signature(model.forward).parameters.keys():
        return Batch(arguments, found.get("targets"))
    raise ValueError(
        f"batch: {file} holds {_listed(list(found))}; it has to hold 'inputs', or the network's "
        "arguments by their names, and may 'targets': write it "
        'with safetensors.torch.save_file({"inputs": x, "targets": y}, file)'
    )


def _of_part(own: Mapping[str, Tensor], found: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """Return what stands under the one prefix where all names of ``own`` do; ``found`` if there is none."""
    if any(name in found for name in own):
        return found
    ends = {name.removesuffix(last) for last in own for name in found if name.endswith(f".{last}")}
    parts = {end: {name: found[end + name] for name in own if end + name in found} for end in sorted(ends)}
    whole = {end: part for end, part in parts.items() if _with_tied(own, part).keys() == own.keys()}
    if len(whole) > 1:
        raise ValueError(
            f"checkpoint: {file} holds the network several times, under {_listed(list(whole))}; save the one that "
            "is meant, as its state_dict()"
        )
    return next(iter(whole.values()), found)


def _with_tied(own: Mapping[str, Tensor], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``found`` with the missing names of tensors of ``own`` that it holds under another name."""
    held = {_place(own[name]): value for name, value in found.items() if name in own and own[name].numel()}
    tied = {name: held[_place(t)] for name, t in own.items() if name not in found and _place(t) in held}
    return {**found, **tied}


def _nested(found: Mapping[str, Any]) -> str:
    inside = [name for name, value in found.items() if isinstance(value, Mapping)]
    return f". Weights are looked for at the top, or under {_listed(NESTED)}" if inside else ""


def _check_kind(made: Optimizer, state: Mapping[str, Any], said: str) -> None:
    """Refuse the settings of another optimizer, which would silently take the place of its own."""
    own, groups = TELLING & made.param_groups[0].keys(), state.get("param_groups", ())
    if not isinstance(groups, Sequence) or not all(isinstance(group, Mapping) for group in groups):
        raise ValueError(f"{said}: it has no list of param_groups; give the file that torch.save wrote of it")
    for group in groups:
        if TELLING & group.keys() != own:
            has = ", ".join(sorted(TELLING & group.keys())) or "none of these"
            raise ValueError(f"{said}: it has the settings {has}; name the optimizer that wrote it")


def _place(t: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    return t.data_ptr(), t.shape, t.stride()


def _as(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like) if x.is_floating_point() else x


def _array(file: Path) -> Tensor:
    try:
        with file.open("rb") as stream:  # NumPy leaves a broken archive open
            return torch.from_numpy(np.load(stream, allow_pickle=False))
    except Exception as error:  # whatever NumPy and zip raise for a damaged file
        raise ValueError(
            f"batch: {file} is damaged, or no array of numbers in NumPy's format; write it with numpy.save"
        ) from error


def _safetensors(argument: str, file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{argument}: {file} is damaged or no safetensors file ({error})") from error


def _check_sums(file: Path) -> None:
    """Check the sums of an archive's members: `torch.load` does not. Zero stands where none was computed.

    Raises:
        zipfile.BadZipFile: one of them is wrong.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                while member.CRC and stream.read(PIECE):
                    pass


def _kind(value: Any) -> str:
    """Return the shape of a tensor; a sparse, complex or packed one is another kind, as all that is no tensor."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    words = [f"{tuple(value.shape)}"]
    words += [str(value.layout)] * (value.layout != torch.strided) + ["complex"] * value.is_complex()
    return " ".join(words)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _imported(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ValueError(f"model: cannot import {path!r} ({error}); run from its folder, or install it") from error
    except Exception as error:  # whatever the file does
        raise ValueError(f"model: importing {path!r} raised {type(error).__name__}: {error}") from error


def _attribute(module: Any, name: str, target: str) -> Any:
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ValueError(f"model: {target}: the module has no {name!r}; it has {_listed(public)}")
    return getattr(module, name)


def _called(make: Callable[..., Any], settings: dict[str, Any], target: str) -> Any:
    if not callable(make):
        raise ValueError(
            f"model: {target} is a {type(make).__name__}; name a function or class that makes the model"
        )
    try:
        inspect.signature(make).bind(**settings)
    except TypeError as error:
        raise ValueError(f"model: {target}: {error}; give its arguments with --settings, as JSON") from error
    try:
        return make(**settings)
    except Exception as error:  # whatever the function does
        raise ValueError(f"model: {target} raised {type(error).__name__}: {error}") from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def shipped() -> list[type[Optimizer]]:
    """Return every optimizer class of ``torch.optim``, found by introspection, sorted by name.

    >>> shipped()[0].__name__
    'ASGD'
    """
    found = (kind for _, kind in inspect.getmembers(torch.optim, inspect.isclass))
    return [kind for kind in found if issubclass(kind, Optimizer) and kind is not Optimizer]
