"""Our PPO against that of stable-baselines3: the same returns on CartPole and Acrobot within seeds."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

from torch_experiments.diagnostics.monitor import PlasticityMonitor
from torch_experiments.lab.rl import ppo
from torch_experiments.lab.rl.environments import Copies, make
from torch_experiments.lab.rl.ppo import ActorCritic, Settings
from torch_experiments.lab.rl.tasks import Seen, Task

SETTINGS = Settings(copies=16, horizon=128, batch=256)
SEEDS = range(5)
THEIRS = {"cartpole": "CartPole-v1", "acrobot": "Acrobot-v1"}
ROLLOUTS = {"cartpole": (2, 6, 12), "acrobot": (20,)}  # after so many the returns are compared
LAST = 50  # episodes


def ours(environment, seed, rollouts):
    """Return the mean return of the last episodes after each number of rollouts."""
    physics, source = make(environment), np.random.default_rng(seed)
    policy = ActorCritic(physics.observations, physics.actions, activation="tanh", seed=seed)
    optimizer, seen = ppo.adam(policy, SETTINGS), Seen(Task(physics), Copies(physics, SETTINGS.copies, seed))
    found = []
    for k in range(1, max(rollouts) + 1):
        ppo.learn(policy, optimizer, ppo.collect(policy, seen, SETTINGS, source), SETTINGS, source)
        if k in rollouts:
            found.append(np.mean(seen.copies.returns[-LAST:]))
    return found


def theirs(environment, seed, rollouts):
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    from stable_baselines3.common.env_util import make_vec_env

    size = SETTINGS.copies * SETTINGS.horizon
    agent = package.PPO(
        "MlpPolicy",
        make_vec_env(THEIRS[environment], SETTINGS.copies, seed=seed),
        n_steps=SETTINGS.horizon,
        batch_size=SETTINGS.batch,
        n_epochs=SETTINGS.epochs,
        learning_rate=SETTINGS.lr,
        device="cpu",
        seed=seed,
    )
    found, done = [], 0
    for k in rollouts:
        agent.learn((k - done) * size, reset_num_timesteps=done == 0)
        done = k
        found.append(np.mean([episode["r"] for episode in list(agent.ep_info_buffer)[-LAST:]]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("environment", THEIRS)
def test_returns_are_those_of_stable_baselines3(environment):
    """No difference of means over seeds that a t-test at 1 % tells, at any of the times, and both have learnt."""
    torch.set_num_threads(1)
    rollouts = ROLLOUTS[environment]
    mine, other = (np.array([act(environment, seed, rollouts) for seed in SEEDS]) for act in (ours, theirs))
    for k in range(len(rollouts)):
        assert ttest_ind(mine[:, k], other[:, k], equal_var=False).pvalue > 0.01, (mine[:, k], other[:, k])
    low = {"cartpole": 80, "acrobot": -400}[environment]
    assert mine[:, -1].mean() > low
    assert other[:, -1].mean() > low


@pytest.mark.filterwarnings("ignore")
def test_the_three_lines_of_the_page_watch_a_policy():
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    agent = package.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=8, n_epochs=2, device="cpu", seed=0)
    monitor = PlasticityMonitor(agent.policy, torch.randn(16, 4), every=4, budget=None)
    with monitor.follow(agent.policy.optimizer):
        agent.learn(32)
    assert monitor.steps == 2 * 2 * 2  # rollouts, epochs, minibatches
    layers = {row["layer"] for row in monitor.rows}
    assert {"mlp_extractor.policy_net.1", "mlp_extractor.value_net.3"} & layers or len(layers) > 2
