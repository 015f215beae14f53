"""CartPole, Acrobot, MountainCar and Ant with many copies stepped as arrays; their physics is that of gymnasium.

The physics of an environment is a frozen dataclass of its constants, without a state: it moves arrays of states
``[copies, …]``. `Copies` holds the states, starts episodes anew as they end, and counts what they return.

Sources: Barto, Sutton & Anderson (1983); Sutton (1996); Moore (1990); their constants as in gymnasium 1.4
(CartPole-v1, Acrobot-v1, MountainCar-v0). Ant is simulated by MuJoCo, copy by copy; see `ant`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from torch_experiments.lab.rl import ant
from torch_experiments.support.choices import at_least_one, choose

Array = np.ndarray[Any, Any]


class Moved(NamedTuple):
    """Where the copies are after an action: states ``[copies, …]``, rewards and ends ``[copies]``."""

    state: Array
    reward: Array
    ended: Array


class Physics(Protocol):
    """What an environment does to states of any number of copies.

    Attributes:
        observations: numbers that are seen.  limit: steps of the longest episode.
        actions: how many there are; if ``continuous`` how many numbers an action is.
    """

    observations: ClassVar[int]
    actions: ClassVar[int]
    continuous: ClassVar[bool]
    limit: ClassVar[int]

    def begin(self, copies: int, source: np.random.Generator) -> Array:
        """Return states at the start of an episode, ``[copies, …]``."""

    def move(self, state: Array, action: Array) -> Moved:
        """Return what becomes of states under actions ``[copies]``, int; ``[copies, actions]``, if continuous."""

    def seen(self, state: Array) -> Array:
        """Return the observations ``[copies, observations]``, float64."""


@dataclass(frozen=True)
class CartPole:
    """A pole on a cart that is pushed left or right; reward 1 a step until it falls (12°) or leaves the track.

    >>> Copies(CartPole(), 2).step(np.array([0, 1])).reward
    array([1., 1.])
    """

    observations: ClassVar[int] = 4
    actions: ClassVar[int] = 2
    continuous: ClassVar[bool] = False
    limit: ClassVar[int] = 500
    gravity: float = 9.8
    cart: float = 1.0
    pole: float = 0.1
    length: float = 0.5
    push: float = 10.0
    tau: float = 0.02

    def begin(self, copies: int, source: np.random.Generator) -> Array:
        """Return states uniform in ±0.05."""
        return source.uniform(-0.05, 0.05, (copies, 4))

    def move(self, state: Array, action: Array) -> Moved:
        """Return the states after one step of Euler."""
        x, speed, angle, spin = state.T
        total, moment = self.pole + self.cart, self.pole * self.length
        cos, sin = np.cos(angle), np.sin(angle)
        thrust = (np.where(action == 1, self.push, -self.push) + moment * np.square(spin) * sin) / total
        lever = self.length * (4.0 / 3.0 - self.pole * np.square(cos) / total)
        twist = (self.gravity * sin - cos * thrust) / lever
        found = np.empty_like(state)
        found[:, 0], found[:, 1] = x + self.tau * speed, speed + self.tau * (thrust - moment * twist * cos / total)
        found[:, 2], found[:, 3] = angle + self.tau * spin, spin + self.tau * twist
        ended = (np.abs(found[:, 0]) > 2.4) | (np.abs(found[:, 2]) > 12 * 2 * math.pi / 360)
        return Moved(found, np.ones(len(state)), ended)

    def seen(self, state: Array) -> Array:
        """Return the states: position, speed, angle and its speed."""
        return state


@dataclass(frozen=True)
class Acrobot:
    """Two links, of which the joint between is driven; reward −1 a step until the tip is above the line.

    >>> Copies(Acrobot(), 3).observation.shape
    (3, 6)
    """

    observations: ClassVar[int] = 6
    actions: ClassVar[int] = 3
    continuous: ClassVar[bool] = False
    limit: ClassVar[int] = 500
    gravity: float = 9.8
    length: float = 1.0
    mass1: float = 1.0
    mass2: float = 1.0
    tau: float = 0.2
    fastest: ClassVar[tuple[float, float]] = (4 * math.pi, 9 * math.pi)

    def begin(self, copies: int, source: np.random.Generator) -> Array:
        """Return states uniform in ±0.1."""
        return source.uniform(-0.1, 0.1, (copies, 4))

    def move(self, state: Array, action: Array) -> Moved:
        """Return the states after one step of Runge and Kutta, of order 4."""
        torque, y, dt = action - 1.0, state.T, self.tau
        k1 = self._speed(y, torque)
        k2 = self._speed(y + dt / 2.0 * k1, torque)
        k3 = self._speed(y + dt / 2.0 * k2, torque)
        k4 = self._speed(y + dt * k3, torque)
        found = y + dt / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        found[:2] = _turned(found[:2])
        for row, most in zip(found[2:], self.fastest, strict=True):
            np.clip(row, -most, most, out=row)
        ended = -np.cos(found[0]) - np.cos(found[1] + found[0]) > 1.0
        return Moved(found.T.copy(), np.where(ended, 0.0, -1.0), ended)

    def seen(self, state: Array) -> Array:
        """Return cosine and sine of both angles, and their speeds."""
        first, second, speed1, speed2 = state.T
        return np.stack([np.cos(first), np.sin(first), np.cos(second), np.sin(second), speed1, speed2], axis=1)

    def _speed(self, y: Array, torque: Array) -> Array:
        """Return the time derivative of states ``[4, copies]``, by the equations of Sutton and Barto's book."""
        m1, m2, l1, g, inertia = self.mass1, self.mass2, self.length, self.gravity, 1.0
        c1 = c2 = self.length / 2  # where the mass of a link is
        first, second, speed1, speed2 = y
        cos, sin = np.cos(second), np.sin(second)
        d1 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * cos) + inertia + inertia
        d2 = m2 * (c2**2 + l1 * c2 * cos) + inertia
        phi2 = m2 * c2 * g * np.cos(first + second - math.pi / 2.0)
        phi1 = (
            -m2 * l1 * c2 * speed2**2 * sin
            - 2 * m2 * l1 * c2 * speed2 * speed1 * sin
            + (m1 * c1 + m2 * l1) * g * np.cos(first - math.pi / 2)
            + phi2
        )
        turn2 = torque + d2 / d1 * phi1 - m2 * l1 * c2 * speed1**2 * sin - phi2
        turn2 = turn2 / (m2 * c2**2 + inertia - d2**2 / d1)
        return np.stack([speed1, speed2, -(d2 * turn2 + phi1) / d1, turn2])


