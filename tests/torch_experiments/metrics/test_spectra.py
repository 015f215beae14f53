"""Ranks of known spectra, and their order."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_experiments.metrics import spectra

N = 20_000


def draws(units, seed=0, samples=N):
    return torch.randn(samples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 8))
def test_all_ranks_of_equal_singular_values_are_their_number(k):
    sigma = torch.cat([torch.full((k,), 3.0), torch.zeros(4)]).double()
    assert all(rank(sigma) == pytest.approx(k) for rank in spectra.RANKS.values())


def test_ranks_of_a_known_spectrum():
    sigma = torch.tensor([2.0, 1.0]).double()
    assert spectra.stable_rank(sigma) == pytest.approx(5 / 4)
    assert spectra.renyi2_rank(sigma) == pytest.approx(25 / 17)
    assert spectra.shannon_rank(sigma) == pytest.approx(5 / 4**0.8)
    assert spectra.roy_vetterli_rank(sigma) == pytest.approx(3 / 2 ** (2 / 3))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_the_ranks_are_ordered(values):
    sigma = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    order = [spectra.stable_rank, spectra.renyi2_rank, spectra.shannon_rank, spectra.roy_vetterli_rank]
    found = [rank(sigma) for rank in order] + [float(len(values))]
    assert all(low <= high * (1 + 1e-9) for low, high in pairwise(found))


def test_ranks_of_nothing_are_zero():
    assert [rank(torch.zeros(3)) for rank in spectra.RANKS.values()] == [0, 0, 0, 0]


def test_the_spectrum_is_that_of_the_covariance():
    a = draws(5, samples=40) + 3
    eigenvalues = torch.linalg.eigvalsh(torch.cov(a.T, correction=0)).flip(0)
    assert torch.allclose(spectra.spectrum(a).square() / 40, eigenvalues)
    assert spectra.spectrum(a, centred=False)[0] > 2 * spectra.spectrum(a)[0]
