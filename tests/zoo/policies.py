"""Policies of stable-baselines3, called as its training does: with observations, or with a mapping of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tests.zoo.registry import SAMPLES, Architecture

PACKAGE = "stable_baselines3"
ROOM = 36  # pixels of the side of an image; the network of a Nature paper takes no fewer


def policies() -> Iterator[Architecture]:
    """Yield the architectures of the package."""
    for name, build, inputs in (
        ("PPO MlpPolicy", lambda: _policy("ppo", "MlpPolicy", _vectors(), _box()), lambda: _acting(_vector())),
        ("PPO MlpPolicy, discrete", lambda: _policy("ppo", "MlpPolicy", _vectors(), _few()),
         lambda: _acting(_vector())),
        ("PPO CnnPolicy", lambda: _policy("ppo", "CnnPolicy", _pictures(), _few()), lambda: _acting(_picture())),
        ("PPO MultiInputPolicy", lambda: _policy("ppo", "MultiInputPolicy", _both(), _few()),
         lambda: _acting(_mixed())),
        ("A2C MlpPolicy", lambda: _policy("a2c", "MlpPolicy", _vectors(), _few()), lambda: _acting(_vector())),
        ("DQN MlpPolicy, Q network", lambda: _policy("dqn", "MlpPolicy", _vectors(), _few()).q_net, _vector),
        ("DQN CnnPolicy, Q network", lambda: _policy("dqn", "CnnPolicy", _pictures(), _few()).q_net, _picture),
        ("DQN MultiInputPolicy, Q network", lambda: _policy("dqn", "MultiInputPolicy", _both(), _few()).q_net,
         lambda: {"obs": _mixed()}),
        ("SAC MlpPolicy, actor", lambda: _policy("sac", "MlpPolicy", _vectors(), _box()).actor, _acting_vector),
        ("SAC MlpPolicy, critic", lambda: _policy("sac", "MlpPolicy", _vectors(), _box()).critic, _judging),
        ("SAC CnnPolicy, actor", lambda: _policy("sac", "CnnPolicy", _pictures(), _box()).actor,
         lambda: _acting(_picture())),
        ("TD3 MlpPolicy, actor", lambda: _policy("td3", "MlpPolicy", _vectors(), _box()).actor, _vector),
    ):  # fmt: skip
        yield Architecture(name, "policy", PACKAGE, build, inputs)


def _policy(algorithm: str, kind: str, observations: Any, actions: Any) -> Any:
    """Return a new policy of small layers, as its algorithm makes it."""
    from importlib import import_module

    home = import_module(f"stable_baselines3.{algorithm}.policies")
    small: dict[str, Any] = {"net_arch": [16, 16]}
    if kind == "MultiInputPolicy":
        small["features_extractor_kwargs"] = {"cnn_output_dim": 16}
    elif kind == "CnnPolicy":
        small["features_extractor_kwargs"] = {"features_dim": 16}
    return getattr(home, kind)(observations, actions, lambda _: 1e-3, **small)


def _vectors() -> Any:
    from gymnasium import spaces

    return spaces.Box(-5.0, 5.0, (6,))


def _box() -> Any:
    from gymnasium import spaces

    return spaces.Box(-1.0, 1.0, (2,))


def _few() -> Any:
    from gymnasium import spaces

    return spaces.Discrete(3)


def _pictures() -> Any:
    import numpy as np
    from gymnasium import spaces

    return spaces.Box(0, 255, (3, ROOM, ROOM), dtype=np.uint8)


def _both() -> Any:
    from gymnasium import spaces

    return spaces.Dict({"picture": _pictures(), "state": _vectors(), "task": spaces.Discrete(4)})


def _vector() -> torch.Tensor:
    return torch.randn(SAMPLES, 6)


def _picture() -> torch.Tensor:
    return torch.randint(0, 256, (SAMPLES, 3, ROOM, ROOM), dtype=torch.uint8)


def _mixed() -> dict[str, torch.Tensor]:
    return {"picture": _picture(), "state": _vector(), "task": torch.arange(SAMPLES)[:, None]}


def _acting(observation: Any) -> dict[str, Any]:
    return {"obs": observation, "deterministic": True}


def _acting_vector() -> dict[str, Any]:
    return _acting(_vector())


def _judging() -> dict[str, torch.Tensor]:
    return {"obs": _vector(), "actions": torch.rand(SAMPLES, 2) * 2 - 1}
