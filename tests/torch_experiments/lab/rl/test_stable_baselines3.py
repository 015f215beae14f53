"""Our PPO and DQN against those of stable-baselines3: the same returns within seeds."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

import lop
from tests.docs.pages import blocks, read
from torch_experiments.lab.rl import dqn, ppo
from torch_experiments.lab.rl.environments import Copies, Moved, make
from torch_experiments.lab.rl.ppo import ActorCritic, Settings
from torch_experiments.lab.rl.tasks import Seen, Task

SETTINGS = Settings(copies=16, horizon=128, batch=256)
CONTINUOUS = dataclasses.replace(SETTINGS, copies=8, batch=64, lr=1e-3, gamma=0.9)
SEEDS = range(5)
THEIRS = {"cartpole": "CartPole-v1", "acrobot": "Acrobot-v1", "pendulum": "Pendulum-v1"}
ROLLOUTS = {"cartpole": (2, 6, 12), "acrobot": (20,), "pendulum": (20, 40)}  # after so many returns are compared
LOW = {"cartpole": 80, "acrobot": -400, "pendulum": -600}  # what is more has been learnt
LAST = 50  # episodes
VALUES = dqn.Settings(
    copies=8, batch=64, capacity=50_000, starts=256, updates=2, target_every=100, explore=4_000, lr=2e-3
)
STEPS = (4_000, 8_000, 12_000)  # of all environments, after which the returns of values are compared


@dataclass(frozen=True)
class Pendulum:
    """Gymnasium's Pendulum-v1: a task for Gaussian policies that is learnt in a minute."""

    observations: ClassVar[int] = 3
    actions: ClassVar[int] = 1
    continuous: ClassVar[bool] = True
    limit: ClassVar[int] = 200

    def begin(self, copies, source):
        return source.uniform(-1, 1, (copies, 2)) * [np.pi, 1.0]

    def move(self, state, action):
        (angle, speed), torque = state.T, np.clip(action[:, 0], -2.0, 2.0)
        cost = ((angle + np.pi) % (2 * np.pi) - np.pi) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
        return Moved(np.stack([angle + speed * 0.05, speed], axis=1), -cost, np.zeros(len(state), bool))

    def seen(self, state):
        angle, speed = state.T
        return np.stack([np.cos(angle), np.sin(angle), speed], axis=1)


def settings_of(environment):
    return CONTINUOUS if environment == "pendulum" else SETTINGS


def ours(environment, seed, rollouts):
    """Return the mean return of the last episodes after each number of rollouts."""
    physics = Pendulum() if environment == "pendulum" else make(environment)
    settings, source = settings_of(environment), np.random.default_rng(seed)
    kind = {"continuous": physics.continuous, "activation": "tanh"}
    policy = ActorCritic(physics.observations, physics.actions, seed=seed, **kind)
    optimizer, seen = ppo.adam(policy, settings), Seen(Task(physics), Copies(physics, settings.copies, seed))
    found = []
    for k in range(1, max(rollouts) + 1):
        ppo.learn(policy, optimizer, ppo.collect(policy, seen, settings, source), settings, source)
        if k in rollouts:
            found.append(np.mean(seen.copies.returns[-LAST:]))
    return found


def theirs(environment, seed, rollouts):
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    from stable_baselines3.common.env_util import make_vec_env

    settings = settings_of(environment)
    size = settings.copies * settings.horizon
    agent = package.PPO(
        "MlpPolicy",
        make_vec_env(THEIRS[environment], settings.copies, seed=seed),
        n_steps=settings.horizon,
        batch_size=settings.batch,
        n_epochs=settings.epochs,
        learning_rate=settings.lr,
        gamma=settings.gamma,
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
    assert mine[:, -1].mean() > LOW[environment]
    assert other[:, -1].mean() > LOW[environment]


def test_the_pendulum_is_that_of_gymnasium():
    gymnasium = pytest.importorskip("gymnasium", reason="pip install 'lop-companion[rl]'")
    env, source = gymnasium.make("Pendulum-v1").unwrapped, np.random.default_rng(0)
    env.reset(seed=0)
    for state in Pendulum().begin(20, source):
        env.state, action = state.copy(), source.uniform(-3, 3, 1)
        seen, reward, *_ = env.step(action)
        moved = Pendulum().move(state[None], action[None])
        assert np.allclose(moved.state[0], env.state, atol=1e-12)
        assert np.allclose(Pendulum().seen(moved.state)[0], seen, atol=1e-6)
        assert float(moved.reward[0]) == pytest.approx(float(reward), abs=1e-9)


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
