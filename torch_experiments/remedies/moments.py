"""What optimizers remember of the parameters of one model, and what of it becomes of replaced units.

A moment is a tensor of the optimizer's state that has an entry (or a row, or a column) for a unit: momentum buffers
(SGD, Muon, RMSprop), ``exp_avg``, ``exp_avg_sq``, ``max_exp_avg_sq`` (Adam and its relatives), ``sum`` (Adagrad),
``prev`` and ``step_size`` (Rprop), the factors ``row_var`` and ``col_var`` (Adafactor), and so on. The moments of
replaced units become what they are at the start of a training: zero, but for Rprop's step sizes (its learning
rate), Adagrad's sums (its initial value) and ASGD's averages (the new weights). The history of L-BFGS is one of all
parameters, which a replaced unit makes wrong, and is forgotten as a whole.

Counters of steps are one a tensor, not one a unit, and are left as they are. Adam's bias correction has then long
ended when a replaced unit starts, and under a constant gradient its step number ``t`` is
``(1 − β₁ᵗ) / √(1 − β₂ᵗ)`` times the learning rate: 3.2 times at first and 6.6 times at the twelfth step, with the
usual betas. `SecondMoments` ``"mean"`` avoids it: second moments and step sizes of replaced units become the mean
of their tensor, so that a replaced unit moves as fast as the others do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torch_experiments.remedies.network import Network, moments_of
from torch_experiments.remedies.settings import OneOf
from torch_experiments.remedies.surgery import Edit, Entries, Slice

SecondMoments = Literal["zero", "mean"]
KEPT_SECOND_MOMENTS = OneOf(get_args(SecondMoments))
SQUARES = (
    *("exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum", "acc_delta"),
    *("variance", "row_var", "col_var", "step_size"),  # the last is no square, but sets the pace like one
)
STARTS = {"step_size": "lr", "sum": "initial_accumulator_value"}  # settings of the group that a moment starts from


class Moments:
    """The tensors that optimizers remember of a parameter, by name; those of the first optimizer go first.

    What else is stored for it and is neither a number nor of its shape (packed statistics) cannot be split by
    units; it is left, with one warning that names it.

    >>> weight = nn.Parameter(torch.zeros(2, 1))
    >>> adam = torch.optim.Adam([weight])
    >>> weight.grad = torch.ones(2, 1)
    >>> adam.step()
    >>> sorted(Moments(adam)(weight))
    ['exp_avg', 'exp_avg_sq']
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self._optimizers = optimizers
        self.warned: set[str] = set()

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """Return those that count."""
        return self._optimizers

    def __call__(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return the tensors of the parameter's shape by name, to be changed in place."""
        found: dict[str, Tensor] = {}
        for k, optimizer in enumerate(self.optimizers):
            own = moments_of(optimizer.state.get(parameter, {}), parameter)
            found |= {f"{name} ({k + 1})" if name in found else name: value for name, value in own.items()}
        return found

    def renewed(
        self, parameter: nn.Parameter, dim: int, index: Tensor, value: Tensor | None, second: SecondMoments
    ) -> Iterator[Edit]:
        """Yield what becomes of the moments where ``value``, zero if None, is written to a part of a dimension.

        A factor that has no such dimension, as it is a mean over it, is left.
        """
        for optimizer in self.optimizers:
            group = _group(optimizer, parameter)
            if group is not None and isinstance(optimizer, torch.optim.LBFGS):
                yield Entries(optimizer.state, {})
                continue
            state = optimizer.state.get(parameter, {})
            self._warn(optimizer, [name for name, moment in state.items() if _unknown(moment, parameter)])
            for name, moment in state.items():
                if _factor(moment, parameter) and moment.shape[dim] == parameter.shape[dim]:
                    edit = forgotten(name, moment, dim, index, second, _start(name, group))
                    yield edit._replace(value=value) if name == "ax" and value is not None else edit

    def _warn(self, optimizer: Optimizer, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self.warned]
        self.warned.update(new)
        if new:
            warnings.warn(
                f"optimizer: {type(optimizer).__name__} keeps {', '.join(map(repr, new))}, which do not have "
                "the shape of their parameter, so they are left as they are where units are replaced; "
                "remedies.OptimizerReset forgets them",
                stacklevel=3,
            )


class Trainers(Moments):
    """The optimizers that train one model.

    Attributes:
        model: whose parameters count.
        given: those that a remedy was bound to.
        seen: others that took a step with parameters of the model.
        part: which of the given ones is about to step; 0 where all are meant.

    >>> model = nn.Linear(1, 1)
    >>> trainers = Trainers(model, [torch.optim.SGD([model.weight])])
    >>> id(model.weight) in trainers.ids(), id(model.bias) in trainers.ids()
    (True, False)
    """

    def __init__(self, model: nn.Module, given: Iterable[Optimizer]) -> None:
        super().__init__()
        self.model, self.given, self.part = model, tuple(given), 0
        self.seen: WeakSet[Optimizer] = WeakSet()
        self._strangers: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._scope: tuple[Optimizer, ...] | None = None

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """Return those that count at the moment: all, or those of `only`."""
        others = (optimizer for optimizer in self.seen if optimizer not in self.given)
        return (*self.given, *others) if self._scope is None else self._scope

    def ids(self) -> frozenset[int]:
        """Return the ids of the parameters in their groups as they are now."""
        return frozenset(id(p) for o in self.optimizers for group in o.param_groups for p in group["params"])

    @contextmanager
    def only(self, part: int | None = None) -> Iterator[None]:
        """Count only the given optimizers, or only one of them."""
        old = self._scope, self.part
        self._scope = self.given if part is None else (self.given[part],)
        self.part = part or 0
        try:
            yield
        finally:
            self._scope, self.part = old

    def meet(self, optimizer: Optimizer) -> list[str]:
        """Return the names of the model's parameters that an optimizer trains that was not known before."""
        if optimizer in self.given or optimizer in self.seen:
            return []
        size = len(optimizer.param_groups)
        if self._strangers.get(optimizer) == size:
            return []
        self._strangers[optimizer] = size
        ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
        names = [name for name, p in self.model.named_parameters() if id(p) in ids and p.requires_grad]
        if names:
            self.seen.add(optimizer)
        return names


class JointMemory(MutableMapping[Any, Any]):
    """All that the optimizers of a model remember of its parameters, under ``(id of the optimizer, parameter)``.

    Entries are looked up whenever they are asked for, as `torch.optim.Optimizer.load_state_dict` puts another
    object there. What an optimizer remembers of other models stays, but for L-BFGS, whose memory is one of all.

    >>> model = nn.Linear(1, 1)
    >>> len(JointMemory(Trainers(model, [torch.optim.SGD(model.parameters())])))
    0
    """

    def __init__(self, trainers: Trainers) -> None:
        self.trainers = trainers

    def __getitem__(self, key: Any) -> Any:
        """Return the state of one parameter."""
        return self._state(key)[key[1]]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set the state of one parameter."""
        self._state(key)[key[1]] = value

    def __delitem__(self, key: Any) -> None:
        """Forget one parameter."""
        del self._state(key)[key[1]]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the parameters that have a state."""
        own = {id(p) for p in self.trainers.model.parameters()}
        for optimizer in self.trainers.optimizers:
            joint = isinstance(optimizer, torch.optim.LBFGS)
            yield from [(id(optimizer), p) for p in optimizer.state if joint or id(p) in own]

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self)

    def _state(self, key: tuple[int, Any]) -> MutableMapping[Any, Any]:
        return next(o.state for o in self.trainers.optimizers if id(o) == key[0])


