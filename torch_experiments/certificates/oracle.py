"""The oracle: which entries of the parameters a real backward pass reaches.

A trace knows operations; the oracle runs the network. It makes real forward and backward passes in the mode, the
dtype and the context (autocast, hooks, custom functions) in which the network is handed over, with the user's loss
or with random cotangents ``v`` of the outputs, ``g = ∂⟨v, f(x)⟩/∂θ``. An entry is *reached* when ``g ≠ 0`` in one
of the passes. What no pass reaches has to be explained: by a certificate, or by a line of
`torch_experiments.certificates.unreached`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.support.torch_private import DropoutNd, TorchDispatchMode, accumulate_hooks, backward_hooks
from torch_experiments.units.inputs import Inputs, call, finite, flatten, normal

Loss = Callable[[Any], Tensor]
COTANGENTS = 2  # a gradient that vanishes for one random cotangent by chance does not for another
KEPT = 2**28  # bytes of gradients that are kept; those of a larger network are computed again where they are needed
DRAWS = 3  # forward passes of a network that draws random numbers (dropout): a unit is dropped in one, not in all

CHECKPOINTS = ("CheckpointFunction",)
ACTING = "a backward pass through its reentrant checkpoint would run the hooks (an optimizer, say) of"


@dataclass(frozen=True, eq=False)
class Reach:
    """What real backward passes reached.

    Attributes:
        masks: by trained parameter, whether some pass gave the entry a gradient, bool.
        stopped: the trained parameters to which no backward pass leads at all (detached, or not read).
        gradients: of the first pass, by parameter, with a loss; those without one are left out.
        passes: what was run, in words.
        custom: why the backward pass is not that of the operations (hooks, custom functions), empty if it is.
        refused: why no backward pass could be run; empty if one was.
        overflow: the parameters whose gradient holds NaN or infinity in some pass.
        of_loss: whether the gradients are those of a loss, and not of random cotangents.
        again: runs the first pass again, for some of the parameters.
    """

    masks: Mapping[str, Tensor]
    stopped: frozenset[str]
    gradients: Mapping[str, Tensor]
    passes: str
    custom: str = ""
    refused: str = ""
    overflow: tuple[str, ...] = ()
    of_loss: bool = False
    again: Callable[[Collection[str]], Mapping[str, Tensor]] | None = None

    def gradients_of(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return the gradients of the first pass, which runs again if they were not kept."""
        found = self.gradients
        if names and not found and self.again is not None:
            found = self.again(names)
        return {name: found[name] for name in names if name in found}


