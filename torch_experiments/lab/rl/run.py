"""An agent on a stream of tasks: rollouts, updates, a remedy, and what is measured on the way.

What is random comes from two generators, that of the environment's copies and that of the agent (actions and the
order of minibatches), whose states are kept with everything else: a run that was interrupted goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_experiments import remedies
from torch_experiments.lab import records
from torch_experiments.lab.rl import measures, ppo, tasks
from torch_experiments.lab.rl.configuration import Config
from torch_experiments.lab.rl.environments import Array, Copies
from torch_experiments.lab.training.clock import Clock
from torch_experiments.lab.training.keeping import Diverged, finish_all
from torch_experiments.lab.training.measures import WHOLE, Measured, row
from torch_experiments.support.generators import generator
from torch_experiments.support.processes import processes

INITIAL, ENVIRONMENT, AGENT, JUDGED, PROBED = range(21, 26)  # places of random numbers
ONLINE = "online_return"


def run(
    config: Config,
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
    return finish_all(lambda group: Run(config, *group), config.identity, seeds, out, **options)


class Run:
    """An agent of one configuration and seed in the middle of its stream.

    Attributes:
        step: rollouts so far, over all tasks.  resumed: at which of them this process began.
        policy, optimizer, remedy: the agent.
        seen: copies of the environment in the present task.
        returns: of the episodes that ended in this task.
        rows: measurements so far, a list of one list.

    """

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.seeds: tuple[int, ...] = (seed,)
        self.stream = tasks.make(config.stream, config.environment, seed, **dict(config.stream_settings))
        first = self.stream.task(0)
        self.policy = self.fresh(_seed(seed, INITIAL))
        self.optimizer = ppo.adam(self.policy, config)
        self.remedy = remedies.make(config.remedy, **dict(config.remedy_settings)).on(
            self.policy,
            self.optimizer,
            example_inputs=torch.zeros(2, first.observations),
            probe=self._probe,
            fresh=self.fresh,
            seed=seed,
        )
        self.remedy.attach()
        self.source = np.random.Generator(np.random.PCG64(_seed(seed, AGENT)))
        self.step, self.resumed, self.clock, self.git = 0, 0, Clock(), records.git_state()
        self.rows: list[list[dict[str, Any]]] = [[]]
        self.returns: list[float] = []
        self._enter(0)

    @property
    def done(self) -> bool:
        """Return whether all steps are taken."""
        return self.step >= self.config.tasks * self.config.steps

    def fresh(self, seed: int) -> ppo.ActorCritic:
        """Return an agent's network as it starts from ``seed``."""
        first = self.stream.task(0)
        sizes: dict[str, Any] = dict(self.config.arch_settings)
        activation = self.config.activation
        return ppo.ActorCritic(first.observations, first.actions, activation=activation, seed=seed, **sizes)

    def advance(self) -> None:
        """Let the agent act for a rollout and learn from it; measure where it is due.

        Raises:
            Diverged: when rewards or gradients are not finite.
        """
        k, position = divmod(self.step, self.config.steps)
        if position == 0 and k:
            self._enter(k)
            self.remedy.task()
        with self.clock.on("data"):
            rollout = ppo.collect(self.policy, self.seen, self.config, self.source)
            self._note_returns(rollout, k, position)
        with self.clock.on("model"):
            watched = self.remedy.remedy.watches
            norm = ppo.learn(self.policy, self.optimizer, rollout, self.config, self.source, watched=watched)
        if not math.isfinite(norm):
            raise Diverged(f"gradient: {norm} at {self._place(k, position)}; {self._advice}")
        self.step += 1
        if position + 1 == self.config.steps or (position + 1) % self.config.measure_every == 0:
            with self.clock.on("metrics"):
                self.rows[0] += [row(k, position + 1, *found) for found in self._measured(rollout, k, position + 1)]

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

    def _enter(self, k: int) -> None:
        self.seen = self._copies(k, self.config.copies, ENVIRONMENT)
        self.returns = []

    def _copies(self, k: int, copies: int, place: int) -> tasks.Seen:
        task = self.stream.task(k)
        return tasks.Seen(task, Copies(task.physics, copies, _seed(self.seeds[0], place, k)))

    def _probe(self) -> Tensor:
        """Return what is seen now, for remedies that look."""
        return torch.from_numpy(self.seen.observation.astype(np.float32))

    def _note_returns(self, rollout: ppo.Rollout, k: int, position: int) -> None:
        """Move the returns of finished episodes here; stop where one, or an advantage, is no number."""
        new, self.seen.copies.returns = self.seen.copies.returns, []
        self.returns += new
        if not bool(rollout.advantages.isfinite().all()) or not all(map(math.isfinite, new)):
            raise Diverged(
                f"return: a reward or a value is not finite at {self._place(k, position)}; look at the rewards of "
                f"{self.config.environment}, or {self._advice}"
            )

    @property
    def _advice(self) -> str:
        return f"try a smaller lr than {self.config.lr}"

    def _place(self, k: int, position: int) -> str:
        return f"rollout {position} of task {k} ({self.seen.task.name}), seed {self.seeds[0]}"

    def _measured(self, rollout: ppo.Rollout, k: int, position: int) -> list[Measured]:
        source = np.random.Generator(np.random.PCG64(_seed(self.seeds[0], PROBED, k, position)))
        judged = ppo.evaluate(self.policy, self._copies(k, self.config.episodes, JUDGED), source)
        chosen = torch.from_numpy(source.permutation(len(rollout.actions))[: self.config.probe])
        found = [*measures.returned(judged), *measures.network_rows(self.policy, rollout.observations[chosen])]
        if self.returns:
            found.append((WHOLE, ONLINE, math.fsum(self.returns) / len(self.returns)))
        return found


def _seed(seed: int, *place: int) -> int:
    return int(generator(seed, *place).initial_seed())


def _as_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with tensors in place of arrays, which is what a checkpoint keeps."""
    return {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in state.items()}


def _as_arrays(state: Mapping[str, Any]) -> dict[str, Array]:
    return {name: x.numpy() if isinstance(x, Tensor) else x for name, x in state.items()}
