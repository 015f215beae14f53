"""The callback of stable-baselines3: on agents that only look like its own, and on those where it is installed."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from torch_experiments import PlasticityMonitor, remedies
from torch_experiments.remedies.agents import MISSING, Agent, SB3Plasticity
from torch_experiments.remedies.weights import OptimizerReset, ShrinkPerturb

QUIET = {"every": 4, "budget": None, "alarms": ()}
EVERY = [name for name in remedies.REMEDIES if name != "none"]


class Space:
    """As much of a space of gymnasium as is asked for."""

    def seed(self, seed):
        self.source = np.random.default_rng(seed)

    def sample(self):
        return self.source.normal(size=3).astype(np.float32)


class Policy(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.01)

    def forward(self, x):
        return self.body(x)

    def _get_constructor_parameters(self):
        return {"width": self.body[0].out_features}


class Buffer:
    def __init__(self, rows, copies):
        self.observations, self.n_envs = np.zeros((rows, copies, 3), np.float32), copies
        self.filled = 0

    def size(self):
        return self.filled


class Learner:
    """What the callback reads of an agent, and the loop of ``learn`` around it."""

    def __init__(self, rows=10, copies=2, buffer="rollout_buffer"):
        torch.manual_seed(0)
        self.policy, self.device, self.observation_space = Policy(), torch.device("cpu"), Space()
        self.num_timesteps, self.source = 0, np.random.default_rng(0)
        setattr(self, buffer, Buffer(rows, copies))
        self.buffer = getattr(self, buffer)

    def learn(self, callback, rollouts, steps=4, meanwhile=lambda: None):
        callback.model = self
        callback._on_training_start()
        for _ in range(rollouts):
            callback._on_rollout_start()
            self.buffer.observations[:] = self.source.normal(size=self.buffer.observations.shape)
            self.buffer.filled = len(self.buffer.observations)
            self.num_timesteps += self.buffer.size() * self.buffer.n_envs
            meanwhile()
            callback._on_rollout_end()
            for _ in range(steps if self.num_timesteps > getattr(self, "learning_starts", 0) else 0):
                self.policy.optimizer.zero_grad()
                self.policy(torch.from_numpy(self.buffer.observations.reshape(-1, 3))).square().mean().backward()
                self.policy.optimizer.step()
        callback._on_training_end()


def weights(agent):
    return torch.cat([p.detach().flatten() for p in agent.policy.parameters()])


def test_gradient_steps_are_counted_over_several_calls_of_learn_and_remedies_are_bound_once():
    agent, callback = Learner(), Agent(["redo", remedies.make("l2-init")], QUIET)
    for _ in range(2):
        agent.learn(callback, rollouts=3)
    assert [bound.steps for bound in callback.bound] == [24, 24]
    assert callback.monitor.steps == 24
    assert callback.monitor.started is None
    assert sorted({row["step"] for row in callback.monitor.rows}) == list(range(0, 25, 4))


def test_the_monitor_looks_at_the_last_rollout_or_at_a_batch_of_its_own():
    agent, callback = Learner(), Agent(monitor=QUIET, samples=8)
    agent.learn(callback, rollouts=1)
    first = callback.observations()
    agent.learn(callback, rollouts=1)
    seen = callback.observations()
    assert first.shape == seen.shape == (8, 3)
    rows = torch.from_numpy(agent.buffer.observations.reshape(-1, 3))
    assert all((rows == row).all(dim=1).any() for row in seen)
    assert not any((rows == row).all(dim=1).any() for row in first)
    own, x = Learner(), torch.ones(5, 3)
    monitor = PlasticityMonitor(own.policy, x, **QUIET)
    own.learn(Agent(monitor=monitor), rollouts=2)
    assert monitor.batch is x
    assert monitor.steps == 8


def test_a_new_task_begins_at_once_between_two_calls_of_learn():
    agent, callback = Learner(), Agent([ShrinkPerturb(0.5, 0.0)])
    agent.learn(callback, rollouts=1)
    before = weights(agent)
    callback.task()
    assert torch.equal(weights(agent), before * 0.5)
    assert callback.bound[0].tasks == 1


def test_a_task_that_begins_within_a_rollout_waits_until_that_was_learnt_from():
    agent, callback, seen = Learner(), Agent([ShrinkPerturb(0.5, 0.0), OptimizerReset()]), []

    def meanwhile():
        seen.append((callback.bound[0].tasks, weights(agent)))
        if len(seen) == 1:
            callback.task()

    agent.learn(callback, rollouts=3, meanwhile=meanwhile)
    assert [tasks for tasks, _ in seen] == [0, 1, 1]
    assert callback.waiting == 0
    assert [bound.tasks for bound in callback.bound] == [1, 1]
    plain, found = Learner(), []
    plain.learn(Agent(), rollouts=2, meanwhile=lambda: found.append(weights(plain)))
    assert torch.equal(seen[1][1], found[1] * 0.5)  # the first rollout was learnt from by the policy that made it


def test_a_replay_buffer_is_read_when_it_is_asked_for_and_nothing_is_seen_before_learning_starts():
    agent, callback = Learner(rows=4, copies=1, buffer="replay_buffer"), Agent(monitor=QUIET, samples=3)
    agent.learning_starts, agent.get_vec_normalize_env = 12, lambda: None
    agent.learn(callback, rollouts=3)
    assert callback.monitor.rows == []
    agent.learn(callback, rollouts=2)
    assert callback.monitor.steps == 8
    assert sorted({row["step"] for row in callback.monitor.rows}) == [0, 4, 8]


def test_observations_of_a_replay_buffer_are_scaled_as_those_of_training():
    agent = Learner(rows=4, copies=1, buffer="replay_buffer")
    agent.get_vec_normalize_env = lambda: type("Env", (), {"normalize_obs": staticmethod(lambda x: 0 * x + 7)})
    callback = Agent(monitor=QUIET)
    agent.learn(callback, rollouts=1)
    assert (callback.observations() == 7).all()


def test_an_interrupted_agent_goes_on_as_if_it_had_not_been():
    def made():
        return Agent([remedies.make("cbp", rate=0.05, maturity=2), "shrink-perturb"], QUIET, seed=3)

    whole, callback = Learner(), made()
    whole.learn(callback, rollouts=2)
    callback.task()
    whole.learn(callback, rollouts=2)

    first, before = Learner(), made()
    first.learn(before, rollouts=2)
    before.task()
    second, after = Learner(), made()
    second.policy.load_state_dict(first.policy.state_dict())
    second.policy.optimizer.load_state_dict(first.policy.optimizer.state_dict())
    second.source, second.num_timesteps = first.source, first.num_timesteps
    after.load_state_dict(before.state_dict())
    second.learn(after, rollouts=2)
    assert torch.equal(weights(whole), weights(second))
    assert [bound.tasks for bound in after.bound] == [1, 1]
    assert [bound.steps for bound in after.bound] == [16, 16]
    without = [[{**row, "value": 0.0} for row in one.monitor.rows] for one in (callback, after)]
    assert without[0] == without[1]


def test_a_task_that_waits_is_kept_with_the_state():
    agent, callback = Learner(), Agent([ShrinkPerturb(0.5, 0.0)])
    callback.task()  # before anything was learnt
    other = Agent([ShrinkPerturb(0.5, 0.0)])
    agent.learn(Agent(), rollouts=1)
    before = weights(agent)
    other.load_state_dict(
        callback.state_dict() | {"remedies": [{"steps": 4, "tasks": 2, "applied": 0, "state": {}}]}
    )
    agent.learn(other, rollouts=1, steps=0)
    assert torch.equal(weights(agent), before * 0.5)
    assert other.bound[0].tasks == 3


def test_another_optimizer_of_the_agent_is_followed():
    agent, callback = Learner(), Agent(["l2"], QUIET)
    agent.learn(callback, rollouts=1)
    agent.policy.optimizer = torch.optim.SGD(agent.policy.parameters(), lr=0.01)
    agent.learn(callback, rollouts=1)
    assert callback.bound[0].steps == 8
    assert callback.monitor.steps == 8


def test_after_an_error_the_next_learn_begins_anew():
    agent, callback = Learner(), Agent(monitor=QUIET)
    with pytest.raises(KeyError):
        agent.learn(callback, rollouts=2, meanwhile=lambda: {}[0] if agent.policy.optimizer.state else None)
    assert callback.monitor.started is not None
    agent.learn(callback, rollouts=1)
    assert callback.monitor.steps == 8
    assert callback.monitor.started is None


def test_fresh_weights_are_drawn_as_the_policy_draws_them():
    agent, callback = Learner(), Agent(["fresh"], seed=1)
    agent.learn(callback, rollouts=1)
    state = torch.get_rng_state()
    callback.task()
    assert torch.equal(torch.get_rng_state(), state)
    assert weights(agent).abs().max() < 1 / np.sqrt(3) + 1e-6  # the bound from which a layer of three inputs draws


class Actors(nn.Module):
    optimizer = None


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match=r"remedy: got 'rdo'; allowed are 'none', 'l2'"):
        Agent(["rdo"])
    with pytest.raises(TypeError, match=r"remedies: got int; give names, or remedies that are not bound"):
        Agent([3])
    with pytest.raises(ValueError, match=r"samples: got 1; at least 2 are needed"):
        Agent(samples=1)
    callback = Agent(["redo"])
    Learner().learn(callback, rollouts=1)
    with pytest.raises(ValueError, match=r"callback: it is bound to another agent; make an SB3Plasticity for each"):
        Learner().learn(callback, rollouts=1)
    other = Learner()
    other.policy = Actors()
    with pytest.raises(TypeError, match=r"agent: Learner trains several networks, each with an optimizer"):
        other.learn(Agent(["redo"]), rollouts=1)
    with pytest.raises(
        ValueError, match=r"state: is of redo and no monitor; this callback has redo, l2 and a monitor"
    ):
        Agent(["redo", "l2"], QUIET).load_state_dict(callback.state_dict())
    with pytest.raises(ValueError, match=r"state: is of redo and no monitor; this callback has l2-init and no"):
        Agent(["l2-init"]).load_state_dict(callback.state_dict())
    with pytest.raises(ValueError, match=r"state: is from before the first learn"):
        callback.load_state_dict(Agent(["redo"]).state_dict())
    blank = Agent(monitor={"every": 2})
    blank.agent = Learner()
    with pytest.raises(ValueError, match=r"observations: the agent has seen nothing yet"):
        blank.observations()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"remedies": 3}, r"remedies: got int; give a list of names"),
        (
            {"remedies": {"redo": {}}},
            r"remedies: got dict; give a list of names, .* as remedies\.make\('redo', every",
        ),
        ({"samples": "a"}, r"samples: got 'a'; at least 2 are needed"),
        ({"monitor": 3}, r"monitor: got int; give a PlasticityMonitor, or its options"),
        ({"monitor": {"everi": 3}}, r"monitor: got the option 'everi'; did you mean 'every'\?"),
        ({"monitor": {"xyz": 3}}, r"monitor: got the option 'xyz'; allowed are .* 'every', .* 'metrics'"),
        ({"monitor": {"every": 0}}, r"every: got 0; it has to be at least 1"),
    ],
)
def test_arguments_are_checked_before_there_is_an_agent(given, message):
    with pytest.raises(ValueError, match=message):
        Agent(**given)


def test_options_of_the_monitor_may_be_those_of_diagnose():
    agent, callback = Learner(), Agent("redo", QUIET | {"metrics": ["dead_fraction"]})
    agent.learn(callback, rollouts=1)
    assert {row["metric"] for row in callback.monitor.rows} == {"dead_fraction"}


@pytest.mark.parametrize("loaded", [False, True])
def test_a_task_waits_until_something_was_seen_for_remedies_that_look_at_it(loaded):
    agent, callback, seen = Learner(), Agent([ShrinkPerturb(0.5, 0.0), "escape"]), []
    if loaded:
        callback.load_state_dict(Agent([ShrinkPerturb(0.5, 0.0), "escape"]).state_dict())
    callback.task()
    agent.learn(callback, rollouts=2, meanwhile=lambda: seen.append([bound.tasks for bound in callback.bound]))
    assert seen == [[0, 0], [1, 1]]
    assert callback.waiting == 0


def test_a_task_in_the_last_rollout_begins_when_that_was_learnt_from():
    agent, callback = Learner(), Agent([ShrinkPerturb(0.5, 0.0)])
    agent.learn(callback, rollouts=1, meanwhile=callback.task)
    assert callback.bound[0].tasks == 1
    assert callback.waiting == 0


def test_of_a_task_that_fails_nothing_is_done_and_it_still_waits():
    agent, callback = Learner(), Agent([ShrinkPerturb(0.5, 0.0), "escape"])
    agent.learn(callback, rollouts=1)
    before, seen = weights(agent), callback._seen
    callback.waiting, callback._seen = 1, torch.zeros(4, 7)  # no input of this policy
    for _ in range(2):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            agent.learn(callback, rollouts=1)
    assert torch.equal(weights(agent), before)
    assert (callback.waiting, [bound.tasks for bound in callback.bound]) == (1, [0, 0])
    callback._seen = seen
    agent.learn(callback, rollouts=1)
    assert (callback.waiting, [bound.tasks for bound in callback.bound]) == (0, [1, 1])


def hooks(agent):
    optimizer = agent.policy.optimizer
    return len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)


def test_where_binding_fails_nothing_stays_on_the_agent():
    agent, callback = Learner(), Agent(["l2-init", "redo"])
    callback.load_state_dict(callback.state_dict() | {"remedies": [{"steps": 1}, {}]})
    for _ in range(2):
        with pytest.raises(KeyError):
            agent.learn(callback, rollouts=1)
    assert hooks(agent) == (0, 0)
    agent.learn(Agent(["l2-init"]), rollouts=1)
    assert hooks(agent) == (1, 1)


def test_remedies_stay_until_they_are_detached_and_go_on_when_they_are_back():
    agent, callback = Learner(), Agent(["l2-init"], QUIET)
    agent.learn(callback, rollouts=1)
    agent.learn(Agent(monitor=QUIET), rollouts=1)  # a second one that only watches
    assert callback.bound[0].steps == 8
    with pytest.raises(ValueError, match=r"callback: the remedies of another SB3Plasticity .* detach\(\) that one"):
        agent.learn(Agent(["l2"]), rollouts=1)
    assert hooks(agent) == (1, 1)
    callback.detach()
    callback.detach()
    assert hooks(agent) == (0, 0)
    assert callback.monitor.steps == 4
    other = Agent(["l2"])
    agent.learn(other, rollouts=1)
    other.detach()
    agent.learn(callback, rollouts=1)
    assert (callback.bound[0].steps, callback.monitor.steps) == (12, 8)
    agent.learn(callback, rollouts=2, meanwhile=callback.detach)
    assert hooks(agent) == (0, 0)


def test_states_of_callbacks_that_are_not_bound_can_be_kept_and_loaded():
    agent, callback = Learner(), Agent(["redo"], QUIET)
    agent.learn(callback, rollouts=1)
    passing, last = Agent(["redo"], QUIET), Agent(["redo"], QUIET)
    passing.load_state_dict(callback.state_dict())
    passing.task()
    last.load_state_dict(passing.state_dict())
    agent = Learner()
    agent.learn(last, rollouts=1)
    assert (last.bound[0].steps, last.bound[0].tasks, last.monitor.steps) == (8, 1, 8)
    new = Agent(["redo"], QUIET)
    new.load_state_dict(Agent(["redo"], QUIET).state_dict())
    Learner().learn(new, rollouts=1)
    assert (new.bound[0].steps, new.monitor.steps) == (4, 4)


def test_without_the_extra_its_line_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.callbacks", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'lop-companion\\[rl\\]'"):
        SB3Plasticity(["redo"])
    assert "stable_baselines3" in MISSING


# ------------------------------------------------------------------------------------- stable-baselines3 itself


def ppo(seed=0, **options):
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    given = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": seed}
    return package.PPO("MlpPolicy", "CartPole-v1", **given | options)


def dqn(seed=0):
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    given = {"learning_starts": 8, "train_freq": 1, "batch_size": 8, "device": "cpu", "seed": seed}
    return package.DQN("MlpPolicy", "CartPole-v1", **given)


def parameters(agent):
    return torch.cat([p.detach().flatten() for p in agent.policy.parameters()])


@pytest.mark.filterwarnings("ignore")
def test_ppo_is_watched_and_kept_young():
    agent, callback = ppo(), SB3Plasticity(["redo", "shrink-perturb"], monitor={"every": 4, "budget": None})
    agent.learn(64, callback=callback)
    callback.task()
    agent.learn(32, callback=callback, reset_num_timesteps=False)
    assert callback.monitor.steps == 3 * 2 * 2  # rollouts, epochs, minibatches
    assert [bound.steps for bound in callback.bound] == [12, 12]
    assert [bound.tasks for bound in callback.bound] == [1, 1]
    assert callback.observations().shape == (32, 4)
    layers = {row["layer"] for row in callback.monitor.rows}
    assert {"mlp_extractor.policy_net.1", "mlp_extractor.value_net.3"} < layers


@pytest.mark.filterwarnings("ignore")
def test_dqn_is_watched_and_its_target_is_left():
    agent, callback = dqn(), SB3Plasticity(["redo", "shrink-perturb"], monitor={"every": 10, "budget": None})
    agent.learn(40, callback=callback)
    target = [p.detach().clone() for p in agent.q_net_target.parameters()]
    callback.task()
    assert all(map(torch.equal, target, agent.q_net_target.parameters()))
    assert callback.monitor.steps == agent._n_updates == 40 - 8
    assert [bound.steps for bound in callback.bound] == [32, 32]
    assert sorted({row["step"] for row in callback.monitor.rows}) == [0, 10, 20, 30]
    assert {"q_net.1", "q_net.3"} <= {row["layer"] for row in callback.monitor.rows}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [ppo, dqn])
def test_to_be_watched_changes_nothing_of_a_training(make):
    plain = make()
    plain.learn(64)
    watched = make()  # sets the generators anew
    watched.learn(64, callback=SB3Plasticity(monitor={"every": 2, "budget": None}))
    assert torch.equal(parameters(plain), parameters(watched))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [ppo, dqn])
@pytest.mark.parametrize("name", EVERY)
def test_every_remedy_works_on_policies_of_stable_baselines3(make, name):
    agent, callback = make(), SB3Plasticity([name])
    agent.learn(64, callback=callback)
    callback.task()
    agent.learn(32, callback=callback, reset_num_timesteps=False)
    assert callback.bound[0].tasks == 1
    assert callback.bound[0].steps > 8
    assert bool(parameters(agent).isfinite().all())


@pytest.mark.filterwarnings("ignore")
def test_saved_agents_go_on_with_their_callback(tmp_path):
    agent, callback = ppo(), SB3Plasticity(["cbp"], monitor={"every": 4, "budget": None})
    agent.learn(64, callback=callback)
    agent.save(tmp_path / "agent")
    torch.save(callback.state_dict(), tmp_path / "callback.pt")
    loaded = type(agent).load(tmp_path / "agent", env=agent.get_env(), device="cpu")
    again = SB3Plasticity(["cbp"], monitor={"every": 4, "budget": None})
    again.load_state_dict(torch.load(tmp_path / "callback.pt"))
    loaded.learn(32, callback=again, reset_num_timesteps=False)
    assert again.monitor.steps == again.bound[0].steps == 12
    assert sorted({row["step"] for row in again.monitor.rows}) == [0, 4, 8, 12]


@pytest.mark.filterwarnings("ignore")
def test_agents_with_several_optimizers_are_told_what_to_do():
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    agent = package.SAC("MlpPolicy", "Pendulum-v1", device="cpu", learning_starts=4)
    with pytest.raises(TypeError, match=r"agent: SAC trains several networks, .* remedy\.on\(agent\.actor"):
        agent.learn(8, callback=SB3Plasticity(["redo"]))


@pytest.mark.filterwarnings("ignore")
def test_continuous_actions_are_followed():
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    agent = package.PPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=16, n_epochs=2, device="cpu", seed=0)
    callback = SB3Plasticity(["redo"], monitor={"every": 4, "budget": None})
    agent.learn(64, callback=callback)
    assert callback.monitor.steps == 8


@pytest.mark.filterwarnings("ignore")
def test_observations_of_several_parts_and_other_algorithms_are_followed():
    package = pytest.importorskip("stable_baselines3", reason="pip install 'lop-companion[rl]'")
    from stable_baselines3.common.envs import SimpleMultiObsEnv

    several = SimpleMultiObsEnv(random_start=False)
    agent = package.A2C("MultiInputPolicy", several, n_steps=8, device="cpu", seed=0)
    callback = SB3Plasticity(["redo", "shrink-perturb"], monitor={"every": 2, "budget": None}, samples=4)
    agent.learn(32, callback=callback)
    callback.task()
    assert callback.monitor.steps == 4
    assert {len(part) for part in callback.observations().values()} == {4}
