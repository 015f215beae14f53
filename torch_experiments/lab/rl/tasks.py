"""Streams of tasks for an agent: one environment whose observations, rewards or physics are other in every task.

A stream is a frozen dataclass with ``task(k)``; everything is drawn from ``seed`` and ``k``. To add one: a
dataclass with ``environment``, ``seed`` and ``task``, and a line in `STREAMS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from torch_experiments.lab.rl import ant, environments
from torch_experiments.lab.rl.environments import Array, Copies, Physics, Step
from torch_experiments.support.choices import choose
from torch_experiments.support.generators import generator


@dataclass(frozen=True)
class Task:
    """One task: physics, and how observations and rewards reach the agent, ``sign · x[order] + offset`` and
    ``scale · r``.

    Attributes:
        physics: of the environment.
        offset, sign: ``[observations]``, none if None.  order: of the observations, as they are if None.
        scale: of the rewards; what episodes return is counted without it.
        name: for people.
    """

    physics: Physics
    offset: Array | None = None
    sign: Array | None = None
    order: Array | None = None
    scale: float = 1.0
    name: str = ""

    @property
    def observations(self) -> int:
        """Return how many numbers are seen."""
        return self.physics.observations

    @property
    def actions(self) -> int:
        """Return how many actions there are."""
        return self.physics.actions

    @property
    def continuous(self) -> bool:
        """Return whether an action is that many numbers."""
        return self.physics.continuous

    def seen(self, x: Array) -> Array:
        """Return observations ``[copies, observations]`` as the agent sees them."""
        x = x if self.order is None else x[:, self.order]
        x = x if self.sign is None else self.sign * x
        return x if self.offset is None else x + self.offset


class Seen:
    """Copies of an environment as an agent meets them in a task.

    >>> seen = Seen(Offset("cartpole", sd=2.0).task(0), Copies(environments.make("cartpole"), 2))
    >>> bool((seen.observation == seen.copies.observation + seen.task.offset).all())
    True
    """

    def __init__(self, task: Task, copies: Copies) -> None:
        self.task, self.copies = task, copies

    @property
    def observation(self) -> Array:
        """Return what is seen now."""
        return self.task.seen(self.copies.observation)

    def step(self, action: Array) -> Step:
        """Move all copies; see `Copies.step`."""
        found = self.copies.step(action)
        seen = self.task.seen(found.observation)
        last = seen if found.last is found.observation else self.task.seen(found.last)
        return found._replace(observation=seen, last=last, reward=self.task.scale * found.reward)

    def play(self, act: Callable[[Array], Array]) -> Array:
        """Return what the first whole episode of each copy returns, ``[copies]``, under ``act`` of observations.

        Copies have to be at the start of an episode; observations are float32. Rewards are those of the
        environment, not as the task scales them.
        """
        found, waiting = np.zeros(len(self.observation)), np.ones(len(self.observation), bool)
        while waiting.any():
            step = self.copies.step(act(self.observation.astype(np.float32)))
            found[waiting] += step.reward[waiting]
            waiting &= ~(step.ended | step.cut)
        return found


class Stream(Protocol):
    """A seeded sequence of tasks without an end."""

    def task(self, k: int) -> Task:
        """Return task ``k``, from 0; always the same."""


@dataclass(frozen=True)
class Stationary:
    """The environment as it is, in every task.

    >>> Stationary("cartpole").task(3).name
    'as it is'
    """

    environment: str
    seed: int = 0

    def task(self, k: int) -> Task:
        """Return the environment."""
        return Task(environments.make(self.environment), name="as it is")


@dataclass(frozen=True)
class Offset(Stationary):
    """A fixed normal offset of the observation in every task, of deviation ``sd``.

    >>> Offset("cartpole").task(0).offset.shape
    (4,)
    """

    sd: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.sd < math.inf:
            raise ValueError(f"sd: got {self.sd}; it has to be a finite number, at least 0")

    def task(self, k: int) -> Task:
        """Return the environment with the offset of task ``k``."""
        physics = environments.make(self.environment)
        drawn = torch.randn(physics.observations, generator=generator(self.seed, k), dtype=torch.float64)
        return Task(physics, offset=self.sd * drawn.numpy(), name=f"offset {k}")


@dataclass(frozen=True)
class Permuted(Stationary):
    """A signed permutation of the observation in every task but the first.

    >>> sorted(Permuted("acrobot").task(1).order.tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def task(self, k: int) -> Task:
        """Return the environment with the order and the signs of task ``k``."""
        physics, source = environments.make(self.environment), generator(self.seed, k)
        if k == 0:
            return Task(physics, name="as it is")
        order = torch.randperm(physics.observations, generator=source)
        sign = 2.0 * torch.randint(2, (physics.observations,), generator=source) - 1
        return Task(physics, order=order.numpy(), sign=sign.double().numpy(), name=f"order {k}")


@dataclass(frozen=True)
class Rewards(Stationary):
    """Rewards multiplied in every task by a number whose logarithm is uniform, between ``1 / most`` and ``most``.

    >>> 0.1 <= Rewards("cartpole").task(4).scale <= 10
    True
    """

    most: float = 10.0

    def __post_init__(self) -> None:
        _check_most(self.most)

    def task(self, k: int) -> Task:
        """Return the environment with the scale of task ``k``."""
        (scale,) = _factors(1, self.most, self.seed, k)
        return Task(environments.make(self.environment), scale=scale, name=f"rewards times {scale:.3g}")


@dataclass(frozen=True)
class Dynamics(Stationary):
    """Constants of the physics multiplied in every task by numbers whose logarithms are uniform.

    They lie between ``1 / most`` and ``most``; the step of time stays.

    >>> task = Dynamics("cartpole").task(2)
    >>> 5.0 <= task.physics.push <= 20.0
    True
    """

    most: float = 2.0

    def __post_init__(self) -> None:
        _check_most(self.most)

    def task(self, k: int) -> Task:
        """Return the environment with the constants of task ``k``."""
        physics: Any = environments.make(self.environment)
        names = [field.name for field in dataclasses.fields(physics) if field.name != "tau"]
        factors = zip(names, _factors(len(names), self.most, self.seed, k), strict=True)
        changed = {name: getattr(physics, name) * factor for name, factor in factors}
        return Task(dataclasses.replace(physics, **changed), name=f"physics {k}")


@dataclass(frozen=True)
class Friction(Stationary):
    """A friction in every task, whose logarithm is uniform between those of ``low`` and ``high``.

    Source: the Slippery Ant of Dohare et al. (2024), Nature 632; the range is that of their code.

    >>> 0.02 <= Friction("ant").task(3).physics.friction <= 2.0
    True
    """

    low: float = 0.02
    high: float = 2.0

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            ant.check_friction(getattr(self, name), name)
        if self.low > self.high:
            raise ValueError(f"low: got {self.low}; it has to be at most high, which is {self.high}")
        if not hasattr(environments.make(self.environment), "friction"):
            said = f"'friction' needs an environment that has one, 'ant'; got {self.environment!r}"
            raise ValueError(f"stream: {said}")

    def task(self, k: int) -> Task:
        """Return the environment with the friction of task ``k``."""
        drawn = torch.rand((), generator=generator(self.seed, k), dtype=torch.float64)
        friction = self.low * (self.high / self.low) ** drawn.item()
        physics: Any = environments.make(self.environment)
        return Task(dataclasses.replace(physics, friction=friction), name=f"friction {friction:.3g}")


@dataclass(frozen=True)
class Turns:
    """Environments in turn, as they are; an agent needs the same numbers of observations and actions in all.

    >>> Turns("cartpole", others=("cartpole",)).task(1).name
    'cartpole'
    """

    environment: str
    seed: int = 0
    others: Sequence[str] = ()

    def __post_init__(self) -> None:
        first = environments.make(self.environment)
        for name in self.others:
            other = environments.make(name)
            if _spaces(other) != _spaces(first):
                raise ValueError(
                    f"others: {name} has {_told(other, ' observations', ' actions')}, {self.environment} "
                    f"{_told(first)}; an agent needs the same in all tasks"
                )

    def task(self, k: int) -> Task:
        """Return the environment whose turn it is."""
        names = (self.environment, *self.others)
        name = names[k % len(names)]
        return Task(environments.make(name), name=name)


def _spaces(physics: Physics) -> tuple[int, int, bool]:
    return physics.observations, physics.actions, physics.continuous


def _told(physics: Physics, seen: str = "", done: str = "") -> str:
    kind = " continuous" if physics.continuous else ""
    return f"{physics.observations}{seen} and {physics.actions}{kind}{done}"


STREAMS: Mapping[str, type[Stream]] = {
    "offset": Offset,
    "permuted": Permuted,
    "rewards": Rewards,
    "dynamics": Dynamics,
    "friction": Friction,
    "stationary": Stationary,
    "turns": Turns,
}


def make(name: str, environment: str, seed: int, **settings: Any) -> Stream:
    """Return the stream ``name`` of `STREAMS`.

    Raises:
        ValueError: for an unknown name or environment, or a setting that the stream does not have.

    >>> make("offset", "cartpole", 0, sd=1.0)
    Offset(environment='cartpole', seed=0, sd=1.0)
    """
    kind: Any = choose("stream", name, STREAMS)
    known = [field.name for field in dataclasses.fields(kind)][2:]
    for setting in settings:
        if setting not in known:
            allowed = f"allowed are {', '.join(map(repr, known))}" if known else "it has none"
            raise ValueError(f"stream_settings: got {setting!r} for the stream {name!r}; {allowed}")
    choose("environment", environment, environments.ENVIRONMENTS)
    stream: Stream = kind(environment, seed, **settings)
    return stream


def _factors(count: int, most: float, seed: int, k: int) -> list[float]:
    drawn = torch.rand(count, generator=generator(seed, k), dtype=torch.float64)
    found: list[float] = (most ** (2 * drawn - 1)).tolist()
    return found


def _check_most(most: float) -> None:
    if not 1 <= most < math.inf:
        raise ValueError(f"most: got {most}; it has to be a finite number, at least 1")