def reach(model: nn.Module, inputs: Inputs, loss: Loss | None = None) -> Reach:
    """Return which entries of the trained parameters of ``model`` get a gradient on ``inputs``.

    One forward pass and ``COTANGENTS`` backward passes (with a loss one), the later ones for parameters with
    entries that the first did not reach; where the forward pass draws random numbers ``DRAWS`` times as much.
    Buffers, random state, modes and ``.grad`` stay as they are.

    Args:
        model: as it trains: its own mode, hooks and dtype; the autocast of the caller is in force.
        inputs: as in `trace`.
        loss: of the output; random cotangents of all floating-point outputs if None.

    >>> import torch; from torch import nn
    >>> net = nn.Linear(3, 2)
    >>> int(reach(net, torch.tensor([[1.0, 2.0, 0.0]])).masks["weight"].sum())
    4
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        return Reach({}, frozenset(), {}, "none", refused="no parameter is trained")
    acting = [name for name, p in trained.items() if accumulate_hooks(p)]
    met: set[str] = set()
    beyond: set[str] = set()
    kept: dict[str, Tensor] = {}
    keep = loss is not None or sum(p.numel() * p.element_size() for p in trained.values()) <= KEPT
    with torch.inference_mode(False), torch.enable_grad(), left_alone(model):
        masks = {name: _everywhere(p, False) for name, p in trained.items()}
        left = dict(trained)

        def note(name: str, gradient: Tensor) -> None:
            met.add(name)
            masks[name] = masks[name] | gradient.bool()  # other than zero; `!=` takes nearly twice as long
            beyond.update(() if finite(gradient) else (name,))
            if first and keep:
                kept[name] = gradient
            if bool(masks[name].all()):
                masks[name] = _everywhere(trained[name], True)
                left.pop(name, None)

        seeds, first = range(DRAWS if draws(model) else 1), True
        for seed in seeds:
            scalars = _scalars(model, inputs, loss, seed)
            if not scalars:
                return Reach(masks, frozenset(trained), {}, "none", refused="its output carries no gradient")
            custom = _custom(model, scalars)
            if acting and checkpointed(scalars[0]):
                return Reach(masks, frozenset(), {}, "none", refused=f"{ACTING} {', '.join(acting)}")
            while scalars and left:
                _sweep(scalars.pop(0), dict(left), note, every=trained.values(), again=bool(scalars))
                first = first and not met
    what = "the loss" if loss is not None else f"{COTANGENTS} random cotangents"
    words = f"{len(seeds)} forward passes, {what}" if len(seeds) > 1 else f"one forward pass, {what}"
    overflow = tuple(name for name in trained if name in beyond)
    stopped = frozenset(trained.keys() - met)
    again = None if keep else functools.partial(_first_pass, model, inputs)
    return Reach(masks, stopped, kept, words, custom, "", overflow, loss is not None, again)


def _first_pass(model: nn.Module, inputs: Inputs, names: Collection[str]) -> dict[str, Tensor]:
    """Return the gradients of some parameters for the first random cotangent."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    wanted = {name: p for name, p in trained.items() if name in names}
    found: dict[str, Tensor] = {}
    with torch.inference_mode(False), torch.enable_grad(), left_alone(model):
        scalars = _scalars(model, inputs, None, 0)
        if scalars and wanted:
            _sweep(scalars[0], wanted, found.__setitem__, every=trained.values(), again=False)
    return found


def _scalars(model: nn.Module, inputs: Inputs, loss: Loss | None, seed: int) -> list[Tensor]:
    """Return what is differentiated: the loss, or random cotangents of the outputs; none without a graph."""
    output = call(model, normal(inputs))
    scalars = [loss(output)] if loss is not None else _cotangents(output, seed)
    return [value for value in scalars if value.requires_grad]


def _everywhere(p: Tensor, answer: bool) -> Tensor:
    """Return one answer for all entries of a parameter, in the memory of one."""
    return torch.full((), answer, device=p.device).expand(p.shape)


class _Arguments(TorchDispatchMode):
    """The ids of the tensors that operations get."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; note what it got."""
        self.met |= {id(tensor) for tensor in flatten([args, kwargs or {}])}
        return func(*args, **(kwargs or {}))


