"""Environments as arrays: the physics of gymnasium, episodes that begin anew, and a state that goes on."""

import numpy as np
import pytest

from torch_experiments.lab.rl import environments
from torch_experiments.lab.rl.environments import ENVIRONMENTS, CartPole, Copies, make

THEIRS = {"cartpole": "CartPole-v1", "acrobot": "Acrobot-v1", "mountaincar": "MountainCar-v0"}
ROUNDING = 1e-12  # of an episode of float64, whose sines may differ by an ulp


def theirs(name):
    gymnasium = pytest.importorskip("gymnasium", reason="pip install 'lop-companion[rl]'")
    env = gymnasium.make(THEIRS[name])
    env.reset(seed=0)
    return env


def test_every_environment_is_tried():
    """Ant has a file of its own, `test_ant`."""
    assert {*THEIRS, "ant"} == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", THEIRS)
def test_the_physics_is_that_of_gymnasium(name):
    env, physics, source = theirs(name), make(name), np.random.default_rng(1)
    assert env.observation_space.shape == (physics.observations,)
    assert env.action_space.n == physics.actions
    assert env.spec.max_episode_steps == physics.limit
    states = physics.begin(20, source)
    for state in states:
        env.reset()
        env.unwrapped.state = state.copy()
        for _ in range(100):
            action = int(source.integers(physics.actions))
            seen, reward, ended, _, _ = env.unwrapped.step(action)
            moved = physics.move(state[None], np.array([action]))
            (state,) = moved.state
            assert np.allclose(state, env.unwrapped.state, rtol=0, atol=ROUNDING)
            assert np.allclose(physics.seen(moved.state)[0], seen, atol=1e-6)  # theirs is float32
            assert (float(moved.reward[0]), bool(moved.ended[0])) == (reward, ended)
            if ended:
                break


def test_other_constants_are_another_physics():
    state, push = np.zeros((1, 4)), np.array([1])
    usual, weak = (CartPole(push=push_).move(state, push).state for push_ in (10.0, 5.0))
    assert np.allclose(2 * weak, usual)
    assert usual.any()


@pytest.mark.parametrize("name", THEIRS)
def test_starts_are_those_of_gymnasium(name):
    """The range of states at the start, of many episodes of both."""
    env, physics = theirs(name), make(name)
    ours = physics.begin(400, np.random.default_rng(0))
    others = np.stack([(env.reset(), np.array(env.unwrapped.state))[1] for _ in range(400)])
    assert np.allclose(ours.min(0), others.min(0), atol=0.005)
    assert np.allclose(ours.max(0), others.max(0), atol=0.005)


@pytest.mark.parametrize("name", THEIRS)
def test_copies_are_what_one_copy_is(name):
    physics, source = make(name), np.random.default_rng(2)
    states, actions = physics.begin(7, source), source.integers(physics.actions, size=7)
    together = physics.move(states, actions)
    for k in range(7):
        alone = physics.move(states[k : k + 1], actions[k : k + 1])
        assert np.allclose(alone.state[0], together.state[k], rtol=0, atol=1e-15)
        assert alone.reward[0] == together.reward[k]


def test_an_episode_that_falls_begins_anew_and_is_counted():
    copies = Copies(CartPole(), 3)
    steps = [copies.step(np.ones(3, int)) for _ in range(12)]
    ends = [int(step.ended.sum()) for step in steps]
    assert sum(ends) == 3
    assert sorted(copies.returns) == sorted(float(t + 1) for t, n in enumerate(ends) for _ in range(n))
    last = next(step for step in steps if step.ended.any())
    assert (np.abs(last.last[last.ended, 2]) > 0.2).all()
    assert (np.abs(last.observation[last.ended]) <= 0.05).all()
    assert copies.lengths.max() < 12


def test_an_episode_is_cut_at_its_limit(monkeypatch):
    monkeypatch.setattr(CartPole, "limit", 4)
    copies = Copies(CartPole(), 2)
    cuts = [copies.step(np.array([t % 2, t % 2])).cut.tolist() for t in range(5)]
    assert cuts == [[False] * 2] * 3 + [[True] * 2] + [[False] * 2]
    assert copies.returns == [4.0, 4.0]
    assert copies.lengths.tolist() == [1, 1]


@pytest.mark.parametrize("name", THEIRS)
def test_copies_go_on_where_they_were(name):
    physics = make(name)
    first, again = Copies(physics, 4, seed=3), Copies(physics, 4, seed=9)
    act = np.random.default_rng(0).integers(physics.actions, size=(600, 4))
    for action in act[:30]:
        first.step(action)
    again.restore(first.state())
    for action in act[30:]:
        one, other = first.step(action), again.step(action)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert first.returns == again.returns != []


def test_angles_are_turned_into_one_turn():
    angles = np.array([-7.0, -3.2, 0.0, 3.2, 13.0])
    turned = environments._turned(angles)
    assert (np.abs(turned) <= np.pi).all()
    assert np.allclose(np.cos(turned), np.cos(angles))
    assert turned[2] == 0.0


def test_wrong_names_and_numbers_are_named():
    with pytest.raises(ValueError, match="environment: got 'cartpool'; allowed are 'cartpole', 'acrobot'"):
        make("cartpool")
    with pytest.raises(ValueError, match="copies: got 0; it has to be at least 1"):
        Copies(CartPole(), 0)
