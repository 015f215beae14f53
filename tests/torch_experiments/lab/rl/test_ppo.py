"""The algorithm: advantages by hand, gradients against autograd, and that an agent learns."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from torch_experiments.lab.rl import gradients, ppo, tasks
from torch_experiments.lab.rl.distributions import Categorical, Gaussian
from torch_experiments.lab.rl.environments import CartPole, Copies
from torch_experiments.lab.rl.ppo import ActorCritic, Rollout, Settings
from torch_experiments.lab.rl.tasks import Seen, Task

SMALL = Settings(copies=8, horizon=16, batch=32, epochs=2)


def seen(copies=8, seed=0, **task):
    return Seen(Task(CartPole(), **task), Copies(CartPole(), copies, seed))


def by_hand(rewards, values, after, over, gamma, lam):
    """Return advantages as the sum of discounted errors until the end of the episode."""
    T = len(rewards)
    errors = rewards + gamma * after - values
    found = np.zeros(T)
    for t in range(T):
        for j in range(t, T):
            found[t] += (gamma * lam) ** (j - t) * errors[j]
            if over[j]:
                break
    return found


def test_advantages_are_discounted_sums_of_errors_until_the_end():
    source = np.random.default_rng(0)
    rewards, values, after = source.normal(size=(3, 20, 5))
    over = source.random((20, 5)) < 0.2
    found = ppo.advantages(rewards, values, after, over, 0.9, 0.8)
    for n in range(5):
        assert np.allclose(found[:, n], by_hand(rewards[:, n], values[:, n], after[:, n], over[:, n], 0.9, 0.8))
    through = ppo.advantages(rewards, values, after, np.zeros_like(over), 0.9, 0.8)
    assert not np.allclose(found, through)


def rollout(n=50, actions=3, dtype=torch.float64):
    source = torch.Generator().manual_seed(1)
    drawn = torch.randn(4, n, generator=source, dtype=dtype)
    x = torch.randn(n, 4, generator=source, dtype=dtype)
    return Rollout(x, torch.randint(actions, (n,), generator=source), drawn[0] * 0.5 - 1.1, drawn[1], drawn[2])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("entropy", [0.0, 0.1])
def test_gradients_in_closed_form_are_those_of_autograd(activation, entropy):
    policy, batch = ActorCritic(4, 3, width=9, activation=activation, seed=2).double(), rollout()
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.4 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3), dtype=p.dtype))
    settings = dataclasses.replace(SMALL, entropy=entropy)
    logits, values = policy(batch.observations)
    ppo.objective(Categorical(logits), values, batch, settings).backward()
    expected = [p.grad.clone() for p in policy.parameters()]
    gradients.Gradients(policy).find(gradients.Batch(*(x.numpy() for x in batch)), settings)
    assert gradients.known(policy)
    ratio = (logits.log_softmax(1).gather(1, batch.actions[:, None])[:, 0] - batch.log_probabilities).exp()
    assert bool((ratio > 1.2).any() & (ratio < 0.8).any())  # else nothing is clipped
    for p, g in zip(policy.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-14)
        assert g.any()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("entropy", [0.0, 0.1])
def test_gradients_of_a_gaussian_in_closed_form_are_those_of_autograd(activation, entropy):
    policy = ActorCritic(4, 3, width=9, activation=activation, continuous=True, seed=2).double()
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=source, dtype=p.dtype))
    actions = torch.randn(50, 3, generator=source, dtype=torch.float64)
    batch = rollout()._replace(actions=actions, log_probabilities=-4 + torch.randn(50, generator=source).double())
    settings = dataclasses.replace(SMALL, entropy=entropy)
    mean, values = policy(batch.observations)
    ppo.objective(policy.distribution(mean), values, batch, settings).backward()
    expected = [p.grad.clone() for p in policy.parameters()]
    gradients.Gradients(policy).find(gradients.Batch(*(x.numpy() for x in batch)), settings)
    ratio = (Gaussian(mean, policy.log_sd).log_probability(actions) - batch.log_probabilities).exp()
    assert bool((ratio > 1.2).any() & (ratio < 0.8).any())  # else nothing is clipped
    for p, g in zip(policy.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-14)
        assert g.any()


def test_other_nonlinearities_are_left_to_autograd():
    policy = ActorCritic(4, 2, width=8, activation="gelu")
    assert not gradients.known(policy)
    before = [p.clone() for p in policy.parameters()]
    ppo.learn(policy, ppo.adam(policy, SMALL), ppo.collect(policy, seen(), SMALL, rng()), SMALL, rng())
    assert all(not torch.equal(p, b) for p, b in zip(policy.parameters(), before, strict=True))


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def test_both_ways_to_learn_take_the_same_steps():
    weights = []
    for watched in (True, False):
        policy = ActorCritic(4, 2, width=8, seed=1)
        found = ppo.collect(policy, seen(), SMALL, rng())
        ppo.learn(policy, ppo.adam(policy, SMALL), found, SMALL, rng(), watched=watched)
        weights.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    assert torch.allclose(*weights, atol=1e-5)


def test_the_norm_of_all_gradients_is_clipped_as_torch_does():
    policy = ActorCritic(4, 2, width=8)
    found = gradients.Gradients(policy)
    for most in (0.5, 100.0):
        drawn = torch.randn(len(found.flat), generator=torch.Generator().manual_seed(0))
        found.flat[:] = drawn.numpy()
        norm = found.clip(most)
        assert norm == pytest.approx(float(drawn.norm()), rel=1e-5)
        grads = torch.cat([p.grad.flatten() for p in policy.parameters()])
        assert torch.allclose(grads, drawn * min(1.0, most / norm), rtol=1e-4)


def test_a_rollout_is_what_was_seen_and_done():
    policy, copies = ActorCritic(4, 2, width=8), seen(scale=2.0)
    start = copies.observation
    found = ppo.collect(policy, copies, SMALL, rng())
    assert torch.allclose(found.observations[:8], torch.from_numpy(start).float())
    logits, values = policy(found.observations)
    chosen = logits.log_softmax(1).gather(1, found.actions[:, None])[:, 0]
    assert torch.allclose(chosen, found.log_probabilities, atol=1e-6)
    assert torch.allclose(found.returns - found.advantages.float(), values, atol=1e-5)
    assert set(found.actions.tolist()) == {0, 1}


def test_an_episode_that_is_cut_goes_on_in_expectation_and_one_that_ended_does_not(monkeypatch):
    """With values of 7 everywhere and γ = λ = 1 a return is the steps until the end, and then 7 or nothing."""
    policy = ActorCritic(4, 2, width=8)
    nn.init.zeros_(policy.critic[-1].weight)
    nn.init.constant_(policy.critic[-1].bias, 7.0)
    settings = dataclasses.replace(SMALL, gamma=1.0, lam=1.0)
    monkeypatch.setattr(CartPole, "limit", 3)
    found = ppo.collect(policy, seen(), settings, rng()).returns.view(16, 8)
    assert torch.allclose(found[:3, 0], torch.tensor([10.0, 9.0, 8.0]))
    monkeypatch.setattr(CartPole, "limit", 500)
    monkeypatch.setattr(ppo, "sampled", lambda logits, source: np.ones(len(logits), int))
    fallen = ppo.collect(policy, seen(), settings, rng()).returns.view(16, 8)[:, 0]
    length = int((fallen.diff() > 0).nonzero()[0]) + 1
    assert fallen[:length].tolist() == list(range(length, 0, -1))


def test_equal_advantages_move_nothing():
    equal = torch.full((64,), 0.1, dtype=torch.float64)
    assert float(ppo._normal(equal, 32).abs().max()) < 1e-6
    parts = ppo._normal(torch.arange(64.0, dtype=torch.float64), 32).view(2, 32)
    assert torch.allclose(parts.mean(1), torch.zeros(2), atol=1e-6)
    assert torch.allclose(parts.std(1), torch.ones(2), atol=1e-5)


def test_weights_start_orthogonal_and_depend_on_the_seed_alone():
    policy, again, other = (ActorCritic(4, 2, seed=s) for s in (0, 0, 1))
    w = policy.actor[2].weight
    assert torch.allclose(w @ w.T, 2 * torch.eye(64), atol=1e-5)
    assert policy.actor[-1].weight.detach().norm().item() == pytest.approx(0.01 * 2**0.5, rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))
    assert not torch.equal(w, other.actor[2].weight)


def test_an_agent_learns_cartpole():
    """From 20 steps by chance to more than 150 within 20,000 steps, which a policy without a gradient does not."""
    torch.set_num_threads(1)
    settings = Settings(batch=256, epochs=8, lr=1e-3)
    stream = tasks.make("offset", "cartpole", 0, sd=0.0)
    policy, source, copies = ActorCritic(4, 2, activation="tanh"), rng(), seen(32)
    before = ppo.evaluate(policy, Seen(stream.task(0), Copies(CartPole(), 32, 5)), rng()).mean()
    optimizer = ppo.adam(policy, settings)
    for _ in range(10):
        ppo.learn(policy, optimizer, ppo.collect(policy, copies, settings, source), settings, source)
    after = ppo.evaluate(policy, Seen(stream.task(0), Copies(CartPole(), 32, 5)), rng()).mean()
    assert before < 40
    assert after > 150


def test_an_evaluation_is_of_whole_episodes():
    constant = ActorCritic(4, 2, width=8)
    nn.init.zeros_(constant.actor[-1].weight)
    with torch.no_grad():
        constant.actor[-1].bias.copy_(torch.tensor([0.0, 90.0]))
    found = ppo.evaluate(constant, seen(64, scale=5.0), rng())
    assert found.shape == (64,)
    assert found.mean() == pytest.approx(9.4, abs=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"copies": 0}, "copies: got 0; it has to be at least 1"),
        ({"batch": 100}, "batch: got 100 samples from a rollout of 128; it has to divide it"),
        ({"lr": float("nan")}, r"lr: got nan; it has to be in \[0, inf\]"),
        ({"gamma": 1.5}, r"gamma: got 1.5; it has to be in \[0, 1\]"),
        ({"clip": 0.0}, "clip: got 0.0; it has to be above 0"),
        ({"betas": (0.9, 1.0)}, r"betas: got \(0.9, 1.0\); two numbers in \[0, 1\) are needed"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_wrong_networks_are_named():
    with pytest.raises(ValueError, match="activation: got 'reul'; allowed are"):
        ActorCritic(4, 2, activation="reul")
    with pytest.raises(ValueError, match="depth: got 0; it has to be at least 1"):
        ActorCritic(4, 2, depth=0)
