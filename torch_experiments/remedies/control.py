"""The recovery controller as a remedy of the continual-training runs, with the least monitor that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_experiments.remedies.base import Remedy, State
from torch_experiments.remedies.bound import Bound
from torch_experiments.remedies.escape import Escape
from torch_experiments.remedies.recovery import Recovery
from torch_experiments.remedies.weights import ShrinkPerturb
from torch_experiments.scores import shannon_rank
from torch_experiments.stacking import Network
from torch_experiments.unit_metrics import moments
from torch_experiments.units.hidden import HiddenLayer, observe


@dataclass(frozen=True)
class Symptom:
    """An alarm of `Symptoms`."""

    step: int
    layer: str
    metric: str
    value: float
    threshold: float
    kind: str


class Symptoms:
    """Dead shares and ranks of hidden units on the probe batch in eval mode.

    An alarm ``"dead"`` is raised where the share of units that are zero on the whole batch is above ``dead``,
    ``"rank"`` where the Shannon rank of the covariance is below ``rank`` times the highest that the layer has had;
    that one is kept in ``state``.
    """

    def __init__(self, network: Network, state: State, dead: float, rank: float) -> None:
        self.network, self.state, self.dead, self.rank = network, state, dead, rank
        self.alarms: list[Symptom] = []

    def step(self, step: int) -> list[Symptom]:
        """Measure, and return the new alarms."""
        values, _ = observe(self.network.model, self.network.layers, self.network.batch, lambda h: h)
        new = [alarm for layer in self.network.layers for alarm in self._of(layer, values[layer.name], step)]
        self.alarms += new
        return new

    def _of(self, layer: HiddenLayer, h: Tensor, step: int) -> Iterator[Symptom]:
        found = moments(h)
        share = float((found.active == 0).double().mean())
        if share > self.dead:
            yield Symptom(step, layer.name, "dead_fraction", share, self.dead, "dead")
        rank = shannon_rank(torch.linalg.eigvalsh(found.covariance()).clamp_min(0).sqrt())
        key = f"{layer.name}.rank"
        best = max(rank, float(self.state.get(key, torch.zeros(()))))
        self.state[key] = torch.tensor(best, dtype=torch.float64)
        if rank < self.rank * best:
            yield Symptom(step, layer.name, "shannon_rank", rank, self.rank * best, "rank")


@dataclass(frozen=True)
class Controlled(Remedy):
    """`Recovery` in a run: `Symptoms` every ``every`` steps; dead units are answered by `Escape`, which keeps the
    function, and a fallen rank by `ShrinkPerturb`, which does not.

    Attributes:
        every: steps between looks.
        dead: share of dead units in a layer from which units are drawn again.
        rank: share of the highest rank of a layer below which all weights are shrunk and perturbed.
        shrink, perturb: of that.
        size: of the escape.
    """

    every: int = 100
    dead: float = 0.1
    rank: float = 0.5
    shrink: float = 0.8
    perturb: float = 0.2
    size: float = 0.5

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Look, and act if asked to."""
        if (step + 1) % self.every:
            return
        monitor = Symptoms(network, state, self.dead, self.rank)
        answers = {"dead": Escape(self.size), "rank": ShrinkPerturb(self.shrink, self.perturb)}
        bound = {kind: Bound(remedy, network) for kind, remedy in answers.items()}
        for b in bound.values():
            b.steps = step
        monitor.step(step)
        Recovery(monitor, bound).step()
