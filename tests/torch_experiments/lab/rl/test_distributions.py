"""Distributions of actions against those of torch, and their draws."""

import numpy as np
import torch
from torch.distributions import Categorical as TheirCategorical
from torch.distributions import Normal

from torch_experiments.lab.rl.distributions import Categorical, Gaussian, sampled, scattered


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_categorical_is_that_of_torch():
    logits, actions = 3 * drawn(50, 4), torch.arange(50) % 4
    own, other = Categorical(logits), TheirCategorical(logits=logits)
    assert torch.allclose(own.log_probability(actions), other.log_prob(actions), atol=1e-12)
    assert torch.allclose(own.entropy(), other.entropy(), atol=1e-12)


def test_a_gaussian_is_that_of_torch():
    mean, log_sd, actions = drawn(50, 3), drawn(3, seed=1), drawn(50, 3, seed=2)
    own, other = Gaussian(mean, log_sd), Normal(mean, log_sd.exp())
    assert torch.allclose(own.log_probability(actions), other.log_prob(actions).sum(1), atol=1e-12)
    assert torch.allclose(own.entropy(), other.entropy().sum(1), atol=1e-12)


def test_actions_have_the_probabilities_of_the_softmax():
    logits = np.tile([0.0, 1.0, -1.0], (20_000, 1))
    shares = np.bincount(sampled(logits, np.random.default_rng(0))) / 20_000
    assert np.allclose(shares, np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum(), atol=0.02)


def test_actions_are_scattered_around_their_means():
    mean, log_sd = np.tile(np.float32([1.0, -2.0]), (20_000, 1)), np.log(np.float32([0.5, 2.0]))
    found = scattered(mean, log_sd, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert np.allclose(found.mean(0), [1.0, -2.0], atol=5 * 2 / 20_000**0.5)
    assert np.allclose(found.std(0), [0.5, 2.0], rtol=0.03)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.04
