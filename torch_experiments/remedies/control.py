"""The recovery controller as a remedy: it looks by itself, and keeps its memory in the state of the run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torch_experiments.diagnostics import diagnose
from torch_experiments.diagnostics.alarms import Alarm, Raised, Watchman
from torch_experiments.remedies.base import Remedy, State
from torch_experiments.remedies.bound import Bound
from torch_experiments.remedies.escape import Escape
from torch_experiments.remedies.network import Network
from torch_experiments.remedies.recovery import Recovery
from torch_experiments.remedies.settings import ANY, COUNT, POSITIVE, Range, setting
from torch_experiments.remedies.surgery import Entries, commit, transaction
from torch_experiments.remedies.weights import ShrinkPerturb

BEST, ON = "best ", "on "  # of the watchman's memory in the state of a run


class Look:
    """A monitor that looks once, with the memory of earlier looks in the state of a run.

    Attributes:
        alarms: of this look.
        memory: what the state becomes once they were answered.
    """

    def __init__(self, network: Network, state: State, watched: tuple[Alarm, ...], step: int) -> None:
        watchman = Watchman(watched)
        watchman.best = {k.removeprefix(BEST): float(v) for k, v in state.items() if k.startswith(BEST)}
        watchman.on = {key.removeprefix(ON) for key in state if key.startswith(ON)}
        names = [alarm.metric for alarm in watched]
        found = diagnose(network.model, network.batch, metrics=names, call=network.call)
        self.alarms: list[Raised] = watchman.look(step, found)
        best = {BEST + key: torch.tensor(value, dtype=torch.float64) for key, value in watchman.best.items()}
        self.memory: State = best | {ON + key: torch.ones(()) for key in sorted(watchman.on)}


@dataclass(frozen=True)
class Controlled(Remedy):
    """`Recovery` in a run, looking at `diagnose` of the probe batch every ``every`` steps.

    Dead units are answered by `Escape`, which keeps the function, and a fallen rank by `ShrinkPerturb`, which does
    not.

    Attributes:
        every: steps between looks.
        dead: an alarm is raised where the mean dead fraction is as much above its smallest value so far.
        rank: and where the mean Shannon rank of centred activations has lost this share of its largest so far.
        shrink, perturb: of the answer to it.
        size: of the escape.

    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> bound = Controlled(every=1).on(model, torch.optim.SGD(model.parameters()))
    >>> bound.step()
    >>> sorted(bound.state)  # the best values so far
    ['best 0:mean of the layers', 'best 1:mean of the layers']
    """

    every: int = setting(100, COUNT)
    dead: float = setting(0.1, POSITIVE)
    rank: float = setting(0.5, Range(0, 1, "()"))
    shrink: float = setting(0.8, ANY)
    perturb: float = setting(0.2, ANY)
    size: float = setting(0.5, POSITIVE)

    def after_step(self, network: Network, state: State, step: int) -> None:
        """Look, and act if asked to."""
        if (step + 1) % self.every:
            return
        watched = (Alarm("dead_fraction", "rises", self.dead), Alarm("shannon_rank_centred", "falls", self.rank))
        answers = {"dead": Escape(self.size), "rank": ShrinkPerturb(self.shrink, self.perturb)}
        bound = {kind: Bound(remedy, network) for kind, remedy in answers.items()}
        for b in bound.values():
            b.steps = step
        look = Look(network, state, watched, step)
        with transaction():
            Recovery(look, bound).step()
            commit([Entries(state, look.memory)])
