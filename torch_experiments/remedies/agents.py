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
from difflib import get_close_matches
from inspect import signature
from numbers import Integral
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from torch_experiments.diagnostics.measurement import diagnose
from torch_experiments.diagnostics.monitor import PlasticityMonitor
from torch_experiments.remedies import REMEDIES, make
from torch_experiments.remedies.base import Remedy
from torch_experiments.remedies.bound import Bound
from torch_experiments.remedies.surgery import transaction

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
    target. It is bound to an agent at its first ``learn`` and stays on it, in a ``learn`` without it too, until
    ``detach()``. `Agent` says what it does and has.

    Args:
        remedies: by name, as in `remedies.make`, or as objects.
        monitor: a monitor of your own; or the options of one, such as ``{"every": 500}``, which looks at what the
            agent has seen last: of PPO in the last rollout, of DQN in its replay buffer.
        samples: how many observations it looks at.
        seed: of remedies and of the choice of observations; no generator of the agent's training is touched.

    Raises:
        ModuleNotFoundError: without stable-baselines3; the message has the line that installs it.
        ValueError: for an unknown remedy, what is no list of them, an option that the monitor does not have, or
            fewer than two samples.
        TypeError: for a part of a list that is no remedy.

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
    are those of the policy before. Where the agent has seen nothing yet, that is its first rollout.

    Attributes:
        bound: the remedies at work, in their order; empty before the first ``learn`` and after `detach`.
        monitor: that watches, None without one or before the first ``learn``; it can be read after `detach`.
    """

    model: Any

    def __init__(
        self,
        remedies: Iterable[str | Remedy] = (),
        monitor: PlasticityMonitor | Mapping[str, Any] | None = None,
        samples: int = 512,
        seed: int = 0,
    ) -> None:
        _check_samples(samples)
        _check_monitor(monitor)
        super().__init__()
        self.remedies = _remedies(remedies)
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
        """Tell the remedies that a new task begins; the first task needs no call.

        All of them act or, if there is an error, none.
        """
        if self.learning or not self._has_seen():
            self.waiting += 1
        else:
            self._begin_task()

    def observations(self) -> Observations:
        """Return what the agent has seen last, ``[samples, …]``: `samples` at most.

        Raises:
            ValueError: before the agent has seen anything.
        """
        return self._drawn() if self._seen is None else self._seen

    def detach(self) -> None:
        """Take remedies and monitor off the agent, which is then trained as if there had been none.

        The next ``learn`` with this callback, of the same agent or of one loaded from its file, binds it again, and
        it goes on where it was.
        """
        if self.agent is not None:
            self._running.close()
            self.saved = self.state_dict()
            self._let_go()

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept beside the agent; before it is bound, what was loaded, if anything was."""
        state = {"names": self._names(), "watched": self._watched(), "remedies": None, "monitor": None}
        if self.agent is not None:
            state["remedies"] = [bound.state_dict() for bound in self.bound]
            state["monitor"] = None if self.monitor is None else self.monitor.state_dict()
        return {**(state if self.saved is None else self.saved), "waiting": self.waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was: at once, or with the next ``learn`` if there was none.

        Raises:
            ValueError: for a state of other remedies (by name; settings may differ); of a callback with a monitor
                where this one has none, or the reverse; or from before the first ``learn``, after it.
        """
        given, own = (state["names"], state["watched"]), (self._names(), self._watched())
        if given != own:
            raise ValueError(f"state: is of {_listed(*given)}; this callback has {_listed(*own)}")
        if self.agent is None:
            self.saved = state
        elif state["remedies"] is None:
            raise ValueError("state: is from before the first learn; load it into a new SB3Plasticity")
        else:
            self._restore(state, self.monitor)
        self.waiting = int(state["waiting"])

    # ---------------------------------------------------------------- what stable-baselines3 calls

    def _on_training_start(self) -> None:
        if self.agent is None:
            self._bind(self.model)
        elif self.agent is not self.model:
            raise ValueError("callback: it is bound to another agent; make an SB3Plasticity for each, or detach()")
        elif any(bound.optimizer is not self.model.policy.optimizer for bound in self.bound):
            for bound in self.bound:
                bound.rebind(self.model.policy.optimizer)
        self._running.close()  # of a learn() that an error has ended
        self.learning = True

    def _on_rollout_start(self) -> None:
        self._begin_waiting()  # what was collected has been learnt from

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.agent is None:  # detached while it learns
            return
        on_policy = hasattr(self.agent, "rollout_buffer")
        self._seen = self._drawn() if on_policy else None  # a replay buffer is read when someone asks
        ready = self.agent.num_timesteps > getattr(self.agent, "learning_starts", 0)
        if self.monitor is not None and self.monitor.started is None and ready:
            self._running.enter_context(self.monitor.follow(self.agent.policy.optimizer))

    def _on_training_end(self) -> None:
        self.learning = False
        self._running.close()
        self._begin_waiting()

    # ---------------------------------------------------------------------------------- what it does

    def _bind(self, agent: Any) -> None:
        network = network_of(agent)
        if self.remedies and any(network_of(other.agent) is network for other in list(ATTACHED)):
            raise ValueError(
                "callback: the remedies of another SB3Plasticity are at work on this agent; detach() that one "
                "first, or give one SB3Plasticity all remedies"
            )
        monitor = self.monitor
        if self.options is not None:
            monitor = PlasticityMonitor(network, self.observations, **self.options)
        try:
            for remedy in self.remedies:
                bound = remedy.on(
                    network,
                    agent.policy.optimizer,
                    example_inputs=_samples(agent, self.seed),
                    probe=self.observations,
                    fresh=lambda seed: fresh_of(agent, seed),
                    seed=self.seed,
                )
                self.bound.append(bound)
                bound.attach()
            if self.saved is not None:
                self._restore(self.saved, monitor)
        except BaseException:
            self._let_go()
            raise
        self.agent, self.monitor, self.saved = agent, monitor, None
        if self.bound:
            ATTACHED.add(self)

    def _let_go(self) -> None:
        for bound in self.bound:
            bound.remove()
        ATTACHED.discard(self)
        self.bound, self.agent, self._seen = [], None, None

    def _restore(self, state: Mapping[str, Any], monitor: PlasticityMonitor | None) -> None:
        if state["remedies"] is None:  # from before the first learn
            return
        for bound, one in zip(self.bound, state["remedies"], strict=True):
            bound.load_state_dict(one)
        if monitor is not None:
            monitor.load_state_dict(state["monitor"])

    def _begin_waiting(self) -> None:
        while self.waiting and self._has_seen():
            self._begin_task()
            self.waiting -= 1

    def _begin_task(self) -> None:
        with transaction():
            for bound in self.bound:
                bound.task()

    def _names(self) -> list[str]:
        known = {kind: name for name, kind in REMEDIES.items()}
        return [known.get(type(remedy), type(remedy).__name__) for remedy in self.remedies]

    def _watched(self) -> bool:
        return self.monitor is not None or self.options is not None

    def _has_seen(self) -> bool:
        buffer = self._buffer()
        return self._seen is not None or (buffer is not None and buffer.size() > 0)

    def _buffer(self) -> Any:
        return getattr(self.agent, "rollout_buffer", None) or getattr(self.agent, "replay_buffer", None)

    def _drawn(self) -> Observations:
        buffer = self._buffer()
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


ATTACHED: WeakSet[Agent] = WeakSet()  # whose remedies are at work; the hooks of these keep them alive


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


def _remedies(given: Any) -> list[Remedy]:
    if isinstance(given, Mapping) or not isinstance(given, Iterable | Remedy):
        raise ValueError(
            f"remedies: got {type(given).__name__}; give a list of names, and of remedies with settings of their "
            "own, as remedies.make('redo', every=50)"
        )
    return [_remedy(one) for one in ([given] if isinstance(given, str | Remedy) else given)]


def _remedy(given: str | Remedy) -> Remedy:
    if isinstance(given, Remedy):
        return given
    if not isinstance(given, str):
        raise TypeError(
            f"remedies: got {type(given).__name__}; give names, or remedies that are not bound, as remedies.make(…)"
        )
    return make(given)


def _check_samples(given: Any) -> None:
    if not isinstance(given, Integral) or given < 2:
        raise ValueError(f"samples: got {given!r}; at least 2 are needed, a whole number")


def _check_monitor(given: Any) -> None:
    """Raise a ValueError for what is no monitor and no options of one, now and not at the first rollout."""
    if given is None or isinstance(given, PlasticityMonitor):
        return
    if not isinstance(given, Mapping):
        raise ValueError(
            f"monitor: got {type(given).__name__}; give a PlasticityMonitor, or its options, as {{'every': 500}}"
        )
    own = {"self", "model", "batch", "options"}
    allowed = [name for name in signature(PlasticityMonitor.__init__).parameters if name not in own]
    allowed += [name for name in signature(diagnose).parameters if name not in {*allowed, *own}]
    for name in given:
        if name not in allowed:
            near = get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(map(repr, allowed))}"
            raise ValueError(f"monitor: got the option {name!r}; {hint}")
    PlasticityMonitor(nn.Identity(), None, **given)  # for what its values may be


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


def _listed(names: Iterable[str], watched: bool) -> str:
    return f"{', '.join(names) or 'no remedy'} and {'a monitor' if watched else 'no monitor'}"
