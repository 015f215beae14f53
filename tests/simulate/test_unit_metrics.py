"""Measures of units: cases with a known answer, and the ones of `torch_experiments` as an oracle."""

import numpy as np
import pytest
import torch

from simulate import unit_metrics
from torch_experiments.metrics import spectra


@pytest.fixture
def draws():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", sorted(set(unit_metrics.RANKS) & set(spectra.RANKS)))
def test_ranks_are_those_of_the_scores_on_real_networks(name, draws):
    a = np.maximum(draws.standard_normal((50, 8)) @ draws.standard_normal((8, 12)), 0)
    theirs = spectra.RANKS[name](spectra.spectrum(torch.tensor(a)))
    assert unit_metrics.RANKS[name](unit_metrics.spectrum(a)) == pytest.approx(theirs, rel=1e-12)


def test_ranks_of_equal_and_of_no_singular_values():
    for rank in unit_metrics.RANKS.values():
        assert rank(np.array([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
        assert rank(np.zeros(3)) == 0
        assert rank(np.array([1.0, 1e-320])) == pytest.approx(1)


def test_srank_counts_what_reaches_all_but_delta():
    sigma = np.array([90.0, 9.0, 0.5, 0.5])
    assert [unit_metrics.srank(sigma, delta) for delta in (0.2, 0.02, 0.01, 0.001)] == [1, 2, 2, 4]


def test_dead_units_are_silent_on_every_sample(draws):
    a = np.abs(draws.standard_normal((20, 4)))
    a[:, 1], a[1:, 2] = 0, 0
    assert unit_metrics.dead_fraction(a) == 0.25


def test_every_copy_counts_and_constants_do_not(draws):
    a = draws.standard_normal((200, 6))
    a[:, 1], a[:, 2], a[:, 3] = 2 * a[:, 0] + 5, -a[:, 0], 7.0
    assert unit_metrics.duplicate_fraction(a) == 0.5
    assert unit_metrics.published_duplicate_fraction(a) == 0
    shifted = draws.standard_normal((200, 6)) + 5
    assert unit_metrics.duplicate_fraction(shifted) == 0
    assert unit_metrics.published_duplicate_fraction(shifted) == pytest.approx(5 / 6)  # all but the first


def test_activations_that_are_not_finite_give_nan():
    assert all(np.isnan(list(unit_metrics.unit_metrics(np.array([[np.inf, 0.0]])).values())))
