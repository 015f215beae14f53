"""Remedies that replace single units: fresh in-weights, silent out-weights, forgotten moments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_experiments.metrics.activity import dormant
from torch_experiments.remedies.base import REPLACEMENT, Remedy, State, Touched, seed_of
from torch_experiments.remedies.moments import KEPT_SECOND_MOMENTS, SecondMoments, renewed
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.observation import watch_training
from torch_experiments.remedies.settings import COUNT, NONNEGATIVE, SHARE, Range, setting
from torch_experiments.remedies.surgery import Edit, Slice, Whole, commit, zeroed
from torch_experiments.units.groups import Edge
from torch_experiments.units.hidden import HiddenLayer

Chosen = Mapping[str, Tensor]


@dataclass(frozen=True)
class Watching(Remedy):
    """What remedies that replace units have in common: what every unit said in the last training pass.

    A unit is what its readers get: after the norm, the pooling and the dropout between them. Layers with a part
    that is not trained, be it a frozen bias or out-weights that no known optimizer has, are left, with one warning.

    Attributes:
        second_moments: what becomes of those of replaced units: ``"zero"``, as published, or their tensor's
            ``"mean"``, see `moments`.
    """

    second_moments: SecondMoments = setting("zero", KEPT_SECOND_MOMENTS, kw_only=True)

    @property
    def draws(self) -> bool:
        """Return whether it cannot do without a network whose weights are drawn anew."""
        return True

    @property
    def watches(self) -> bool:
        """Return True."""
        return True

    def summary(self, values: Tensor) -> Tensor:
        """Return what is kept of the values ``[samples × positions, units]``: the mean of ``|h|``, ``[units]``."""
        return values.abs().mean(dim=0)

    def attach(self, network: Network, state: State) -> list[RemovableHandle]:
        """Note the summary of every layer in every training pass, in ``state[name.size]``."""

        def note(layer: HiddenLayer, x: Tensor) -> None:
            state[f"{layer.name}.size"] = self.summary(layer.values(x))
            network.passes.add(layer.name)

        return watch_training(network, note)

    def size(self, network: Network, state: State, layer: HiddenLayer) -> Tensor:
        """Return the summary of a layer, averaged over the processes.

        Raises:
            RuntimeError: when no training pass has been seen.
        """
        if f"{layer.name}.size" not in state:
            raise RuntimeError(
                f"remedy: {type(self).__name__} has seen no training pass of layer {layer.name!r}; call the model "
                "itself, not a copy, in train mode before step(), bind the remedy before torch.compile runs, and "
                "use rebind(optimizer) where parameters were put in the place of others"
            )
        return network.agree(state[f"{layer.name}.size"])


@dataclass(frozen=True)
class ReDo(Watching):
    """Recycle dormant units: every ``every`` steps those with ``E|h_u| ≤ τ · mean_v E|h_v|`` (means over the
    batch).

    A recycled unit gets fresh in-weights, zero out-weights and zero moments of the optimizer, so the function
    changes by what the unit still said.

    Source: Sokar et al. (2023), arXiv 2302.12902, algorithm 1.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.copy_(torch.tensor([0.0, -9.0]))
    >>> bound = ReDo().on(model, torch.optim.SGD(model.parameters()))
    >>> _ = model(torch.ones(4, 1))  # a training pass: the second unit is silent
    >>> bound.apply()
    {'0': [1]}
    """

    every: int = setting(1000, COUNT)
    threshold: float = setting(0.025, NONNEGATIVE)

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Recycle the dormant units after step ``every − 1``, ``2 every − 1``, …"""
        if (step + 1) % self.every == 0:
            self.apply(network, state, step)

    def apply(self, network: Network, state: State, place: int) -> Touched:
        """Recycle the dormant units now."""
        chosen = {}
        for layer in network.trained_layers(self):
            size = self.size(network, state, layer)
            chosen[layer.name] = dormant(size, self.threshold).nonzero().flatten()
        return replace(network, chosen, place, second=self.second_moments)


