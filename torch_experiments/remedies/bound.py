"""A remedy bound to somebody's model and optimizer: ``step()``, hooks, checkpoints, several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils.hooks import RemovableHandle

from torch_experiments.remedies.attachment import LOOKOUT
from torch_experiments.remedies.moments import JointMemory, Trainers
from torch_experiments.remedies.network import Network, alone
from torch_experiments.remedies.surgery import Attribute, commit, transaction
from torch_experiments.support.duplicates import for_weights, normalising
from torch_experiments.support.steps import Steps, inner
from torch_experiments.units.entry import Callee, calling, inside, prepared, unwrapped
from torch_experiments.units.inputs import Inputs, has_samples

if TYPE_CHECKING:
    from torch_experiments.remedies.base import Remedy, Touched

COUNTERS = ("steps", "tasks", "applied")


class Bound:
    """A remedy at work on one network.

    In a plain loop call ``step()`` after every step of the optimizer, ``before_step()`` before it where the remedy
    edits gradients, and ``task()`` when a new task begins; or call ``attach()`` once, and the optimizer calls the
    first two. What a call writes is written as a whole or not at all, counters too, so one that was interrupted is
    simply repeated (gradients are the loop's, and come from a new backward pass).

    Attributes:
        remedy: the settings.  network: what it acts on.  state: what has to survive an interruption.
        steps: of the optimizer so far.  tasks: boundaries so far.  applied: calls of ``apply`` so far.

    >>> from torch_experiments.remedies import L2
    >>> model = nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(model.parameters())
    >>> bound = L2(0.1).on(model, sgd).attach()
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> sgd.step()
    >>> bound.steps
    1
    """

    def __init__(self, remedy: Remedy, network: Network) -> None:
        self.remedy, self.network = remedy, network
        self.state = remedy.begin(network)
        self.steps = self.tasks = self.applied = 0
        self._watching: list[RemovableHandle] = remedy.attach(network, self.state)
        self._attached: list[RemovableHandle] = []

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Return the optimizers that it was bound to."""
        return () if self.network.trainers is None else self.network.trainers.given

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """Return the first of them, whose steps are counted."""
        return next(iter(self.optimizers), None)

    def attach(self) -> Bound:
        """Let the optimizer call ``before_step`` and ``step``, with or without a closure; return this object.

        Of several optimizers each has the gradients of its own parameters edited before its own step; ``step`` is
        called, and counted, after that of the first, so put first the one that steps last.

        Raises:
            ValueError: when it was bound without an optimizer.
        """
        if not self.optimizers:
            raise ValueError("optimizer: is missing; bind the remedy with remedy.on(model, optimizer)")
        for part, optimizer in enumerate(() if self._attached else self.optimizers):
            edit = partial(self._edit, part) if self.remedy.edits_gradients else None
            self._attached += Steps(edit, None if part else self.step).register(optimizer)
        return self

    def rebind(self, optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer]) -> Bound:
        """Go on with another optimizer of the same model, or others; return this object.

        State and counters stay; hooks move to the new optimizer where there were any on the old one.

        Raises:
            ValueError: when an optimizer has none of the model's parameters.
        """
        trainers, attached = self.network.trainers, bool(self._attached)
        given = _checked(optimizer, self.network.model)
        self.remove()
        if trainers is not None:
            trainers.given = given
            LOOKOUT.add(self)
        self._watching = self.remedy.attach(self.network, self.state)
        return self.attach() if attached else self

    def before_step(self) -> None:
        """Edit the gradients of the coming step, once in every evaluation of them."""
        self._edit(None)

    def step(self) -> None:
        """Act after a step of the optimizer."""
        with transaction():
            self.remedy.after_step(self.network, self.state, self.steps)
            commit([Attribute(self, "steps", self.steps + 1)])
        if self.remedy.watches and not self.network.passes:
            self.network.notices.say(
                "blind",
                f"remedy: {type(self.remedy).__name__} has seen no training pass between two steps, so it judges "
                "units by an older one; call the model itself, in train mode, before every step",
            )
        self.network.passes.clear()

    def task(self) -> None:
        """Act at the start of a new task; the first task needs no call."""
        with transaction():
            self.remedy.at_task(self.network, self.state, self.tasks + 1)
            commit([Attribute(self, "tasks", self.tasks + 1)])

    def apply(self) -> Touched:
        """Act now, once, and return the units that were touched by layer."""
        with transaction():
            touched = self.remedy.apply(self.network, self.state, self.steps + (self.applied << 32))
            commit([Attribute(self, "applied", self.applied + 1)])
        return touched

    def remove(self) -> None:
        """Take all hooks off model and optimizer."""
        for handle in (*self._watching, *self._attached):
            handle.remove()
        self._watching, self._attached = [], []
        LOOKOUT.discard(self)

    def notice(self, optimizer: torch.optim.Optimizer) -> None:
        """Warn, once, when an optimizer that it was not bound to trains parameters of the model."""
        trainers = self.network.trainers
        if trainers is None or not (names := trainers.meet(optimizer)) or self._is_superseded(optimizer):
            return
        named = f"{', '.join(map(repr, names[:3]))}{', …' if len(names) > 3 else ''}"
        self.network.notices.say(
            "stranger",
            f"optimizer: the remedy {type(self.remedy).__name__} was not bound to a {type(optimizer).__name__} "
            f"that trains {named} of its model. Its moments are treated where units are replaced, but hooks and "
            "edits of gradients are those of the optimizer that the remedy was bound to; call "
            "bound.rebind(optimizer) with the new one, or with a list where several train the model",
        )

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

    def _edit(self, part: int | None) -> None:
        """Edit the gradients of one of the optimizers, of all if None."""
        if not self.remedy.edits_gradients:
            return
        with nullcontext() if self.network.trainers is None else self.network.trainers.only(part):
            if any(p.grad is not None for p in self.network.trained().values()):
                self.remedy.before_step(self.network, self.state, self.steps)
                return
        self.network.notices.say(
            "idle",
            f"remedy: {type(self.remedy).__name__} did nothing in step {self.steps}, as no parameter that the "
            "optimizer trains has a gradient; call before_step() after backward(), or attach() the remedy",
        )

    def _is_superseded(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether a remedy of the same kind was bound to the same model and this optimizer since."""
        others = [other for other in LOOKOUT.watchers if isinstance(other, Bound) and other is not self]
        return any(
            type(other.remedy) is type(self.remedy)
            and other.network.model is self.network.model
            and optimizer in other.optimizers
            for other in others
        )


def bind(
    remedy: Remedy,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    *,
    example_inputs: Inputs | None = None,
    probe: Callable[[], Inputs] | None = None,
    loss: Callable[[], Tensor] | None = None,
    fresh: Callable[[int], nn.Module] | None = None,
    seed: int = 0,
    heads: bool = False,
    call: Callee = None,
) -> Bound:
    """Return ``remedy`` at work on ``model``, which ``optimizer`` trains.

    Only what is trained is changed: parameters that require gradients and are in a group of the optimizer as it is
    now, or of another one that was seen to step with them (which is said in one warning).

    Bind before `torch.compile` is first run, since hooks set later may not be seen; a compiled module or one in
    `DistributedDataParallel` may be given. Under the latter what is observed is averaged over the processes, and
    all random numbers come from ``seed``, so that every process changes the same units alike; give all one seed.

    Args:
        model: any module; remedies that act on units need one that can be traced.
        optimizer: any of `torch.optim`, or a sequence of those that train the model together; see
            `Bound.attach` for which one's steps count.
        example_inputs: as in `units.trace`; may be left out for a chain that starts with a Linear layer.
        probe: returns the inputs on which units are judged dead, ``example_inputs`` if None.
        loss: for controllers, see `Recovery`.
        fresh: returns a newly initialised network for a seed; if None, see `redrawn`.
        seed: of all random numbers.
        heads: whether whole heads and groups of convolutions may be replaced as units.
        call: the method by which ``example_inputs`` are computed, as in `certify`; the forward if None.

    Raises:
        ValueError: when an optimizer has none of the model's parameters.
        TraceError, TypeError: as `units.hidden.survey`.
        TypeError: when the remedy draws weights anew, ``fresh`` is None and `redrawn` cannot.

    >>> from torch_experiments.remedies import WeightClipping
    >>> model = nn.Linear(4, 1)
    >>> bind(WeightClipping(), model, torch.optim.SGD(model.parameters())).apply()
    {'weight': [], 'bias': []}
    """
    own = unwrapped(model)
    if example_inputs is not None:
        with calling(own, call):
            example_inputs = prepared(own, example_inputs)
        has_samples(example_inputs)
    trainers = Trainers(own, _checked(optimizer, own))
    if fresh is None and remedy.draws:  # now, not at the first unit that is replaced, days later
        _check_drawable(own)
    network = Network(
        own,
        trainers,
        JointMemory(trainers),
        fresh or (lambda place: redrawn(own, place)),
        seed,
        example_inputs,
        probe,
        loss,
        mean_over_processes if _is_distributed(model) else alone,
        heads,
        trainers,
        call=call,
    )
    bound = Bound(remedy, network)
    LOOKOUT.add(bound)
    return bound


def _checked(
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer], model: nn.Module
) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers that take the steps; raise a ValueError for one without parameters of the model."""
    given = tuple(map(inner, optimizer if isinstance(optimizer, Sequence) else [optimizer]))
    for one in given:
        known = {id(p) for group in one.param_groups for p in group["params"]}
        if not any(id(p) in known for p in model.parameters()):
            raise ValueError("optimizer: it has none of the parameters of model; build it from model.parameters()")
    return given


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of ``x`` over all processes of the default group."""
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of ``model``, on the CPU, whose modules have drawn their parameters again from ``seed``.

    Modules are asked for ``reset_parameters``, ``_reset_parameters``, or the model for ``_init_weights(module)``
    (Hugging Face); of weights that are computed, the parameters that they come from are set. The global generator
    is left as it was.

    Raises:
        TypeError: for a module with parameters of its own that has neither; it names the module.

    >>> model = nn.Linear(2, 1)
    >>> torch.equal(redrawn(model, 7).weight, redrawn(model, 7).weight)
    True
    """
    _check_drawable(model)
    other = for_weights(model).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        initialise = getattr(other, "_init_weights", None)
        for module in other.modules():
            drawer = _drawer(module) if initialise is None else partial(initialise, module)
            if drawer is not None:
                _hand_on(module, drawer)
    return other


def _check_drawable(model: nn.Module) -> None:
    for name, module in model.named_modules() if getattr(model, "_init_weights", None) is None else ():
        if "parametrizations" in name.split("."):
            continue  # the module draws whose weight it makes
        own = parametrize.is_parametrized(module) or next(module.parameters(recurse=False), None) is not None
        if _drawer(module) is None and own:
            raise TypeError(
                f"fresh: {name or 'the model'} ({type(module).__name__}) has parameters and no reset_parameters(); "
                "pass fresh=lambda seed: make_model(seed), which returns a newly initialised network"
            )


def _hand_on(module: nn.Module, draw: Callable[[], object]) -> None:
    """Draw, and hand weights that are computed (`weight_norm` and its like) to the parameters that they come from.

    ``reset_parameters`` draws into the computed weight, which the next pass would make anew.
    """
    with parametrize.cached():
        draw()
        names = list(module.parametrizations) if parametrize.is_parametrized(module) else []  # type: ignore[arg-type]
        drawn = {name: getattr(module, name).clone() for name in names}
    for name, weight in drawn.items():
        setattr(module, name, weight)
    for hook in normalising(module):
        weight = getattr(module, hook.name).detach()
        if isinstance(hook, WeightNorm):
            getattr(module, f"{hook.name}_v").copy_(weight)
            getattr(module, f"{hook.name}_g").copy_(torch.norm_except_dim(weight, 2, hook.dim))
        else:
            getattr(module, f"{hook.name}_orig").copy_(weight)


def _drawer(module: nn.Module) -> Callable[[], None] | None:
    found: Any = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return found


def _is_distributed(model: nn.Module) -> bool:
    inner = inside(model)
    return isinstance(model, DistributedDataParallel) or (inner is not None and _is_distributed(inner))
