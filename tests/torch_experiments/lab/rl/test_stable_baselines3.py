"""Our PPO and DQN against those of stable-baselines3: the same returns within seeds."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

import lop
from tests.docs.pages import blocks, read
from torch_experiments.lab.rl import dqn, ppo
from torch_experiments.lab.rl.environments import Copies, make
from torch_experiments.lab.rl.ppo import ActorCritic, Settings
from torch_experiments.lab.rl.tasks import Seen, Task

SETTINGS = Settings(copies=16, horizon=128, batch=256)
SEEDS = range(5)
THEIRS = {"cartpole": "CartPole-v1", "acrobot": "Acrobot-v1", "ant": "Ant-v5"}
ROLLOUTS = {"cartpole": (2, 6, 12), "acrobot": (20,), "ant": (4, 12)}  # after so many the returns are compared
LAST = 50  # episodes
VALUES = dqn.Settings(
    copies=8, batch=64, capacity=50_000, starts=256, updates=2, target_every=100, explore=4_000, lr=2e-3
)
STEPS = (4_000, 8_000, 12_000)  # of all environments, after which the returns of values are compared


def ours(environment, seed, rollouts):
    """Return the mean return of the last episodes after each number of rollouts."""
    physics, source = make(environment), np.random.default_rng(seed)
    kind = {"continuous": physics.continuous, "activation": "tanh"}
    policy = ActorCritic(physics.observations, physics.actions, seed=seed, **kind)
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
    if environment == "ant":
        pytest.importorskip("mujoco", reason="pip install 'lop-companion[rl]'")
    rollouts = ROLLOUTS[environment]
    mine, other = (np.array([act(environment, seed, rollouts) for seed in SEEDS]) for act in (ours, theirs))
    for k in range(len(rollouts)):
        assert ttest_ind(mine[:, k], other[:, k], equal_var=False).pvalue > 0.01, (mine[:, k], other[:, k])
    low = {"cartpole": 80, "acrobot": -400}[environment]
    assert mine[:, -1].mean() > low
    assert other[:, -1].mean() > low


def our_values(seed):
    """Return the mean return of the last episodes of a DQN of ours after each number of steps."""
    physics, source = make("cartpole"), np.random.default_rng(seed)
    network = dqn.QNetwork(physics.observations, physics.actions, seed=seed)
    agent = dqn.Agent(dqn.Learner(network, dqn.adam(network, VALUES), VALUES), dqn.QNetwork(4, 2))
    seen, found = Seen(Task(physics), Copies(physics, VALUES.copies, seed)), []
    for k in range(1, max(STEPS) // VALUES.copies + 1):
        agent.step(seen, source, source)
        if k * VALUES.copies in STEPS:
            found.append(np.mean(seen.copies.returns[-LAST:]))
    return found


def their_values(seed):
    """Return the same of theirs, with equal network, rates, replay, gradient steps, and clock of the target."""
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class Noted(BaseCallback):
        def __init__(self):
            super().__init__()
            self.found = []

        def _on_step(self):
            if self.num_timesteps in STEPS:
                self.found.append(np.mean([episode["r"] for episode in list(self.model.ep_info_buffer)[-LAST:]]))
            return True

    agent = package.DQN(
        "MlpPolicy",
        make_vec_env("CartPole-v1", VALUES.copies, seed=seed),
        learning_rate=VALUES.lr,
        buffer_size=VALUES.capacity,
        learning_starts=VALUES.starts,
        batch_size=VALUES.batch,
        gamma=VALUES.gamma,
        train_freq=1,
        gradient_steps=VALUES.updates,
        target_update_interval=VALUES.target_every // VALUES.updates * VALUES.copies,
        exploration_fraction=VALUES.explore / max(STEPS),
        exploration_final_eps=VALUES.epsilon,
        max_grad_norm=VALUES.max_norm,
        device="cpu",
        seed=seed,
    )
    noted = Noted()
    agent.learn(max(STEPS), callback=noted)
    return noted.found


@pytest.mark.slow
def test_returns_of_values_are_those_of_stable_baselines3():
    """No difference of means over seeds that a t-test at 1 % tells, at any of the times, and both have learnt."""
    torch.set_num_threads(1)
    mine, other = (np.array([act(seed) for seed in SEEDS]) for act in (our_values, their_values))
    for k in range(len(STEPS)):
        assert ttest_ind(mine[:, k], other[:, k], equal_var=False).pvalue > 0.01, (mine[:, k], other[:, k])
    assert mine[:, -1].mean() > 60
    assert other[:, -1].mean() > 60


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["reinforcement-learning", "trainers"])
def test_the_lines_of_the_pages_watch_a_policy_and_treat_it(page):
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    agent = package.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=8, n_epochs=2, device="cpu", seed=0)
    (block,) = (block for block in blocks(read(f"docs/{page}.md"), "py") if "SB3Plasticity" in block)
    lines = block.replace("100_000", "32").replace('"every": 500', '"every": 4, "budget": None')
    names = {"agent": agent, "SB3Plasticity": lop.SB3Plasticity}
    exec(lines, names)
    callback, calls = names["callback"], block.count("agent.learn(")
    assert callback.monitor.steps == calls * 2 * 2 * 2  # rollouts, epochs, minibatches
    assert {bound.tasks for bound in callback.bound} == {1}
    layers = {row["layer"] for row in callback.monitor.rows}
    assert {"mlp_extractor.policy_net.1", "mlp_extractor.value_net.3"} < layers
