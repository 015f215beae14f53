"""A copy of a network and of what trains it, which takes real steps while the originals stay as they are."""

from __future__ import annotations

import copy
import gc
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torch_experiments.certificates.oracle import checkpointed, left_alone
from torch_experiments.diagnostics.losses import default_loss
from torch_experiments.support.duplicates import computed
from torch_experiments.support.precision import as_given, reduced
from torch_experiments.support.torch_private import MODULE_HOOKS, STEP_HOOKS
from torch_experiments.units.inputs import Inputs, call, finite, flatten, normal

SEED = 0
DEPTH = 6  # of what a hook holds: a function, its cell, an object, its attributes, one of these, and its attributes


class TrainingCopy:
    """A copy of the network and of what trains it."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, schedulers: Sequence[Any], inputs: Inputs, loss: Any
    ) -> None:
        waiting = [p.grad for p in model.parameters()]
        self.model, self.optimizer, self.schedulers, notes = copied(model, optimizer, schedulers)
        own = {p for group in self.optimizer.param_groups for p in group["params"]}
        if not own & set(self.model.parameters()):
            raise ValueError("optimizer: it holds no parameter of the model; build it from model.parameters()")
        for p, grad in zip(self.model.parameters(), waiting, strict=True):
            p.grad = None if grad is None else grad.clone()
        self.inputs, self.loss = normal(inputs), loss
        self.waits = any(grad is not None and bool(grad.any()) for grad in waiting)
        self.notes = (*notes, *["gradients that waited in .grad are part of the first step"] * self.waits)
        need = inspect.signature(self.optimizer.step).parameters.get("closure")
        self.closes = need is not None and need.default is inspect.Parameter.empty
        self.known: Mapping[str, Tensor] = {}

    def begin_with(self, gradients: Mapping[str, Tensor]) -> None:
        """Let the first step take gradients that are known already, by parameter, and run no pass of its own.

        They have to be those of the loss at the weights of now. Where a step needs more than they tell, it runs as
        ever: a rule that evaluates the loss itself, sparse gradients, buffers, which a forward pass may change, and
        training in TF32, in which the known gradients are not.
        """
        with as_given():
            rounded = reduced() and any(p.is_cuda for p in self.model.parameters())
        sparse = any(getattr(module, "sparse", False) for module in self.model.modules())
        if not (self.closes or sparse or rounded or next(self.model.buffers(), None) is not None):
            self.known = gradients

    def value(self) -> float:
        """Return the loss now."""
        with left_alone(self.model), torch.no_grad():
            return float(self.loss(call(self.model, self.inputs)))

    @as_given()
    def step(self) -> bool:
        """Take one step as a training loop would, gradients that wait counted; return whether all stayed finite.

        Afterwards the parameters have the gradients of where the step began, also where a rule evaluates the loss
        at several places in one step.
        """
        if self.closes:
            began: list[Tensor | None] = []
            self.optimizer.step(partial(self._noted, began))  # type: ignore[arg-type]  # torch's own return tensors
            for p, grad in zip(self.model.parameters(), began, strict=False):
                p.grad = grad
        else:
            if self.known:
                self._take_known()
            else:
                self._closure()
            self.optimizer.step()
        with warnings.catch_warnings(action="ignore"):  # torch sees that the copied step is not wrapped
            for scheduler in self.schedulers:
                scheduler.step()
        return finite([(p, p.grad) for p in self.model.parameters()])

    def _take_known(self) -> None:
        self._clear()
        for name, p in self.model.named_parameters():
            if name in self.known:
                # in the strides of the parameter, as backward() leaves it: others may be summed in another order
                own = torch.empty_like(p).copy_(self.known[name])
                p.grad = own if p.grad is None else p.grad + own
        self.known = {}

    def _noted(self, began: list[Tensor | None]) -> Tensor:
        """Evaluate the loss and its gradients; note these in a list that is empty."""
        value = self._closure()
        if not began:
            began += [None if p.grad is None else p.grad.clone() for p in self.model.parameters()]
        return value

    def _clear(self) -> None:
        """Drop the gradients but those that wait before the first step."""
        if not self.waits:
            self.optimizer.zero_grad()
            for p in self.model.parameters():
                p.grad = None
        self.waits = False

    def _closure(self) -> Tensor:
        self._clear()
        with torch.inference_mode(False), torch.enable_grad():
            value = self.loss(call(self.model, self.inputs))
            self._backward(value)
        return value.detach()

    def _backward(self, value: Tensor) -> None:
        """Add the gradients of the copy's parameters alone: a loss may read the weights of the original as well."""
        own = [p for p in self.model.parameters() if p.requires_grad]
        value.backward(inputs=None if checkpointed(value) else own)


