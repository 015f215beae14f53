"""Streams of tasks for agents: lawful, seeded, the same whatever was asked before."""

import dataclasses

import numpy as np
import pytest

from torch_experiments.lab.rl import environments, tasks
from torch_experiments.lab.rl.environments import ENVIRONMENTS, CartPole, Copies
from torch_experiments.lab.rl.tasks import STREAMS, Seen, Task

SETTINGS = {"turns": {"others": ("cartpole",)}}
PAIRS = [(s, e) for s in STREAMS for e in ENVIRONMENTS if s != "friction" or e == "ant"]


def stream(name, environment="cartpole", seed=0):
    own = SETTINGS.get(name, {}) if environment == "cartpole" else {}
    return tasks.make(name, environment, seed, **own)


def told(task):
    """Return all that a task is, as lists."""
    return [x.tolist() if isinstance(x, np.ndarray) else x for x in dataclasses.astuple(task)]


@pytest.mark.parametrize(("name", "environment"), PAIRS)
def test_tasks_depend_on_seed_and_place_alone(name, environment):
    forwards = [stream(name, environment).task(k) for k in range(4)]
    backwards = [stream(name, environment).task(k) for k in reversed(range(4))][::-1]
    assert list(map(told, forwards)) == list(map(told, backwards))
    others = [stream(name, environment, 1).task(k) for k in range(4)]
    same = [told(a) == told(b) for a, b in zip(forwards, others, strict=True)]
    assert all(same) == (name in ("stationary", "turns"))


@pytest.mark.parametrize("name", [name for name, environment in PAIRS if environment == "cartpole"])
def test_agents_see_as_many_numbers_in_all_tasks(name):
    for k in range(3):
        task = stream(name).task(k)
        seen = Seen(task, Copies(task.physics, 5))
        assert seen.observation.shape == (5, 4)
        assert seen.step(np.zeros(5, int)).observation.shape == (5, 4)


def test_an_offset_is_normal_and_stays_within_a_task():
    drawn = np.array([tasks.Offset("cartpole", sd=2.0).task(k).offset for k in range(500)])
    assert drawn.std() == pytest.approx(2.0, rel=0.05)
    assert abs(drawn.mean()) < 0.2
    seen = Seen(tasks.Offset("cartpole").task(3), Copies(CartPole(), 2))
    for _ in range(3):
        step = seen.step(np.zeros(2, int))
        assert np.allclose(step.observation - seen.copies.observation, seen.task.offset)


def test_a_signed_permutation_moves_and_turns_and_loses_nothing():
    x = np.arange(1.0, 7.0)[None]
    found = [tasks.Permuted("acrobot").task(k).seen(x)[0] for k in range(20)]
    assert np.array_equal(found[0], x[0])
    assert all(sorted(np.abs(row)) == sorted(x[0]) for row in found)
    assert len({tuple(row) for row in found}) > 15
    assert any((row < 0).any() for row in found)


def test_scaled_rewards_reach_the_agent_and_returns_do_not_have_them():
    seen = Seen(Task(CartPole(), scale=3.0), Copies(CartPole(), 2))
    rewards = np.array([seen.step(np.ones(2, int)).reward for _ in range(12)])
    assert (rewards == 3.0).all()
    assert set(seen.copies.returns) <= {8.0, 9.0, 10.0, 11.0}
    scales = [tasks.Rewards("cartpole", most=10.0).task(k).scale for k in range(200)]
    assert min(scales) >= 0.1
    assert max(scales) <= 10.0
    assert abs(np.log(scales).mean()) < 0.3


def test_the_physics_changes_and_its_step_of_time_does_not():
    found = [tasks.Dynamics("cartpole", most=2.0).task(k).physics for k in range(50)]
    assert {physics.tau for physics in found} == {0.02}
    pushes = np.array([physics.push for physics in found])
    assert (pushes >= 5.0).all()
    assert (pushes <= 20.0).all()
    assert len(set(pushes)) == 50


def test_the_logarithm_of_a_friction_is_uniform():
    """Over its range, which is that of the published code; quartiles of 500 draws."""
    found = np.array([tasks.Friction("ant").task(k).physics.friction for k in range(500)])
    assert found.min() >= 0.02
    assert found.max() <= 2.0
    shares = np.log(found / 0.02) / np.log(100)
    assert np.allclose(np.quantile(shares, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.07)
    assert tasks.Friction("ant", low=0.5, high=0.5).task(7).physics.friction == pytest.approx(0.5)


def test_what_was_seen_last_is_seen_as_the_rest():
    task = Task(CartPole(), offset=np.full(4, 50.0))
    seen = Seen(task, Copies(CartPole(), 3))
    for _ in range(12):
        step = seen.step(np.ones(3, int))
        assert (step.last > 40).all()
        assert (step.observation > 40).all()


@pytest.mark.parametrize(
    ("name", "environment", "settings", "message"),
    [
        ("moved", "cartpole", {}, "stream: got 'moved'; allowed are 'offset'"),
        ("offset", "pong", {}, "environment: got 'pong'; allowed are 'cartpole'"),
        ("offset", "cartpole", {"most": 2}, "got 'most' for the stream 'offset'; allowed are 'sd'"),
        ("stationary", "cartpole", {"sd": 2}, "stream_settings: got 'sd' for the stream 'stationary'; it has none"),
        ("offset", "cartpole", {"sd": -1}, "sd: got -1; it has to be a finite number, at least 0"),
        ("dynamics", "cartpole", {"most": 0.5}, "most: got 0.5; it has to be a finite number, at least 1"),
        ("turns", "cartpole", {"others": ("nowhere",)}, "environment: got 'nowhere'"),
        (
            "turns",
            "cartpole",
            {"others": ("acrobot",)},
            "others: acrobot has 6 observations and 3 actions, cartpole 4 and 2; an agent needs the same in all",
        ),
        (
            "turns",
            "acrobot",
            {"others": ("ant",)},
            "others: ant has 105 observations and 8 continuous actions, acrobot 6 and 3; an agent needs the same",
        ),
        ("friction", "cartpole", {}, "'friction' needs an environment that has one, 'ant'; got 'cartpole'"),
        ("friction", "ant", {"low": 0}, "low: got 0; it has to be a finite number above 0"),
        ("friction", "ant", {"low": 3.0}, "low: got 3.0; it has to be at most high, which is 2.0"),
    ],
)
def test_wrong_settings_are_named(name, environment, settings, message):
    with pytest.raises(ValueError, match=message):
        tasks.make(name, environment, 0, **settings)


def test_every_environment_has_its_constants_as_fields():
    for name in ENVIRONMENTS:
        physics = environments.make(name)
        assert all(isinstance(getattr(physics, f.name), float) for f in dataclasses.fields(physics))
