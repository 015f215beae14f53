"""What a remedy sees of the training: one network, its optimizer's state, and the inputs of the moment."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_experiments.cloning.chains import chain_inputs
from torch_experiments.units.entry import Callee, calling, prepared
from torch_experiments.units.hidden import HiddenLayer, Survey, replaceable, survey
from torch_experiments.units.inputs import Inputs

if TYPE_CHECKING:
    from torch_experiments.remedies.moments import Trainers

UNREAD = (
    "example_inputs: no example reads {}, which may belong to units that remedies change (an axis has as many "
    "entries); where they are read, a unit that is made anew changes the function, so Escape leaves dead units "
    "there as they are. Give a list of examples that reads them, such as [(x, 0), (x, 1)] for two heads"
)
UNKNOWN = (
    "is in no optimizer that the remedy knows; if another trains it, give both: remedy.on(model, [first, second])"
)


def alone(x: Tensor) -> Tensor:
    """Return ``x``: the mean over one process."""
    return x


class Memory(MutableMapping[Any, Any]):
    """The state of an optimizer as it is now: `torch.optim.Optimizer.load_state_dict` puts another object there."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def __getitem__(self, key: Any) -> Any:
        """Return the state of one parameter."""
        return self.optimizer.state[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set the state of one parameter."""
        self.optimizer.state[key] = value

    def __delitem__(self, key: Any) -> None:
        """Forget one parameter."""
        del self.optimizer.state[key]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the parameters that have a state."""
        return iter(self.optimizer.state)

    def __len__(self) -> int:
        """Return how many parameters have a state."""
        return len(self.optimizer.state)


class Notices:
    """Warnings that are given once.

    >>> notices = Notices()
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     notices.say("a", "once"), notices.say("a", "twice")
    (None, None)
    >>> [str(warning.message) for warning in seen]
    ['once']
    """

    def __init__(self) -> None:
        self._said: set[object] = set()

    def say(self, about: object, message: str) -> None:
        """Warn, unless something was said about this before."""
        if about not in self._said:
            self._said.add(about)
            warnings.warn(message, stacklevel=3)


@dataclass(frozen=True)
class Network:
    """One network and its optimizer, as a remedy sees them.

    Attributes:
        model: its parameters may be changed in place.
        moments: of a parameter, the optimizer's tensors of its shape by name; to be changed in place.
        memory: all of the optimizer's state; emptied, it has forgotten.
        fresh: a network of the same shape as it would start from another seed.
        seed: of this network.
        example: inputs to trace the network with; a guess for chains that start with a Linear layer if None.
        probe: the inputs of the moment on which units are judged; ``example`` if None.
        loss: on a batch of the moment, with the network as it is; None where there is none.
        agree: the mean of a tensor over all processes that train this network together.
        heads: whether whole heads and groups of convolutions are units too.
        trainers: the optimizers, which say what is trained; all that requires gradients if None.
        notices: what was said about this network.
        call: the method by which inputs are computed; the forward if None.
        passes: the layers that were seen in a training pass since the last step.
    """

    model: nn.Module
    moments: Callable[[nn.Parameter], Mapping[str, Tensor]]
    memory: MutableMapping[Any, Any]
    fresh: Callable[[int], nn.Module]
    seed: int
    example: Inputs | None = None
    probe: Callable[[], Inputs] | None = None
    loss: Callable[[], Tensor] | None = None
    agree: Callable[[Tensor], Tensor] = alone
    heads: bool = False
    trainers: Trainers | None = None
    notices: Notices = field(default_factory=Notices)
    call: Callee = None
    passes: set[str] = field(default_factory=set)

    @property
    def inputs(self) -> Inputs:
        """Return inputs to trace the network with."""
        return chain_inputs(self.model) if self.example is None else self.example

    @property
    def batch(self) -> Inputs:
        """Return the inputs of the moment."""
        return self.inputs if self.probe is None else prepared(self.model, self.probe())

    @cached_property
    def survey(self) -> Survey:
        """Return what remedies can act on; the network is traced once.

        Parameters that no example reads are named in a warning: where they read a unit that is made anew or split,
        the function changes.
        """
        with calling(self.model, self.call):
            found = survey(self.model, self.inputs, heads=self.heads)
        if found.unread:
            self.notices.say("unread", UNREAD.format(", ".join(map(repr, found.unread))))
        return found

    @cached_property
    def layers(self) -> tuple[HiddenLayer, ...]:
        """Return the layers of replaceable units; a TypeError says why there is none."""
        return replaceable(self.model, self.survey)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return by name the parameters that are trained as things are now: remedies change no others."""
        moves = self._moves()
        return {name: p for name, p in self.model.named_parameters() if moves(p)}

    def trained_layers(self, remedy: object) -> list[HiddenLayer]:
        """Return the layers of which all in-weights, out-weights and own parameters are trained.

        A unit with a frozen part cannot be made anew; the layers left out are named in one warning.
        """
        moves, named = self._moves(), dict(self.model.named_parameters(remove_duplicate=False))
        reasons: dict[str, str] = {}
        for layer in self.layers:
            for edge in (*layer.group.incoming, *layer.group.outgoing, *layer.group.own):
                p = named.get(edge.parameter)
                if p is not None and not moves(p):
                    why = UNKNOWN if p.requires_grad else "does not require gradients"
                    reasons.setdefault(layer.name, f"{edge.parameter!r} {why}")
        if reasons:
            said = "; ".join(f"{name!r}, as {why}" for name, why in reasons.items())
            kind = type(remedy).__name__
            self.notices.say(("untrained", *reasons), f"remedy: {kind} leaves the units of layers {said}")
        return [layer for layer in self.layers if layer.name not in reasons]

    def _moves(self) -> Callable[[nn.Parameter], bool]:
        ids = None if self.trainers is None else self.trainers.ids()
        return lambda p: p.requires_grad and (ids is None or id(p) in ids)


def moments_of(state: Mapping[str, Any], like: Tensor) -> dict[str, Tensor]:
    """Return the tensors of the shape of ``like`` in the optimizer's state of one parameter; numbers are none."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor) and value.ndim}
    return {name: value for name, value in tensors.items() if value.shape == like.shape}