def copied(
    model: nn.Module, optimizer: Optimizer, schedulers: Sequence[Any] = ()
) -> tuple[nn.Module, Optimizer, list[Any], list[str]]:
    """Return copies of a network, its optimizer and its schedulers that belong together, and what was left out.

    `copy.deepcopy` of an optimizer keeps its state and groups and drops all else (hooks, the parameter list of
    LBFGS), so its attributes are copied one by one. A hook that holds the original network or optimizer in its
    closure would act on the original: it is left out, and named.

    Raises:
        ValueError: for a network that cannot be copied; it says why.
    """
    twin: Optimizer = object.__new__(type(optimizer))
    given = dict(vars(optimizer))
    if getattr(given.get("step"), "_wrapped_by_lr_sched", False):
        del given["step"]  # the scheduler's wrapper steps the original
    originals = {id(model), id(optimizer), *map(id, model.parameters()), *map(id, model.modules())}
    patched = given.get("step")
    if isinstance(patched, FunctionType) and _holds(patched, originals):
        raise ValueError(
            "optimizer: its step was replaced by a function that holds the original, so a copy would train the "
            "original; give the optimizer as it was made"
        )
    notes: list[str] = []
    for name in STEP_HOOKS:
        given[name] = _free_hooks(given.get(name, {}), originals, notes)
    memory = {id(optimizer): twin, **computed(model)}
    try:
        made, attributes, plans = copy.deepcopy((model, given, list(schedulers)), memory)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"model: it cannot be copied ({error}); an audit trains a copy, so make tensors that are no leaves "
            "anew in forward, and leave open files and locks out of the model and its hooks"
        ) from error
    vars(twin).update(attributes)
    for module in made.modules():
        for name in MODULE_HOOKS:
            setattr(module, name, _free_hooks(getattr(module, name), originals, notes))
    return made, twin, plans, notes


def _free_hooks(hooks: Mapping[int, Any], originals: set[int], notes: list[str]) -> Any:
    """Return the hooks whose closures hold none of the originals; note the others."""
    kept: OrderedDict[int, Any] = OrderedDict()
    for key, hook in hooks.items():
        if _holds(hook, originals):
            name = getattr(hook, "__qualname__", hook)
            notes.append(f"the hook {name} holds the network itself, so it did not run")
        else:
            kept[key] = hook
    return kept


def _holds(thing: Any, originals: set[int]) -> bool:
    """Return whether one of the originals is within reach of a hook: closure, default, bound object, attribute."""
    todo, seen = [(thing, 0)], {id(thing)}
    while todo:
        found, depth = todo.pop()
        for part in _parts(found) if depth < DEPTH else ():
            if id(part) in originals:
                return True
            if id(part) not in seen and not isinstance(part, type | ModuleType | Tensor):
                seen.add(id(part))
                todo.append((part, depth + 1))
    return False


def _parts(thing: Any) -> Iterator[Any]:
    """Yield what an object holds; of a function not the globals, through which everything can be reached."""
    if not isinstance(thing, FunctionType):
        yield from gc.get_referents(thing)
        return
    for cell in thing.__closure__ or ():
        with suppress(ValueError):  # a cell that is still empty
            yield cell.cell_contents
    yield from thing.__defaults__ or ()
    yield from (thing.__kwdefaults__ or {}).values()


def of_output(targets: Tensor | None, loss: Callable[[Any], Tensor] | None) -> Callable[[Any], Tensor] | None:
    """Return the loss of an output: that which is given, else the one that fits the targets; None without both."""
    if loss is not None or targets is None:
        return loss

    def mean_loss(output: Any) -> Tensor:
        value = default_loss(output, targets)
        assert value is not None  # targets were given
        return value

    return mean_loss


def descended(
    model: nn.Module, inputs: Inputs, targets: Tensor | None, loss: Callable[[Any], Tensor] | None
) -> tuple[Callable[[Any], Tensor], str]:
    """Return what a copy descends, as a function of the model's output, and its name.

    Without a loss and targets it is the squared distance to random outputs.

    >>> descended(nn.Linear(2, 1), torch.ones(1, 2), None, None)[1]
    'random outputs'
    """
    measured = of_output(targets, loss)
    if measured is not None:
        return measured, "the loss" if loss is not None else "the targets"
    with left_alone(model), torch.no_grad():
        shapes = [y for y in flatten(call(model, normal(inputs))) if y.is_floating_point()]
    generator = torch.Generator().manual_seed(SEED)
    goals = [torch.randn(y.shape, generator=generator).to(y) for y in shapes]

    def distance(output: Any) -> Tensor:
        outputs = [y for y in flatten(output) if y.is_floating_point()]
        return torch.stack([(y - goal).square().mean() for y, goal in zip(outputs, goals, strict=True)]).sum()

    return distance, "random outputs"
