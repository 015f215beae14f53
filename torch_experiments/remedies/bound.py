"""A remedy bound to somebody's model and optimizer: ``step()``, hooks, checkpoints, several processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from torch_experiments.remedies.network import Memory, Network, alone
from torch_experiments.remedies.surgery import Moments
from torch_experiments.units.inputs import Inputs

if TYPE_CHECKING:
    from torch_experiments.remedies.base import Remedy, Touched

COUNTERS = ("steps", "tasks", "applied")


class Bound:
    """A remedy at work on one network.

    In a plain loop call ``step()`` after every step of the optimizer, ``before_step()`` before it where the remedy
    edits gradients, and ``task()`` when a new task begins; or call ``attach()`` once, and the optimizer calls the
    first two.

    Attributes:
        remedy: the settings.  network: what it acts on.  state: what has to survive an interruption.
        steps: of the optimizer so far.  tasks: boundaries so far.  applied: calls of ``apply`` so far.

    >>> from torch_experiments.remedies import L2
    >>> model = nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(model.parameters())
    >>> bound = L2(0.1).on(model, sgd).attach()
    >>> sgd.step()
    >>> bound.steps
    1
    """

    def __init__(self, remedy: Remedy, network: Network, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.remedy, self.network, self.optimizer = remedy, network, optimizer
        self.state = remedy.begin(network)
        self.steps = self.tasks = self.applied = 0
        self._handles: list[RemovableHandle] = remedy.attach(network, self.state)

    def attach(self) -> Bound:
        """Let the optimizer call ``before_step`` and ``step``; return this object.

        Raises:
            ValueError: when it was bound without an optimizer.
        """
        if self.optimizer is None:
            raise ValueError("optimizer: is missing; bind the remedy with remedy.on(model, optimizer)")
        self._handles.append(self.optimizer.register_step_pre_hook(lambda *_: self.before_step()))
        self._handles.append(self.optimizer.register_step_post_hook(lambda *_: self.step()))
        return self

    def before_step(self) -> None:
        """Edit the gradients of the coming step."""
        self.remedy.before_step(self.network, self.state, self.steps)

    def step(self) -> None:
        """Act after a step of the optimizer."""
        self.remedy.after_step(self.network, self.state, self.steps)
        self.steps += 1

    def task(self) -> None:
        """Act at the start of a new task; the first task needs no call."""
        self.tasks += 1
        self.remedy.at_task(self.network, self.state, self.tasks)

    def apply(self) -> Touched:
        """Act now, once, and return the units that were touched by layer."""
        place = self.steps + (self.applied << 32)
        self.applied += 1
        return self.remedy.apply(self.network, self.state, place)

    def remove(self) -> None:
        """Take all hooks off model and optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return counters and state, to be kept with those of model and optimizer."""
        counts = {name: getattr(self, name) for name in COUNTERS}
        return counts | {"state": {name: value.clone() for name, value in self.state.items()}}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where ``saved`` was; tensors go to the devices of the present ones."""
        for name in COUNTERS:
            setattr(self, name, int(saved[name]))
        for name, value in saved["state"].items():
            self.state[name] = value.clone().to(self.state[name].device if name in self.state else value.device)


def bind(
    remedy: Remedy,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    example_inputs: Inputs | None = None,
    probe: Callable[[], Inputs] | None = None,
    loss: Callable[[], Tensor] | None = None,
    fresh: Callable[[int], nn.Module] | None = None,
    seed: int = 0,
    heads: bool = False,
) -> Bound:
    """Return ``remedy`` at work on ``model``, which ``optimizer`` trains.

    Bind before `torch.compile` is first run, since hooks set later may not be seen; a compiled module or one in
    `DistributedDataParallel` may be given. Under the latter what is observed is averaged over the processes, and
    all random numbers come from ``seed``, so that every process changes the same units alike; give all one seed.

    Args:
        model: any module; remedies that act on units need one that can be traced.
        optimizer: any of `torch.optim`.
        example_inputs: as in `units.trace`; may be left out for a chain that starts with a Linear layer.
        probe: returns the inputs on which units are judged dead, ``example_inputs`` if None.
        loss: for controllers, see `Recovery`.
        fresh: returns a newly initialised network for a seed; if None, see `redrawn`.
        seed: of all random numbers.
        heads: whether whole heads and groups of convolutions may be replaced as units.

    Raises:
        ValueError: when the optimizer has none of the model's parameters.
        TraceError, TypeError: as `units.hidden.survey`.

    >>> from torch_experiments.remedies import WeightClipping
    >>> model = nn.Linear(4, 1)
    >>> bind(WeightClipping(), model, torch.optim.SGD(model.parameters())).apply()
    {'weight': [], 'bias': []}
    """
    inner = unwrapped(model)
    _check_trains(optimizer, inner)
    network = Network(
        inner,
        Moments(optimizer),
        Memory(optimizer),
        fresh or (lambda place: redrawn(inner, place)),
        seed,
        example_inputs,
        probe,
        loss,
        mean_over_processes if _is_distributed(model) else alone,
        heads,
    )
    return Bound(remedy, network, optimizer)


def _check_trains(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in known for p in model.parameters()):
        raise ValueError("optimizer: it has none of the parameters of model; build it from model.parameters()")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside of `torch.compile` and `DistributedDataParallel`."""
    while (inner := _inside(model)) is not None:
        model = inner
    return model


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of ``x`` over all processes of the default group."""
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of ``model``, on the CPU, whose modules have drawn their parameters again from ``seed``.

    Modules are asked for ``reset_parameters``, ``_reset_parameters``, or the model for ``_init_weights(module)``
    (Hugging Face). The global generator is left as it was.

    Raises:
        TypeError: for a module with parameters of its own that has neither; it names the module.

    >>> model = nn.Linear(2, 1)
    >>> torch.equal(redrawn(model, 7).weight, redrawn(model, 7).weight)
    True
    """
    other = copy.deepcopy(model).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in other.named_modules():
            _redraw(name, module, getattr(other, "_init_weights", None))
    return other


def _redraw(name: str, module: nn.Module, initialise: Callable[[nn.Module], None] | None) -> None:
    own = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if initialise is not None:
        initialise(module)
    elif own is not None:
        own()
    elif next(module.parameters(recurse=False), None) is not None:
        raise TypeError(
            f"fresh: {name or 'the model'} ({type(module).__name__}) has parameters and no reset_parameters(); "
            "pass fresh=lambda seed: make_model(seed), which returns a newly initialised network"
        )


def _inside(model: nn.Module) -> nn.Module | None:
    parallel = isinstance(model, DistributedDataParallel | nn.DataParallel)
    found: Any = model.module if parallel else getattr(model, "_orig_mod", None)
    return found


def _is_distributed(model: nn.Module) -> bool:
    inner = _inside(model)
    return isinstance(model, DistributedDataParallel) or (inner is not None and _is_distributed(inner))
