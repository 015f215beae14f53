"""MuJoCo's Ant: gymnasium's Ant-v5 number for number, from states that hold all; what is missing is named."""

import sys

import numpy as np
import pytest

from torch_experiments.lab.rl import Config, Run, ant
from torch_experiments.lab.rl.environments import Ant, Copies

STEPS = 150


@pytest.fixture
def mujoco():
    pytest.importorskip("gymnasium", reason="pip install 'lop-companion[rl]'")
    return pytest.importorskip("mujoco", reason="pip install 'lop-companion[rl]'")


def theirs(friction):
    gymnasium = pytest.importorskip("gymnasium", reason="pip install 'lop-companion[rl]'")
    pytest.importorskip("imageio", reason="pip install 'lop-companion[rl]'")
    env = gymnasium.make("Ant-v5")
    env.unwrapped.model.geom_friction[:, 0] = friction
    return env


def torques(steps=STEPS, copies=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, copies, 8)).astype(np.float32)


@pytest.mark.parametrize("friction", [1.0, 0.02])
def test_episodes_are_those_of_gymnasium_number_for_number(mujoco, friction):
    """Starts, observations, rewards and ends are equal, while other copies move in between."""
    env, copies = theirs(friction), Copies(Ant(friction), 3)
    assert env.observation_space.shape == (Ant.observations,)
    assert env.action_space.shape == (Ant.actions,)
    assert env.spec.max_episode_steps == Ant.limit
    copies.states[1] = Ant(friction).begin(1, np.random.Generator(np.random.PCG64(5)))[0]
    observation, _ = env.reset(seed=0)
    env.unwrapped.np_random = np.random.Generator(np.random.PCG64(5))
    observation, _ = env.reset()
    assert np.array_equal(observation, copies.observation[1])
    ended = False
    for action in torques(copies=3):
        step = copies.step(action)
        observation, reward, ended, _, _ = env.step(action[1])
        assert reward == step.reward[1]
        assert np.array_equal(observation, step.last[1])
        assert ended == step.ended[1]
        if ended:
            break
    assert ended or len(step.reward) == 3


def test_a_robot_that_falls_ends_its_episode(mujoco):
    copies, ends = Copies(Ant(), 4, seed=1), 0
    for action in torques(400, 4):
        step = copies.step(action)
        heights = step.last[:, 0]
        assert np.array_equal(step.ended, (heights < 0.2) | (heights > 1.0))
        ends += int(step.ended.sum())
    assert ends == len(copies.returns) > 2


def test_all_geoms_have_the_friction_as_the_floor_alone_changes_nothing(mujoco):
    source, action = np.random.default_rng(0), torques(60)
    start = Ant().begin(1, source)

    def moved(simulation):
        states = start
        for a in action:
            states, *_ = simulation.move(states, a)
        return states

    usual, slippery, floor = (ant.Simulation(f) for f in (1.0, 0.02, 1.0))
    assert set(slippery.model.geom_friction[:, 0]) == {0.02}
    floor.model.geom_friction[floor.model.geom("floor").id, 0] = 0.02
    assert np.array_equal(moved(floor), moved(usual))
    assert not np.allclose(moved(slippery), moved(usual))


def test_copies_go_on_bit_for_bit_in_another_simulation(mujoco):
    first, act = Copies(Ant(0.3), 3, seed=3), torques(300, 3)
    for action in act[:40]:
        first.step(action)
    saved = first.state()
    ant.simulation.cache_clear()
    again = Copies(Ant(0.3), 3, seed=9)
    again.restore(saved)
    for action in act[40:]:
        one, other = first.step(action), again.step(action)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert first.returns == again.returns != []


def test_positions_and_velocities_alone_are_no_state(mujoco):
    """Without the accelerations that the solver starts from a robot on the ground moves otherwise."""
    simulation, states = ant.simulation(1.0), Ant().begin(1, np.random.default_rng(0))
    for action in torques(30):
        states, *_ = simulation.move(states, action)
    lacking = states.copy()
    warm = mujoco.mj_stateSize(simulation.model, mujoco.mjtState.mjSTATE_PHYSICS) + 1
    assert states[0, warm : warm + simulation.model.nv].any()
    lacking[0, warm : warm + simulation.model.nv] = 0.0
    action = torques(1)[0]
    assert not np.array_equal(simulation.move(states, action)[0], simulation.move(lacking, action)[0])


def test_actions_are_cut_at_the_bounds(mujoco):
    states = Ant().begin(2, np.random.default_rng(0))
    wide = np.array([[3.0, -3.0, 0.5] + [0.0] * 5] * 2, np.float32)
    one, other = Ant().move(states, wide), Ant().move(states, wide.clip(-1, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_without_mujoco_the_line_that_installs_it_is_named(monkeypatch):
    ant.simulation.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    config = Config(environment="ant", stream="friction")  # records are read without it
    message = r"environment: 'ant' needs MuJoCo, which is not installed: pip install 'lop-companion\[rl\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        Run(config, 0)


def test_without_gymnasium_the_line_that_installs_it_is_named(monkeypatch):
    ant.simulation.cache_clear()
    monkeypatch.setattr(ant, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "mujoco", pytest)  # any module
    with pytest.raises(ModuleNotFoundError, match=r"needs gymnasium's file of the robot.*lop-companion\[rl\]"):
        Ant().begin(1, np.random.default_rng(0))


@pytest.mark.parametrize("friction", [0.0, -1.0, float("nan"), float("inf")])
def test_a_friction_that_is_none_is_named(friction):
    with pytest.raises(ValueError, match=r"friction: got .*; it has to be a finite number above 0"):
        Ant(friction)
