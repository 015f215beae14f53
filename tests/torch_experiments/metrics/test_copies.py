"""Scores of copies on cases whose value is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory.tolerances import monte_carlo
from torch_experiments.cloning.layouts import Profile, profile
from torch_experiments.metrics import copies

N = 20_000


def draws(units, seed=0, samples=N):
    return torch.randn(samples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("varied", [False, True])
def test_independent_units_score_zero_whatever_their_variances(factor, varied):
    a = draws(60)
    if varied:
        a = a * torch.linspace(0.5, 2, 60)
    found = copies.cloning_score(a, profile(60 // factor, factor))
    assert abs(found.value) <= monte_carlo(1 / math.sqrt(N))
    assert (found.blocks, found.dead) == (60 // factor, 0)


def test_shifts_of_independent_units_average_out():
    """Over many draws of the means the score of independent units is still 0 in expectation."""
    a = draws(3000, samples=200) + 2 * draws(1, seed=1, samples=3000).T
    assert abs(copies.cloning_score(a, profile(1000, 3)).value) <= monte_carlo(1 / math.sqrt(3000))


@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 2**31))
def test_exact_copies_score_one(units, factor, seed):
    a = draws(units, seed, 50).repeat_interleave(factor, dim=1)
    assert copies.cloning_score(a, profile(units, factor)).value == pytest.approx(1, abs=1e-14)


@given(st.integers(1, 6), st.integers(2, 4), st.sampled_from(["positive", "sign"]), st.integers(0, 2**31))
def test_scaled_and_flipped_copies_score_one_under_their_profile(units, factor, scales, seed):
    p = profile(units, factor, scales=scales, generator=torch.Generator().manual_seed(seed))
    a = draws(units, seed, 50).repeat_interleave(factor, dim=1)
    assert copies.cloning_score(a * p.scale, p).value == pytest.approx(1, abs=1e-13)


def test_copies_with_independent_noise_score_the_share_of_the_signal():
    a = draws(40).repeat_interleave(3, dim=1) + 0.5 * draws(120, seed=1)
    assert copies.cloning_score(a, profile(40, 3)).value == pytest.approx(1 / 1.25, abs=0.01)


def test_a_pair_scores_its_concordance_correlation():
    a = draws(2, samples=100) @ torch.tensor([[1.0, 0.8], [0.3, 1.5]], dtype=torch.float64)
    a = a + torch.tensor([0.0, 0.7])
    covariance = torch.cov(a.T, correction=0)
    shift = float((a[:, 0].mean() - a[:, 1].mean()) ** 2)
    lin = 2 * float(covariance[0, 1]) / (float(covariance.trace()) + shift)
    assert copies.cloning_score(a, profile(1, 2)).value == pytest.approx(lin, rel=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_opposite_units_reach_the_lower_bound(factor):
    a = draws(factor, samples=100)
    a = a - a.mean(dim=1, keepdim=True)
    found = copies.cloning_score(a - a.mean(dim=0), profile(1, factor))
    assert found.value == pytest.approx(-1 / (factor - 1), rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1e6])
def test_dead_blocks_are_counted_and_left_out(constant):
    a = draws(3, samples=100).repeat_interleave(2, dim=1)
    a[:, :2] = constant
    assert copies.cloning_score(a, profile(3, 2)) == pytest.approx((1.0, 2, 1))


def test_a_half_dead_block_is_alive():
    a = draws(2, samples=100)
    a[:, 0] = 0
    found = copies.cloning_score(a, profile(1, 2))
    assert found.dead == 0
    assert abs(found.value) < 0.1


def test_all_blocks_dead_or_nothing_cloned_gives_nan():
    dead = copies.cloning_score(torch.zeros(10, 4), profile(2, 2))
    assert math.isnan(dead.value)
    assert (dead.blocks, dead.dead) == (0, 2)
    single = copies.cloning_score(draws(4, samples=10), profile(4))
    assert math.isnan(single.value)
    assert (single.blocks, single.dead) == (0, 0)


def test_blocks_may_differ_in_size():
    p = Profile(torch.tensor([0, 1, 1, 2, 2, 2]), torch.ones(6, dtype=torch.float64))
    a = draws(3, samples=100)[:, p.block]
    assert copies.cloning_score(a, p) == pytest.approx((1.0, 2, 0))


@pytest.mark.parametrize("shape", [(10, 5), (1, 4), (10, 4, 1)])
def test_values_of_a_wrong_shape_are_named(shape):
    with pytest.raises(ValueError, match=r"values: got shape .*expected \[samples ≥ 2, 4 units\]"):
        copies.cloning_score(torch.zeros(shape), profile(2, 2))