@dataclass(frozen=True)
class MountainCar:
    """A weak car in a valley that has to swing up to the right hill; reward −1 a step until it is there.

    >>> Copies(MountainCar(), 2).step(np.array([0, 2])).reward
    array([-1., -1.])
    """

    observations: ClassVar[int] = 2
    actions: ClassVar[int] = 3
    continuous: ClassVar[bool] = False
    limit: ClassVar[int] = 200
    force: float = 0.001
    gravity: float = 0.0025

    def begin(self, copies: int, source: np.random.Generator) -> Array:
        """Return cars at rest, uniform in [−0.6, −0.4]."""
        return np.stack([source.uniform(-0.6, -0.4, copies), np.zeros(copies)], axis=1)

    def move(self, state: Array, action: Array) -> Moved:
        """Return the states after a step."""
        place, speed = state.T
        speed = np.clip(speed + (action - 1) * self.force + np.cos(3 * place) * -self.gravity, -0.07, 0.07)
        place = np.clip(place + speed, -1.2, 0.6)
        speed = np.where((place == -1.2) & (speed < 0), 0.0, speed)
        return Moved(np.stack([place, speed], axis=1), np.full(len(state), -1.0), (place >= 0.5) & (speed >= 0))

    def seen(self, state: Array) -> Array:
        """Return the states: position and speed."""
        return state


