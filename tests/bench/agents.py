"""Environment steps a CPU-second of our PPO and of stable-baselines3's, on CartPole, one thread.

Networks, epochs, minibatches, rollouts, discounts and optimizer are alike: the defaults of stable-baselines3 (two
hidden layers of 64 tanh units each for actor and critic, 2,048 steps a rollout, 10 epochs of batches of 64), or its
defaults with larger minibatches. It has one environment, by default, or as many as ours, which has 32 as arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from torch_experiments.lab.rl import ppo
from torch_experiments.lab.rl.environments import CartPole, Copies
from torch_experiments.lab.rl.ppo import Settings
from torch_experiments.lab.rl.tasks import Seen, Task

ROLLOUT, COPIES = 2048, 32
ROUNDS = 2
ASKED = 8  # times as many steps as stable-baselines3 with its defaults


def main() -> None:
    """Print a row a size of minibatches: steps a CPU-second of both, and the ratios."""
    if find_spec("stable_baselines3") is None:
        print("stable-baselines3 is not installed: pip install 'lop-companion[rl]'")
        return
    torch.set_num_threads(1)
    many_envs = f"theirs, {COPIES} envs"
    print(f"{'batch':>6}  {'ours':>8}  {'theirs, 1 env':>13}  {'ratio':>6}  {many_envs:>15}  {'ratio':>6}")
    for batch in (64, 256):
        settings = Settings(copies=COPIES, horizon=ROLLOUT // COPIES, batch=batch)
        makers = (lambda s=settings: ours(s), lambda b=batch: theirs(1, b), lambda b=batch: theirs(COPIES, b))
        mine, one, many = (rate(make()) for make in makers)
        print(
            f"{batch:>6}  {mine:>8,.0f}  {one:>13,.0f}  {mine / one:>6.1f}  {many:>15,.0f}  {mine / many:>6.1f}",
            flush=True,
        )
    print(f"asked: {ASKED} times the steps of stable-baselines3 at its defaults (batch 64, one environment)")


def ours(settings: Settings) -> Callable[[], object]:
    """Return what takes a rollout and learns from it."""
    policy, source = ppo.ActorCritic(4, 2, activation="tanh"), np.random.default_rng(0)
    optimizer, seen = ppo.adam(policy, settings), Seen(Task(CartPole()), Copies(CartPole(), settings.copies))
    return lambda: ppo.learn(policy, optimizer, ppo.collect(policy, seen, settings, source), settings, source)


def theirs(copies: int, batch: int, seed: int = 0) -> Callable[[], object]:
    """Return what takes a rollout with stable-baselines3 and learns from it."""
    agent = agent_of(copies, batch, seed)
    return lambda: agent.learn(ROLLOUT, reset_num_timesteps=False)


def agent_of(copies: int, batch: int, seed: int) -> Any:
    """Return a PPO of stable-baselines3 with the settings of `Settings` and rollouts of `ROLLOUT` steps."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    given = Settings()
    return PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", copies, seed=seed),
        n_steps=ROLLOUT // copies,
        batch_size=batch,
        n_epochs=given.epochs,
        learning_rate=given.lr,
        gamma=given.gamma,
        gae_lambda=given.lam,
        clip_range=given.clip,
        ent_coef=given.entropy,
        vf_coef=given.value,
        max_grad_norm=given.max_norm,
        device="cpu",
        seed=seed,
    )


def rate(act: Callable[[], object]) -> float:
    """Return environment steps a CPU-second, the best of some rollouts after a first one."""
    act()
    best = 0.0
    for _ in range(ROUNDS):
        start = time.process_time()
        act()
        best = max(best, ROLLOUT / (time.process_time() - start))
    return best
