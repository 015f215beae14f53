"""Everything that determines the numbers of an agent on a stream of tasks, and what identifies its record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch_experiments import remedies
from torch_experiments.lab.rl import dqn, environments, ppo, tasks
from torch_experiments.metrics.layers import ACTIVATIONS
from torch_experiments.support.choices import at_least_one, choose

Pairs = tuple[tuple[str, Any], ...]
SIZES = ("width", "depth")  # what ``arch_settings`` may hold
REVISION = 1  # raise it when the same config would give other numbers: old records are then left alone


@dataclass(frozen=True)
class Common:
    """What agents of all algorithms are asked: the stream, the network, the remedy, and what is measured.

    Attributes:
        experiment: name of the record.
        environment: a key of `environments.ENVIRONMENTS`.
        stream, stream_settings: of `tasks.STREAMS`.
        tasks: how many.
        steps: rollouts a task, after each of which it can be measured.
        arch, arch_settings, activation: ``"mlp"``, width and depth of its hidden layers, the nonlinearity.
        remedy, remedy_settings: of `torch_experiments.remedies`.
        measure_every: rollouts between measurements, which are taken at the end of a task besides.
        episodes: by which the policy is judged.  probe: observations on which its network is measured.
        device: ``"cpu"``.

    Raises:
        ValueError: for a value that a field does not take; the message names the field and what is allowed.
    """

    experiment: str = "run"
    environment: str = "cartpole"
    stream: str = "offset"
    stream_settings: Pairs = ()
    tasks: int = 5
    steps: int = 25
    arch: str = "mlp"
    arch_settings: Pairs = ()
    activation: str = "relu"
    remedy: str = "none"
    remedy_settings: Pairs = ()
    measure_every: int = 1000
    episodes: int = 64
    probe: int = 512
    device: str = "cpu"

    def check(self) -> None:
        """Raise a ValueError for a value that a field does not take."""
        tasks.make(self.stream, self.environment, 0, **dict(self.stream_settings))
        choose("arch", self.arch, dict.fromkeys(("mlp",)))
        choose("activation", self.activation, ACTIVATIONS)
        choose("device", self.device, dict.fromkeys(("cpu",)))
        for name in dict(self.arch_settings):
            choose("settings", name, dict.fromkeys(SIZES))
        remedies.make(self.remedy, **dict(self.remedy_settings))
        at_least_one(
            **{name: getattr(self, name) for name in ("tasks", "steps", "measure_every", "episodes", "probe")}
        )

    @property
    def data(self) -> str:
        """Return the name of the data: there are none."""
        return ""

    def identity(self, seed: int) -> dict[str, Any]:
        """Return what identifies the record of a run: all settings, and the seed.

        >>> Config(arch_settings=(("width", 8),)).identity(3)["arch_settings"]
        {'width': 8}
        """
        settings = {name: _plain(value) for name, value in dataclasses.asdict(self).items()}
        for name in [name for name in settings if name.endswith("_settings")]:
            settings[name] = dict(sorted((key, _plain(value)) for key, value in getattr(self, name)))
        return settings | {"revision": REVISION, "seed": seed}


@dataclass(frozen=True)
class Config(Common, ppo.Settings):
    """Everything that determines the numbers of a run of `ppo` but its seed.

    Its fields are those of `ppo.Settings` and of `Common`, with their errors.

    >>> Config(tasks=2, steps=25).copies
    32
    >>> Config(environment="cartpool")
    Traceback (most recent call last):
    ValueError: environment: got 'cartpool'; allowed are 'cartpole', 'acrobot', 'mountaincar', 'ant'
    """

    def __post_init__(self) -> None:
        ppo.Settings.__post_init__(self)
        self.check()


@dataclass(frozen=True)
class ValueConfig(Common, dqn.Settings):
    """Everything that determines the numbers of a run of `dqn` but its seed.

    Its fields are those of `dqn.Settings` and of `Common`, with their errors.

    >>> ValueConfig(tasks=2).identity(0)["algorithm"]
    'dqn'
    """

    def __post_init__(self) -> None:
        dqn.Settings.__post_init__(self)
        self.check()
        if environments.make(self.environment).continuous:
            raise ValueError(
                f"environment: got {self.environment!r}, whose actions are continuous; DQN needs some that can be "
                "counted, so choose another environment, or PPO (e09)"
            )
        length = self.steps * self.horizon * self.copies
        if self.fixed_targets and self.capacity < length:
            raise ValueError(f"capacity: got {self.capacity}; fixed_targets needs a task's transitions, {length}")
        if self.fixed_targets and (self.reset_every or self.remedy not in ("none", "fresh")):
            raise ValueError(
                f"fixed_targets: got True with reset_every {self.reset_every} and remedy {self.remedy!r}; its "
                "second network has neither, so leave them out"
            )

    def identity(self, seed: int) -> dict[str, Any]:
        """Return what identifies the record of a run: the algorithm, all settings, and the seed."""
        return {"algorithm": "dqn"} | super().identity(seed)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
