"""An agent on a stream of tasks: rollouts, updates, a remedy, and what is measured on the way.

What is random comes from two generators, that of the environment's copies and that of the agent (actions and the
order of minibatches), whose states are kept with everything else: a run that was interrupted goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_experiments import remedies
from torch_experiments.lab import records
from torch_experiments.lab.rl import dqn, measures, ppo, tasks
from torch_experiments.lab.rl.configuration import Config, ValueConfig
from torch_experiments.lab.rl.environments import Array, Copies
from torch_experiments.lab.training.clock import Clock
from torch_experiments.lab.training.keeping import Diverged, finish_all
from torch_experiments.lab.training.measures import WHOLE, Measured, row
from torch_experiments.support.generators import generator
from torch_experiments.support.processes import processes

INITIAL, ENVIRONMENT, AGENT, JUDGED, PROBED, REPLAYED, RESET = range(21, 28)  # places of random numbers
ONLINE = "online_return"


def run(
    config: Config | ValueConfig,
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    data: None = None,
    stack: bool = False,
    resume: bool = True,
    progress: Callable[[int], None] = lambda steps: None,
    checkpoint_every: float = 120.0,
) -> list[records.Record]:
    """Run ``config`` for every seed and return the records, in the order of the seeds.

    Arguments, columns of the records and errors are those of `lab.training.run`; a step is a rollout with its
    updates.

    >>> config = Config(tasks=1, steps=1, copies=2, horizon=4, batch=8, episodes=2, probe=8)
    >>> run(config, [0])[0].table.column_names
    ['task', 'step', 'layer', 'metric', 'value']
    """
    if stack:
        raise ValueError(f"stack: {config.experiment} does not have it; leave out --stack")
    if processes() > 1:
        raise ValueError(f"ddp: {config.experiment} does not have it; leave out --ddp")
    options: dict[str, Any] = {"resume": resume, "progress": progress, "checkpoint_every": checkpoint_every}
    return finish_all(lambda group: begin(config, *group), config.identity, seeds, out, **options)


def begin(config: Config | ValueConfig, seed: int) -> AgentRun:
    """Return the start of a run of a configuration.

    >>> type(begin(ValueConfig(capacity=1024), 0)).__name__
    'ValueRun'
    """
    return ValueRun(config, seed) if isinstance(config, ValueConfig) else Run(config, seed)


class AgentRun(ABC):
    """An agent of one configuration and seed in the middle of its stream, whatever its algorithm is.

    Attributes:
        step: rollouts so far, over all tasks.  resumed: at which of them this process began.
        policy, optimizer, remedy: the agent.
        seen: copies of the environment in the present task.
        returns: of the episodes that ended in this task.
        rows: measurements so far, a list of one list.

    """

    config: Config | ValueConfig
    policy: nn.Module
    stage = ""  # rollouts and measurements are short

    def __init__(self, config: Config | ValueConfig, seed: int) -> None:
        self.config = config
        self.seeds: tuple[int, ...] = (seed,)
        self.stream = tasks.make(config.stream, config.environment, seed, **dict(config.stream_settings))
        first = self.stream.task(0)
        self.policy = self.fresh(_seed(seed, INITIAL))
        self.optimizer = self._adam()
        self.remedy = remedies.make(config.remedy, **dict(config.remedy_settings)).on(
            self.policy,
            self.optimizer,
            example_inputs=torch.zeros(2, first.observations),
            probe=self._probe,
            fresh=self.fresh,
            seed=seed,
        )
        self.remedy.attach()
        self.source = _generator(seed, AGENT)
        self.step, self.resumed, self.clock, self.git = 0, 0, Clock(), records.git_state()
        self.rows: list[list[dict[str, Any]]] = [[]]
        self.returns: list[float] = []
        self._enter(0)

    @property
    def done(self) -> bool:
        """Return whether all steps are taken."""
        return self.step >= self.config.tasks * self.config.steps

    @abstractmethod
    def fresh(self, seed: int) -> nn.Module:
        """Return an agent's network as it starts from ``seed``."""

    def advance(self) -> None:
        """Let the agent act for a rollout and learn from it; measure where it is due.

        Raises:
            Diverged: when rewards or gradients are not finite.
        """
        k, position = divmod(self.step, self.config.steps)
        if position == 0 and k:
            self._enter(k)
            self.remedy.task()
        norm, observations = self._step(k, position)
        if not math.isfinite(norm):
            raise Diverged(f"gradient: {norm} at {self._place(k, position)}; {self._advice}")
        self.step += 1
        if position + 1 == self.config.steps or (position + 1) % self.config.measure_every == 0:
            with self.clock.on("metrics"):
                self.rows[0] += [
                    row(k, position + 1, *found) for found in self._measured(observations, k, position + 1)
                ]

    def go_to(self, step: int) -> None:
        """Go on at ``step``, as at the end of the step before."""
        self.step = self.resumed = step

    def precisely(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which steps are taken."""
        return contextlib.nullcontext()

    def identity(self, seed: int) -> dict[str, Any]:
        """Return what identifies the record of a seed."""
        return self.config.identity(seed)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return dict(self.policy.state_dict())

    def state(self) -> dict[str, Any]:
        """Return what else survives: optimizer, remedy, environment, generators, and returns of this task."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "remedy": self.remedy.state_dict(),
            "copies": _as_tensors(self.seen.copies.state()),
            "source": self.source.bit_generator.state,
            "returns": list(self.returns),
        }

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put weights and state back, in place."""
        self.policy.load_state_dict(dict(weights))
        self.optimizer.load_state_dict(state["optimizer"])
        self.remedy.load_state_dict(state["remedy"])
        self._enter(self.remedy.tasks)
        self.seen.copies.restore(_as_arrays(state["copies"]))
        self.source.bit_generator.state = state["source"]
        self.returns = list(state["returns"])

    @abstractmethod
    def _adam(self) -> torch.optim.Optimizer:
        """Return the optimizer of the policy."""

    @abstractmethod
    def _step(self, k: int, position: int) -> tuple[float, Tensor]:
        """Act and learn; return the largest norm of a gradient, and observations of the agent."""

    @abstractmethod
    def _judge(self, seen: tasks.Seen, source: np.random.Generator) -> Array:
        """Return what the first episode of each copy returns."""

    @abstractmethod
    def _network_rows(self, x: Tensor) -> Iterator[Measured]:
        """Yield what is measured of the network on observations."""

    def _enter(self, k: int) -> None:
        self.seen = self._copies(k, self.config.copies, ENVIRONMENT)
        self.returns = []

    def _copies(self, k: int, copies: int, place: int) -> tasks.Seen:
        task = self.stream.task(k)
        return tasks.Seen(task, Copies(task.physics, copies, _seed(self.seeds[0], place, k)))

    def _probe(self) -> Tensor:
        """Return what is seen now, for remedies that look."""
        return torch.from_numpy(self.seen.observation.astype(np.float32))

    def _note_returns(self, finite: bool, k: int, position: int) -> None:
        """Move the returns of finished episodes here; stop where one is no number, or ``finite`` says so."""
        new, self.seen.copies.returns = self.seen.copies.returns, []
        self.returns += new
        if not finite or not all(map(math.isfinite, new)):
            raise Diverged(
                f"return: a reward or a value is not finite at {self._place(k, position)}; look at the rewards of "
                f"{self.config.environment}, or {self._advice}"
            )

    @property
    def _advice(self) -> str:
        return f"try a smaller lr than {self.config.lr}"

    def _place(self, k: int, position: int) -> str:
        return f"rollout {position} of task {k} ({self.seen.task.name}), seed {self.seeds[0]}"

    def _measured(self, observations: Tensor, k: int, position: int) -> list[Measured]:
        source = _generator(self.seeds[0], PROBED, k, position)
        judged = self._judge(self._copies(k, self.config.episodes, JUDGED), source)
        chosen = torch.from_numpy(source.permutation(len(observations))[: self.config.probe])
        found = [*measures.returned(judged), *self._network_rows(observations[chosen])]
        if self.returns:
            found.append((WHOLE, ONLINE, math.fsum(self.returns) / len(self.returns)))
        return found


class Run(AgentRun):
    """An agent of `ppo` in the middle of its stream."""

    config: Config
    policy: ppo.ActorCritic

    def fresh(self, seed: int) -> ppo.ActorCritic:
        """Return actor and critic as they start from ``seed``."""
        first = self.stream.task(0)
        sizes: dict[str, Any] = dict(self.config.arch_settings)
        sizes |= {"activation": self.config.activation, "continuous": first.continuous}
        return ppo.ActorCritic(first.observations, first.actions, seed=seed, **sizes)

    def _adam(self) -> torch.optim.Optimizer:
        return ppo.adam(self.policy, self.config)

    def _step(self, k: int, position: int) -> tuple[float, Tensor]:
        with self.clock.on("data"):
            rollout = ppo.collect(self.policy, self.seen, self.config, self.source)
            self._note_returns(bool(rollout.advantages.isfinite().all()), k, position)
        with self.clock.on("model"):
            watched = self.remedy.remedy.watches
            norm = ppo.learn(self.policy, self.optimizer, rollout, self.config, self.source, watched=watched)
        return norm, rollout.observations

    def _judge(self, seen: tasks.Seen, source: np.random.Generator) -> Array:
        return ppo.evaluate(self.policy, seen, source)

    def _network_rows(self, x: Tensor) -> Iterator[Measured]:
        return measures.network_rows(self.policy, x)


class ValueRun(AgentRun):
    """An agent of `dqn` in the middle of its stream.

    In every task replay, target and ε begin anew, so that what differs from a fresh agent is the network and what
    its optimizer remembers. Minibatches are drawn by a generator of their own, one a task.

    Attributes:
        agent: the network with target and replay.  drawn: which draws minibatches.
        start: the network and its optimizer as the task began, where ``fixed_targets`` asks for them.
    """

    config: ValueConfig
    policy: dqn.QNetwork

    def __init__(self, config: ValueConfig, seed: int) -> None:
        super().__init__(config, seed)
        learner = dqn.Learner(self.policy, self.optimizer, config, self.remedy.remedy.watches)
        self.agent, self.start = dqn.Agent(learner, self.fresh(0)), self._now()

    def fresh(self, seed: int) -> dqn.QNetwork:
        """Return a network of values as it starts from ``seed``."""
        first = self.stream.task(0)
        sizes: dict[str, Any] = dict(self.config.arch_settings)
        activation = self.config.activation
        return dqn.QNetwork(first.observations, first.actions, activation=activation, seed=seed, **sizes)

    def state(self) -> dict[str, Any]:
        """Return what else survives: that of `Run`, target and replay, and how the task began."""
        drawn = self.drawn.bit_generator.state
        return super().state() | {"agent": self.agent.state(), "drawn": drawn, "start": self.start}

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put weights and state back, in place."""
        super().restore(weights, state)
        self.agent.restore(state["agent"])
        self.drawn.bit_generator.state = state["drawn"]
        self.start = state["start"]

    def _adam(self) -> torch.optim.Optimizer:
        return dqn.adam(self.policy, self.config)

    def _enter(self, k: int) -> None:
        super()._enter(k)
        self.drawn = _generator(self.seeds[0], REPLAYED, k)

    def _step(self, k: int, position: int) -> tuple[float, Tensor]:
        if position == 0:
            self.agent.begin()
            self.start = self._now()
        elif self.config.reset_every and position % self.config.reset_every == 0:
            new = self.fresh(_seed(self.seeds[0], RESET, k, position))
            dqn.redraw(self.policy, self.optimizer, new, self.config.reset_layers)
            self.agent.renew_target()
        with self.clock.on("model"):
            norms = [self.agent.step(self.seen, self.source, self.drawn) for _ in range(self.config.horizon)]
        known = self.agent.replay.known()
        self._note_returns(bool(np.isfinite(known.rewards).all()), k, position)
        return float(np.max(norms)), torch.from_numpy(known.observations)  # nan if one is

    def _judge(self, seen: tasks.Seen, source: np.random.Generator) -> Array:
        return dqn.evaluate(self.policy, seen)

    def _network_rows(self, x: Tensor) -> Iterator[Measured]:
        yield from measures.value_rows(self.policy, x)
        if self.config.fixed_targets and self.agent.steps == self.config.steps * self.config.horizon:
            yield from measures.twin_rows(self._begun(), "start", x)
            yield from measures.twin_rows(self._regressed(), "fixed", x)

    def _now(self) -> dict[str, Any]:
        """Return copies of network and optimizer, if they are asked for."""
        if not self.config.fixed_targets:
            return {}
        return copy.deepcopy({"network": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()})

    def _begun(self) -> dqn.QNetwork:
        """Return the network as the task began."""
        network = self.fresh(0)
        network.load_state_dict(self.start["network"])
        return network

    def _regressed(self) -> dqn.QNetwork:
        """Return what becomes of it on the task's minibatches, drawn to the present values of their actions."""
        network, replay = self._begun(), self.agent.replay
        optimizer = dqn.adam(network, self.config)
        optimizer.load_state_dict(copy.deepcopy(self.start["optimizer"]))
        known = replay.known()
        y = self.agent.learner.of(known.observations)[np.arange(replay.size), known.actions]
        drawn = _generator(self.seeds[0], REPLAYED, (self.step - 1) // self.config.steps)
        dqn.regress(dqn.Learner(network, optimizer, self.config), replay, y, drawn, self.agent.steps)
        return network


def _generator(seed: int, *place: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(_seed(seed, *place)))


def _seed(seed: int, *place: int) -> int:
    return int(generator(seed, *place).initial_seed())


def _as_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with tensors in place of arrays, which is what a checkpoint keeps."""
    return {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in state.items()}


def _as_arrays(state: Mapping[str, Any]) -> dict[str, Array]:
    return {name: x.numpy() if isinstance(x, Tensor) else x for name, x in state.items()}