@dataclass(frozen=True)
class Ant:
    """A robot on four legs that is to walk along x, MuJoCo's; an action is the eight torques of its joints.

    ``friction`` is that of all its geoms and of the floor. Without MuJoCo it can be made, and not moved.

    >>> Ant().observations, Ant().actions
    (105, 8)
    """

    observations: ClassVar[int] = ant.OBSERVATIONS
    actions: ClassVar[int] = ant.ACTIONS
    continuous: ClassVar[bool] = True
    limit: ClassVar[int] = ant.LIMIT
    friction: float = 1.0

    def __post_init__(self) -> None:
        ant.check_friction(self.friction)

    def begin(self, copies: int, source: np.random.Generator) -> Array:
        """Return robots about their usual pose; see `ant.Simulation.begin`."""
        return ant.simulation(self.friction).begin(copies, source)

    def move(self, state: Array, action: Array) -> Moved:
        """Return the states after a step; see `ant.Simulation.move`."""
        return Moved(*ant.simulation(self.friction).move(state, action))

    def seen(self, state: Array) -> Array:
        """Return positions but for x and y, velocities, and contact forces."""
        return ant.seen(state)


ENVIRONMENTS: Mapping[str, type[Physics]] = {
    "cartpole": CartPole,
    "acrobot": Acrobot,
    "mountaincar": MountainCar,
    "ant": Ant,
}


def make(name: str) -> Physics:
    """Return the physics of an environment with its usual constants.

    Raises:
        ValueError: for an unknown name; the message lists them.

    >>> make("acrobot").actions
    3
    """
    kind: type[Physics] = choose("environment", name, ENVIRONMENTS)
    return kind()


class Step(NamedTuple):
    """What a step of all copies gives, each ``[copies]`` or ``[copies, observations]``.

    Attributes:
        observation: after the step; of a copy whose episode ended, that of its next one.
        reward: of the step.
        ended: whether the environment ended the episode.
        cut: whether the limit of steps did.
        last: what was seen at the end of episodes, before they began anew.
    """

    observation: Array
    reward: Array
    ended: Array
    cut: Array
    last: Array


class Copies:
    """Copies of an environment in the middle of their episodes.

    Attributes:
        physics: of all copies.
        source: of the states at the start of episodes.
        states, lengths: ``[copies, …]``, and steps of the present episodes.
        totals: what the present episodes have returned so far.
        returns: of all episodes that ended since the list was emptied.

    >>> copies = Copies(CartPole(), 2, seed=1)
    >>> saved = copies.state()
    >>> first = copies.step(np.array([0, 1])).observation
    >>> copies.restore(saved)
    >>> bool((copies.step(np.array([0, 1])).observation == first).all())
    True
    """

    def __init__(self, physics: Physics, copies: int, seed: int | np.random.SeedSequence = 0) -> None:
        at_least_one(copies=copies)
        self.physics, self.source = physics, np.random.Generator(np.random.PCG64(seed))
        self.states = physics.begin(copies, self.source)
        self.lengths, self.totals = np.zeros(copies, np.int64), np.zeros(copies)
        self.returns: list[float] = []

    @property
    def observation(self) -> Array:
        """Return what is seen of the present states, ``[copies, observations]``."""
        return self.physics.seen(self.states)

    def step(self, action: Array) -> Step:
        """Move all copies by their actions ``[copies, …]``, and begin anew those whose episode ended."""
        self.states, reward, ended = self.physics.move(self.states, action)
        self.lengths += 1
        self.totals += reward
        cut = (self.lengths >= self.physics.limit) & ~ended
        over = ended | cut
        last = seen = self.observation
        if over.any():
            last = seen.copy()
            self._begin_anew(over)
            seen = self.observation
        return Step(seen, reward, ended, cut, last)

    def state(self) -> dict[str, Any]:
        """Return all that has to survive an interruption."""
        arrays = {name: getattr(self, name).copy() for name in ("states", "lengths", "totals")}
        return arrays | {"returns": list(self.returns), "source": self.source.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was."""
        for name in ("states", "lengths", "totals"):
            setattr(self, name, np.array(state[name]))
        self.returns = list(state["returns"])
        self.source.bit_generator.state = state["source"]

    def _begin_anew(self, over: Array) -> None:
        self.returns += self.totals[over].tolist()
        self.states[over] = self.physics.begin(int(over.sum()), self.source)
        self.lengths[over] = 0
        self.totals[over] = 0.0


def _turned(angles: Array) -> Array:
    """Return angles in [−π, π]; those that are there stay as they are."""
    while (high := angles > math.pi).any():
        angles = np.where(high, angles - 2 * math.pi, angles)
    while (low := angles < -math.pi).any():
        angles = np.where(low, angles + 2 * math.pi, angles)
    return angles