@dataclass(frozen=True)
class ContinualBackprop(Watching):
    """Continual backpropagation: a small share of mature units of least utility is replaced all the time.

    Contribution utility ``u ← η u + (1 − η) E|h| Σ|w_out|``, compared after bias correction, ``u / (1 − η^age)``.
    At every step ``ρ`` times the number of units older than ``maturity`` is added to an account of the layer; for
    every whole one in it a unit is replaced: fresh in-weights, zero out-weights, utility, age and moments. Ages and
    accounts are on the CPU, so that no step waits for a device but those that replace a unit.

    Source: Dohare et al. (2024), Nature 632, algorithm 1; the account makes the rate an expectation.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.copy_(torch.tensor([0.0, -9.0]))
    >>> bound = ContinualBackprop(rate=0.5, maturity=0).on(model, torch.optim.SGD(model.parameters()))
    >>> _ = model(torch.ones(4, 1))
    >>> bound.step()  # one unit is due: the one without utility
    >>> model[2].weight[0, 1].item(), bound.state["0.age"].tolist()
    (0.0, [1.0, 0.0])
    """

    rate: float = setting(1e-4, NONNEGATIVE)
    maturity: int = setting(100, Range(0, whole=True))
    decay: float = setting(0.99, Range(0, 1))

    def begin(self, network: Network) -> State:
        """Return zero utilities, ages and accounts."""
        state: State = {}
        for layer in network.layers:
            zeros = _zeros(network, layer)
            state |= {f"{layer.name}.utility": zeros, f"{layer.name}.age": zeros.clone().cpu()}
            state[f"{layer.name}.account"] = torch.zeros((), dtype=torch.float64)
        return state

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Update the utilities and replace what is due."""
        chosen: dict[str, Tensor] = {}
        edits: list[Edit] = []
        for layer in network.trained_layers(self):
            names = [f"{layer.name}.{n}" for n in ("utility", "age", "account")]
            utility, age, account = (state[name] for name in names)
            contribution = self.size(network, state, layer) * layer.out_sums(network.model)
            utility = (utility * self.decay).add_((1 - self.decay) * contribution)
            age = age + 1
            mature = age > self.maturity
            account = account + self.rate * float(mature.sum())
            if (due := int(account)) and bool(mature.any()):
                corrected = (utility.cpu() / (1 - self.decay**age)).masked_fill(~mature, torch.inf)
                units = corrected.argsort(stable=True)[: min(due, int(mature.sum()))]
                chosen[layer.name] = units.to(utility.device)
                utility[chosen[layer.name]], age[units], account = 0, 0, account - due
            edits += map(Whole, (state[name] for name in names), (utility, age, account))
        replace(network, chosen, step, edits, self.second_moments)


@dataclass(frozen=True)
class SelfNormalizedReset(Watching):
    """Self-normalised resets: replace a unit whose silence is too long for its own rate of firing.

    A unit fires in a step when it is not zero on some value of the batch. With ``n`` intervals between firings of
    total length ``t`` its rate is ``p = n / (t + 1)``; silent for ``a`` steps it is replaced when
    ``P(A ≥ a) = (1 − p)^a ≤ η`` and ``a ≥ least``, or when ``a ≥ most``. A replaced unit starts to count again.

    Source: Farias & Jozefiak (2025), arXiv 2410.20098. This is their test with a geometric law of the intervals,
    which needs two numbers a unit; their code keeps a percentile of the observed intervals.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.copy_(torch.tensor([0.0, -9.0]))
    >>> bound = SelfNormalizedReset(most=2).on(model, torch.optim.SGD(model.parameters()))
    >>> for _ in range(2):
    ...     _ = model(torch.ones(4, 1)), bound.step()
    >>> model[2].weight[0, 1].item()
    0.0
    """

    eta: float = setting(0.02, SHARE)
    least: int = setting(10, Range(0, whole=True))
    most: int = setting(20_000, COUNT)

    def summary(self, values: Tensor) -> Tensor:
        """Return 1 for the units that fire, else 0."""
        return (values != 0).any(dim=0).to(values)

    def begin(self, network: Network) -> State:
        """Return zero intervals, lengths and silences."""
        names = ("intervals", "length", "silence")
        return {f"{lay.name}.{n}": _zeros(network, lay).double() for lay in network.layers for n in names}

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Count, and replace what has been silent for too long."""
        late: dict[str, Tensor] = {}
        edits: list[Edit] = []
        for layer in network.trained_layers(self):
            names = [f"{layer.name}.{n}" for n in ("intervals", "length", "silence")]
            intervals, length, silence = (state[name] for name in names)
            fired = self.size(network, state, layer) > 0
            intervals, length = intervals + fired, length + (silence + 1) * fired
            silence = (silence + 1).masked_fill(fired, 0)
            over = (1 - intervals / (length + 1)) ** silence <= self.eta
            over = late[layer.name] = (over & (silence >= self.least)) | (silence >= self.most)
            counts = (t.masked_fill(over, 0) for t in (intervals, length, silence))
            edits += map(Whole, (state[name] for name in names), counts)
        some = bool(late) and bool(torch.cat(list(late.values())).any())  # one wait for a device a step
        chosen = {name: over.nonzero().flatten() for name, over in late.items()} if some else {}
        replace(network, chosen, step, edits, self.second_moments)


