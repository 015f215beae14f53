"""Remedies and a monitor in the training of an agent of stable-baselines3, as a callback.

    callback = SB3Plasticity(["redo"], monitor={"every": 500})
    agent.learn(100_000, callback=callback)
    callback.task()  # the environment has changed: a new task begins

Steps are those of the policy's optimizer. stable-baselines3 calls back at steps of the environment and at rollouts,
and not at gradient steps, so these are counted by the hooks of torch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_experiments.diagnostics.monitor import PlasticityMonitor
from torch_experiments.remedies import make
from torch_experiments.remedies.base import Remedy
from torch_experiments.remedies.bound import Bound

TRACED = 4  # observations with which a policy is traced
MISSING = "SB3Plasticity needs stable_baselines3, which is not installed: pip install 'lop-companion[rl]'"
Observations = Tensor | dict[str, Tensor]


def SB3Plasticity(  # a class of stable-baselines3's that is made when it is asked for
    remedies: Iterable[str | Remedy] = (),
    *,
    monitor: PlasticityMonitor | Mapping[str, Any] | None = None,
    samples: int = 512,
    seed: int = 0,
) -> Any:
    """Return a callback of stable-baselines3 that applies remedies and watches the policy.

    For PPO and A2C, whose policy is one network, and for DQN, of which the network of values is meant and not its
    target. It is bound to an agent at its first ``learn`` and stays with it. `Agent` says what it does and has.

    Args:
        remedies: by name, as in `remedies.make`, or as objects.
        monitor: a monitor of your own; or the options of one, such as ``{"every": 500}``, which looks at what the
            agent has seen last: of PPO in the last rollout, of DQN in its replay buffer.
        samples: how many observations it looks at.
        seed: of remedies and of the choice of observations; no generator of the agent's training is touched.

    Raises:
        ModuleNotFoundError: without stable-baselines3; the message has the line that installs it.
        ValueError: for an unknown remedy, or for fewer than two samples.
        TypeError: for what is no remedy.

    >>> agent.learn(100_000, callback=SB3Plasticity(["redo"], monitor={"every": 500}))  # doctest: +SKIP
    """
    try:
        from stable_baselines3.common.callbacks import BaseCallback
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING, name="stable_baselines3") from error
    kind: Any = type("SB3Plasticity", (Agent, BaseCallback), {})
    return kind(remedies, monitor, samples, seed)


class Agent:
    """What `SB3Plasticity` does; stable-baselines3 sets ``model``, the agent, and calls what begins with ``_on``.

    A remedy that acts at a new task, as shrink-and-perturb does, changes the policy at once where nobody is
    learning, and else as soon as the present rollout has been learnt from, since the probabilities of its actions
    are those of the policy before.

    Attributes:
        bound: the remedies at work, in their order; empty before the first ``learn``.
        monitor: that watches, None without one or before the first ``learn``.
    """

    model: Any

    def __init__(
        self,
        remedies: Iterable[str | Remedy] = (),
        monitor: PlasticityMonitor | Mapping[str, Any] | None = None,
        samples: int = 512,
        seed: int = 0,
    ) -> None:
        if samples < 2:
            raise ValueError(f"samples: got {samples}; at least 2 are needed")
        super().__init__()
        self.remedies = [_remedy(one) for one in ([remedies] if isinstance(remedies, str) else remedies)]
        self.monitor = monitor if isinstance(monitor, PlasticityMonitor) else None
        self.options = None if isinstance(monitor, PlasticityMonitor) else monitor
        self.samples, self.seed = samples, seed
        self.bound: list[Bound] = []
        self.agent: Any = None
        self.learning, self.waiting = False, 0
        self.saved: Mapping[str, Any] | None = None
        self._seen: Observations | None = None
        self._running = ExitStack()

    def task(self) -> None:
        """Tell the remedies that a new task begins; the first task needs no call."""
        if self.learning or self.agent is None:
            self.waiting += 1
        else:
            self._begin_task()

    def observations(self) -> Observations:
        """Return what the agent has seen last, ``[samples, …]``: `samples` at most.

        Raises:
            ValueError: before the agent has seen anything.
        """
        return self._drawn() if self._seen is None else self._seen

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept beside the agent, of remedies and monitor."""
        monitor = None if self.monitor is None else self.monitor.state_dict()
        return {"remedies": [b.state_dict() for b in self.bound], "monitor": monitor, "waiting": self.waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was: at once, or with the next ``learn`` if there was none.

        Raises:
            ValueError: for a state of other remedies, or of a callback with a monitor where this one has none.
        """
        has = self.monitor is not None or self.options is not None
        if len(state["remedies"]) != len(self.remedies) or (state["monitor"] is not None) != has:
            raise ValueError(
                f"state: is of {len(state['remedies'])} remedies and {_monitors(state['monitor'] is not None)}; "
                f"this callback has {len(self.remedies)} and {_monitors(has)}"
            )
        self.waiting = int(state["waiting"])
        self.saved = state
        if self.agent is not None:
            self._restore()

    # ---------------------------------------------------------------- what stable-baselines3 calls

    def _on_training_start(self) -> None:
        if self.agent is None:
            self._bind(self.model)
        elif self.agent is not self.model:
            raise ValueError("callback: it is bound to another agent; make an SB3Plasticity for each")
        elif any(bound.optimizer is not self.model.policy.optimizer for bound in self.bound):
            for bound in self.bound:
                bound.rebind(self.model.policy.optimizer)
        self._running.close()  # of a learn() that an error has ended
        self.learning = True

    def _on_rollout_start(self) -> None:
        while self.waiting:  # what was collected has been learnt from
            self.waiting -= 1
            self._begin_task()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        on_policy = hasattr(self.agent, "rollout_buffer")
        self._seen = self._drawn() if on_policy else None  # a replay buffer is read when someone asks
        ready = self.agent.num_timesteps > getattr(self.agent, "learning_starts", 0)
        if self.monitor is not None and self.monitor.started is None and ready:
            self._running.enter_context(self.monitor.follow(self.agent.policy.optimizer))

    def _on_training_end(self) -> None:
        self.learning = False
        self._running.close()

    # ---------------------------------------------------------------------------------- what it does

    def _bind(self, agent: Any) -> None:
        network = network_of(agent)
        for remedy in self.remedies:
            bound = remedy.on(
                network,
                agent.policy.optimizer,
                example_inputs=_samples(agent, self.seed),
                probe=self.observations,
                fresh=lambda seed: fresh_of(agent, seed),
                seed=self.seed,
            )
            self.bound.append(bound.attach())
        if self.options is not None:
            self.monitor = PlasticityMonitor(network, self.observations, **self.options)
        self.agent = agent
        if self.saved is not None:
            self._restore()

    def _restore(self) -> None:
        state, self.saved = self.saved, None
        assert state is not None
        for bound, one in zip(self.bound, state["remedies"], strict=True):
            bound.load_state_dict(one)
        if self.monitor is not None:
            self.monitor.load_state_dict(state["monitor"])

    def _begin_task(self) -> None:
        for bound in self.bound:
            bound.task()

    def _drawn(self) -> Observations:
        buffer = getattr(self.agent, "rollout_buffer", None) or getattr(self.agent, "replay_buffer", None)
        if buffer is None or not buffer.size():
            raise ValueError("observations: the agent has seen nothing yet; they are there after its first rollout")
        count, copies = buffer.size(), buffer.n_envs
        source = np.random.Generator(np.random.PCG64([self.seed, self.agent.num_timesteps]))
        step, env = divmod(source.choice(count * copies, min(self.samples, count * copies), replace=False), copies)
        found = _each(buffer.observations, lambda x: x[step, env])
        scaled = None if hasattr(self.agent, "rollout_buffer") else self.agent.get_vec_normalize_env()
        return _each(
            found if scaled is None else scaled.normalize_obs(found),
            lambda x: torch.as_tensor(x, device=self.agent.device),
        )


def network_of(agent: Any) -> nn.Module:
    """Return the network of an agent that its optimizer trains: the policy, or of DQN the network of values.

    Raises:
        TypeError: for an agent whose policy has several optimizers, such as that of SAC; it says what to do.
    """
    policy = agent.policy
    if not isinstance(getattr(policy, "optimizer", None), torch.optim.Optimizer):
        raise TypeError(
            f"agent: {type(agent).__name__} trains several networks, each with an optimizer; bind a remedy to one, "
            "as in remedy.on(agent.actor, agent.actor.optimizer, example_inputs=x).attach()"
        )
    found: nn.Module = policy.q_net if hasattr(policy, "q_net") else policy
    return found


@torch.random.fork_rng(devices=[])
def fresh_of(agent: Any, seed: int) -> nn.Module:
    """Return the network of an agent as stable-baselines3 starts it from ``seed``, on the CPU."""
    torch.manual_seed(seed)
    policy = type(agent.policy)(**agent.policy._get_constructor_parameters())
    found: nn.Module = policy.q_net if hasattr(policy, "q_net") else policy
    return found


def _remedy(given: str | Remedy) -> Remedy:
    if isinstance(given, Remedy):
        return given
    if not isinstance(given, str):
        raise TypeError(
            f"remedies: got {type(given).__name__}; give names, or remedies that are not bound, as remedies.make(…)"
        )
    return make(given)


def _samples(agent: Any, seed: int) -> Observations:
    """Return observations of the agent's space, drawn by a generator of their own."""
    space = copy.deepcopy(agent.observation_space)
    space.seed(seed)
    drawn = [space.sample() for _ in range(TRACED)]
    stacked = (
        {k: np.stack([x[k] for x in drawn]) for k in drawn[0]} if isinstance(drawn[0], dict) else np.stack(drawn)
    )
    return _each(stacked, lambda x: torch.as_tensor(x, device=agent.device))


def _each(observations: Any, change: Any) -> Any:
    if isinstance(observations, Mapping):
        return {name: change(x) for name, x in observations.items()}
    return change(observations)


def _monitors(has: bool) -> str:
    return "a monitor" if has else "no monitor"
