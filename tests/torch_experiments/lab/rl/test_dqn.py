"""The algorithm: targets by hand, gradients against autograd, a replay, and that an agent learns."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from torch_experiments.lab.rl import dqn
from torch_experiments.lab.rl.dqn import Agent, Learner, QNetwork, Replay, Settings, Transitions, Values
from torch_experiments.lab.rl.environments import CartPole, Copies
from torch_experiments.lab.rl.tasks import Seen, Task

SMALL = Settings(copies=4, horizon=16, batch=8, capacity=64, starts=8, updates=1, target_every=5, explore=100)


def seen(copies=4, seed=0, **task):
    return Seen(Task(CartPole(), **task), Copies(CartPole(), copies, seed))


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def agent(settings=SMALL, seed=0, watched=False, **sizes):
    network = QNetwork(4, 2, seed=seed, **sizes)
    learner = Learner(network, dqn.adam(network, settings), settings, watched)
    return Agent(learner, QNetwork(4, 2, **sizes))


def batch(n=50, actions=3):
    source = rng(1)
    x, after = source.normal(size=(2, n, 4)).astype(np.float32)
    rewards = source.normal(size=n).astype(np.float32)
    return Transitions(x, source.integers(actions, size=n), rewards, source.random(n) < 0.3, after)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_targets_are_reward_and_discounted_best_value_until_the_end():
    network, given = QNetwork(4, 3, width=8), batch()
    found = dqn.targets(Values(network), given, 0.9)
    best = network(torch.from_numpy(given.after)).max(1).values.detach().numpy()
    by_hand = [r + (0.0 if end else 0.9 * v) for r, end, v in zip(given.rewards, given.ended, best, strict=True)]
    assert np.allclose(found, by_hand, atol=1e-6)
    assert given.ended.any()
    assert np.array_equal(found[given.ended], given.rewards[given.ended])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_in_closed_form_are_those_of_autograd(activation):
    network, given = QNetwork(4, 3, width=9, activation=activation, seed=2), batch()
    settings = dataclasses.replace(SMALL, max_norm=1e9)
    y = rng(3).normal(size=50).astype(np.float32) * 3
    errors = Values(network).of(given.observations)[np.arange(50), given.actions] - y
    assert (np.abs(errors) > 1).any()  # both parts of Huber's loss
    assert (np.abs(errors) < 1).any()
    found = []
    for watched in (False, True):
        learner = Learner(network, torch.optim.SGD(network.parameters(), lr=0.0), settings, watched)
        norm = learner.descend(given, y)
        found.append([p.grad.clone() for p in network.parameters()])
        total = torch.cat([g.flatten() for g in found[-1]]).norm()
        assert norm == pytest.approx(float(total), rel=1e-5)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)
        assert other.any()


def test_both_ways_to_learn_take_the_same_steps():
    found = []
    for watched in (False, True):
        own, copies = agent(watched=watched, width=8), seen()
        for _ in range(10):
            own.step(copies, rng(1), rng(2))
        found.append(weights(own.learner.network))
    assert torch.allclose(*found, atol=1e-5)


def test_other_nonlinearities_are_left_to_autograd():
    own, copies = agent(width=8, activation="gelu"), seen()
    assert not own.learner.known
    before = weights(own.learner.network)
    for _ in range(4):
        assert own.step(copies, rng(), rng()) >= 0
    assert not torch.equal(weights(own.learner.network), before)


def test_the_norm_of_the_gradients_is_clipped():
    network = QNetwork(4, 3, width=8)
    for watched in (False, True):
        settings = dataclasses.replace(SMALL, max_norm=0.01)
        learner = Learner(network, torch.optim.SGD(network.parameters(), lr=0.0), settings, watched)
        assert learner.descend(batch(), np.full(50, 9.0, np.float32)) > 0.1
        assert float(torch.cat([p.grad.flatten() for p in network.parameters()]).norm()) == pytest.approx(
            0.01, rel=1e-3
        )


def test_a_replay_has_the_last_transitions():
    replay, source = Replay(10, 4), rng()
    for _ in range(6):
        replay.add(batch(3, actions=2)._replace(rewards=source.random(3, np.float32)))
    rewards = rng().random(18, np.float32)
    assert replay.size == 10
    assert set(replay.known().rewards) == set(rewards[-10:])
    assert replay.place == 8


def test_a_replay_goes_on_where_it_was():
    replay, again = Replay(10, 4), Replay(10, 4)
    for _ in range(4):
        replay.add(batch(3))
    again.restore(replay.state())
    for one in (replay, again):
        one.add(batch(2))
    assert (again.size, again.place) == (replay.size, replay.place)
    assert all(np.array_equal(a, b) for a, b in zip(again.arrays, replay.arrays, strict=True))


def test_what_is_remembered_is_what_happened():
    """An episode that fell keeps its last sight, not the first of the next one; actions and rewards are as done."""
    own, copies = agent(dataclasses.replace(SMALL, updates=1, starts=64, capacity=256), width=8), seen(scale=2.0)
    before = copies.observation.copy()
    for _ in range(15):
        own.step(copies, rng(4), rng())
    known = own.replay.known()
    assert np.allclose(known.observations[:4], before)
    assert (known.rewards == 2.0).all()
    assert known.ended.any()
    assert (np.abs(known.after[known.ended, 2]) > 0.2).all()
    going = ~known.ended[:-4]
    assert np.allclose(known.after[:-4][going], known.observations[4:][going])


def test_an_episode_that_is_cut_goes_on_in_the_target(monkeypatch):
    monkeypatch.setattr(CartPole, "limit", 3)
    own, copies = agent(dataclasses.replace(SMALL, starts=64), width=8), seen()
    for _ in range(3):
        own.step(copies, rng(), rng())
    assert copies.copies.returns == [3.0] * 4
    assert not own.replay.known().ended.any()


def test_the_target_is_the_network_as_it_was():
    own, copies = agent(width=8), seen()
    own.step(copies, rng(), rng())
    for taken in range(1, 12):
        before = weights(own.target.network)
        own.step(copies, rng(), rng())
        assert own.taken == taken
        if taken % 5 == 0:
            assert torch.equal(weights(own.target.network), weights(own.learner.network))
        else:
            assert torch.equal(weights(own.target.network), before)
            assert not torch.equal(before, weights(own.learner.network))


def test_actions_are_greedy_but_for_their_share():
    settings = dataclasses.replace(SMALL, explore=40, epsilon=0.1)
    own, x = agent(settings), rng(1).normal(size=(20_000, 4)).astype(np.float32)
    greedy = own.learner.of(x).argmax(1)
    for steps, epsilon in ((0, 1.0), (5, 0.55), (10, 0.1), (99, 0.1)):
        own.steps = steps
        assert settings.explored(steps) == pytest.approx(epsilon)
        assert (own.act(x, rng()) != greedy).mean() == pytest.approx(epsilon / 2, abs=0.02)


def test_nothing_is_learnt_before_there_are_enough_transitions_and_much_at_once_if_heavy():
    settings = dataclasses.replace(SMALL, heavy=7, updates=2)
    own, copies = agent(settings, width=8), seen()
    taken = []
    for _ in range(4):
        own.step(copies, rng(), rng())
        taken.append(own.taken)
    assert taken == [0, 9, 11, 13]
    assert [settings.due(t) for t in range(4)] == [0, 9, 2, 2]


def test_a_new_task_empties_the_replay_and_renews_the_target():
    own, copies = agent(width=8), seen()
    for _ in range(6):
        own.step(copies, rng(), rng())
    own.begin()
    assert (own.steps, own.taken, own.replay.size) == (0, 0, 0)
    assert torch.equal(weights(own.target.network), weights(own.learner.network))


def test_the_last_layers_are_drawn_anew_and_forgotten():
    network, new = QNetwork(4, 2, width=8, seed=0), QNetwork(4, 2, width=8, seed=1)
    optimizer = dqn.adam(network, SMALL)
    Learner(network, optimizer, SMALL).descend(batch(actions=2), np.zeros(50, np.float32))
    dqn.redraw(network, optimizer, new, 2)
    assert torch.equal(network.q[4].weight, new.q[4].weight)
    assert torch.equal(network.q[2].bias, new.q[2].bias)
    assert not torch.equal(network.q[0].weight, new.q[0].weight)
    assert {id(p) for p in optimizer.state} == {id(p) for p in network.q[0].parameters()}


def test_a_network_that_regresses_sees_the_minibatches_of_the_agent():
    """With the target's promises as values that stay, it takes the very steps of an agent whose target stays."""
    settings = dataclasses.replace(SMALL, target_every=1000, heavy=3, capacity=128)
    own, copies, twin = agent(settings, width=8), seen(), QNetwork(4, 2, width=8, seed=0)
    drawn = rng(5)
    for _ in range(20):
        own.step(copies, rng(4), drawn)
    y = dqn.targets(own.target, own.replay.known(), settings.gamma)
    dqn.regress(Learner(twin, dqn.adam(twin, settings), settings), own.replay, y, rng(5), 20)
    assert torch.equal(weights(twin), weights(own.learner.network))
    other = QNetwork(4, 2, width=8, seed=0)
    dqn.regress(Learner(other, dqn.adam(other, settings), settings), own.replay, y + 1, rng(5), 20)
    assert not torch.equal(weights(other), weights(own.learner.network))