def replace(
    network: Network,
    chosen: Chosen,
    place: int,
    beside: Sequence[Edit] = (),
    second: SecondMoments = "zero",
) -> dict[str, list[int]]:
    """Give units fresh in-weights and own parameters, zero out-weights and zero moments, all or nothing.

    Biases, scales, shifts and statistics of norms come from a fresh network like the in-weights. Moments are those
    of `moments`.

    Args:
        network: which.
        chosen: indices of units by layer of ``network.layers``.
        place: chooses the fresh network.
        beside: what is written with it.
        second: what becomes of second moments.

    Returns:
        The units by layer, layers without any left out.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> network = ReDo().on(model, torch.optim.SGD(model.parameters())).network
    >>> replace(network, {"0": torch.tensor([1])}, place=0), model[2].weight[0, 1].item()
    ({'0': [1]}, 0.0)
    """
    found = {name: units for name, units in chosen.items() if len(units)}
    if found or beside:
        commit([*(replacements(network, found, place, second) if found else ()), *beside])
    return {name: units.tolist() for name, units in found.items()}


def replacements(network: Network, chosen: Chosen, place: int, second: SecondMoments = "zero") -> Iterator[Edit]:
    """Yield what `replace` writes."""
    other = network.fresh(seed_of(network, REPLACEMENT, place))
    old, new = _tensors(network.model), _tensors(other)
    for layer in network.layers:
        units = chosen.get(layer.name)
        if units is None:
            continue
        for edge in (*layer.group.incoming, *layer.group.own):
            tensor, index = old[edge.parameter], _entries(edge, units)
            fresh = new[edge.parameter].detach()
            value = fresh.index_select(edge.dim, index.to(fresh.device))
            yield Slice(tensor, edge.dim, index, value)
            if isinstance(tensor, nn.Parameter):
                yield from renewed(network, tensor, edge.dim, index, value, second)
        for edge in layer.group.outgoing:
            tensor, index = old[edge.parameter], _entries(edge, units)
            yield zeroed(tensor, edge.dim, index)
            if isinstance(tensor, nn.Parameter):
                yield from renewed(network, tensor, edge.dim, index, None, second)


def _entries(edge: Edge, units: Tensor) -> Tensor:
    return torch.isin(edge.unit, units.to(edge.unit.device)).nonzero().flatten()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_buffers()) | dict(model.named_parameters())


def _zeros(network: Network, layer: HiddenLayer) -> Tensor:
    weight = network.model.get_parameter(layer.place.parameter)
    return torch.zeros(layer.units, dtype=max(torch.float32, weight.dtype, key=_digits), device=weight.device)


def _digits(dtype: torch.dtype) -> float:
    return -math.log10(torch.finfo(dtype).eps)
