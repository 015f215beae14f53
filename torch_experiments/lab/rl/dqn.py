"""Deep Q-learning (Mnih et al. 2015, Nature 518) on environments that are arrays.

A network ``Q(s, ·)`` is drawn to what one step and a frozen copy of it, the target ``Q'``, promise of an action,

    ``y = r + γ (1 − ended) max_a Q'(s', a)``,   loss: the mean of ``huber(Q(s, a) − y)``,

on minibatches of a replay of what was seen and done; every ``target_every`` gradient steps the copy is renewed.
Actions are greedy but for a share ``ε`` that is drawn at random. Details that matter are as in stable-baselines3:
an episode that is cut by its limit goes on in the target, and the norm of the gradients is clipped.

Two questions of the literature are settings. With ``heavy`` many gradient steps are taken on the first transitions
before the agent goes on (*primacy bias*, Nikishin et al. 2022, arXiv 2205.07802), and with ``reset_every`` its last
layers are drawn anew, which is their remedy. `regress` draws a network to values that stay as they are, on the same
minibatches as the agent's (Sokar et al. 2023, arXiv 2302.12902: are moving targets what makes units dormant?).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from torch_experiments.lab.rl import gradients
from torch_experiments.lab.rl.environments import Array
from torch_experiments.lab.rl.tasks import Seen
from torch_experiments.metrics.layers import ACTIVATIONS
from torch_experiments.support.choices import above_zero, at_least_one, choose, two_betas, up_to


@dataclass(frozen=True)
class Settings:
    """How a network of values is trained.

    Attributes:
        copies: of the environment.  horizon: steps of each between two places where a run can stop.
        batch: transitions of a minibatch.
        lr, betas: of Adam.  gamma: discount.  max_norm: of the gradients.
        capacity: transitions that the replay holds.  starts: transitions before the first gradient step.
        updates: gradient steps after every step of the copies.
        target_every: gradient steps between two copies of the network into the target.
        explore: transitions over which ε falls, in a straight line, from 1 to ``epsilon``.
        heavy: gradient steps on the first ``starts`` transitions, before any other.
        reset_every: steps of ``horizon`` after which the last ``reset_layers`` layers, and what Adam remembers of
            them, are drawn anew; 0 for never.
        fixed_targets: whether a second network is trained on the same minibatches to the last values of the first.

    Raises:
        ValueError: for a number out of its range; the message names the field.
    """

    copies: int = 32
    horizon: int = 64
    batch: int = 128
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    gamma: float = 0.99
    max_norm: float = 10.0
    capacity: int = 100_000
    starts: int = 1024
    updates: int = 2
    target_every: int = 100
    explore: int = 10_000
    epsilon: float = 0.05
    heavy: int = 0
    reset_every: int = 0
    reset_layers: int = 1
    fixed_targets: bool = False

    def __post_init__(self) -> None:
        names = ("copies", "horizon", "batch", "capacity", "starts", "updates", "target_every", "reset_layers")
        at_least_one(**{name: getattr(self, name) for name in names})
        for name in ("explore", "heavy", "reset_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; it has to be at least 0")
        up_to(math.inf, lr=self.lr)
        up_to(1, gamma=self.gamma, epsilon=self.epsilon)
        above_zero(max_norm=self.max_norm)
        two_betas(self.betas)
        if self.capacity < max(self.starts, self.copies):
            least = max(self.starts, self.copies)
            raise ValueError(f"capacity: got {self.capacity}; starts and copies need at least {least}")

    def due(self, step: int) -> int:
        """Return how many gradient steps follow step 0, 1, … of the copies.

        >>> [Settings(copies=4, starts=8, capacity=8, updates=2, heavy=100).due(t) for t in range(3)]
        [0, 102, 2]
        """
        seen = (step + 1) * self.copies
        if seen < self.starts:
            return 0
        return self.updates + (self.heavy if seen - self.copies < self.starts else 0)

    def explored(self, step: int) -> float:
        """Return ε at step 0, 1, … of the copies.

        >>> Settings(copies=1, explore=10, epsilon=0.2).explored(5)
        0.6
        """
        done = min(1.0, step * self.copies / self.explore) if self.explore else 1.0
        return 1.0 + (self.epsilon - 1.0) * done


class QNetwork(nn.Module):
    """A network for the value of every action, of hidden layers of one width; weights as `torch.nn.Linear` draws.

    They are uniform in ``±1/√m`` with the fan-in ``m``, as are biases, and drawn from ``seed``.

    >>> QNetwork(4, 2, width=8, depth=1)(torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        observations: int,
        actions: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least_one(width=width, depth=depth)
        activate, source = choose("activation", activation, ACTIVATIONS), torch.Generator().manual_seed(seed)
        parts: list[nn.Module] = []
        for inputs in [observations] + [width] * (depth - 1):
            parts += [_uniform(inputs, width, source), activate()]
        self.q = nn.Sequential(*parts, _uniform(width, actions, source))

    def forward(self, x: Tensor) -> Tensor:
        """Return values ``[n, actions]`` of observations ``[n, observations]``."""
        found: Tensor = self.q(x)
        return found


class Transitions(NamedTuple):
    """What was seen, done and got, and what was seen then, each ``[n, …]``."""

    observations: Array
    actions: Array
    rewards: Array
    ended: Array
    after: Array


class Replay:
    """The last transitions, up to a number of them, oldest first overwritten.

    Attributes:
        arrays: of ``capacity`` rows.  size: how many of them are known.  place: where the next one goes.

    >>> replay = Replay(3, 1)
    >>> one = Transitions(np.ones((2, 1)), np.zeros(2, int), np.ones(2), np.zeros(2, bool), np.ones((2, 1)))
    >>> replay.add(one), replay.add(one), replay.size, replay.place
    (None, None, 3, 1)
    """

    def __init__(self, capacity: int, observations: int) -> None:
        seen = np.zeros((capacity, observations), np.float32)
        actions, rewards = np.zeros(capacity, np.int64), np.zeros(capacity, np.float32)
        self.arrays = Transitions(seen, actions, rewards, np.zeros(capacity, bool), seen.copy())
        self.size = self.place = 0

    def add(self, new: Transitions) -> None:
        """Keep these transitions."""
        n, capacity = len(new.actions), len(self.arrays.actions)
        rows = (self.place + np.arange(n)) % capacity
        for array, values in zip(self.arrays, new, strict=True):
            array[rows] = values
        self.size, self.place = min(self.size + n, capacity), (self.place + n) % capacity

    def rows(self, chosen: Array) -> Transitions:
        """Return the transitions at these rows."""
        return Transitions(*(array[chosen] for array in self.arrays))

    def known(self) -> Transitions:
        """Return all that are known, oldest first while none was overwritten; they share memory with the replay."""
        return Transitions(*(array[: self.size] for array in self.arrays))

    def clear(self) -> None:
        """Forget everything."""
        self.size = self.place = 0

    def state(self) -> dict[str, Any]:
        """Return all that has to survive an interruption."""
        arrays = {name: torch.from_numpy(x[: self.size].copy()) for name, x in self.arrays._asdict().items()}
        return arrays | {"place": self.place}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was."""
        for name, array in self.arrays._asdict().items():
            self.size = len(state[name])
            array[: self.size] = state[name].numpy()
        self.place = int(state["place"])


class Values:
    """What a network says of observations, in NumPy where `gradients` knows its modules."""

    def __init__(self, network: QNetwork) -> None:
        self.network = network
        self.known = all(isinstance(module, gradients.KNOWN) for module in network.q)
        self.layers = gradients.layers(network.q) if self.known else []

    def of(self, observations: Array) -> Array:
        """Return values ``[n, actions]`` of observations ``[n, observations]``, float32."""
        if self.known:
            with np.errstate(over="ignore", invalid="ignore"):  # whoever trains looks at the norm
                return gradients.forward(self.layers, observations)[-1]
        self.network.eval()
        with torch.no_grad():
            found: Array = self.network(torch.from_numpy(observations)).numpy()
        return found


class Learner(Values):
    """A network of values and what trains it.

    Gradients are in closed form where `gradients` has it and nobody watches the module's passes (``watched``), else
    by autograd.
    """

    def __init__(
        self, network: QNetwork, optimizer: torch.optim.Optimizer, settings: Settings, watched: bool = False
    ) -> None:
        self.flat = gradients.Flat(network)
        super().__init__(network)
        self.optimizer, self.settings, self.closed = optimizer, settings, self.known and not watched

    def descend(self, batch: Transitions, y: Array) -> float:
        """Take a step towards the targets ``y [n]`` of a minibatch; return the norm of the gradient."""
        norm = self._in_closed_form(batch, y) if self.closed else self._by_autograd(batch, y)
        self.optimizer.step()
        return norm

    def _in_closed_form(self, batch: Transitions, y: Array) -> float:
        """Set the gradients: that of the mean Huber loss in ``Q(s, a)`` is the error, clipped to ±1, over n."""
        with np.errstate(over="ignore", invalid="ignore"):  # whoever calls looks at the norm
            found = gradients.forward(self.layers, batch.observations)
            rows, error = np.arange(len(y)), np.zeros_like(found[-1])
            error[rows, batch.actions] = np.clip(found[-1][rows, batch.actions] - y, -1.0, 1.0) / len(y)
            gradients.backward(self.layers, found, error)
            return self.flat.clip(self.settings.max_norm)

    def _by_autograd(self, batch: Transitions, y: Array) -> float:
        self.network.train()
        self.optimizer.zero_grad()
        actions = torch.from_numpy(batch.actions)[:, None]
        chosen = self.network(torch.from_numpy(batch.observations)).gather(1, actions).squeeze(1)
        huber_loss(chosen, torch.from_numpy(y)).backward()
        return float(nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.max_norm))


class Agent:
    """A network of values, its target and its replay, in the middle of a task.

    Attributes:
        learner: of the network.  target: a copy of it as it was at some gradient step.
        replay: of this task.  steps: of the copies in this task.  taken: gradient steps in this task.
    """

    def __init__(self, learner: Learner, target: QNetwork) -> None:
        self.learner, self.settings = learner, learner.settings
        self.target = Values(target)
        first: Any = target.q[0]
        self.replay = Replay(self.settings.capacity, first.in_features)
        self.steps = self.taken = 0
        self.begin()

    def begin(self) -> None:
        """Begin a task: the replay is empty, the target is the network, ε and the target's clock start anew."""
        self.replay.clear()
        self.steps = self.taken = 0
        self.renew_target()

    def renew_target(self) -> None:
        """Copy the network into the target."""
        copy_weights(self.learner.network, self.target.network)

    def step(self, seen: Seen, source: np.random.Generator, drawn: np.random.Generator) -> float:
        """Let all copies act once, remember it, and take the gradient steps that are due.

        ``source`` chooses actions, ``drawn`` minibatches. Returns the largest norm of a gradient.
        """
        before = seen.observation.astype(np.float32)
        actions = self.act(before, source)
        found = seen.step(actions)
        self.replay.add(Transitions(before, actions, found.reward, found.ended, found.last))
        norms = [self.learn(drawn) for _ in range(self.settings.due(self.steps))]
        self.steps += 1
        return float(np.max(norms)) if norms else 0.0  # nan if one is

    def act(self, observations: Array, source: np.random.Generator) -> Array:
        """Return greedy actions of observations ``[copies, …]``, but for a share ε that is drawn."""
        values = self.learner.of(observations)
        anew = source.random(len(values)) < self.settings.explored(self.steps)
        return np.where(anew, source.integers(values.shape[1], size=len(values)), values.argmax(axis=1))

    def learn(self, drawn: np.random.Generator) -> float:
        """Take a gradient step on a minibatch of the replay; return the norm of the gradient."""
        batch = self.replay.rows(drawn.integers(self.replay.size, size=self.settings.batch))
        norm = self.learner.descend(batch, targets(self.target, batch, self.settings.gamma))
        self.taken += 1
        if self.taken % self.settings.target_every == 0:
            self.renew_target()
        return norm

    def state(self) -> dict[str, Any]:
        """Return what survives an interruption, but for the network, the optimizer and the generators."""
        target = {name: w.clone() for name, w in self.target.network.state_dict().items()}
        return {"target": target, "replay": self.replay.state(), "steps": self.steps, "taken": self.taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was."""
        self.target.network.load_state_dict(state["target"])
        self.replay.restore(state["replay"])
        self.steps, self.taken = int(state["steps"]), int(state["taken"])


def targets(target: Values, batch: Transitions, gamma: float) -> Array:
    """Return ``y = r + γ (1 − ended) max_a Q'(s', a)``, ``[n]``, float32."""
    best = target.of(batch.after).max(axis=1)
    found: Array = (batch.rewards + gamma * np.where(batch.ended, 0.0, best)).astype(np.float32)
    return found


def regress(learner: Learner, replay: Replay, y: Array, drawn: np.random.Generator, steps: int) -> None:
    """Train a network on the minibatches that an agent had in a task, with targets that stay as they are.

    Args:
        learner: of the network, as the agent's was when the task began.
        replay: of the agent at the end of a task, in which nothing was overwritten.
        y: the target of every transition in it, ``[size]``.
        drawn: the generator of the agent's minibatches, as it was when the task began.
        steps: of the agent's copies in the task.
    """
    settings = learner.settings
    for step in range(steps):
        for _ in range(settings.due(step)):
            rows = drawn.integers((step + 1) * settings.copies, size=settings.batch)
            learner.descend(replay.rows(rows), y[rows])


def redraw(network: QNetwork, optimizer: torch.optim.Optimizer, new: QNetwork, layers: int) -> None:
    """Give the last Linear layers the weights of another network; the optimizer forgets what it knows of them."""
    pairs = [(a, b) for a, b in zip(network.q, new.q, strict=True) if isinstance(a, nn.Linear)][-layers:]
    with torch.no_grad():
        for old, other in pairs:
            for p, w in zip(old.parameters(), other.parameters(), strict=True):
                p.copy_(w)
                optimizer.state.pop(p, None)


def copy_weights(source: nn.Module, to: nn.Module) -> None:
    """Copy all parameters of one network into another, in place."""
    with torch.no_grad():
        for new, old in zip(source.parameters(), to.parameters(), strict=True):
            old.copy_(new)


def evaluate(network: QNetwork, seen: Seen) -> Array:
    """Return what the first whole episode of each copy returns under greedy actions, as `Seen.play`."""
    values = Values(network)
    return seen.play(lambda observations: values.of(observations).argmax(axis=1))


def adam(network: nn.Module, settings: Settings) -> torch.optim.Adam:
    """Return Adam with the rate and the betas of the settings."""
    return torch.optim.Adam(network.parameters(), lr=settings.lr, betas=settings.betas, fused=True)


def _uniform(inputs: int, outputs: int, source: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for p in (layer.weight, layer.bias):
        nn.init.uniform_(p, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=source)
    return layer