def test_weights_start_as_those_of_torch_and_depend_on_the_seed_alone():
    network, again, other = (QNetwork(4, 2, seed=s) for s in (0, 0, 1))
    for layer in (network.q[0], network.q[2], network.q[4]):
        layer.requires_grad_(False)
        bound = layer.in_features**-0.5
        for p in layer.parameters():
            assert float(p.abs().max()) <= bound
        assert float(layer.weight.abs().max()) > 0.95 * bound
    assert torch.equal(weights(network), weights(again))
    assert not torch.equal(weights(network), weights(other))


def test_an_agent_learns_cartpole():
    """From 20 steps by chance to more than 100 within 13,000 steps, which one without a gradient does not."""
    torch.set_num_threads(1)
    settings = Settings(copies=16, lr=2e-3, batch=64, updates=4, target_every=50, explore=5_000, starts=512)
    after = []
    for rate in (2e-3, 0.0):
        own, copies, source, drawn = agent(dataclasses.replace(settings, lr=rate)), seen(16), rng(), rng(1)
        for _ in range(800):
            own.step(copies, source, drawn)
        after.append(dqn.evaluate(own.learner.network, seen(32, 5)).mean())
    assert after[0] > 100
    assert after[1] < 40


def test_an_evaluation_is_of_whole_episodes():
    constant = QNetwork(4, 2, width=8)
    nn.init.zeros_(constant.q[-1].weight)
    with torch.no_grad():
        constant.q[-1].bias.copy_(torch.tensor([0.0, 1.0]))
    found = dqn.evaluate(constant, seen(64, scale=5.0))
    assert found.shape == (64,)
    assert found.mean() == pytest.approx(9.4, abs=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"copies": 0}, "copies: got 0; it has to be at least 1"),
        ({"target_every": 0}, "target_every: got 0; it has to be at least 1"),
        ({"heavy": -1}, "heavy: got -1; it has to be at least 0"),
        ({"lr": float("nan")}, r"lr: got nan; it has to be in \[0, inf\]"),
        ({"gamma": 1.5}, r"gamma: got 1.5; it has to be in \[0, 1\]"),
        ({"epsilon": -0.1}, r"epsilon: got -0.1; it has to be in \[0, 1\]"),
        ({"max_norm": 0.0}, "max_norm: got 0.0; it has to be above 0"),
        ({"betas": (0.9, 1.0)}, r"betas: got \(0.9, 1.0\); two numbers in \[0, 1\) are needed"),
        ({"capacity": 6}, "capacity: got 6; starts and copies need at least 8"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_wrong_networks_are_named():
    with pytest.raises(ValueError, match="activation: got 'reul'; allowed are"):
        QNetwork(4, 2, activation="reul")
    with pytest.raises(ValueError, match="depth: got 0; it has to be at least 1"):
        QNetwork(4, 2, depth=0)