def unread_outputs(model: nn.Module, inputs: Inputs, loss: Loss | None) -> frozenset[int]:
    """Return the places, among the tensors of the output, of those that ``loss`` does not read.

    None where there is no loss, or one output. One forward pass and the loss; the model stays as it is.

    >>> pair = nn.LSTM(2, 3)  # returns the outputs, and the last state and cell
    >>> sorted(unread_outputs(pair, torch.ones(4, 1, 2), lambda output: output[0].sum()))
    [1, 2]
    """
    if loss is None:
        return frozenset()
    with torch.no_grad(), left_alone(model):
        output = call(model, inputs)
        tensors = list(flatten(output))
        if len(tensors) < 2:
            return frozenset()
        with _Arguments() as reads:
            value = loss(output)
    read = {place for place, tensor in enumerate(tensors) if id(tensor) in reads.met or tensor is value}
    return frozenset(range(len(tensors))) - read if read else frozenset()


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of ``model`` (running statistics, counters) and the random state of its devices."""
    kept = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    devices = {t.device.index for t in model.parameters() if t.is_cuda}
    try:
        with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in kept and buffer.shape == kept[name].shape:
                    buffer.copy_(kept[name])


def draws(model: nn.Module) -> bool:
    """Return whether a module of ``model`` draws random numbers in its mode: dropout and random leaky ReLU."""
    kinds = (DropoutNd, nn.RReLU)
    shares = (getattr(m, "p", 1) for m in model.modules() if m.training and isinstance(m, kinds))
    recurrent = any(m.training and getattr(m, "dropout", 0) for m in model.modules() if isinstance(m, nn.RNNBase))
    attention = any(m.training and m.dropout for m in model.modules() if isinstance(m, nn.MultiheadAttention))
    return any(share > 0 for share in shares) or recurrent or attention


def _cotangents(output: Any, seed: int) -> list[Tensor]:
    """Return ``⟨v, output⟩`` for random ``v``, summed in float64, so that low precision does not overflow."""
    outputs = [y for y in flatten(output) if y.is_floating_point() and y.requires_grad]
    found = []
    for k in range(COTANGENTS if outputs else 0):
        generator = torch.Generator().manual_seed(1000 * seed + k)
        parts = (y.float() if y.dtype in (torch.float16, torch.bfloat16) else y for y in outputs)
        terms = ((y * torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)).sum() for y in parts)
        found.append(torch.stack([term.double() for term in terms]).sum())
    return found


def _sweep(
    value: Tensor,
    trained: Mapping[str, Tensor],
    note: Callable[[str, Tensor], None],
    *,
    every: Collection[Tensor],
    again: bool,
) -> None:
    """Hand every gradient to ``note`` as soon as autograd has it, without writing ``.grad``.

    Hooks give zeros in the memory of one number in its place, so that never all gradients are there at once, unless
    they are kept. ``every`` are the parameters that a backward pass writes to. The graph stays for one ``again``.
    """
    noted: set[str] = set()

    def hook(name: str) -> Callable[[Tensor], Tensor | None]:
        def take(gradient: Tensor) -> Tensor | None:
            if type(gradient) is not Tensor or gradient.layout is not torch.strided:
                return None
            noted.add(name)
            note(name, gradient)
            return gradient.new_zeros(()).expand(gradient.shape)

        return take

    parameters = list(trained.values())
    found: tuple[Tensor | None, ...]
    if checkpointed(value):  # hooks would see the gradients of each region by themselves
        found = _by_backward(value, parameters, every)
    else:
        handles = [p.register_hook(hook(name)) for name, p in trained.items()]
        try:
            found = torch.autograd.grad(value, parameters, retain_graph=again, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
    for name, gradient in zip(trained, found, strict=True):
        if gradient is not None and name not in noted:
            note(name, gradient.to_dense() if gradient.is_sparse else gradient)


def checkpointed(value: Tensor) -> bool:
    """Return whether a reentrant checkpoint lies on the way back, which takes ``backward()`` of all alone.

    >>> checkpointed(torch.ones(2, requires_grad=True).sum())
    False
    """
    return any(_kind(node) in CHECKPOINTS for node in _nodes([value]))


def _by_backward(
    value: Tensor, parameters: Sequence[Tensor], every: Collection[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``value.backward()``; ``.grad`` is as before."""
    kept = [p.grad for p in every]
    for p in every:
        p.grad = None
    try:
        value.backward(retain_graph=True)
        return tuple(p.grad for p in parameters)
    finally:
        for p, grad in zip(every, kept, strict=True):
            p.grad = grad


def _custom(model: nn.Module, scalars: Sequence[Tensor]) -> str:
    """Return what makes the backward pass another one than that of the operations."""
    hooked = [name for name, m in model.named_modules() if backward_hooks(m)]
    if hooked:
        return f"a backward hook on {', '.join(name or 'the network' for name in hooked)}"
    for node in _nodes(scalars):
        if isinstance(node, torch.autograd.function.BackwardCFunction) and _kind(node) not in CHECKPOINTS:
            return f"the backward pass of {_kind(node)}, a torch.autograd.Function, is its own"
    return ""


def _nodes(values: Sequence[Tensor]) -> Iterator[Any]:
    """Yield the nodes of the graph of autograd behind some tensors."""
    seen: set[Any] = set()
    todo = [value.grad_fn for value in values]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        todo += [following for following, _ in node.next_functions]


def _kind(node: Any) -> str:
    return type(node).__name__.removesuffix("Backward")