def forgotten(
    name: str, moment: Tensor, dim: int, index: Tensor, second: SecondMoments, start: float = 0.0
) -> Slice:
    """Return the edit of the moments of replaced units: ``start``, or for second moments what ``second`` says.

    >>> edit = forgotten("exp_avg_sq", torch.tensor([1.0, 3.0]), 0, torch.tensor([0]), "mean")
    >>> edit.write(), edit.tensor.tolist()
    (None, [2.0, 3.0])
    """
    shape = list(moment.shape)
    shape[dim] = len(index)
    typical = moment.mean() if second == "mean" and name in SQUARES else start
    return Slice(moment, dim, index, moment.new_zeros(shape) + typical)


def renewed(
    network: Network, parameter: nn.Parameter, dim: int, index: Tensor, value: Tensor | None, second: SecondMoments
) -> Iterator[Edit]:
    """Yield what becomes of the moments of replaced units in a network, see `Moments.renewed`."""
    if network.trainers is not None:
        yield from network.trainers.renewed(parameter, dim, index, value, second)
    else:
        moments = network.moments(parameter)
        yield from (forgotten(name, moment, dim, index, second) for name, moment in moments.items())


def _factor(moment: Any, parameter: Tensor) -> bool:
    """Return whether a tensor has the shape of the parameter, but for dimensions over which it is a mean."""
    if not isinstance(moment, Tensor) or moment.ndim != parameter.ndim or not moment.ndim:
        return False
    return all(size in (1, own) for size, own in zip(moment.shape, parameter.shape, strict=True))


def _unknown(value: Any, parameter: Tensor) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > 1 and not _factor(value, parameter)
    return isinstance(value, list | tuple | dict) and len(value) > 0


def _group(optimizer: Optimizer, parameter: Tensor) -> Mapping[str, Any] | None:
    return next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None)


def _start(name: str, group: Mapping[str, Any] | None) -> float:
    return float((group or {}).get(STARTS.get(name, ""), 0.0))
