"""Scores on cases whose value is known."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from tests.torch_experiments.strategies import UNCOUPLED, batch, networks
from theory.tolerances import monte_carlo
from torch_experiments.cloning.chains import profiles
from torch_experiments.cloning.exact import clone
from torch_experiments.cloning.layouts import Profile, profile
from torch_experiments.lab.models import mlp
from torch_experiments.metrics import layers, scores

N = 20_000


def draws(units, seed=0, samples=N):
    return torch.randn(samples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("varied", [False, True])
def test_independent_units_score_zero_whatever_their_variances(factor, varied):
    a = draws(60)
    if varied:
        a = a * torch.linspace(0.5, 2, 60)
    found = scores.cloning_score(a, profile(60 // factor, factor))
    assert abs(found.value) <= monte_carlo(1 / math.sqrt(N))
    assert (found.blocks, found.dead) == (60 // factor, 0)


def test_shifts_of_independent_units_average_out():
    """Over many draws of the means the score of independent units is still 0 in expectation."""
    a = draws(3000, samples=200) + 2 * draws(1, seed=1, samples=3000).T
    assert abs(scores.cloning_score(a, profile(1000, 3)).value) <= monte_carlo(1 / math.sqrt(3000))


@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 2**31))
def test_exact_copies_score_one(units, factor, seed):
    a = draws(units, seed, 50).repeat_interleave(factor, dim=1)
    assert scores.cloning_score(a, profile(units, factor)).value == pytest.approx(1, abs=1e-14)


@given(st.integers(1, 6), st.integers(2, 4), st.sampled_from(["positive", "sign"]), st.integers(0, 2**31))
def test_scaled_and_flipped_copies_score_one_under_their_profile(units, factor, scales, seed):
    p = profile(units, factor, scales=scales, generator=torch.Generator().manual_seed(seed))
    a = draws(units, seed, 50).repeat_interleave(factor, dim=1)
    assert scores.cloning_score(a * p.scale, p).value == pytest.approx(1, abs=1e-13)


def test_copies_with_independent_noise_score_the_share_of_the_signal():
    a = draws(40).repeat_interleave(3, dim=1) + 0.5 * draws(120, seed=1)
    assert scores.cloning_score(a, profile(40, 3)).value == pytest.approx(1 / 1.25, abs=0.01)


def test_a_pair_scores_its_concordance_correlation():
    a = draws(2, samples=100) @ torch.tensor([[1.0, 0.8], [0.3, 1.5]], dtype=torch.float64)
    a = a + torch.tensor([0.0, 0.7])
    covariance = torch.cov(a.T, correction=0)
    shift = float((a[:, 0].mean() - a[:, 1].mean()) ** 2)
    lin = 2 * float(covariance[0, 1]) / (float(covariance.trace()) + shift)
    assert scores.cloning_score(a, profile(1, 2)).value == pytest.approx(lin, rel=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_opposite_units_reach_the_lower_bound(factor):
    a = draws(factor, samples=100)
    a = a - a.mean(dim=1, keepdim=True)
    found = scores.cloning_score(a - a.mean(dim=0), profile(1, factor))
    assert found.value == pytest.approx(-1 / (factor - 1), rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1e6])
def test_dead_blocks_are_counted_and_left_out(constant):
    a = draws(3, samples=100).repeat_interleave(2, dim=1)
    a[:, :2] = constant
    assert scores.cloning_score(a, profile(3, 2)) == pytest.approx((1.0, 2, 1))


def test_a_half_dead_block_is_alive():
    a = draws(2, samples=100)
    a[:, 0] = 0
    found = scores.cloning_score(a, profile(1, 2))
    assert found.dead == 0
    assert abs(found.value) < 0.1


def test_all_blocks_dead_or_nothing_cloned_gives_nan():
    dead = scores.cloning_score(torch.zeros(10, 4), profile(2, 2))
    assert math.isnan(dead.value)
    assert (dead.blocks, dead.dead) == (0, 2)
    single = scores.cloning_score(draws(4, samples=10), profile(4))
    assert math.isnan(single.value)
    assert (single.blocks, single.dead) == (0, 0)


def test_blocks_may_differ_in_size():
    p = Profile(torch.tensor([0, 1, 1, 2, 2, 2]), torch.ones(6, dtype=torch.float64))
    a = draws(3, samples=100)[:, p.block]
    assert scores.cloning_score(a, p) == pytest.approx((1.0, 2, 0))


@pytest.mark.parametrize("shape", [(10, 5), (1, 4), (10, 4, 1)])
def test_values_of_a_wrong_shape_are_named(shape):
    with pytest.raises(ValueError, match=r"values: got shape .*expected \[samples ≥ 2, 4 units\]"):
        scores.cloning_score(torch.zeros(shape), profile(2, 2))


@given(networks(norms=UNCOUPLED), st.integers(2, 4))
def test_a_clone_scores_one_forward_and_backward(base, factor):
    (x, y), hidden = batch(base), profiles(base, factor)[1:-1]
    twin = clone(base, factor)
    found = layers.forward_scores(twin, x, hidden) + layers.backward_scores(twin, x, y, hidden)
    assert all(s.value == pytest.approx(1, abs=1e-9) for s in found if s.blocks)


def test_a_fresh_wide_network_scores_zero_forward():
    """Gaussian biases aside, its units are independent given the input."""
    model = mlp(50, 10, width=2000, depth=1, activation="tanh", dtype=torch.float64)
    found = layers.forward_scores(model, draws(50, samples=500), [profile(1000, 2)])
    assert abs(found[0].value) < 0.05


def test_scores_are_taken_in_eval_mode_and_leave_modes_and_gradients_alone():
    base = mlp(5, 3, width=4, depth=2, norm="batch", dropout=0.5, dtype=torch.float64).train()
    base.drop1.eval()
    twin, (x, y), hidden = clone(base), batch(base), profiles(base)[1:-1]
    twin.drop1.eval()
    mean = twin.norm1.running_mean.clone()
    assert layers.forward_scores(twin, x, hidden) == layers.forward_scores(twin, x, hidden)
    layers.backward_scores(twin, x, y, hidden)
    assert [m.training for m in twin if isinstance(m, nn.Dropout)] == [False, True]
    assert torch.equal(mean, twin.norm1.running_mean)
    assert all(p.grad is None for p in twin.parameters())


def test_the_captured_gradients_are_those_of_the_units():
    """Compare one unit's ``∂L/∂h`` with a difference quotient through its outgoing weights' input."""
    model = mlp(4, 3, width=5, depth=1, activation="tanh", dtype=torch.float64)
    x, y = batch(model)
    with layers.captured(model) as values:
        loss = cross_entropy(model(x), y, reduction="sum")
    (delta,) = torch.autograd.grad(loss, values)
    h, eps = values[0].detach().clone(), 1e-6
    plus, minus = (h.index_add(1, torch.tensor([2]), torch.full((12, 1), e).double()) for e in (eps, -eps))
    difference = [cross_entropy(model.head(a), y, reduction="none") for a in (plus, minus)]
    assert torch.allclose(delta[:, 2], (difference[0] - difference[1]) / (2 * eps), atol=1e-8)


@given(st.integers(1, 8))
def test_all_ranks_of_equal_singular_values_are_their_number(k):
    sigma = torch.cat([torch.full((k,), 3.0), torch.zeros(4)]).double()
    assert all(rank(sigma) == pytest.approx(k) for rank in scores.RANKS.values())


def test_ranks_of_a_known_spectrum():
    sigma = torch.tensor([2.0, 1.0]).double()
    assert scores.stable_rank(sigma) == pytest.approx(5 / 4)
    assert scores.renyi2_rank(sigma) == pytest.approx(25 / 17)
    assert scores.shannon_rank(sigma) == pytest.approx(5 / 4**0.8)
    assert scores.roy_vetterli_rank(sigma) == pytest.approx(3 / 2 ** (2 / 3))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_the_ranks_are_ordered(values):
    sigma = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    order = [scores.stable_rank, scores.renyi2_rank, scores.shannon_rank, scores.roy_vetterli_rank]
    found = [rank(sigma) for rank in order] + [float(len(values))]
    assert all(low <= high * (1 + 1e-9) for low, high in pairwise(found))


def test_ranks_of_nothing_are_zero():
    assert [rank(torch.zeros(3)) for rank in scores.RANKS.values()] == [0, 0, 0, 0]


def test_the_spectrum_is_that_of_the_covariance():
    a = draws(5, samples=40) + 3
    eigenvalues = torch.linalg.eigvalsh(torch.cov(a.T, correction=0)).flip(0)
    assert torch.allclose(scores.spectrum(a).square() / 40, eigenvalues)
    assert scores.spectrum(a, centred=False)[0] > 2 * scores.spectrum(a)[0]


def test_dead_is_silent_on_every_sample():
    a = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0]])
    assert scores.dead_fraction(a) == 0.5


def test_the_units_of_an_image_are_channels_and_those_of_tokens_features():
    image, tokens = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    by_hand = [[image[n, c, i, j].item() for c in range(3)] for n in range(2) for i in range(4) for j in range(5)]
    assert scores.rows(image).tolist() == by_hand
    assert scores.rows(tokens).tolist() == [tokens[n, t].tolist() for n in range(2) for t in range(3)]
    assert scores.rows(tokens[:, 0]).tolist() == tokens[:, 0].tolist()
